"""File names of COCO records and files on disk that differ in spelling alone."""

import json
import unicodedata

import cv2
import numpy as np
import pytest

from detect.data.sources.coco import load_coco
from detect.data.sources.formats import load_data
from detect.data.sources.image_names import as_on_disk
from detect.data.validate import verify

NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


def coco(folder, *names: str):
    """`instances_train.json` in a folder, with a record for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [{"id": i, "file_name": name, "width": 8, "height": 8} for i, name in enumerate(names)]
    content = {"images": records, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (folder / "instances_train.json").write_text(json.dumps(content))
    return folder


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())


@pytest.mark.parametrize(
    ("record", "file"),
    [
        (f"{NFC}.png", f"{NFD}.png"),
        (f"{NFD}.png", f"{NFC}.png"),
        ("A.PNG", "a.png"),
        ("Day/a.png", "day/A.png"),
        (f"{NFD}/a.png", f"{NFC}/a.png"),
        ("day\\a.png", "day/a.png"),
        (".\\Day\\A.png", "day/a.png"),
    ],
)
@pytest.mark.parametrize("place", ["", "images", "train"])
def test_a_name_that_differs_in_spelling_alone_is_that_of_its_file(tmp_path, record, file, place):
    folder = coco(tmp_path, record)
    image(tmp_path / place / file)
    annotations = verify(load_data(folder, "train"))
    assert annotations.image_path(0) == tmp_path / place / file


def test_names_that_are_there_or_may_mean_several_files_stay(tmp_path):
    for name in ("b.png", "C.png", "c.png", "d.png"):
        image(tmp_path / name)
    there_twice = as_on_disk(["D.png", "d.png"], tmp_path)  # two records, of which one file is the other's
    assert there_twice == ["D.png", "d.png"]
    assert as_on_disk(["B.PNG", "B.png"], tmp_path) == ["B.PNG", "B.png"]  # both mean one file
    assert as_on_disk(["C.PNG", "./b.png", "none.png"], tmp_path) == ["C.PNG", "./b.png", "none.png"]


def test_a_name_never_becomes_that_of_a_file_outside_the_folder(tmp_path):
    image(tmp_path / "secret" / "a.png")
    folder = coco(tmp_path / "data", "..\\Secret\\a.png", "b.png")
    assert load_coco(folder / "instances_train.json", skip_bad=True).file_name(0) == "b.png"
    assert as_on_disk(["..\\secret\\a.png", "../Secret/A.png"], folder) == ["..\\secret\\a.png", "../Secret/A.png"]


@pytest.mark.parametrize("name", ["a\0b/c.png", "\ud83d/c.png", "x" * 300 + "/c.png"])
def test_names_that_no_folder_can_have_are_not_looked_up(tmp_path, name):
    assert as_on_disk([name], tmp_path) == [name]
    image(tmp_path / "b.png")
    annotations = load_coco(coco(tmp_path, name, "b.png") / "instances_train.json", skip_bad=True)
    assert annotations.file_name(len(annotations) - 1) == "b.png"
