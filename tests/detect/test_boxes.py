"""Boxes that nothing can be learned from: refused before the first step, left out on request, measured as they are."""

import json
import shutil

import numpy as np
import pytest

from detect.__main__ import main
from detect.data.boxes import away, flat, out_of_images, partly_relative, partly_small, relative, too_small
from detect.data.sources.coco import load_coco
from detect.data.validate import usable
from tests.reference.runs import rows

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = "--model yolo_n --imgsz 64 --batch 8 --epochs 1 --workers 0 --device cpu --precision float32"
YOLO = "--model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0"


def annotations_of(folder, boxes, size=(100, 60), crowd=()):
    """Annotations of one image of (width, height) `size`."""
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": size[0], "height": size[1]}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": int(i in crowd)}
            for i, box in enumerate(boxes, 1)
        ],
    }
    (folder / "ground_truth.json").write_text(json.dumps(content))
    return load_coco(folder / "ground_truth.json")


def test_flat_boxes_and_boxes_away(tmp_path):
    boxes = [[5, 5, 0, 9], [5, 5, 9, 0], [5, 5, 9, 9], [100, 5, 9, 9], [-9, 5, 9, 9], [99, 5, 9, 9], [5, 70, 9, 9]]
    annotations = annotations_of(tmp_path, boxes, crowd=[7])
    assert flat(annotations).tolist() == [True, True, *[False] * 5]
    assert away(annotations, annotations.sizes).tolist() == [False, False, False, True, True, False, False]
    assert not away(annotations, np.zeros((1, 2))).any()  # nothing is known of the image
    left = usable(annotations, skip_bad=True)
    assert left.ids.tolist() == [3, 6, 7] and left.starts.tolist() == [0, 3] and len(left.left_out) == 4
    assert "annotation id 4 (object 4 of a.png) has a box wholly outside its image" in left.left_out[2]
    kept = usable(annotations, learned=False)
    assert kept.ids.tolist() == annotations.ids.tolist() and len(kept.notes) == 4


