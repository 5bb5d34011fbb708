"""The page in headless Chromium: pictures change when sliders move, and keys do for a mouse."""

from __future__ import annotations

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast import files

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install selenium")
from selenium.webdriver import ActionChains, Keys  # noqa: E402

PATCH = "images/patch.png"


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
    page.click(".filter:nth-child(4) .name")
    slider = page.find("[data-parameter=sharpen_amount]")
    page.drag(slider, 25)
    page.settle()
    assert page.recipe["params"]["sharpen_amount"] > 1
    assert np.array_equal(page.after, page.expected(PATCH))
    page.click("[aria-label='Default of sharpen_amount']")
    assert page.recipe["params"]["sharpen_amount"] == 0.8
    typed = page.find("[aria-label='bilateral_window, typed']")
    assert not typed.is_displayed()
    page.click(".filter:nth-child(3) .name")
    typed.send_keys(Keys.CONTROL, "a")
    typed.send_keys("10", Keys.ENTER)
    page.settle()
    assert page.recipe["params"]["bilateral_window"] == 11  # odd
    page.click("[aria-label='Default of bilateral_window']")
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
    page.click("#redo")
    page.settle()
    assert page.recipe == second
    assert np.array_equal(page.after, page.expected(PATCH))


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
    page.click("#canvas")
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
    page.click("#others button")
    assert page.recipe["filters"][-1] == "gamma"
    page.drag(page.find("[data-weight=gamma]"), 60)
    page.settle()
    assert page.recipe["weights"][0][6] > 0.3
    assert np.array_equal(page.after, page.expected(PATCH))
    page.click(".filter:nth-child(7) .name")
    page.click(".filter:nth-child(7) .parameters > button")
    page.settle()
    assert page.recipe["filters"] == list(sdie.FILTERS)


def test_sixteen_bits_by_their_white_level(page):
    page.open("deep.tif")
    assert page.find("#guess").text == "12 bits? Use 4095"
    assert np.array_equal(page.after, page.expected("deep.tif"))
    page.click("#guess")
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
    page.click("#per-channel")
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
    page.js("tune.segmenting = 0.5")
    page.press("g")
    assert "About 5 min, by what Mask took" in page.find("#search-dialog").text
    page.js("document.querySelector('#search-dialog form').elements.calls.value = ''")
    page.find("#search-dialog [name=calls]").send_keys("120")
    assert "About 60 s" in page.find("#search-dialog").text
    page.close_dialog()
    assert np.abs(page.canvas() - before).mean() > 0.1
    page.press("m")
    assert np.array_equal(page.canvas(), before)


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
