"""The server by itself: what it answers, to whom, and what it makes of bad questions and odd pictures."""

from __future__ import annotations

import re
import socket
import sys
import time
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

import sdie_fast as sdie
from sdie_fast import files
from sdie_fast.filters import PARAMETERS, TABLE
from sdie_fast.learn.env import reward_of
from sdie_fast.tune import pictures, server
from sdie_fast.tune.recipes import scaled


def ready(recipe):
    return {"weights": recipe["weights"], "params": sdie.FilterParams(**recipe["params"])}


# ---- the page itself


def test_the_page_and_nothing_from_elsewhere(ask):
    assert sorted(server._FILES) == sorted(
        ["/", *(f"/{f.name}" for f in server._PAGE.iterdir() if f.suffix != ".html")]
    )
    for path in server._FILES:
        answer = ask(path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert not re.search(rb"""(https?:)?//[a-z0-9.]+\.[a-z]{2,}/""", answer.body), path
    assert ask("/nothing.js").status == 404
    assert ask("/../server.py").status == 404


def test_filters_are_told_by_their_own_descriptions(ask):
    told = ask("/api/state").json
    assert [f["name"] for f in told["filters"]] == list(TABLE)
    assert {p["name"]: p["sentence"] for f in told["filters"] for p in f["parameters"]} == {
        name: parameter.sentence() for name, parameter in PARAMETERS.items()
    }
    assert told["toolkit"] == list(sdie.FILTERS)
    assert told["recipe"]["weights"] == sdie.default_recipe().to_dict()["weights"]


# ---- who may ask


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:80@127.0.0.1"}, 403),
        ({"Host": "localhost:9000"}, 200),  # a tunnel
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, 403),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_may_not_ask(ask, headers, status):
    assert ask("/api/pictures", **headers).status == status
    assert ask("/api/code", {"recipe": {"weights": [[1] * 6]}}, **headers).status == status


def test_a_link_from_elsewhere_opens_the_page(ask):
    assert ask("/", **{"Sec-Fetch-Site": "cross-site"}).status == 200


def test_forms_and_large_questions_are_refused(ask):
    assert ask("/api/cancel", b"{}", **{"Content-Type": "text/plain"}).status == 415
    assert ask("/api/cancel", b"{}", **{"Content-Length": str(2**20 + 1)}).status == 413
    assert ask("/api/cancel", b"{}", **{"Content-Length": "-1"}).status == 413


# ---- pictures


def test_listing_pairs_masks_and_follows_the_folder(ask, folder):
    told = {p["name"]: p["mask"] for p in ask("/api/pictures").json["pictures"]}
    assert told["images/patch.png"] == "masks/patch.png"
    assert told["deep.tif"] is None
    assert not any(name.startswith("masks/") for name in told)
    before = ask("/api/pictures").json
    (folder / "images" / "patch.png").unlink()
    files.write(folder / "colour.png", files.Picture(np.zeros((40, 40), np.uint8)))
    (folder / "recipes" / "x").mkdir(parents=True)
    files.write(folder / "recipes" / "x" / "y.png", files.Picture(np.zeros((40, 40), np.uint8)))
    after = ask("/api/pictures").json
    names = [p["name"] for p in after["pictures"]]
    assert "images/patch.png" not in names
    assert "recipes/x/y.png" not in names
    stamp = [next(p["stamp"] for p in told["pictures"] if p["name"] == "colour.png") for told in (before, after)]
    assert stamp[0] != stamp[1]
    assert ask("/api/picture?name=colour.png").pixels.shape == (40, 40)
    assert ask("/api/picture?name=images/patch.png").status == 422


def test_a_folder_that_goes_away(ask, folder):
    folder.rename(folder.with_name("gone"))
    assert "cannot be listed" in ask("/api/pictures").json["error"]
    folder.with_name("gone").rename(folder)
    assert ask("/api/pictures").status == 200


