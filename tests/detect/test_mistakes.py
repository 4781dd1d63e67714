"""Label errors: which labels are called wrong, and why."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from detect.__main__ import main
from detect.data.bad_records import BadRecords
from detect.data.sources.coco import from_coco
from detect.data.sources.formats import load_data
from detect.evaluation.coco_protocol import Records
from detect.mistakes.held_out import HeldOut
from detect.mistakes.search import ranked

SIZE = 200
NAMES = ("ace", "king", "queen")


def coco_of(rng, images=12, each=4):
    """Images with `each` boxes of three classes in the four quarters, well apart."""
    annotations = []
    for image in range(1, images + 1):
        for n in range(each):
            low = np.array([n % 2, n // 2]) * 100 + rng.integers(5, 25, 2)
            width, height = rng.integers(40, 70, 2).tolist()
            box = [*map(float, low), float(width), float(height)]
            category = int(rng.integers(3)) * 5 + 3  # ids 3, 8, 13
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image * 7, "category_id": category, "bbox": box}
                | {"area": box[2] * box[3], "iscrowd": 0}
            )
    return {
        "images": [{"id": i * 7, "file_name": f"{i}.png", "width": SIZE, "height": SIZE} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": 3 + 5 * n, "name": name} for n, name in enumerate(NAMES)],
    }


def annotations_of(coco):
    path = Path("labels.json")
    return from_coco(json.loads(json.dumps(coco)), path, Path("images"), BadRecords(path, False))


def perfect(annotations, score=0.9):
    """Predictions that are the labels."""
    return Records(
        annotations.image_ids,
        np.diff(annotations.starts),
        annotations.boxes.copy(),
        np.full(len(annotations.boxes), score),
        annotations.labels.copy(),
    )


def found_in(coco, records, seen=()):
    annotations = annotations_of(coco)
    return annotations, ranked(annotations, HeldOut(records, np.ones(3, bool)), seen)


@pytest.fixture
def coco():
    return coco_of(np.random.default_rng(0))


def test_right_labels_are_not_called_wrong(coco):
    _, listed = found_in(coco, perfect(annotations_of(coco)))
    assert [one for one in listed if one.score >= 0.1] == []


def plant(coco, kind, row):
    """Make one label wrong; returns its id, None where it is gone."""
    label = coco["annotations"][row]
    x, y, width, height = label["bbox"]
    if kind == "missing":
        coco["annotations"].remove(label)
        return None
    if kind == "class":
        label["category_id"] = {3: 8, 8: 13, 13: 3}[label["category_id"]]
    elif kind == "location":
        label["bbox"] = [x, y + height * 0.3, width, height]
    else:
        box = [x + 1.0, y, width, height] if kind == "duplicate" else [88.0, 88.0, 24.0, 24.0]
        label = {**label, "id": 1000, "bbox": box}
        coco["annotations"].append(label)
    return label["id"]


@pytest.mark.parametrize("kind", ["missing", "spurious", "class", "location", "duplicate"])
@pytest.mark.parametrize("row", [0, 17, 47])
def test_one_planted_error_comes_first(coco, kind, row):
    records, before = perfect(annotations_of(coco)), coco["annotations"][row].copy()
    planted = plant(coco, kind, row)
    annotations, listed = found_in(coco, records)
    first = listed[0]
    assert first.kind == kind and annotations.image_ids[first.image] == before["image_id"]
    assert [one for one in listed[1:] if one.score >= first.score / 2] == []
    if kind == "duplicate":
        assert annotations.ids[first.row] == 1000
    elif planted is not None:
        assert annotations.ids[first.row] == planted
    if kind in ("missing", "location"):
        assert first.box == tuple(before["bbox"])
    if kind in ("missing", "class"):
        assert annotations.category_ids[first.label] == before["category_id"]


def dataset(folder, coco, twin=False):
    """Write the dataset with images, of which 11 and 12 may be nearly equal; returns its YAML."""
    rng, last = np.random.default_rng(1), np.zeros(0)
    (folder / "images").mkdir(parents=True)
    for one in coco["images"]:
        image = cv2.resize(rng.integers(0, 255, (20, 20, 3), np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        if twin and one["file_name"] == "12.png":
            image = (last * 0.95 + 4).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / one["file_name"]), image)
        last = image
    (folder / "train.json").write_text(json.dumps(coco))
    (folder / "data.yaml").write_text("train: {annotations: train.json, images: images}")
    return folder / "data.yaml"


def results(coco, score=0.9):
    keys = ("image_id", "category_id", "bbox")
    return [{key: one[key] for key in keys} | {"score": score} for one in coco["annotations"]]


def twins(coco):
    """Give the last two images the same labels; returns those of the last."""
    first, last = ([one for one in coco["annotations"] if one["image_id"] == image * 7] for image in (11, 12))
    for one, other in zip(first, last, strict=True):
        other |= {key: one[key] for key in ("bbox", "area", "category_id")}
    return last


@pytest.mark.parametrize("action", ["add", "remove", "rename", "move"])
def test_of_two_near_duplicates_the_wrong_one_is_named(tmp_path, coco, action):
    label = twins(coco)[1]
    found = results(coco)
    if action == "add":
        coco["annotations"].remove(label)
    elif action == "rename":
        label["category_id"] = {3: 8, 8: 13, 13: 3}[label["category_id"]]
    elif action == "move":
        label["bbox"] = [label["bbox"][0], label["bbox"][1] + 25, *label["bbox"][2:]]
    else:
        coco["annotations"].append({**label, "id": 1000, "bbox": [88.0, 88.0, 24.0, 24.0]})
    data, out = dataset(tmp_path / "d", coco, twin=True), tmp_path / "out"
    (tmp_path / "r.json").write_text(json.dumps(found))
    assert main(["mistakes", "--data", str(data), "--results", str(tmp_path / "r.json"), "--out", str(out)]) == 0
    content = json.loads((out / "mistakes.json").read_text())
    first = content["mistakes"][0]
    assert (first["kind"], first["suggestion"]["action"]) == ("near_duplicate", action)
    assert (first["image"], first["near_duplicate_of"]) == ("12.png", "11.png")
    assert first["annotation_id"] == {"add": None, "remove": 1000}.get(action, label["id"])
    assert len([one for one in content["mistakes"] if one["score"] > 0.5]) == 1
    assert (out / "mistakes.csv").read_text().count("\n") == 1 + len(content["mistakes"])
    assert "near duplicates" in (out / "mistakes.html").read_text()


@pytest.fixture
def wrong(tmp_path, coco):
    """A dataset with a mistake of each action, and the results file that shows them; returns the flags for both."""
    (tmp_path / "r.json").write_text(json.dumps(results(coco)))
    right = json.loads(json.dumps(coco["annotations"]))
    for kind, row in (("spurious", 40), ("location", 30), ("class", 20), ("missing", 10)):
        plant(coco, kind, row)
    data = dataset(tmp_path / "d", coco)
    return ["--data", str(data), "--results", str(tmp_path / "r.json"), "--out", str(tmp_path / "out")], right


def test_suggestions_are_applied_in_a_new_dataset(tmp_path, wrong, capsys):
    flags, right = wrong
    before = {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()}
    assert main(["mistakes", *flags, "--correct-above", "0.25"]) == 0
    assert "labels 1 added, 1 removed, 1 given another class, 1 given another box" in capsys.readouterr().out
    made = load_data(tmp_path / "out" / "corrected", "train")
    wanted = annotations_of({**json.loads((tmp_path / "d" / "train.json").read_text()), "annotations": right})
    for one in (made, wanted):
        assert len(one) == 12
    keys = [
        sorted((int(i), *box) for i, box in zip(one.labels, one.boxes.tolist(), strict=True)) for one in (made, wanted)
    ]
    assert keys[0] == keys[1]
    assert {path: path.read_bytes() for path in (tmp_path / "d").rglob("*") if path.is_file()} == before


def test_a_second_run_keeps_the_labels_under_review(tmp_path, wrong):
    flags, _ = wrong
    for _ in range(2):
        assert main(["mistakes", *flags]) == 0
    for name in ("review", "review-2"):
        content = json.loads((tmp_path / "out" / name / "instances_train.json").read_text())
        assert sum(one.get("review", False) for one in content["annotations"]) == 4
        assert len(content["images"]) == 4 and sum("score" in one for one in content["annotations"]) == 1


@pytest.mark.parametrize("form", ["yolo", "voc", "cvat", "label-studio", "labelme"])
def test_labelling_programs_get_the_labels_to_review(tmp_path, wrong, form):
    flags, _ = wrong
    assert main(["mistakes", *flags, "--format", form]) == 0
    assert any((tmp_path / "out" / "review").iterdir())


def test_crowd_regions_are_no_mistakes_and_hide_predictions(coco):
    coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] != 7]
    box = {"bbox": [0.0, 0.0, 200.0, 200.0], "area": 40000.0, "category_id": 3}
    records = perfect(annotations_of({**coco, "annotations": coco_of(np.random.default_rng(0))["annotations"]}))
    coco["annotations"].append({"id": 999, "image_id": 7, "iscrowd": 1, **box})
    _, listed = found_in(coco, records)
    assert [one for one in listed if one.image == 0 or one.score >= 0.1] == []


def test_classes_that_the_model_lacks_are_not_judged(coco):
    annotations = annotations_of(coco)
    records = perfect(annotations)
    kept = records.labels != 2
    owner = np.repeat(np.arange(len(annotations)), records.counts)
    counts = np.bincount(owner[kept], minlength=len(annotations))
    columns = records.boxes[kept], records.scores[kept], records.labels[kept]
    held_out = HeldOut(Records(records.image_ids, counts, *columns), np.array([True, True, False]))
    assert [one for one in ranked(annotations, held_out, ()) if one.score >= 0.1] == []


def test_a_dataset_without_labels_has_missing_ones_alone(coco):
    records = perfect(annotations_of(coco))
    _, listed = found_in({**coco, "annotations": []}, records)
    assert {one.kind for one in listed} <= {"missing"}
    empty = Records.join([])
    assert {one.kind for one in found_in(coco, empty)[1]} <= {"spurious"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--results", "r.json", "--weights", "w.safetensors"], "--weights has no effect on predictions"),
        (["--results", "r.json", "--device", "cpu"], "--device has no effect on predictions"),
        (["--weights", "w.safetensors", "--folds", "5"], "--folds is for models that are trained here"),
        (["--weights", "w.safetensors", "--fine-tune", "v.safetensors"], "--fine-tune is for models"),
    ],
)
def test_options_that_nothing_reads_are_refused(tmp_path, words, told, capsys):
    assert main(["mistakes", "--data", "toy", "--out", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err
