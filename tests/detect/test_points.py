"""Keypoints of many objects: their similarity loss, COCO's OKS numbers, and the head that finds them."""

import contextlib
import copy
import io
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detect.__main__ import main
from detect.data.sources.coco import load_coco
from detect.errors import UserError
from detect.evaluation.oks import NUMBERS, KeypointEvaluator
from detect.models.heads.keypoints import KeypointHead
from detect.models.keypoints import COCO_SIGMAS, sigmas
from detect.models.losses.keypoints import similarity_loss
from detect.types import Detections

PEOPLE = list(COCO_SIGMAS)


def naive_similarity_loss(found, expected, there, boxes, spread):
    losses = []
    for p in range(len(found)):
        x1, y1, x2, y2 = boxes[p].tolist()
        area, terms = 0.53 * max(1.0, (x2 - x1) * (y2 - y1)), []
        for k in range(found.shape[1]):
            if there[p, k]:
                square = sum((float(found[p, k, i]) - float(expected[p, k, i])) ** 2 for i in (0, 1))
                terms.append(math.log(1 + square / (2 * area * (2 * float(spread[k])) ** 2)))
        losses.append(sum(terms) / len(terms) if terms else 0.0)
    return losses


@given(st.integers(0, 4), st.integers(1, 5), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_similarity_loss_is_its_naive_twin(p, k, seed):
    g = torch.Generator().manual_seed(seed)
    found, expected = (torch.rand(p, k, 2, generator=g, dtype=torch.float64) * 90 for _ in range(2))
    corner, there = torch.rand(p, 2, generator=g, dtype=torch.float64) * 50, torch.rand(p, k, generator=g) > 0.4
    boxes = torch.cat([corner, corner + torch.rand(p, 2, generator=g, dtype=torch.float64) * 60], 1)
    spread = torch.tensor(sigmas(PEOPLE[:k]), dtype=torch.float64)
    got = similarity_loss(found, expected, there, boxes, spread)
    assert got.tolist() == pytest.approx(naive_similarity_loss(found, expected, there, boxes, spread))


def test_a_far_point_still_has_a_gradient():
    found = torch.tensor([[[300.0, 0.0]]], requires_grad=True)
    box, spread = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([0.025])
    similarity_loss(found, torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.bool), box, spread).sum().backward()
    assert found.grad[0, 0, 0] > 1e-3