@pytest.mark.parametrize(
    "name",
    ["", "../secret.png", "images/../../secret.png", "/etc/passwd", "out.png", "way/secret.png", ".hidden.png",
     "a\0.png",
     "..\\secret.png", "notes.txt", "images", "x" * 5000 + ".png"],
)  # fmt: skip
def test_nothing_outside_the_folder(ask, folder, name):
    files.write(folder.parent / "secret.png", files.Picture(np.zeros((40, 40), np.uint8)))
    files.write(folder / ".hidden.png", files.Picture(np.zeros((40, 40), np.uint8)))
    (folder / "notes.txt").write_text("mine")
    (folder / "out.png").symlink_to(folder.parent / "secret.png")
    (folder / "way").symlink_to(folder.parent)
    listed = [p["name"] for p in ask("/api/pictures").json["pictures"]]
    assert not {"out.png", "way/secret.png", ".hidden.png"} & set(listed)
    for path in (f"/api/picture?name={quote(name)}", f"/api/thumb?name={quote(name)}"):
        answer = ask(path)
        assert answer.status == 422
        assert "no such picture" in answer.json["error"]
    assert ask("/api/enhance", {"name": name, "recipe": {"weights": [[1] * 6]}}).status == 422
    assert ask("/api/mask", {"name": "images/patch.png", "recipe": None, "mask": name}).status == 422


def test_links_within_the_folder_are_pictures(ask, folder):
    (folder / "again.png").symlink_to(folder / "images" / "patch.png")
    assert ask("/api/picture?name=again.png").status == 200


@pytest.mark.parametrize("name", ["images/patch.png", "colour.png", "deep.tif", "real.tif", "tiny.png"])
def test_pictures_and_thumbs(ask, folder, name):
    answer, pixels = ask(f"/api/picture?name={name}"), files.read(folder / name).pixels
    sent = answer.pixels / 65535 if answer.facts.get("real") else answer.pixels
    assert np.allclose(sent, pixels, atol=1e-5)
    assert answer.facts["whole"] == list(pixels.shape[:2])
    assert ask(f"/api/thumb?name={name}").body.startswith(b"\xff\xd8")


