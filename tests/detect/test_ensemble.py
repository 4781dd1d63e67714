"""Several detectors as one: fusion methods against plain loops and ensemble-boxes, and the commands on real weights."""

import json
import math
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import detect
from detect.__main__ import main
from detect.config.fusion import FusionConfig
from detect.ensemble import Ensemble, open_detector
from detect.errors import UserError
from detect.inference.detection_fusion import DetectionFusion, joined_classes
from detect.inference.fusion_methods import METHODS, Candidates
from detect.masks import RleMasks
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import save_weights
from detect.types import Detections, Postprocess
from tests.reference.ensemble import non_maximum_weighted, weighted_boxes

pytestmark = pytest.mark.usefixtures("one_thread")
ORACLE = os.environ.get("GRIDHEAD_ENSEMBLE_BOXES", "")  # numba, which that package needs, wants another numpy at times
SMALL = {"width": 8, "levels": [3], "neck": "straight"}
CPU = ["--device", "cpu", "--precision", "float32"]


def scattered(
    seed: int, models: int = 3, objects: int = 6, classes: int = 2
) -> list[tuple[list[float], float, int, int]]:
    """Rows (box, score, label, model) of some objects that most models find, twice at times, not quite alike."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(objects):
        corner, label = rng.uniform(0, 400, 2), int(rng.integers(classes))
        side = rng.uniform(60, 200, 2)
        for model in range(models):
            for _ in range(rng.choice([0, 1, 1, 1, 2])):
                moved = np.concatenate([corner, corner + side]) + rng.normal(0, 9, 4)
                rows.append((np.clip(moved, 0, 700).tolist(), float(rng.uniform(0.05, 1)), label, model))
    return rows


def candidates(rows, weights, classes=2):
    boxes = torch.tensor([row[0] for row in rows]).reshape(-1, 4)
    scores, labels = torch.tensor([row[1] for row in rows]), torch.tensor([row[2] for row in rows])
    model = np.array([row[3] for row in rows], int)
    knows = np.ones((len(weights), classes), bool)
    return Candidates(Detections(boxes, scores.float(), labels.long()), model, np.array(weights), knows)


def assert_same(found, expected, factor=1.0):
    order = found.scores.argsort(descending=True)
    assert len(found) == len(expected)
    assert np.allclose(found.scores[order], [row[1] * factor for row in expected], atol=1e-5)
    assert np.allclose(found.boxes[order], [row[0] for row in expected], atol=1e-2)
    assert found.labels[order].tolist() == [row[2] for row in expected]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([[1.0, 1, 1], [2.0, 1, 3], [0.5, 0.5, 0.1]]))
def test_means_are_those_of_plain_loops(seed, weights):
    rows = scattered(seed)
    if rows:
        assert_same(METHODS["wbf"](candidates(rows, weights), 0.55), weighted_boxes(rows, weights, 0.55))
        assert_same(METHODS["nmw"](candidates(rows, weights), 0.55), non_maximum_weighted(rows, weights, 0.55))


SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, ensemble_boxes as e
out = []
for case in json.load(sys.stdin):
    given = [[np.array(one) for one in case[name]] for name in ("boxes", "scores", "labels")]
    results = {"wbf": e.weighted_boxes_fusion(*given, case["weights"], 0.55), "nms": None}
    results["nmw"] = e.non_maximum_weighted(*given, case["weights"], 0.55)
    copies = [[one.copy() for one in some] for some in given]
    results["nms"] = e.nms(*copies, iou_thr=0.55, weights=case["weights"])
    copies = [[one.copy() for one in some] for some in given]
    results["soft-nms"] = e.soft_nms(*copies, sigma=0.5, thresh=0.001)
    out.append({name: [np.asarray(x).tolist() for x in one] for name, one in results.items()})
json.dump(out, sys.stdout)
"""


@pytest.mark.skipif(not ORACLE, reason="GRIDHEAD_ENSEMBLE_BOXES names no interpreter that has ensemble-boxes")
def test_boxes_are_those_of_ensemble_boxes():
    """It scales the scores of NMS by other factors, and returns those that Soft-NMS began with."""
    cases, weights = [], [[1.0, 1, 1], [2.0, 1, 3]]
    every = [(scattered(seed), weights[seed % 2]) for seed in range(40)]
    every = [one for one in every if {row[3] for row in one[0]} == {0, 1, 2}]
    for rows, weight in every:
        case = {"boxes": [], "scores": [], "labels": [], "weights": weight}
        for model in range(3):
            own = [row for row in rows if row[3] == model]
            case["boxes"].append((np.array([row[0] for row in own]) / 1000).tolist())
            case["scores"].append([row[1] for row in own])
            case["labels"].append([row[2] for row in own])
        cases.append(case)
    ran = subprocess.run([ORACLE, "-c", SCRIPT], input=json.dumps(cases), capture_output=True, text=True, check=True)
    for (rows, weight), expected in zip(every, json.loads(ran.stdout), strict=True):
        rows = sorted(rows, key=lambda row: row[3])
        for method, factor in (("wbf", 1.0), ("nmw", 1.0), ("nms", sum(weight) / max(weight))):
            boxes, scores, labels = expected[method]
            theirs = sorted(
                zip((np.array(boxes) * 1000).tolist(), scores, labels, strict=True), key=lambda row: -row[1]
            )
            assert_same(METHODS[method](candidates(rows, weight), 0.55), theirs, factor)
        soft = METHODS["soft-nms"](candidates(rows, [1.0, 1, 1]), 0.55)
        assert sorted(soft.boxes[:, 0].tolist()) == pytest.approx(
            sorted(box[0] * 1000 for box in expected["soft-nms"][0]), abs=1e-2
        )