def people(rng, tmp_path, names=PEOPLE):
    """Images of odd ids with people, crowds, people without keypoints, and images without anybody."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in (7, 3, 90, 12, 44)]
    annotations = []
    for image in images[:-1]:
        for _ in range(rng.integers(0, 5)):
            x, y = rng.uniform(0, 120, 2)
            w, h = rng.uniform(5, 80, 2) * (rng.random(2) < 0.9)  # some have no width or height
            points = np.zeros((len(names), 3))
            points[:, 0], points[:, 1] = x + w * rng.random(len(names)), y + h * rng.random(len(names))
            points[:, 2] = rng.integers(0, 3, len(names)) * (rng.random() < 0.8)
            points[points[:, 2] == 0] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 5,
                    "bbox": [x, y, w, h],
                    "area": float(w * h * rng.uniform(0.3, 1)),
                    "iscrowd": int(rng.random() < 0.1),
                    "keypoints": np.round(points, 5).ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )
    category = {"id": 5, "name": "person", "keypoints": list(names), "skeleton": []}
    path = tmp_path / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path, annotations


def guesses(rng, annotations, k):
    """For each image some detections, near its people or anywhere."""
    found = {}
    for i in (7, 3, 90, 12, 44):
        near = [np.array(a["keypoints"]).reshape(k, 3) for a in annotations if a["image_id"] == i]
        count = int(rng.integers(0, 30))
        points = np.zeros((count, k, 3))
        for row in points:
            row[:] = near[rng.integers(len(near))] if near and rng.random() < 0.7 else rng.uniform(0, 200, (k, 3))
            row[:, :2] += rng.normal(0, rng.uniform(0.1, 12), (k, 2))
        low, high = points[..., :2].min(1, initial=200), points[..., :2].max(1, initial=0)
        scores = rng.integers(0, 6, count) / 5  # ties
        boxes = torch.from_numpy(np.concatenate([low, np.maximum(high, low)], 1)).float()
        found[i] = Detections(
            boxes, torch.from_numpy(scores), torch.zeros(count, dtype=torch.int64), torch.from_numpy(points)
        )
    return found


@pytest.mark.parametrize("names", [PEOPLE, ["left_tip", "right_tip", "tail"]], ids=["people", "other"])
@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_oks_numbers_are_those_of_pycocotools(tmp_path_factory, names, seed):
    rng = np.random.default_rng(seed)
    path, annotations = people(rng, tmp_path_factory.mktemp("people"), names)
    found = guesses(rng, annotations, len(names))
    evaluator = KeypointEvaluator(load_coco(path, path.parent))
    evaluator.update(list(found), list(found.values()))
    other = KeypointEvaluator(evaluator.annotations)  # as ranks do
    other.extend(evaluator.records())
    got = other.result()
    out = path.parent / "found.json"
    evaluator.write(out)
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(path))
        written = json.loads(out.read_text())
        if not written:
            return
        engine = COCOeval(ground_truth, ground_truth.loadRes(copy.deepcopy(written)), "keypoints")
        engine.params.kpt_oks_sigmas = np.array(sigmas(names))
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    assert [got[name] for name in NUMBERS] == pytest.approx(engine.stats.tolist(), abs=1e-12)


def test_nothing_found_and_wrong_shapes(tmp_path):
    path, _ = people(np.random.default_rng(3), tmp_path)
    annotations = load_coco(path, tmp_path)
    evaluator = KeypointEvaluator(annotations)
    evaluator.update([7], [Detections.none()])
    assert evaluator.result()["OKS_AP"] == 0.0 and evaluator.result()["AP"] == 0.0
    one = Detections(torch.tensor([[0.0, 0, 5, 5]]), torch.ones(1), torch.zeros(1).long(), torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=r"points of shape \(1, 17, 3\)"):
        evaluator.update([3], [one])


def test_the_head_places_points_about_the_centre_of_a_cell():
    head = KeypointHead([4, 4], [8, 16], 2, 1, keypoint_names=["left_a", "right_a", "b"]).eval()
    raw = head([torch.rand(2, 4, 3, 5), torch.rand(2, 4, 2, 3)])
    assert raw.keypoints.shape == (2, 21, 3, 3)
    points = head.keypoints(raw)
    for a in (0, 7, 20):
        center, stride = raw.priors.centers[a], raw.priors.strides[a]
        assert torch.allclose(points[1, a, :, :2], center + 2 * stride * raw.keypoints[1, a, :, :2])
    assert ((points[..., 2] > 0) & (points[..., 2] < 1)).all()
    some = raw.at((torch.tensor([0, 1]), torch.tensor([3, 20])))
    assert torch.allclose(head.keypoints(some)[1], points[1, 20])


SMALL = "--epochs 2 --imgsz 64 --batch 4 --workers 0 --device cpu --precision float32 --augment.flip_pairs [[0,1]]"
MODEL = "--model yolo_n_points --model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0"


def test_train_evaluate_and_predict_by_the_command(marked, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    assert main(["train", "--data", str(marked), *MODEL.split(), *SMALL.split(), "--out", str(out)]) == 0
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"keypoints", "seen", "OKS_AP", "AP"} <= row.keys() and row["keypoints"] > 0
    numbers, found = tmp_path / "numbers.json", tmp_path / "found.json"
    given = ["--weights", str(out / "best.safetensors"), "--data", str(marked), "--workers", "0"]
    given += ["--device", "cpu", "--precision", "float32"]  # as in training
    assert main(["evaluate", *given, "--json", str(numbers), "--detections", str(found)]) == 0
    assert "points  AP" in capsys.readouterr().out
    best = max(json.loads(line)["OKS_AP"] for line in (out / "metrics.jsonl").read_text().splitlines())
    assert json.loads(numbers.read_text())["OKS_AP"] == pytest.approx(best, abs=0.01)
    assert all(len(one["keypoints"]) == 9 for one in json.loads(found.read_text()))
    source = ["--source", str(marked / "val"), "--out", str(tmp_path / "seen"), "--conf", "0.001"]
    assert main(["predict", "--weights", str(out / "best.safetensors"), *source]) == 0
    records = json.loads((tmp_path / "seen" / "detections.json").read_text())
    assert records and all(len(one["keypoints"]) == 9 for one in records)


def test_data_without_keypoints_is_refused(digits, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["train", "--data", str(digits), *MODEL.split(), "--epochs", "1", "--out", out]) == 2
    said = capsys.readouterr().err.strip()
    assert "has no labelled keypoints" in said and "\n" not in said


def test_a_model_of_keypoints_needs_their_names():
    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs import model_config

    with pytest.raises(UserError, match="finds keypoints, and the data has none"):
        build(model_config("yolo_n_points"), ModelMetadata(["person"], [1]))