def test_of_a_large_picture_the_middle(ask, folder, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_PIXELS", 1600)
    strip = np.arange(4000, dtype=np.uint16).reshape(20, 200)
    files.write(folder / "strip.tif", files.Picture(strip))
    answer = ask("/api/picture?name=strip.tif")
    assert answer.facts["whole"] == [20, 200]
    assert np.array_equal(answer.pixels, strip[:, 60:140])


# ---- enhancing


@pytest.mark.parametrize(
    ("name", "options"),
    [("images/patch.png", {}), ("deep.tif", {"white_level": 4095}), ("deep.tif", {}), ("colour.png", {}),
     ("colour.png", {"per_channel": True}), ("real.tif", {"white_level": 4095})],
)  # fmt: skip
def test_enhanced_as_the_library_does(ask, folder, recipe, name, options):
    answer = ask("/api/enhance", {"name": name, "recipe": recipe, "options": options})
    pixels = files.read(folder / name).pixels
    if pixels.dtype != np.uint16:
        options = {k: v for k, v in options.items() if k != "white_level"}
    expected = sdie.enhance(pixels, **ready(recipe), **options)
    found = answer.pixels / 65535 if answer.facts.get("real") else answer.pixels
    assert np.allclose(found, expected, atol=1e-5)
    assert answer.facts["seconds"] > 0
    assert not np.array_equal(found, pixels)


def test_a_preview_is_reduced_and_looks_alike(ask, recipe):
    whole, small = (ask("/api/enhance", {"name": "images/patch.png", "recipe": recipe, "factor": f}) for f in (1, 2))
    assert small.pixels.shape == (48, 48)
    assert small.facts["factor"] == 2
    means = whole.pixels.reshape(48, 2, 48, 2).mean((1, 3))
    assert np.abs(means - small.pixels).mean() < 8
    # No smaller than the filters' windows.
    assert ask("/api/enhance", {"name": "images/patch.png", "recipe": recipe, "factor": 64}).pixels.shape == (32, 32)


def test_reduced_pictures_and_parameters():
    grey = np.array([[0, 1, 9], [2, 4, 9], [9, 9, 9]], np.uint8)
    assert pictures.reduced(grey, 2).tolist() == [[2]]  # 7 / 4, rounded
    assert pictures.reduced(np.full((4, 4, 3), 65535, np.uint16), 4).tolist() == [[[65535] * 3]]
    assert pictures.reduced(np.full((2, 2), 0.5, np.float32), 2).dtype == np.float32
    small = scaled(sdie.FilterParams(window=11, sharpen_radius=3.0, bilateral_window=3), 2)
    assert (small.window, small.sharpen_radius, small.bilateral_window, small.guided_window) == (5, 1.5, 3, None)
    assert small.sharpen_amount == sdie.FilterParams().sharpen_amount


def test_times_and_rates(ask, recipe):
    told = ask("/api/measure", {"name": "images/patch.png", "recipe": recipe}).json
    assert told["seconds"] > 0
    assert told["seconds"] * told["rate"] == pytest.approx(96 * 96)


GOOD = {"filters": list(sdie.FILTERS), "weights": [[1, 0, 0, 1, 0, 0]], "params": {}}
ROWS = {
    "nothing": None, "no object": 7, "no weights": {}, "no rounds": {"weights": []}, "zeros": {"weights": [[0] * 6]},
    "negative": {"weights": [[-1, 1, 1, 1, 1, 1]]}, "text": {"weights": "wls"}, "by name": {"weights": [{"wls": 1}]},
    "too few": {"weights": [[1, 1]]}, "ragged": {"weights": [[1] * 6, [1]]}, "not numbers": {"weights": [["a"] * 6]},
    "too many rounds": {"weights": [[1] * 6] * 21}, "unknown filter": {**GOOD, "filters": ["identity", "magic"]},
    "a filter twice": {**GOOD, "filters": ["wls"] * 6}, "filters no list": {**GOOD, "filters": 7},
    "unknown parameter": {**GOOD, "params": {"wls_magic": 1}}, "parameter out of range": {**GOOD,
    "params": {"window": 4}},
    "parameters no object": {**GOOD, "params": [1]}, "unknown key": {**GOOD, "actor": "x"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "case"),
    # No recipe and a mask: that of the picture as it came.
    [
        (p, c)
        for p in ("enhance", "measure", "code", "save", "search", "mask")
        for c in ROWS
        if (p, c) != ("mask", "nothing")
    ],
)
def test_bad_recipes(ask, path, case):
    if path == "mask":
        pytest.importorskip("onnxruntime")
    body = {"name": "images/patch.png", "recipe": ROWS[case], "each": 1, "calls": 1, "size": 0, "grid": 2}
    if path == "save":
        body["name"] = "x"
    answer = ask(f"/api/{path}", body)
    assert answer.status == 422, answer.body[:500]
    assert answer.json["error"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("enhance", {"options": {"white_level": 0}}), ("enhance", {"options": {"white_level": "a"}}),
     ("enhance", {"options": 7}),
     ("enhance", {"options": {"per_channel": 1}}), ("enhance", {"options": {"other": 1}}), ("enhance", {"factor": 0}),
     ("enhance", {"factor": "2"}), ("enhance", {"factor": 1e9}), ("enhance", {"name": None}),
     ("enhance", {"name": [1]}),
     ("enhance", {"name": "damaged.png"}), ("enhance", {"name": "tiny.png"}), ("measure", {"name": "tiny.png"}),
     ("enhance", {"name": "deep.tif", "options": {"white_level": 100}}), ("load", {"name": "none"}),
     ("load", {"name": "../x"}),
     ("load", {"name": None}), ("load", {"name": ["a"]}), ("save", {"name": "../x"}), ("save", {"name": "a/b"}),
     ("save", {"name": ".x"}), ("save", {"name": "x" * 200}), ("save", {"name": "x "}), ("save", {"name": 7}),
     ("save", {"name": "x", "notes": 7}), ("code", {"saved": "../x"}), ("code", {"saved": 7}), ("mask", {"mask": 7}),
     ("mask", {"mask": "masks/none.png"}), ("search", {"each": 0}), ("search", {"calls": "many"}),
     ("search", {"size": -1}),
     ("search", {"grid": None})],
)  # fmt: skip
def test_bad_questions(ask, path, body):
    if path in ("mask", "search"):
        pytest.importorskip("onnxruntime")
    usual = {"name": "images/patch.png", "recipe": GOOD, "each": 1, "calls": 1, "size": 0, "grid": 2}
    answer = ask(f"/api/{path}", {**usual, **body})
    assert answer.status == 422, answer.body[:500]
    assert answer.json["error"]


@pytest.mark.parametrize("path", ["enhance", "measure", "mask", "load", "save", "code", "search", "cancel"])
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100000, b'{"name": NaN'])
def test_what_is_no_question(ask, path, body):
    assert ask(f"/api/{path}", body).status == 422


def test_a_closed_browser_leaves_the_server_alone(ask, recipe):
    for text in (
        b"GET /api/picture?name=images/patch.png HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET",
        b"\x16\x03\x01",
    ):
        with socket.create_connection(("127.0.0.1", ask.server.server_port)) as connection:
            connection.sendall(text)
            # A reset instead of a farewell.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ask("/api/enhance", {"name": "images/patch.png", "recipe": recipe}).status == 200


# ---- masks and the search