def member(metadata):
    return SimpleNamespace(metadata=metadata, model=SimpleNamespace())


def test_classes_are_matched_by_name_and_those_of_one_model_are_kept():
    first, other = ModelMetadata(["cat", "dog"], [1, 7]), ModelMetadata(["dog", "cow", "Zebra"], [1, 2, 7])
    metadata, labels = joined_classes([first, other], ["a", "b"])
    assert metadata.names == ["cat", "dog", "cow", "Zebra"] and metadata.category_ids == [1, 7, 2, 8]
    assert [one.tolist() for one in labels] == [[0, 1], [1, 2, 3]]
    fuse = DetectionFusion([member(first), member(other)], ["a", "b"], FusionConfig())
    box = torch.tensor([[10.0, 10, 50, 50]])
    dog = [
        Detections(box, torch.tensor([0.6]), torch.tensor([1])),
        Detections(box, torch.tensor([0.8]), torch.tensor([0])),
    ]
    found = fuse(Postprocess(0.1), dog)
    assert found.labels.tolist() == [1] and found.scores.tolist() == pytest.approx([0.7])
    cow = [Detections.none(), Detections(box, torch.tensor([0.8]), torch.tensor([1]))]
    assert fuse(Postprocess(0.1), cow).scores.tolist() == pytest.approx([0.8]), "the other model knows no cows"
    missed = [Detections.none(), Detections(box, torch.tensor([0.8]), torch.tensor([0]))]
    assert fuse(Postprocess(0.1), missed).scores.tolist() == pytest.approx([0.4])
    kept = fuse.member_postprocess(Postprocess(0.3, classes=(1, 2)))
    assert [one.classes for one in kept] == [(1,), (0, 1)] and kept[0].score == pytest.approx(0.15)
    assert len(fuse(Postprocess(), [Detections.none()] * 2)) == 0


@pytest.mark.parametrize("method", ["wbf", "nms", "nmw"])
def test_boxes_that_the_nms_of_a_model_keeps_apart_are_not_joined(method):
    names = ModelMetadata(["x"], [1])
    box = torch.tensor([[0.0, 0, 100, 100]])
    pair = [
        Detections(one, torch.tensor([score]), torch.tensor([0]))
        for one, score in ((box, 0.8), (box + torch.tensor([[24.0, 0, 24, 0]]), 0.6))  # IoU 0.61
    ]
    found = {}
    for own in (None, 0.55):
        fuse = DetectionFusion([member(names)] * 2, ["a", "b"], FusionConfig(method=method, iou=own))
        found |= {(own, iou): len(fuse(Postprocess(0.1, iou=iou), pair)) for iou in (0.7, 0.5)}
    assert found == {(None, 0.7): 2, (None, 0.5): 1, (0.55, 0.7): 1, (0.55, 0.5): 1}


