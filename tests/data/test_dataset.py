import json

import numpy as np
import pytest
import release_trees
from PIL import Image

from sdie_fast.data.dataset import DataSet
from sdie_fast.data.folder import open_folder
from sdie_fast.data.releases import DEFECT4I_FOLDS, FSSD12_FOLDS, open_dataset, open_defect4i, open_fssd12, read_list
from sdie_fast.data.shots import Split, draw
from sdie_fast.errors import DataSetError, InvalidArgumentError


def save(path, shape=(20, 30), value=0):
    return release_trees.save(path, np.full(shape, value, np.uint8))


def pair(root, image, mask, **kwargs):
    save(root / image, value=90, **kwargs)
    save(root / mask, value=255, **kwargs)


@pytest.mark.parametrize(
    ("image", "mask", "label"),
    [
        ("images/x.jpg", "masks/x.png", "data"),
        ("Images/x.jpg", "GT/x.png", "data"),
        ("a/Images/x.jpg", "a/GT/x.png", "a"),
        ("images/a/x.jpg", "labels/a/x_mask.png", "a"),
        ("x.png", "x_mask.png", "data"),
        ("a/b/x.png", "a/b/x_gt.png", "a/b"),
        ("bottle/test/crack/000.png", "bottle/ground_truth/crack/000_mask.png", "bottle/crack"),
    ],
)
def test_pairings(tmp_path, image, mask, label):
    root = tmp_path / "data"
    pair(root, image, mask)
    save(root / "bottle/test/good/000.png")
    (sample,) = open_folder(root).samples
    assert (sample.image, sample.mask, sample.label, sample.name) == (
        root / image,
        root / mask,
        label,
        image,
    )


def test_missing_mask_names_the_image(tmp_path):
    pair(tmp_path, "images/x.png", "masks/x.png")
    save(tmp_path / "images/y.png")
    with pytest.raises(DataSetError, match=r"images.y\.png: no mask.*1 of 2"):
        open_folder(tmp_path)


def test_two_masks_for_one_image(tmp_path):
    pair(tmp_path, "images/x.png", "masks/x.png")
    save(tmp_path / "masks/x.bmp")
    with pytest.raises(DataSetError, match="two masks"):
        open_folder(tmp_path)


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p])
def test_nothing_there(tmp_path, make):
    with pytest.raises(DataSetError, match=r"no such folder|no image"):
        open_folder(make(tmp_path))


def test_load(tmp_path):
    save(tmp_path / "x.png", value=90)
    grey = np.zeros((20, 30), np.uint8)
    grey[:, 10:] = 255
    grey[:, 9] = 128
    grey[:, 8] = 127
    Image.fromarray(grey).save(tmp_path / "x_mask.png")
    data = open_folder(tmp_path)
    image, mask = data.load(data.samples[0])
    assert image.dtype == np.uint8
    assert (image == 90).all()
    assert mask.dtype == bool
    assert (mask == (grey > 127)).all()
    strict = open_folder(tmp_path, mask_rule="strict")
    assert (strict.load(strict.samples[0])[1] == (grey == 255)).all()
    small = open_folder(tmp_path, size=200)
    image, mask = small.load(small.samples[0])
    assert image.shape == mask.shape == (200, 200)
    assert mask.mean() == pytest.approx((grey > 127).mean(), abs=0.02)


def test_colour_and_deep_files_become_grey(tmp_path):
    colour = np.zeros((20, 20, 3), np.uint8)
    colour[..., 1] = 255
    Image.fromarray(colour).save(tmp_path / "a.png")
    Image.fromarray(np.full((20, 20), 65535, np.uint16)).save(tmp_path / "b.png")
    for name in "ab":
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / f"{name}_mask.png")  # 0 and 1
    data = open_folder(tmp_path)
    values = [image[0, 0] for _, image, _ in data]
    assert values == [150, 255]
    assert (data.load(data.samples[0])[1] == np.eye(20, dtype=bool)).all()


def test_unreadable_files(tmp_path):
    pair(tmp_path, "x.png", "x_mask.png")
    save(tmp_path / "x_mask.png", shape=(20, 31))
    data = open_folder(tmp_path)
    with pytest.raises(DataSetError, match=r"x_mask\.png: 31 x 20 pixels; its image .*x\.png has 30 x 20"):
        data.load(data.samples[0])
    (tmp_path / "x_mask.png").write_bytes((tmp_path / "x.png").read_bytes()[:50])
    with pytest.raises(DataSetError, match=r"x_mask\.png"):
        data.load(data.samples[0])
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(DataSetError, match=r"x\.png: not a PNG"):
        data.load(data.samples[0])