def test_masks_are_the_segmenters(ask, folder, work, recipe):
    pytest.importorskip("onnxruntime")
    name, mask = "images/patch.png", "masks/patch.png"
    image, truth = files.read(folder / name).pixels, files.read(folder / mask).pixels > 127
    enhanced = sdie.enhance(image, **ready(recipe))
    for given, seen in ((None, image), (recipe, enhanced)):
        answer = ask("/api/mask", {"name": name, "recipe": given, "mask": mask})
        found, quality = work.model(seen)
        assert np.array_equal(answer.pixels, found + 2 * truth)
        assert answer.facts["quality"] == pytest.approx(float(quality[0]))
        assert answer.facts["iou"] == pytest.approx((found & truth).sum() / (found | truth).sum())
    assert "iou" not in ask("/api/mask", {"name": name, "recipe": None}).facts


def test_what_is_segmented_is_reduced_with_its_mask():
    image, mask = np.zeros((1100, 900), np.uint8), np.zeros((1100, 900), bool)
    mask[300:600, 300:600] = image[300:600, 300:600] = True
    small, truth = pictures.judged(image * np.uint8(255)), pictures.judged(mask)
    assert small.shape == truth.shape == (366, 300)
    assert np.array_equal(small > 127, truth)


def wait(ask, until, most=120.0):
    end = time.monotonic() + most
    while time.monotonic() < end:
        told = ask("/api/search").json
        if until(told):
            return told
        time.sleep(0.05)
    raise AssertionError(told)


@pytest.fixture
def effort():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("cma")
    return {"each": 2, "calls": 30, "size": 64, "grid": 2, "recipe": GOOD}


def test_a_search_finds_weights_and_tells_what_they_are_worth(ask, folder, effort):
    begun = ask("/api/search", {**effort, "grid": 6}).json
    assert (begun["state"], begun["total"], begun["pictures"]) == ("running", 30, 2)
    assert "running" in ask("/api/search", effort).json["error"]
    told = wait(ask, lambda told: told["state"] != "running")
    assert told["state"] == "done", told
    assert told["best"] >= told["start"]
    assert told["names"] == ["images/inclusion.png", "images/oil_spot.png"]
    assert told["best"] != told["alone"]
    weights = np.array(told["recipe"]["weights"])
    assert weights.shape == (1, 6)
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    # What the best is worth, by enhancing and segmenting without any of this.
    env = ask.server.work.search._env
    score, weights = env.best
    assert np.allclose(weights, told["recipe"]["weights"], atol=1e-4)
    scores = []
    for name in ("images/inclusion.png", "images/oil_spot.png"):
        image, truth = (
            np.asarray(Image.open(folder / path).resize((64, 64), how))
            for path, how in (
                (name, Image.Resampling.BILINEAR),
                (name.replace("images", "masks"), Image.Resampling.NEAREST),
            )
        )
        found, _ = ask.server.work.model(sdie.enhance(image, weights), grid=6)
        scores.append(reward_of(found, truth > 127, "fb-iou"))
    assert score == told["best"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_what_is_missing_is_told(ask, recipe, monkeypatch):
    for name in ("onnxruntime", "cma"):
        monkeypatch.setitem(sys.modules, name, None)
    body = {"name": "images/patch.png", "recipe": GOOD, "each": 1, "calls": 1, "size": 0, "grid": 2}
    for path in ("mask", "search"):
        answer = ask(f"/api/{path}", body)
        assert answer.status == 422
        assert 'pip install "sdie-fast[tune]"' in answer.json["error"]
    assert ask("/api/enhance", body).status == 200


def test_a_cancelled_search_gives_the_best_so_far(ask, effort):
    ask("/api/search", {**effort, "calls": 100000})
    wait(ask, lambda told: "start" in told)
    ask("/api/cancel", {})
    told = wait(ask, lambda told: told["state"] != "running")
    assert told["state"] == "cancelled"
    assert told["recipe"]["filters"] == list(sdie.FILTERS)
    assert ask.server.work.search.close()


def test_a_search_needs_masks_and_one_size(ask, folder, effort):
    files.write(folder / "images" / "other.png", files.Picture(np.zeros((50, 60), np.uint8)))
    files.write(folder / "masks" / "other.png", files.Picture(np.zeros((50, 60), np.uint8)))
    assert "differ in size" in ask("/api/search", {**effort, "each": 64, "size": 0}).json["error"]
    for path in (folder / "masks").iterdir():
        path.unlink()
    assert "no picture of this folder has a mask" in ask("/api/search", effort).json["error"]