@pytest.mark.parametrize(
    ("boxes", "wrong"),
    [
        ([[0.2, 0.3, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]], True),
        ([[0.9, 0.9, 0.4, 0.4], [0, 0, 1, 1]], True),  # middles instead of corners
        ([[0.2, 0.3, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [10, 10, 20, 20]], True),
        ([[0, 0, 1, 1], [10, 10, 20, 20]], False),
        ([[10, 10, 0.5, 0.5]], False),
        ([], False),
    ],
)
def test_relative_boxes(tmp_path, boxes, wrong):
    annotations = annotations_of(tmp_path, boxes)
    assert bool(relative(annotations, annotations.sizes)) == wrong
    assert relative(annotations_of(tmp_path, boxes, (1, 1)), np.ones((1, 2))) == ""


def test_a_few_boxes_in_the_first_pixel_are_told_of(tmp_path):
    annotations = annotations_of(tmp_path, [[10, 10, 20, 20], [0.2, 0.3, 0.5, 0.5], [10, 10, 0.5, 0.5]])
    assert (
        "1 of 3 boxes lie" in (said := partly_relative(annotations, annotations.sizes))
        and "annotation id 2 (object 2" in said
    )
    assert partly_relative(annotations, np.zeros((1, 2), np.int64)) == ""  # nothing is known of the image
    assert partly_relative(annotations_of(tmp_path, [[10, 10, 20, 20]]), annotations.sizes) == ""


def test_boxes_of_two_corners_are_guessed(tmp_path):
    annotations = annotations_of(tmp_path, [[50, 20, 90, 50], [60, 30, 99, 55], [5, 5, 80, 40]])
    assert "2 of 3 boxes reach" in (said := out_of_images(annotations, annotations.sizes)) and "x1, y1, x2, y2" in said
    annotations = annotations_of(tmp_path, [[50, 20, 90, 50], [60, 30, 20, 20]])
    assert "1 of 2" in (said := out_of_images(annotations, annotations.sizes)) and "x1" not in said
    annotations = annotations_of(tmp_path, [[50, 20, 50.5, 20]])
    assert out_of_images(annotations, annotations.sizes) == ""


def test_boxes_that_no_image_size_of_this_kind_shows(tmp_path):
    annotations = annotations_of(tmp_path, [[5, 5, 4, 9], [5, 5, 3, 9]], (1000, 600))
    assert "--imgsz 576 shows half of them" in too_small(annotations, annotations.sizes, 64)
    assert too_small(annotations, annotations.sizes, 512) == "" and "tiles" in too_small(
        annotations, annotations.sizes * 100, 64
    )
    assert too_small(annotations, annotations.sizes * 100, 50_000) == ""
    wide = annotations_of(tmp_path, [[5, 5, 30, 30]], (1000, 100))
    assert too_small(wide, wide.sizes, 64) and too_small(wide, wide.sizes, 64, stretch=True)
    assert too_small(wide, wide.sizes, 70) == ""


def test_some_boxes_that_are_too_small_are_counted(tmp_path):
    annotations = annotations_of(tmp_path, [[5, 5, 4, 9], [5, 5, 30, 90], [5, 5, 3, 9]], (1000, 600), crowd=[3])
    assert "1 of 2 boxes are less than 2 pixels" in partly_small(annotations, annotations.sizes, 128)
    assert partly_small(annotations, annotations.sizes, 640) == ""


@pytest.fixture
def data(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "data")
    return tmp_path / "data"


def edit(data, split, change):
    path = data / f"instances_{split}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return content


def boxed(boxes):
    """Gives the first annotations these boxes."""

    def change(content):
        for one, box in zip(content["annotations"], boxes, strict=False):
            one["bbox"] = box

    return change


def train(data, *more, flags=YOLO):
    return main(
        ["train", "--data", str(data), "--out", str(data.parent / "run"), *SMALL.split(), *flags.split(), *more]
    )


def shares(content):
    for one in content["annotations"]:
        one["bbox"] = [side / 96 for side in one["bbox"]]


def specks(content):
    for one in content["annotations"]:
        one["bbox"][2:] = [1.5, 9]


@pytest.mark.parametrize(
    ("split", "change", "said"),
    [
        ("train", boxed([[96, 5, 9, 9]]), "wholly outside its image"),
        ("train", boxed([[5, 5, 0, 9]]), "has a box of width 0"),
        ("train", shares, "relative, 0 to 1"),
        ("val", shares, "relative, 0 to 1"),
        ("train", specks, "--imgsz 128 shows half"),
        ("train", lambda c: c.update(annotations=[]), "the training set is empty"),
        ("val", lambda c: c.update(annotations=[]), "the validation set is empty"),
        ("val", lambda c: [one.update(bbox=[5, 5, 0, 9]) for one in c["annotations"]], "the validation set is empty"),
    ],
)
def test_what_makes_training_useless_is_refused_before_it(data, split, change, said, capsys):
    edit(data, split, change)
    assert train(data) == 2
    error = capsys.readouterr().err
    assert said in error and str(data / f"instances_{split}.json") in error and "Traceback" not in error
    assert not (data.parent / "run/config.yaml").exists()


def test_some_relative_boxes_among_good_ones_are_told_before_training(data, capsys):
    for split in ("train", "val"):
        edit(data, split, boxed([[0.1, 0.2, 0.3, 0.3]]))
    assert train(data) == 0
    said = capsys.readouterr().err
    for split in ("train", "val"):
        lines = [line for line in said.splitlines() if f"instances_{split}.json: 1 of " in line]
        assert sum("lie within the first pixel" in line for line in lines) == 1
        assert sum("less than 2 pixels" in line for line in lines) == (split == "train")


def test_they_are_left_out_of_training_and_measured_in_the_held_out_set(data, capsys):
    bad = boxed([[5, 5, 0, 9], [200, 5, 9, 9], [5, 5, -2, 9]])
    first = edit(data, "train", bad)["annotations"][0]["id"]
    edit(data, "val", bad)
    assert train(data, "--skip-bad") == 0
    out, said = data.parent / "run", capsys.readouterr()
    lines = (out / "left_out.txt").read_text().splitlines()
    assert len(lines) == 4 and sum(f"annotation id {first} (object 1 of train/" in line for line in lines) == 1
    assert "report: " in said.out and "no report" not in said.err
    assert "has a box of width 0 and height 9: it is measured all the same" in said.err
    assert rows(out)[0]["AP"] >= 0
    assert main(["report", "--run", str(out), "--device", "cpu"]) == 0  # --skip-bad is in its config.yaml
    evaluate = ["evaluate", "--weights", str(out / "best.safetensors"), "--data", str(data), "--device", "cpu"]
    edit(data, "val", lambda content: content["annotations"].pop(2))
    capsys.readouterr()
    assert main(evaluate) == 0  # without --skip-bad: objects without area are pycocotools' too
    said = capsys.readouterr()
    assert said.err.count("it is measured all the same") == 2 and "AP " in said.out


def test_a_skeleton_that_does_not_fit_stops_only_those_who_draw_it(marked, tmp_path, capsys):
    shutil.copytree(marked, tmp_path / "data")
    for split in ("train", "val"):
        edit(tmp_path / "data", split, lambda c: [one.update(skeleton=[[0, 1], [1, 2]]) for one in c["categories"]])
    assert train(tmp_path / "data") == 0
    assert capsys.readouterr().err.count("'skeleton' must be pairs of keypoint numbers, 1 to 3, so none is drawn") == 2
    points = SMALL.replace("yolo_n", "yolo_n_points").split()
    assert main(["train", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "points"), *points]) == 2
    assert "fix it, or remove it from the categories" in capsys.readouterr().err


def test_a_classifier_is_not_measured_on_boxes_without_area(data, capsys):
    edit(data, "val", boxed([[5, 5, 0, 0], [200, 5, 9, 9]]))
    flags = ["--task", "classify", "--model", "lenet5", "--imgsz", "32"]
    small = [flag for flag in SMALL.split() if flag not in ("--model", "yolo_n", "--imgsz", "64")]
    command = ["train", "--data", str(data), "--out", str(data.parent / "run"), *small, *flags]
    assert main(command) == 2 and "has a box of width 0 and height 0; fix it" in capsys.readouterr().err
    assert main([*command, "--skip-bad"]) == 0
    assert "no report" not in capsys.readouterr().err