def test_an_empty_mask_is_an_empty_mask(tmp_path):
    save(tmp_path / "x.png")
    save(tmp_path / "x_mask.png")
    data = open_folder(tmp_path)
    assert not data.load(data.samples[0])[1].any()


@pytest.mark.parametrize("kwargs", [{"mask_rule": "most"}, {"size": 4}])
def test_bad_options(tmp_path, kwargs):
    pair(tmp_path, "x.png", "x_mask.png")
    with pytest.raises(InvalidArgumentError, match="received"):
        open_folder(tmp_path, **kwargs)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_fssd12(tmp_path, end):
    root = tmp_path / "FSSD-12"
    release_trees.fssd12(root, end=end)
    for given in (root, tmp_path):
        whole = open_fssd12(given)
        assert set(whole.classes) == {n for names in FSSD12_FOLDS for n in names}
        assert len(whole) == 36
        assert whole.size == 200
    fold = open_fssd12(root, fold=1)
    assert set(fold.classes) == set(FSSD12_FOLDS[1])
    assert fold.samples[0].name == "Steel_Os/Images/Steel_Os_3.jpg"  # the list's order
    with pytest.raises(InvalidArgumentError, match="fold: received 3"):
        open_fssd12(root, fold=3)
    train = open_fssd12(root, fold=1, split="train")
    assert train.classes == FSSD12_FOLDS[0] + FSSD12_FOLDS[2]
    (root / "data_list" / "train" / "fold1_defect.txt").unlink()
    with pytest.raises(DataSetError, match="fold1_defect"):
        open_fssd12(root, fold=1, split="train")


def test_what_a_data_set_is_shows(tmp_path):
    release_trees.fssd12(tmp_path / "a" / "FSSD-12")
    assert open_dataset(tmp_path / "a").name == open_dataset(tmp_path / "a" / "FSSD-12").name == "FSSD-12"
    assert len(open_dataset(tmp_path / "a", fold=1)) == 12
    pair(tmp_path / "b", "MT_Fray/Images/x.jpg", "MT_Fray/GT/x.png")
    assert open_dataset(tmp_path / "b", size=None).size is None
    with pytest.raises(InvalidArgumentError, match=r"fold of a plain folder: received 1; accepted: None"):
        open_dataset(tmp_path / "b", fold=1)
    (tmp_path / "b" / "all_defective.txt").write_text("MT_Fray/Images/x.jpg  1\n")
    assert len(open_dataset(tmp_path / "b")) == 1
    with pytest.raises(DataSetError, match=r"data_list.test.fold_1_defective\.txt: cannot be read"):
        open_dataset(tmp_path / "b", fold=1)
    with pytest.raises(InvalidArgumentError, match="kind: received 'coco'; accepted: 'auto', 'fssd12'"):
        open_dataset(tmp_path / "b", "coco")


def test_fssd12_takes_fifty_of_each(tmp_path):
    release_trees.fssd12(tmp_path, images=52)
    assert len(open_fssd12(tmp_path)) == 600


def test_fssd12_with_a_strange_class(tmp_path):
    release_trees.fssd12(tmp_path, images=1)
    pair(tmp_path, "Rail/Images/x.jpg", "Rail/GT/x.png")
    with pytest.raises(DataSetError, match="'Rail' is no class"):
        open_fssd12(tmp_path)


def test_defect4i(tmp_path):
    release_trees.defect4i(tmp_path)
    whole = open_dataset(tmp_path)
    assert (len(whole), whole.size) == (36, 200)
    for fold, names in enumerate(DEFECT4I_FOLDS):
        assert open_dataset(tmp_path, fold=fold).classes == names
    fold = open_defect4i(tmp_path, fold=0)
    assert fold.samples[5].name == "MT_Uneven/Images/MT_Uneven1.jpg"
    assert set(open_defect4i(tmp_path, fold=0, split="train").classes) == set(whole.classes) - set(fold.classes)
    (tmp_path / "all_defective.txt").write_text("AI_Rm/Images/AI_Rm_1.jpg  1\n", encoding="utf-8-sig")
    assert len(open_defect4i(tmp_path)) == 1
    (tmp_path / "AI_Rm/GT/AI_Rm_1.png").unlink()
    with pytest.raises(DataSetError, match=r"AI_Rm_1\.png: no such file"):
        open_defect4i(tmp_path)