@pytest.mark.parametrize("method", METHODS)
def test_masks_points_and_oriented_boxes_are_fused(method):
    box, size = torch.tensor([[2.0, 3, 12, 9]]), (20, 30)
    names = ModelMetadata(["x"], [1], keypoint_names=["left", "right"])
    swapped = replace(names, keypoint_names=["right", "left"])
    points = torch.tensor([[[2.0, 3, 1], [12, 9, 1]]])
    masks = [RleMasks.of_windows(size, [(2, 3, np.ones((6, wide), bool))]) for wide in (10, 5)]
    turned = torch.tensor([[7.0, 6, 10, 6, math.pi / 2 - 0.1]]), torch.tensor([[7.0, 6, 10, 6, -math.pi / 2 + 0.1]])
    one = Detections(box, torch.tensor([0.6]), torch.tensor([0]), points, masks=masks[0], oriented=turned[0])
    other = Detections(box, torch.tensor([0.4]), torch.tensor([0]), points.flip(1), masks=masks[1], oriented=turned[1])
    fuse = DetectionFusion([member(names), member(swapped)], ["a", "b"], FusionConfig(method=method))
    found = fuse(Postprocess(0.3), [one, other])
    assert len(found) == 1 and found.keypoints is not None and found.oriented is not None
    assert found.keypoints[0, :, :2].flatten().tolist() == pytest.approx([2, 3, 12, 9])
    assert np.array_equal(found.masks.decode(0), masks[0].decode(0)), "0.6 of 1.0 have the right half, too"
    assert abs(found.oriented[0, 4]) > math.pi / 2 - 0.11
    with pytest.raises(UserError, match="keypoints are not those of the first"):
        DetectionFusion([member(names), member(replace(names, keypoint_names=["left"]))], ["a", "b"], FusionConfig())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two untrained detectors with other classes, sizes and preprocessing, and some images."""
    folder = tmp_path_factory.mktemp("models")
    for seed, (name, names, size) in enumerate((("one", ["a", "b"], 64), ("two", ["b", "c"], 96))):
        torch.manual_seed(seed)
        model = build(replace(model_config("yolo_n"), **SMALL), ModelMetadata(names, [1, 2], size=size))
        save_weights(folder / f"{name}.safetensors", model)
    (folder / "images").mkdir()
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 256, (60 + i, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    return folder


def predicted(folder, out, *flags):
    weights = [str(folder / "one.safetensors"), str(folder / "two.safetensors")]
    source = ["--source", str(folder / "images"), "--out", str(out), "--conf", "0.001", "--max-det", "20"]
    assert main(["predict", "--weights", *weights, *source, *CPU, *flags]) == 0
    return json.loads((out / "detections.json").read_text())


def test_predict_fuses_several_weights(folder, tmp_path, capsys):
    found = predicted(folder, tmp_path / "1")
    assert {one["image"] for one in found} == {f"{i}.png" for i in range(5)}
    assert {one["category"]: one["category_id"] for one in found} == {"a": 1, "b": 2, "c": 3}
    assert "2 models, wbf" in capsys.readouterr().out
    assert predicted(folder, tmp_path / "2", "--batch", "3") == found
    assert predicted(folder, tmp_path / "3", "--fusion.weights", "[5,1]") != found
    assert predicted(folder, tmp_path / "4", "--fusion.method", "nms", "--tile", "--tta")
    only = predicted(folder, tmp_path / "5", "--classes", "c")
    assert only and {one["category"] for one in only} == {"c"}
    model = detect.load([folder / "one.safetensors", folder / "two.safetensors"], "cpu", "float32")
    ((_, same),) = model.predict(str(folder / "images" / "0.png"), conf=0.001, max_det=20)
    assert isinstance(model, Ensemble) and len(same) == sum(one["image"] == "0.png" for one in found)


def test_what_cannot_be_fused_is_one_line(folder, tmp_path, capsys):
    one = str(folder / "one.safetensors")
    base = ["predict", "--source", str(folder / "images"), "--out", str(tmp_path), *CPU]
    assert main([*base, "--weights", one, "--fusion.method", "nms"]) == 2
    assert "several --weights alone" in capsys.readouterr().err
    assert main([*base, "--weights", one, one, "--fusion.weights", "[1]"]) == 2
    assert "--fusion.weights has 1 number for 2 --weights" in capsys.readouterr().err
    assert main([*base, "--weights", one, one, "--fusion.method", "soft-nms", "--fusion.iou", "0.4"]) == 2
    assert "--fusion.iou is read with --fusion.method wbf or nms or nmw alone" in capsys.readouterr().err
    with pytest.raises(UserError):
        open_detector([one], "cpu", fusion=FusionConfig(skip=0.1))


def test_evaluate_takes_several_weights(folder, tmp_path, digits, capsys):
    one = str(folder / "one.safetensors")
    base = ["evaluate", "--data", str(digits), "--workers", "0", *CPU]
    known = json.loads((digits / "instances_val.json").read_text())["categories"]
    names, ids = [one["name"] for one in known], [one["id"] for one in known]
    every = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = build(replace(model_config("yolo_n"), **SMALL), ModelMetadata(names[::-1], ids[::-1], size=64))
        every.append(str(tmp_path / f"{seed}.safetensors"))
        save_weights(Path(every[-1]), model)
    assert main([*base, "--weights", *every, "--json", str(tmp_path / "m.json")]) == 0
    assert "2 models, wbf" in capsys.readouterr().out and "AP50" in json.loads((tmp_path / "m.json").read_text())
    assert main([*base, "--weights", one, one]) == 2  # no class of the data
    assert "none of the classes" in capsys.readouterr().err
    assert main([*base, "--weights", *every, "--save-thresholds", str(tmp_path / "w.safetensors")]) == 2
    assert "give one --weights" in capsys.readouterr().err
