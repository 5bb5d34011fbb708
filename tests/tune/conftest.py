"""A folder of synthetic surfaces, the page's server on it, and a browser that shows it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import files
from sdie_fast.data import synthetic
from sdie_fast.tune.server import Server
from sdie_fast.tune.work import Work

with contextlib.suppress(ImportError):  # the tests that need it are skipped
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver import ActionChains, Keys

FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,800",
)  # fmt: skip


def write_folder(root: Path, side: int) -> Path:
    """Labelled surfaces, one of 12 bits, one in colour, one of float32, and two that nothing can be done with."""
    for k, kind in enumerate(("patch", "inclusion", "oil_spot")):
        made = synthetic.surface(kind, seed=k, size=(side, side))
        files.write(root / "images" / f"{kind}.png", files.Picture(made.image))
        files.write(root / "masks" / f"{kind}.png", files.Picture(made.mask.astype(np.uint8) * 255))
    deep = synthetic.surface("scratch", seed=7, size=(side - 10, side), dtype=np.uint16).image
    files.write(root / "deep.tif", files.Picture(deep >> 4))
    files.write(root / "real.tif", files.Picture((deep / 65535).astype(np.float32)))
    grey = synthetic.surface("water_spot", seed=8, size=(side, side - 7)).image
    files.write(root / "colour.png", files.Picture(np.stack([grey, grey // 2, 255 - grey], 2)))
    files.write(root / "tiny.png", files.Picture(np.full((3, 3), 90, np.uint8)))
    (root / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return root


@pytest.fixture
def side():
    """Of the pictures, in pixels."""
    return 96


@pytest.fixture
def folder(tmp_path, side):
    return write_folder(tmp_path / "steel", side)


@pytest.fixture
def work(folder):
    return Work(folder, threads=1)


@pytest.fixture
def recipe():
    """What the page holds of a recipe."""
    weights = [[1.0, 0.5, 0.25, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]]
    return {"filters": list(sdie.FILTERS), "weights": weights, "params": {"wls_solver": "fast", "sharpen_amount": 1.2}}


class Asked:
    """An answer: its status, headers and body."""

    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def pixels(self):
        facts = json.loads(self.headers["X-Facts"])
        shape = facts["height"], facts["width"], facts["channels"]
        return np.frombuffer(self.body, "<u2" if facts["bytes"] == 2 else np.uint8).reshape(shape).squeeze()

    @property
    def facts(self):
        return json.loads(self.headers["X-Facts"])


@pytest.fixture
def ask(work):
    """Ask the server: `ask("/api/state")`, `ask("/api/enhance", {...})`."""
    with Server(work) as server:

        def send(path, body=None, **headers):
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is None:
                connection.request("GET", path, headers=given)
            else:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                connection.request("POST", path, data, {"Content-Type": "application/json", **given})
            return Asked(connection.getresponse())

        send.server = server
        yield send


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Chromium, without a screen."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install selenium")
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium here: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(chromedriver))
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    yield driver
    driver.quit()


class Page:
    """The page as who sits before it sees it."""

    def __init__(self, driver, server) -> None:
        self.driver, self.server = driver, server
        self.visit()

    def visit(self):
        self.driver.get(self.server.url)
        self.until("tune.ready && (tune.right || !document.querySelector('#message').hidden)")
        self.settle()

    def js(self, text, *given):
        return self.driver.execute_script(text, *given)

    def until(self, text, most=60.0):
        end = time.monotonic() + most
        while time.monotonic() < end:
            # Between two pictures there may be nothing to ask yet.
            if self.js(f"try {{ return Boolean({text}) }} catch {{ return false }}"):
                return
            time.sleep(0.03)
        raise AssertionError(f"{text}: never; {self.js('return document.querySelector(`#message`).textContent')}")

    def settle(self):
        """Wait for the whole picture."""
        self.until("tune.dirty === null && !tune.busy && (tune.right?.factor ?? 1) === 1")

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        """Click what may be drawn anew meanwhile."""
        for _ in range(10):
            try:
                return self.find(selector).click()
            except StaleElementReferenceException:
                time.sleep(0.05)
        return self.find(selector).click()

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def control(self, key):
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()

    def close_dialog(self):
        self.click("dialog[open] [value=cancel]")
        self.until("!document.querySelector('dialog[open]')")

    def open(self, name):
        self.click(f"#thumbs [data-name='{name}']")
        self.until(f"tune.name === '{name}'")
        self.until("tune.right || !document.querySelector('#message').hidden")
        self.settle()

    def drag(self, element, by, steps=10):
        chain = ActionChains(self.driver, duration=15).click_and_hold(element)
        for _ in range(steps):
            chain.move_by_offset(by / steps, 0)
        chain.release().perform()

    @property
    def recipe(self):
        return self.js("return tune.recipes[tune.active]")

    @property
    def after(self):
        """The enhanced picture that the page has."""
        told = self.js("return {...tune.right, data: Array.from(tune.right.data)}")
        return np.array(told["data"]).reshape(told["height"], told["width"], told["channels"]).squeeze()

    def canvas(self):
        """What the canvas shows, grey (H, W)."""
        told = self.js(
            "const c = document.querySelector('#canvas');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "const g = new Array(c.width * c.height); for (let i = 0; i < g.length; i++) g[i] = d[4 * i + 1];"
            "return [c.width, c.height, g]"
        )
        return np.array(told[2]).reshape(told[1], told[0])

    def expected(self, name, **options):
        recipe = self.recipe
        image = files.read(self.server.work.folder.root / name).pixels
        params = sdie.FilterParams(**recipe["params"])
        return sdie.enhance(image, recipe["weights"], params=params, filters=recipe["filters"], **options)


@pytest.fixture
def server(work):
    with Server(work) as server:
        yield server


@pytest.fixture
def page(driver, server):
    page = Page(driver, server)
    page.open("images/patch.png")
    driver.get_log("browser")
    yield page
    severe = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    # What a page asks for in vain it is told, and the browser notes.
    assert not [m for m in severe if "422" not in m and "ERR_CONNECTION_REFUSED" not in m]
    while len(driver.window_handles) > 1:
        driver.switch_to.window(driver.window_handles[-1])
        driver.close()
    driver.switch_to.window(driver.window_handles[0])
