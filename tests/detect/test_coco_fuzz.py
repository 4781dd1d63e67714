"""COCO files of every kind, drawn by hypothesis: what we measure on them is what pycocotools measures."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.data.sources.coco import load_coco
from detect.evaluation import NUMBERS, CocoEvaluator, evaluate_file
from detect.types import Detections
from tests.reference.coco import reference

IMAGE_IDS = [0, 1, 2, 17, 139, 2**31, 2**53, 2**62, -1, -(2**40)]
CATEGORY_IDS = [0, 1, 2, 7, 90, 2**33, -3]
ANNOTATION_IDS = [0, 1, 2, 3, 5, 8, 2**31, 2**53 + 1, 2**62, -1, -7, -(2**40)]
SCORES = [0.0, 0.25, 0.5, 1.0]  # few, so that most are tied, within images and across them
unit = st.sampled_from([3, 12, 30, 100])  # of lengths: objects of all three sizes, and far over their bounds
place, length = st.integers(0, 8), st.integers(1, 10)


@st.composite
def files(draw) -> dict:
    """A COCO file: up to four images and three classes, any of them empty, and ten objects."""
    images = draw(st.lists(st.sampled_from(IMAGE_IDS), min_size=1, max_size=4, unique=True))
    categories = draw(st.lists(st.sampled_from(CATEGORY_IDS), min_size=1, max_size=3, unique=True))
    annotations = []
    for name in draw(st.lists(st.sampled_from(ANNOTATION_IDS), max_size=10, unique=True)):
        u = draw(unit)
        box = [u * draw(place), u * draw(place), u * (draw(length) - 1), u * (draw(length) - 1)]  # some without area
        areas = [None, box[2] * box[3], 0, 1024, 1024.0001, 9216, 9216.5, 1e5, 1e10, 2e10]
        one = {"id": name, "image_id": draw(st.sampled_from(images)), "category_id": draw(st.sampled_from(categories))}
        one |= {"bbox": box, "iscrowd": int(draw(st.integers(0, 4)) == 0), "area": draw(st.sampled_from(areas))}
        annotations.append({key: value for key, value in one.items() if value is not None})
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 2000, "height": 2000} for i in images],
        "categories": [{"id": i, "name": f"class {i}"} for i in categories],
        "annotations": annotations,
    }


@st.composite
def results(draw, ground_truth: dict, most: int) -> list[dict]:
    """Detections, near objects and anywhere, some of no width, in any order."""
    found = []
    for _ in range(draw(st.integers(0, most))):
        near = (
            draw(st.sampled_from(ground_truth["annotations"]))
            if ground_truth["annotations"] and draw(st.booleans())
            else None
        )
        u = draw(unit)
        box = near["bbox"] if near else [u * draw(place), u * draw(place), u * (draw(length) - 1), u * draw(length)]
        shift = [draw(st.sampled_from([0, 0, 0, 0.37, 1, 2.125])) for _ in range(4)]
        one = {
            "image_id": (near or {"image_id": draw(st.sampled_from(ground_truth["images"]))["id"]})["image_id"],
            "category_id": (near or {"category_id": draw(st.sampled_from(ground_truth["categories"]))["id"]})[
                "category_id"
            ],
            "bbox": [float(side + by) for side, by in zip(box, shift, strict=True)],
            "score": draw(st.sampled_from(SCORES)) if draw(st.booleans()) else draw(st.floats(0, 1, width=32)),
        }
        found += [one] * (draw(st.sampled_from([1, 1, 1, 60])) if most > 12 else 1)
    return found


def load(ground_truth: dict, folder):
    path = folder / "ground_truth.json"
    path.write_text(json.dumps(ground_truth))
    complete = copy.deepcopy(ground_truth)
    for one in complete["annotations"]:
        one.setdefault("area", one["bbox"][2] * one["bbox"][3])  # without it pycocotools fails
    return load_coco(path, folder), complete


def assert_equal(summary, ground_truth: dict, found: list[dict]) -> None:
    stats, arrays = reference(ground_truth, copy.deepcopy(found))
    assert [summary.numbers[name] for name in NUMBERS] == pytest.approx(stats.tolist(), rel=0, abs=1e-12)
    np.testing.assert_allclose(summary.precision, arrays["precision"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(summary.recall, arrays["recall"], rtol=0, atol=1e-12)
    for name, label in zip(summary.per_class, range(len(summary.per_class)), strict=True):
        own = arrays["precision"][:, :, label, 0, 2]
        expected = own[own > -1].mean() if (own > -1).any() else None
        assert summary.per_class[name] == (None if expected is None else pytest.approx(expected, rel=0, abs=1e-12))


@pytest.mark.parametrize("most", [12, 20], ids=["few", "more than a hundred"])
def test_results_file(tmp_path_factory, most):
    folder = tmp_path_factory.mktemp("fuzz")

    @settings(max_examples=200 if most == 12 else 40, deadline=None)
    @given(st.data())
    def check(data):
        ground_truth = data.draw(files())
        found = data.draw(results(ground_truth, most))
        annotations, complete = load(ground_truth, folder)
        (folder / "found.json").write_text(json.dumps(found))
        assert_equal(evaluate_file(annotations, folder / "found.json"), complete, found)

    check()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_evaluator(tmp_path_factory, data):
    """Image by image, in an order of its own, some images never."""
    folder = tmp_path_factory.mktemp("fuzz")
    ground_truth = data.draw(files())
    found = data.draw(results(ground_truth, 12))
    annotations, complete = load(ground_truth, folder)
    evaluator = CocoEvaluator(annotations)
    categories = annotations.category_ids.tolist()
    for image in data.draw(st.permutations(sorted({one["image_id"] for one in found}))):
        ours = [one for one in found if one["image_id"] == image]
        boxes = torch.tensor([one["bbox"] for one in ours], dtype=torch.float64)
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.tensor([one["score"] for one in ours])
        labels = torch.tensor([categories.index(one["category_id"]) for one in ours])
        evaluator.update([image], [Detections(boxes, scores, labels)])
    assert_equal(evaluator.summary, complete, evaluator.detections())


def box(x: float, score: float) -> dict:
    return {"image_id": 1, "category_id": 1, "bbox": [x, 0, 20, 20], "score": score}


@pytest.mark.parametrize("crowd", [0, 1])
def test_annotation_id_zero_costs_what_it_costs_in_pycocotools(tmp_path, crowd):
    objects = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": [x, 0, 20, 20], "area": 400, "iscrowd": crowd * (i == 0)}
        for i, x in ((0, 0), (4, 100))
    ]
    ground_truth = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": objects,
    }
    found = [box(1, 0.9), box(100, 0.8), box(2, 0.7)]  # the third would match, were the object not taken
    (tmp_path / "found.json").write_text(json.dumps(found))
    annotations, complete = load(ground_truth, tmp_path)
    summary = evaluate_file(annotations, tmp_path / "found.json")
    assert_equal(summary, complete, found)
    assert summary.numbers["AR100"] == pytest.approx(1.0 if crowd else 0.5)
    complete["annotations"][0]["id"] = 1
    assert reference(complete, found)[0][8] == pytest.approx(1.0 if crowd else 0.95)


def test_ground_truth_without_area_counts_as_in_pycocotools(tmp_path):
    """As annotation 2206849 of COCO: it is an object, which not even a detection at its very place finds."""
    sides = [[0, 0, 20, 20], [100, 50, 30, 0], [200, 50, 0, 0]]
    objects = [
        {"id": i, "image_id": 1, "category_id": 1, "bbox": box, "area": 300, "iscrowd": 0}
        for i, box in enumerate(sides, 1)
    ]
    ground_truth = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "categories": [{"id": 1, "name": "x"}],
        "annotations": objects,
    }
    near = [[1, 0, 20, 20], [100, 50, 30, 0], [100, 49.5, 30, 1], [200, 50, 0, 0]]
    found = [{**box(0, 0.9 - i / 10), "bbox": [float(v) for v in sides]} for i, sides in enumerate(near)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    annotations, complete = load(ground_truth, tmp_path)
    summary = evaluate_file(annotations, tmp_path / "found.json")
    assert_equal(summary, complete, found)
    assert summary.numbers["AR100"] == pytest.approx(0.9 / 3, abs=0.04) and len(annotations.boxes) == 3
