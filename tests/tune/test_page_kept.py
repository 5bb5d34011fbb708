"""The page in headless Chromium: what is saved, found and tuned comes back, and its names tell the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

import sdie_fast as sdie
from sdie_fast.tune.recipes import Options

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: pip install selenium")
from selenium.webdriver import Keys  # noqa: E402

PATCH = "images/patch.png"


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
    page.click("#active [data-value=B]")
    page.settle()
    assert not np.array_equal(page.after, picture)
    page.press("o")
    page.until("document.querySelector('#known button')")
    page.click("#known button")
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
    page.click("#save-dialog [name=ok]")
    page.until("!document.querySelector('dialog[open]')")
    again = sdie.Recipe.load(folder / "recipes" / "line 2")
    assert not np.array_equal(again.weights, saved.weights)
    assert again.notes.startswith("camera 3\n")


def save(page, name):
    page.press("s")
    page.js("document.querySelector('#save-dialog form').elements.name.value = ''")
    page.find("#save-dialog [name=name]").send_keys(name, Keys.ENTER)
    page.until("!document.querySelector('dialog[open]')")


def command(page):
    page.js("document.querySelector('#command').textContent = ''")
    page.press("p")
    page.until("document.querySelector('#command').textContent")
    told = page.find("#command").text
    page.close_dialog()
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
    page.close_dialog()
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


def test_two_tabs_do_not_disturb_each_other(page, server):
    page.drag(page.find("[data-weight=sharpen]"), 50)
    page.settle()
    first = page.recipe
    page.driver.switch_to.new_window("tab")
    other = type(page)(page.driver, server)
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
    page.click("#guess")
    page.settle()
    page.visit()
    page.open("deep.tif")
    assert page.find("#white-level").get_attribute("value") == "4095"
    assert np.array_equal(page.after, page.expected("deep.tif", white_level=4095))
    # Unless the command says another.
    server.work.options = Options(5000.0)
    page.visit()
    assert page.find("#white-level").get_attribute("value") == "5000"


def test_a_search_from_the_page(page):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("cma")
    page.press("g")
    page.js(
        "const f = document.querySelector('#search-dialog form').elements;"
        "[['each', 2], ['calls', 100000], ['size', 0], ['grid', 6]].forEach(([n, v]) => { f[n].value = v; })"
    )
    page.click("#begin")
    page.until("document.querySelector('#found').textContent.includes('by the best found')")
    assert "images/inclusion.png, images/oil_spot.png" in page.find("#searched").text
    assert "3 with a mask" in page.find("#labelled").text
    page.click("#stop")
    page.until("document.querySelector('#found').textContent.includes('Cancelled')")
    told = json.loads(page.js("return fetch('api/search').then((r) => r.text())"))
    if told["best"] > told["start"]:
        page.click("#take")
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
