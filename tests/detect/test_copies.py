"""Copies of images: whether their labels agree, and whether the images do where the labels do not."""

import json
import shutil

import cv2
import numpy as np
import pytest

from detect.__main__ import main
from detect.data_check.findings import check
from tests.reference.signals import waves

BOXES = {"cat": [10, 12, 30, 24], "dog": [52, 40, 28, 36]}


def photo(seed, side=96):
    """A smooth image unlike those of other seeds."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def write(folder, splits):
    """A COCO set: of each split the images (name, pixels, boxes with their class)."""
    names = ["cat", "dog"]
    for split, images in splits.items():
        record = {
            "images": [],
            "annotations": [],
            "categories": [{"id": i + 1, "name": n} for i, n in enumerate(names)],
        }
        for i, (name, image, boxes) in enumerate(images, start=1):
            if image is not None:
                cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
            height, width = cv2.imread(str(folder / name)).shape[:2]
            record["images"].append({"id": i, "file_name": name, "width": width, "height": height})
            for label, box in boxes:
                one = {"id": len(record["annotations"]) + 1, "image_id": i, "category_id": names.index(label) + 1}
                record["annotations"].append(one | {"bbox": box})
        (folder / f"instances_{split}.json").write_text(json.dumps(record))
    return folder


def relations(folder):
    """(kind, relation, level, ids here, ids there) of the copies in a dataset."""
    found = check(str(folder), 96, 2).plain()["findings"]
    return [
        (one["kind"], one["relation"], one["level"], one["annotations"], one["other"]["annotations"])
        for one in found
        if "relation" in one
    ]


def smaller(boxes):
    return [(label, [v / 2 for v in box]) for label, box in boxes]


BOTH = list(BOXES.items())
OTHER = [("dog", BOXES["cat"]), ("dog", BOXES["dog"])]


@pytest.mark.parametrize(
    ("boxes", "within", "across", "level", "rows"),
    [
        (BOTH, "redundant", "leak", "note", ([], [])),
        (BOTH[:1], "label conflict", "leak with label conflict", "warning", ([], [2])),
        (OTHER, "label conflict", "leak with label conflict", "warning", ([1], [1])),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_labels_of_a_smaller_copy_are_compared(tmp_path, boxes, within, across, level, rows, apart):
    first = ("a.jpg", photo(1), BOTH)
    copy = ("b.jpg", cv2.resize(photo(1), (48, 48), interpolation=cv2.INTER_AREA), smaller(boxes))
    far = ("c.jpg", photo(2), BOTH)
    split = {"train": [first], "val": [copy, far]} if apart else {"train": [first, copy], "val": [far]}
    if apart:
        assert relations(write(tmp_path, split)) == [("near_leak", across, "warning", *rows)]
    else:
        expected = ([2 + row for row in rows[0]], rows[1])  # ids count on
        assert relations(write(tmp_path, split)) == [("near_duplicate", within, level, *expected)]


def test_an_image_that_differs_where_its_labels_do_is_no_conflict(tmp_path):
    empty = cv2.resize(photo(1), (480, 480), interpolation=cv2.INTER_CUBIC)
    ship, box = empty.copy(), [300, 300, 24, 16]
    ship[300:316, 300:324] = 255 - ship[300:316, 300:324]
    ship[304:312, 304:320] = (255, 255, 255)
    others = [("c.jpg", photo(3), BOTH)]
    split = {"train": [("a.jpg", ship, [("cat", box)]), ("b.jpg", empty, [])], "val": others}
    assert relations(write(tmp_path, split)) == [("near_duplicate", "similar", "note", [], [1])]
    split["train"][1] = ("b.jpg", np.roll(ship, 1, 0), [])  # the ship is there, and its label is not
    assert relations(write(tmp_path, split)) == [("near_duplicate", "label conflict", "warning", [], [1])]


def test_one_file_in_two_splits_with_other_labels(tmp_path, capsys):
    write(tmp_path, {"train": [("a.jpg", photo(1), BOTH)], "val": [("a.jpg", None, BOTH[1:])]})
    shutil.copy(tmp_path / "a.jpg", tmp_path / "copy.jpg")
    assert relations(tmp_path) == [("leak", "leak with label conflict", "warning", [], [1])]
    assert main(["check", "--data", str(tmp_path), "--k", "2"]) == 0
    said = capsys.readouterr().out
    assert "warning: 1 the same image in several splits: 1 leak with label conflict" in said
    assert "of train: leak with label conflict: only the second has 1 object (cat)" in said


def test_keypoints_are_labels_too(tmp_path):
    folder = write(tmp_path, {"train": [("a.png", photo(1), BOTH[:1]), ("b.png", photo(1), BOTH[:1])]})
    path = folder / "instances_train.json"
    for shift, expected in ((1, "redundant"), (9, "label conflict")):
        record = json.loads(path.read_text())
        record["categories"][0]["keypoints"] = ["nose", "tail"]
        for one, dx in zip(record["annotations"], (0, shift), strict=True):
            one["keypoints"] = [15 + dx, 20, 2, 30 + dx, 30, 2]
        path.write_text(json.dumps(record))
        assert [one[1] for one in relations(folder)] == [expected]


def test_copies_in_folders_of_classes(tmp_path):
    for name, seeds in {"train/cat": (1, 2), "train/dog": (1, 3), "val/cat": (4,), "val/dog": (3, 5)}.items():
        (tmp_path / name).mkdir(parents=True)
        for seed in seeds:
            cv2.imwrite(str(tmp_path / name / f"{seed}.png"), photo(seed))
    told = check(str(tmp_path), 96, 2)
    assert [(one.kind, one.twin.relation) for one in told.findings if one.twin] == [
        ("duplicate", "label conflict"),
        ("leak", "leak"),
    ]
    assert not told.count("giant") and not told.anchors


def test_copies_of_signals(tmp_path, capsys):
    values, labels = waves(8)
    values[3], values[5] = values[1], values[0]
    np.savez(tmp_path / "waves.npz", x_train=values[:5], y_train=labels[:5], x_val=values[5:], y_val=labels[5:])
    cv2.imwrite(str(tmp_path / "beside.png"), photo(1))
    told = check(str(tmp_path / "waves.npz"), 96, 2)
    assert [(one.kind, one.twin.relation) for one in told.findings] == [
        ("leak", "leak with label conflict"),
        ("duplicate", "redundant"),
    ]
    assert main(["check", "--data", str(tmp_path / "waves.npz")]) == 0
    assert "train: 5 signals" in capsys.readouterr().out