@pytest.mark.parametrize("line", ["no number", "../Images/x.jpg  1", "/Images/x.jpg  1", "a/b/x.jpg  1"])
def test_bad_lists(tmp_path, line):
    (tmp_path / "all_defective.txt").write_text(line)
    with pytest.raises(DataSetError, match=r"all_defective\.txt"):
        open_defect4i(tmp_path)


def test_read_list(tmp_path):
    path = tmp_path / "l.txt"
    path.write_bytes(b"\xef\xbb\xbfa b/Images/x.jpg  1\r\n\r\nc\\Images\\y.jpg  12\n")
    assert read_list(path) == [("a b/Images/x.jpg", "1"), ("c/Images/y.jpg", "12")]


def test_real_set(data):
    found = open_defect4i(data / "defects-dev")
    assert {c: len(found.of_class(c)) for c in found.classes} == {
        "Steel_In": 50, "Steel_Pa": 50, "Steel_Sc": 50, "MT_Break": 42, "MT_Crack": 28, "MT_Uneven": 50,
    }  # fmt: skip
    assert len(open_folder(data / "defects-dev")) == 270
    for _, image, mask in found:
        assert image.shape == mask.shape == (200, 200)
        assert mask.mean() < 0.95


def twelve(tmp_path, images=6):
    for label in "ab":
        for k in range(images):
            pair(tmp_path, f"{label}/Images/{k}.png", f"{label}/GT/{k}.png")
    return open_folder(tmp_path)


def test_draw(tmp_path):
    data = twelve(tmp_path)
    save(tmp_path / "a/GT/0.png")  # empty: never a shot
    for seed in range(20):
        split = draw(data, 2, seed)
        assert split == draw(data, 2, seed)
        support, query = split.parts(data)
        assert len(support) == 4
        assert len(query) == 8
        assert not {s.name for s in support.samples} & {s.name for s in query.samples}
        assert "a/Images/0.png" not in split.support["a"]
    assert len({draw(data, 2, seed).support["a"] for seed in range(20)}) > 3
    only = DataSet("a", data.of_class("a"))
    assert draw(only, 2, 3).support["a"] == draw(data, 2, 3).support["a"]


def test_drawn(tmp_path):
    """So many of each class, not the first, and nearly the same when a few images are gone."""
    data = twelve(tmp_path, 30)
    some = data.drawn(10)
    assert [sum(s.label == c for s in some.samples) for c in "ab"] == [10, 10]
    names = [s.name for s in some.samples]
    assert names == [s.name for s in data.samples if s.name in set(names)]
    assert names != [s.name for s in data.at_most(10).samples]
    fewer = data.subset([s.name for s in data.samples if s.name not in names[:2]])
    assert len(set(names) - {s.name for s in fewer.drawn(10).samples}) == 2
    assert data.drawn(99).samples == data.samples
    with pytest.raises(InvalidArgumentError, match="count"):
        data.drawn(0)


@pytest.mark.parametrize("k", [0, 6, 7])
def test_draw_too_many(tmp_path, k):
    with pytest.raises(InvalidArgumentError, match="k: received"):
        draw(twelve(tmp_path), k, 0)


def test_split_round_trip(tmp_path):
    data = twelve(tmp_path / "data")
    split = draw(data, 1, 5)
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split
    content = json.loads((tmp_path / "split.json").read_text())
    content["query"]["a"][0] = content["support"]["a"][0]
    (tmp_path / "split.json").write_text(json.dumps(content))
    with pytest.raises(DataSetError, match="support and query"):
        Split.load(tmp_path / "split.json")
    with pytest.raises(DataSetError, match="no image 'x'"):
        Split({"a": ("x",)}, {}, 1, 0).parts(data)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', '{"format": "sdie_fast split 1", "k": 1}'])
def test_bad_splits(tmp_path, text):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataSetError, match=r"s\.json"):
        Split.load(tmp_path / "s.json")


def test_missing_split(tmp_path):
    with pytest.raises(DataSetError, match="cannot be read"):
        Split.load(tmp_path / "none.json")
