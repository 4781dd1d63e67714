"""The check of images remembers what was in order, and nothing else."""

import json
import os

import numpy as np
import pytest

from detect.data import checked_images, validate
from detect.data.image_writer import save_image
from detect.data.sources.coco import load_coco
from detect.data.validate import verify
from detect.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a COCO file of twelve images that is large enough to be remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(checked_images, "LEAST", 1)
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        save_image(data / f"{i}.jpg", rng.integers(0, 255, (8, 9, 3), np.uint8))
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 8} for i in range(12)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 4, 4]} for i in range(12)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    (data / "set.json").write_text(json.dumps(content))
    return data


@pytest.fixture
def opened(monkeypatch):
    """The names of the images that are opened."""
    names, examine = [], validate.examine

    def noted(path, *rest):
        names.append(path.name)
        return examine(path, *rest)

    monkeypatch.setattr(validate, "examine", noted)
    return names


def test_a_second_check_opens_only_what_has_changed(folder, opened):
    annotations = load_coco(folder / "set.json")
    verify(annotations)
    assert len(opened) == 12
    opened.clear()
    os.utime(folder / "3.jpg", ns=(1, 1))
    save_image(folder / "5.jpg", np.full((8, 9, 3), 7, np.uint8))
    verify(annotations)
    assert sorted(opened) == ["3.jpg", "5.jpg"]
    opened.clear()
    verify(annotations)
    assert opened == []


def test_what_is_wrong_is_told_every_time(folder, opened):
    annotations = load_coco(folder / "set.json")
    data = (folder / "4.jpg").read_bytes()
    (folder / "4.jpg").write_bytes(data[: len(data) // 2])
    for _ in range(2):
        kept = verify(annotations, skip_bad=True)
        assert len(kept) == 11 and "4.jpg" in kept.left_out[0]
    assert opened.count("4.jpg") == 2
    assert len(opened) == 13
    with pytest.raises(UserError, match=r"4\.jpg"):
        verify(annotations)


def test_an_annotated_size_is_compared_with_images_that_are_remembered(folder, opened):
    verify(load_coco(folder / "set.json"))
    content = json.loads((folder / "set.json").read_text())
    content["images"][2]["width"] = 10
    (folder / "set.json").write_text(json.dumps(content))
    opened.clear()
    with pytest.raises(UserError, match=r"2\.jpg: annotated as 10 x 8"):
        verify(load_coco(folder / "set.json"))
    assert opened == []


def test_a_look_at_headers_alone_is_not_a_check(folder, opened):
    annotations = load_coco(folder / "set.json")
    verify(annotations, decode=False)
    opened.clear()
    verify(annotations)
    assert len(opened) == 12


def test_small_sets_and_damaged_memories_are_checked_anew(folder, opened, monkeypatch):
    annotations = load_coco(folder / "set.json")
    verify(annotations)
    (path,) = (folder.parent / "cache").rglob("*.arrays")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    verify(annotations)
    assert len(opened) == 24
    monkeypatch.setattr(checked_images, "LEAST", 13)
    verify(annotations)
    assert len(opened) == 36
