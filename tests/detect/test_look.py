import json

import cv2
import numpy as np
import pytest

from tests.reference.scenes import Store
from tools import look


@pytest.fixture
def folder(tmp_path):
    """A small COCO folder on disk."""
    store = Store(7)
    (tmp_path / "train").mkdir()
    images, annotations = [], []
    for i in range(len(store)):
        height, width = store.sizes[i].tolist()
        cv2.imwrite(str(tmp_path / "train" / f"{i}.png"), store.read(i)[..., ::-1])
        images.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
        for box, label in zip(store.target(i).boxes.tolist(), store.target(i).labels.tolist(), strict=True):
            x, y, right, bottom = box
            number = len(annotations) + 1
            annotation = {"id": number, "image_id": i, "category_id": label + 1, "bbox": [x, y, right - x, bottom - y]}
            annotations.append({**annotation, "area": 1.0, "iscrowd": 0})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(["red", "green", "blue"])]
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (tmp_path / "instances_train.json").write_text(text)
    return tmp_path


def sheet(folder, *flags):
    out = folder / "out" / "sheet.png"
    assert look.main(["--data", str(folder), "--imgsz", "96", "--out", str(out), *flags]) == 0
    return cv2.imread(str(out))


def test_a_sheet_is_drawn_again_as_it_was(folder):
    first = sheet(folder, "--count", "7")
    assert first.shape == (300, 300, 3)
    assert np.array_equal(sheet(folder, "--count", "7"), first)
    assert not np.array_equal(sheet(folder, "--count", "7", "--epoch", "1"), first)
    assert not np.array_equal(sheet(folder, "--count", "7", "--seed", "1"), first)


def test_sizes_that_the_annotations_lack_are_read_from_the_files(folder):
    first = sheet(folder, "--count", "7")
    path = folder / "instances_train.json"
    data = json.loads(path.read_text())
    for image in data["images"]:
        del image["height"], image["width"]
    path.write_text(json.dumps(data))
    assert np.array_equal(sheet(folder, "--count", "7"), first)


def test_one_sample_is_drawn_large(folder):
    assert sheet(folder, "--index", "3").shape == (196, 196, 3)


def test_a_configuration_says_how(folder):
    config = folder / "run.yaml"
    config.write_text("epochs: 6\nmulti_scale: 0.4\nbatch: 2\naugment: {flip: 0.0, mosaic: 0.0}\n")
    assert sheet(folder, "--config", str(config), "--count", "2").shape[0] < 200


@pytest.mark.parametrize("flags", [["--index", "7"], ["--count", "0"], ["--index", "-1"], ["--split", "test"]])
def test_mistakes_are_one_line(folder, flags, capsys):
    assert look.main(["--data", str(folder), "--out", str(folder / "x.png"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
