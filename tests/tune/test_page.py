"""The page in headless Chromium: pictures change when sliders move, recipes come back, and keys do for a mouse."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import files
from sdie_fast.tune.recipes import Options
from sdie_fast.tune.server import Server

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install selenium")
from selenium.webdriver import ActionChains, Keys  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("no chromium here: apt-get install chromium chromium-driver", allow_module_level=True)
FLAGS = (
    "headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,800",
)  # fmt: skip
PATCH = "images/patch.png"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
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
            if self.js(f"return Boolean({text})"):
                return
            time.sleep(0.03)
        raise AssertionError(f"{text}: never; {self.js('return document.querySelector(`#message`).textContent')}")

    def settle(self):
        """Wait for the whole picture."""
        self.until("tune.dirty === null && !tune.busy && (tune.right?.factor ?? 1) === 1")

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def control(self, key):
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys(key).key_up(Keys.CONTROL).perform()

    def open(self, name):
        self.find(f"#thumbs [data-name='{name}']").click()
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
    page.open(PATCH)
    driver.get_log("browser")
    yield page
    severe = [line["message"] for line in driver.get_log("browser") if line["level"] == "SEVERE"]
    # What a page asks for in vain it is told, and the browser notes.
    assert not [m for m in severe if "422" not in m and "ERR_CONNECTION_REFUSED" not in m]
    while len(driver.window_handles) > 1:
        driver.switch_to.window(driver.window_handles[-1])
        driver.close()
    driver.switch_to.window(driver.window_handles[0])


def test_the_folder_and_the_enhanced_picture_are_shown(page):
    names = [b.get_attribute("data-name") for b in page.driver.find_elements("css selector", "#thumbs button")]
    assert names == ["colour.png", "damaged.png", "deep.tif", "images/inclusion.png", "images/oil_spot.png", PATCH,
                     "real.tif", "tiny.png"]  # fmt: skip
    assert np.array_equal(page.after, page.expected(PATCH))
    # At one to one the canvas shows it, pixel by pixel, right of the line.
    page.press("0")
    page.js("tune.stage.x = 100; tune.stage.y = 50; tune.stage.fitted = false; tune.stage.slide(0)")
    assert np.array_equal(page.canvas()[50:146, 102:196], page.after[:, 2:])


def test_no_overflow_and_nothing_from_elsewhere(page):
    assert page.js("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        1280,
        800,
    ]
    for view in "123":
        page.press(view)
        over = page.js(
            "return [...document.querySelectorAll('header > *, .bar > *, aside section > h2 > *')]"
            ".filter((e) => e.offsetWidth)"
            ".filter((e) => { const b = e.getBoundingClientRect(), p = e.parentElement.getBoundingClientRect();"
            " return b.right > p.right + 1 || b.left < p.left - 1; }).map((e) => e.outerHTML)"
        )
        assert not over
    came = page.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert len(came) > 8
    assert all(url.startswith(page.server.url) for url in came)


def test_a_small_window(page):
    metrics = {"width": 800, "height": 600, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        over = page.js(
            "return [...document.querySelectorAll('header > *, #stage > .bar:first-child > *')]"
            ".filter((e) => e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right)"
            ".map((e) => e.outerHTML)"
        )
    finally:
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**metrics, "width": 1280, "height": 800})
    assert not over


def test_dragging_a_weight_changes_the_picture(page):
    before, picture = page.canvas(), page.after
    page.drag(page.find("[data-weight=sharpen]"), 60)
    page.settle()
    after = page.canvas()
    assert page.recipe["weights"][0][3] > 0.5
    middle = after.shape[1] // 2
    assert np.abs(after[:, middle + 4 :] - before[:, middle + 4 :]).mean() > 0.5
    assert np.array_equal(after[:, : middle - 20], before[:, : middle - 20])  # the picture as it came
    assert not np.array_equal(page.after, picture)
    assert np.array_equal(page.after, page.expected(PATCH))
    assert page.js("return tune.undo.length") == 1  # one drag, one step


def test_parameters_too(page):
    page.find(".filter:nth-child(4) .name").click()
    slider = page.find("[data-parameter=sharpen_amount]")
    page.drag(slider, 25)
    page.settle()
    assert page.recipe["params"]["sharpen_amount"] > 1
    assert np.array_equal(page.after, page.expected(PATCH))
    page.find("[aria-label='Default of sharpen_amount']").click()
    assert page.recipe["params"]["sharpen_amount"] == 0.8
    typed = page.find("[aria-label='bilateral_window, typed']")
    assert not typed.is_displayed()
    page.find(".filter:nth-child(3) .name").click()
    typed.send_keys(Keys.CONTROL, "a")
    typed.send_keys("10", Keys.ENTER)
    page.settle()
    assert page.recipe["params"]["bilateral_window"] == 11  # odd
    page.find("[aria-label='Default of bilateral_window']").click()
    assert page.recipe["params"]["bilateral_window"] is None


def test_undo_and_redo(page):
    first, picture = page.recipe, page.after
    page.drag(page.find("[data-weight=guided]"), 50)
    page.press("n")
    page.settle()
    second = page.recipe
    assert len(second["weights"]) == len(first["weights"]) + 1
    for _ in range(2):
        page.control("z")
    page.settle()
    assert page.recipe == first
    assert np.array_equal(page.after, picture)
    page.control("y")
    page.find("#redo").click()
    page.settle()
    assert page.recipe == second
    assert np.array_equal(page.after, page.expected(PATCH))


def test_save_and_load_again(page, folder):
    page.drag(page.find("[data-weight=wls]"), 40)
    page.settle()
    tuned, picture = page.recipe, page.after
    page.press("s")
    page.find("#save-dialog [name=name]").send_keys("line 2")
    page.find("#save-dialog [name=notes]").send_keys("camera 3", Keys.TAB, Keys.TAB, Keys.ENTER)
    page.until("!document.querySelector('dialog[open]')")
    saved = sdie.Recipe.load(folder / "recipes" / "line 2")
    assert np.allclose(saved.weights, np.array(tuned["weights"]) / np.sum(tuned["weights"], 1, keepdims=True))
    assert saved.notes.startswith("camera 3\n")
    assert PATCH in saved.notes
    assert page.find("#title").text == "line 2"
    page.find("#active [data-value=B]").click()
    page.settle()
    assert not np.array_equal(page.after, picture)
    page.press("o")
    page.until("document.querySelector('#known button')")
    page.find("#known button").click()
    page.until("!document.querySelector('dialog[open]')")
    page.settle()
    assert np.abs(page.after - picture).max() <= 1
    assert page.find("#title").text == "line 2"
    # Taken: nothing happens before it is confirmed. The note is that of the last time.
    page.drag(page.find("[data-weight=wls]"), -30)
    assert page.find("#title").text == "line 2 (edited)"
    page.press("s", Keys.ENTER)
    page.until("!document.querySelector('#save-dialog .error').hidden")
    assert "line 2" in page.find("#save-dialog .error").text
    assert page.find("#save-dialog [name=ok]").text == "Replace"
    assert sdie.Recipe.load(folder / "recipes" / "line 2") == saved
    page.find("#save-dialog [name=ok]").click()
    page.until("!document.querySelector('dialog[open]')")
    again = sdie.Recipe.load(folder / "recipes" / "line 2")
    assert not np.array_equal(again.weights, saved.weights)
    assert again.notes.startswith("camera 3\n")


def save(page, name):
    page.press("s")
    page.js("document.querySelector('#save-dialog form').elements.name.value = ''")
    page.find("#save-dialog [name=name]").send_keys(name, Keys.ENTER)
    page.until("!document.querySelector('dialog[open]')")


def close(page):
    page.find("dialog[open] [value=cancel]").click()
    page.until("!document.querySelector('dialog[open]')")


def command(page):
    page.js("document.querySelector('#command').textContent = ''")
    page.press("p")
    page.until("document.querySelector('#command').textContent")
    told = page.find("#command").text
    close(page)
    return told


def test_edited_is_what_differs_from_its_file(page, folder):
    title = page.find("#title")
    assert title.text == "default"
    assert command(page).endswith(" enhanced")
    page.drag(page.find("[data-weight=wls]"), 40)
    assert title.text == "default (edited)"
    assert command(page).startswith("#")
    save(page, "Prüfung 1")
    assert "Saved" in page.find("#message").text
    assert str(folder / "recipes" / "Prüfung 1" / "recipe.json") in page.find("#message").text
    kept = command(page)
    assert str(folder / "recipes" / "Prüfung 1") in kept
    # There and back.
    page.drag(page.find("[data-weight=wls]"), -30)
    assert title.text == "Prüfung 1 (edited)"
    assert not page.find("#message").is_displayed()
    page.control("z")
    assert title.text == "Prüfung 1"
    assert command(page) == kept
    # Another day; B was not touched.
    page.visit()
    title = page.find("#title")
    assert title.text == "Prüfung 1"
    assert command(page) == kept
    page.press("s")
    assert page.find("#save-dialog [name=name]").get_attribute("value") == "Prüfung 1"
    close(page)
    page.press("x")
    assert title.text == "default"
    # What a search found lies nowhere: the command must not name what was there before.
    page.press("x")
    page.js("tune.best = structuredClone(tune.recipes.A); tune.best.weights[0][0] = 0.9;"
            "document.querySelector('#take').click()")  # fmt: skip
    assert title.text == "not saved"
    assert command(page).startswith("#")


def test_names_that_no_recipe_can_have(page):
    page.press("s")
    field = page.find("#save-dialog [name=name]")
    for name, fit in (("a/b", False), (".a", False), ("größe 2.1-b_", True)):
        field.clear()
        field.send_keys(name)
        assert page.js("return arguments[0].checkValidity()", field) == fit
    assert "letters, digits" in page.find("#save-dialog").text
    page.press(Keys.ESCAPE)


def test_undo_leads_back_to_the_round(page):
    page.press("n")
    assert page.js("return tune.round") == 1
    page.control("z")
    assert page.js("return tune.round") == 0
    page.control("y")
    assert page.js("return tune.round") == 1
    page.press("N")
    page.control("z")
    assert page.js("return tune.round") == 1


def test_everything_by_keyboard(page):
    page.press("j")
    page.until("tune.name === 'real.tif'")
    page.press("k")
    page.until("tune.name === 'images/patch.png' && tune.right")
    page.settle()
    split = page.canvas()
    for key, view in (("2", "side"), ("3", "difference"), ("1", "split")):
        page.press(key)
        assert page.js("return tune.stage.view") == view
        assert np.array_equal(page.canvas(), split) == (view == "split")
    page.press("...")
    assert page.js("return tune.stage.split") == pytest.approx(0.56)
    page.press("++")
    scale = page.js("return tune.stage.scale")
    page.press("0")
    assert page.js("return tune.stage.scale") == 1 != scale
    page.find("#canvas").click()
    at = page.js("return tune.stage.x")
    page.press(Keys.ARROW_RIGHT)
    assert page.js("return tune.stage.x") == at - 40
    page.press("f", "r")
    assert page.js("return tune.round") == 1
    page.press(
        "w", Keys.TAB, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT
    )  # to the next weight's name; its slider comes after it
    page.press(Keys.TAB, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.settle()
    assert page.recipe["weights"][1][1] == pytest.approx(0.11)
    assert np.array_equal(page.after, page.expected(PATCH))
    page.press("e")
    assert page.find("[data-parameter=wls_lambda]").is_displayed()
    rounds = len(page.recipe["weights"])
    page.press("N")
    assert len(page.recipe["weights"]) == rounds - 1
    page.press("x")
    assert page.js("return tune.active") == "B"
    page.press("c")
    page.until("tune.left !== null")
    page.press("x", "c", "l", "L", "d", "?")
    assert page.find("#help-dialog").is_displayed()
    page.press(Keys.ESCAPE, "p")
    page.until("document.querySelector('#python').textContent.includes('sdie.enhance')")
    page.press(Keys.ESCAPE)
    assert not page.js("return document.querySelector('dialog[open]')")


def test_two_recipes_side_by_side(page):
    page.press("x")
    page.drag(page.find("[data-weight=spatiogram]"), 60)
    page.press("c", "2")
    page.until("tune.left !== null")
    page.settle()
    left = np.array(page.js("return Array.from(tune.left.data)")).reshape(96, 96)
    assert page.js("return [...document.querySelectorAll('.tag')].map((t) => t.textContent)")[:2] == [
        "recipe A",
        "recipe B",
    ]
    assert np.array_equal(page.after, page.expected(PATCH))
    assert not np.array_equal(left, page.after)
    page.press("x")
    page.settle()
    assert np.array_equal(page.after, left)


def test_zoom_and_pan_in_step(page):
    page.press("2")
    canvas = page.find("#canvas")
    width = page.js("return tune.stage.paneWidth")
    ActionChains(page.driver).move_to_element_with_offset(canvas, 60, 40).perform()
    pixel = "return tune.stage.pixel({clientX: arguments[0], clientY: arguments[1]})"
    box = canvas.rect
    x, y = box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 40
    before = page.js(pixel, x, y)
    ActionChains(page.driver).scroll_from_origin(
        webdriver.common.actions.wheel_input.ScrollOrigin.from_element(canvas, 60, 40), 0, -400
    ).perform()
    page.until("!tune.stage.fitted")
    assert page.js(pixel, x, y) == before  # what is under the pointer stays there
    assert page.js(pixel, x - width - 4, y) == before  # and is at the same place on the other side
    page.drag(canvas, 30)
    assert page.js(pixel, x + 30, y) == before


def test_adding_a_filter_and_taking_it_out(page):
    page.find("#others button").click()
    assert page.recipe["filters"][-1] == "gamma"
    page.drag(page.find("[data-weight=gamma]"), 60)
    page.settle()
    assert page.recipe["weights"][0][6] > 0.3
    assert np.array_equal(page.after, page.expected(PATCH))
    page.find(".filter:nth-child(7) .name").click()
    page.find(".filter:nth-child(7) .parameters > button").click()
    page.settle()
    assert page.recipe["filters"] == list(sdie.FILTERS)


def test_sixteen_bits_by_their_white_level(page):
    page.open("deep.tif")
    assert page.find("#guess").text == "12 bits? Use 4095"
    assert np.array_equal(page.after, page.expected("deep.tif"))
    page.find("#guess").click()
    page.settle()
    assert page.js("return tune.options.white_level") == 4095
    assert np.array_equal(page.after, page.expected("deep.tif", white_level=4095))
    shown = page.canvas()[300:500, 300:600]
    page.press("L")  # the whole range
    assert not np.array_equal(page.canvas()[300:500, 300:600], shown)
    assert page.js("return [tune.black, tune.white]") == [0, 1]
    # Left of the line the picture as it came: value / 4095 of 255.
    page.press("0")
    page.js("tune.stage.x = 100; tune.stage.y = 50; tune.stage.slide(1)")
    image = files.read(page.server.work.folder.root / "deep.tif").pixels
    assert np.abs(page.canvas()[50:136, 102:190] - image[:, 2:90] * (255 / 4095)).max() <= 1
    # A white level below what is there: said, and shown as white.
    page.find("#white-level").send_keys(Keys.CONTROL, "a")
    page.find("#white-level").send_keys("1500", Keys.ENTER)
    page.until("!document.querySelector('#message').hidden")
    assert "1500" in page.find("#message").text
    page.press(Keys.TAB, Keys.TAB)
    page.js("document.activeElement.blur(); document.querySelector('#full').click()")
    shown = page.canvas()[50:136, 102:190]
    assert (shown[image[:, 2:90] >= 1500] == 255).all()
    assert (shown[image[:, 2:90] < 1400] < 250).all()


def test_colour_each_channel(page):
    page.open("colour.png")
    assert np.array_equal(page.after, page.expected("colour.png"))
    page.find("#per-channel").click()
    page.settle()
    assert np.array_equal(page.after, page.expected("colour.png", per_channel=True))


def test_pictures_that_cannot_be_shown_or_enhanced(page):
    page.open("damaged.png")
    assert "damaged.png" in page.find("#message").text
    assert [page.find(f"#{name}").text for name in ("zoom", "time", "rate", "answer", "iou")] == [""] * 5
    assert (
        page.js(
            "const c = document.querySelector('#histogram'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height);"
            "return new Set(new Uint32Array(d.data.buffer)).size"
        )
        == 1
    )  # nothing but the ground
    assert page.canvas().max() == 0  # no line to drag
    page.open("tiny.png")
    page.until("!document.querySelector('#message').hidden")
    assert "3" in page.find("#message").text
    page.open(PATCH)
    assert not page.find("#message").is_displayed()
    assert np.array_equal(page.after, page.expected(PATCH))


def test_a_folder_that_changes(page, folder):
    files.write(folder / "new.png", files.Picture(np.full((50, 60), 77, np.uint8)))
    page.until("tune.pictures.some((p) => p.name === 'new.png')")
    page.open("new.png")
    assert page.js("return tune.original.data[0]") == 77
    files.write(folder / "new.png", files.Picture(np.full((50, 61), 78, np.uint8)))
    page.until("tune.original.data[0] === 78 && tune.original.width === 61")
    (folder / "new.png").unlink()
    page.until("document.querySelector('#message').textContent.includes('gone')")
    page.open(PATCH)
    assert np.array_equal(page.after, page.expected(PATCH))


def test_a_folder_of_nothing(page, folder):
    for path in [*folder.rglob("*.png"), *folder.rglob("*.tif")]:
        path.unlink()
    page.visit()
    assert "No PNG" in page.find("#message").text
    assert page.find("#zoom").text == ""
    assert page.canvas().max() == 0
    page.press("g")
    assert "No picture of this folder has a mask" in page.find("#no-masks").text
    assert not page.find("#begin").is_enabled()


def test_two_tabs_do_not_disturb_each_other(page, server):
    page.drag(page.find("[data-weight=sharpen]"), 50)
    page.settle()
    first = page.recipe
    page.driver.switch_to.new_window("tab")
    other = Page(page.driver, server)
    assert other.recipe == first  # it begins where the other is
    other.drag(other.find("[data-weight=identity]"), 50)
    other.settle()
    assert other.recipe != first
    page.driver.switch_to.window(page.driver.window_handles[0])
    assert page.recipe == first
    page.drag(page.find("[data-weight=guided]"), 50)
    page.settle()
    assert np.array_equal(page.after, page.expected(PATCH))


def test_what_was_tuned_outlives_the_browser(page):
    first = page.recipe
    page.drag(page.find("[data-weight=sharpen]"), 50)
    page.settle()
    tuned = page.recipe
    page.driver.get("about:blank")
    page.visit()
    assert page.recipe == tuned
    page.control("z")
    assert page.recipe == first


def test_the_white_level_outlives_the_browser(page, server):
    page.open("deep.tif")
    page.find("#guess").click()
    page.settle()
    page.visit()
    page.open("deep.tif")
    assert page.find("#white-level").get_attribute("value") == "4095"
    assert np.array_equal(page.after, page.expected("deep.tif", white_level=4095))
    # Unless the command says another.
    server.work.options = Options(5000.0)
    page.visit()
    assert page.find("#white-level").get_attribute("value") == "5000"


def test_a_server_that_is_gone_is_told(page, server):
    server.shutdown()
    server.server_close()
    page.js("tune.recipes.A.weights[0][0] = 0.9")
    page.press("x")
    page.until("document.querySelector('#message').textContent.includes('still running')")


def test_figures_of_the_recipe_and_of_each_filter(page):
    page.until("document.querySelector('#rate').textContent")
    page.until("[...document.querySelectorAll('.cost')].every((c) => Number(c.textContent) >= 0)")
    assert "ms a round" in page.find("#time").text
    assert "Mpx/s" in page.find("#rate").text
    assert "ms" in page.find("#answer").text


def test_masks_over_both_pictures(page):
    pytest.importorskip("onnxruntime")
    before = page.canvas()
    page.press("m")
    page.until("tune.masks.right && tune.masks.left")
    page.until("document.querySelector('#iou').textContent.includes('→')")
    assert page.find("#iou").text.startswith("IoU ")
    # The outline is seen on any ground.
    edges = (
        "const c = tune.masks.right.canvas; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    )
    colours = page.js(f"{edges} return [...new Set(new Uint32Array(d.buffer))]")
    assert {0xFFFFFFFF, 0xFF000000} <= set(colours)
    assert np.abs(page.canvas() - before).mean() > 0.1
    page.press("m")
    assert np.array_equal(page.canvas(), before)


def test_a_search_from_the_page(page):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("cma")
    page.press("g")
    page.js(
        "const f = document.querySelector('#search-dialog form').elements;"
        "[['each', 2], ['calls', 100000], ['size', 0], ['grid', 6]].forEach(([n, v]) => { f[n].value = v; })"
    )
    page.find("#begin").click()
    page.until("document.querySelector('#found').textContent.includes('by the best found')")
    assert "images/inclusion.png, images/oil_spot.png" in page.find("#searched").text
    assert "3 with a mask" in page.find("#labelled").text
    page.find("#stop").click()
    page.until("document.querySelector('#found').textContent.includes('Cancelled')")
    told = json.loads(page.js("return fetch('api/search').then((r) => r.text())"))
    if told["best"] > told["start"]:
        page.find("#take").click()
        page.settle()
        assert page.recipe["weights"] == told["recipe"]["weights"]
    else:
        assert "Nothing better" in page.find("#found").text
    page.server.work.search.close()


def test_a_search_that_does_not_help(page):
    told = {"state": "done", "done": 9, "total": 9, "seconds": 1, "pictures": 1, "names": ["a.png"], "alone": 0.8,
            "start": 0.7, "best": 0.75, "recipe": page.recipe}  # fmt: skip
    for best, said in ((0.75, True), (0.85, False)):
        page.server.work.search._told = {**told, "best": best}
        page.press("g")
        page.until(f"document.querySelector('#found').textContent.includes('{100 * best:.1f}')")
        assert ("no better than the pictures as they came" in page.find("#found").text) == said
        page.press(Keys.ESCAPE)


class TestLarge:
    """1024 x 1024, where a drag shows previews first."""

    @pytest.fixture
    def side(self):
        return 1024

    def test_previews_while_dragging_then_the_whole_picture(self, page):
        page.js("tune.pace = 1e-4; tune.latency.length = 0")
        page.drag(page.find("[data-weight=sharpen]"), 60, steps=30)
        page.settle()
        answers = page.js("return tune.latency")
        assert len(answers) > 5
        assert any(a["factor"] > 1 for a in answers)
        told = page.js("return [tune.right.width, tune.right.height, Array.from(tune.right.data.subarray(0, 4096))]")
        assert told[:2] == [1024, 1024]
        assert np.array_equal(told[2], page.expected(PATCH)[:4].ravel())
