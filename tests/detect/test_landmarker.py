"""Landmarks from data to answer: losses, heads, data, measures, commands."""

import csv
import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import detect.api
from detect.__main__ import main
from detect.cli.parser import parse
from detect.config.augment import AugmentConfig
from detect.data.alignment import Pose
from detect.data.augment.mirror_pairs import mirror_swap
from detect.data.bad_records import BadRecords
from detect.data.datasets.landmarks import Instances, LandmarkDataset, require_points
from detect.data.rng import SampleKey
from detect.data.sources.coco import flip_pairs, from_coco
from detect.data.sources.csv_tables import FACE, FACE_LINES
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.evaluation.landmarks import LandmarkEvaluator, eye_corners
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.configs.landmarker import LandmarkerConfig
from detect.models.heads.single_object import expectation
from detect.models.losses.keypoints import spread_loss, wing
from detect.models.weights import load_weights, save_weights
from detect.registry import REGISTRIES
from detect.types import Detections, Postprocess, Target
from tests.reference import points as naive
from tests.reference.marks import slowly

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["left_tip", "middle", "right_tip"]
CARD = ModelMetadata(["thing"], [1], size=64, keypoint_names=NAMES, flip_pairs=[[0, 2]])
CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]
numbers = st.floats(-40, 40, allow_nan=False, width=32)


def model(head: str = "coordinates", **changes):
    base = model_config("landmarker_heatmap" if head == "heatmap" else "landmarker")
    return build(dataclasses.replace(base, **{"width": 16, **changes}), CARD)


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def target(points: list | None, side: int = 64) -> Target:
    n = int(points is not None)
    boxes, shape = torch.tensor([[0.0, 0, side, side]])[:n], torch.tensor(points or []).view(n, len(NAMES), 3)
    return Target(boxes, torch.zeros(n).long(), torch.zeros(n, dtype=torch.bool), 0, (side, side), shape)


TRUTH = [target([[10.0, 20, 2], [30, 31.5, 1], [50, 20, 2]]), target([[12.0, 40, 2], [0, 0, 0], [40, 44, 2]])]


def make_annotations(*rows, keypoints=NAMES, images=2, size=(100, 80)):
    """Annotations of images of (width, height); rows are (image id, bbox, keypoints, crowd)."""
    width, height = size
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": width, "height": height} for i in range(images)],
        "annotations": [
            {"id": n + 10, "image_id": i, "bbox": box, "category_id": 4, "keypoints": points, "iscrowd": crowd}
            for n, (i, box, points, crowd) in enumerate(rows)
        ],
        "categories": [{"id": 4, "name": "thing", "keypoints": keypoints}],
    }
    return from_coco(content, Path("ground_truth.json"), Path("."), BadRecords("ground_truth.json", False))


POINTS = [20, 30, 2, 30, 40, 1, 40, 30, 2]


@settings(max_examples=40, deadline=None)
@given(numbers, numbers)
def test_wing_is_that_of_the_naive_twin(found, expected):
    got = wing(torch.tensor(found, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64))
    assert got.item() == pytest.approx(naive.wing(found, expected), abs=1e-9)


def test_wing_is_continuous_and_steeper_near_zero_than_smooth_l1():
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    loss = wing(x, torch.zeros_like(x))
    assert loss.diff().abs().max() < 0.06 and torch.allclose(loss, loss.flip(0))
    near = torch.tensor(0.1, requires_grad=True)
    slopes = {
        name: torch.autograd.grad(kind(near, torch.zeros(())), near)[0]
        for name, kind in REGISTRIES["loss.keypoint"].items()
    }
    assert slopes["wing"] > 10 * slopes["smooth_l1"]


maps = arrays.arrays(np.float64, (5, 7), elements=st.floats(-9, 9))


@settings(max_examples=40, deadline=None)
@given(maps)
def test_the_place_of_a_heatmap_is_that_of_the_naive_twin(heat):
    got = expectation(torch.from_numpy(heat)[None, None])[0, 0]
    assert got.tolist() == pytest.approx(naive.expectation(heat.tolist()), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(maps, st.tuples(st.floats(-20, 30), st.floats(-20, 30)))
def test_the_spread_of_a_heatmap_is_that_of_the_naive_twin(heat, place):
    got = spread_loss(torch.from_numpy(heat).flatten()[None], torch.tensor([place], dtype=torch.float64), 7)
    assert got.isfinite().all()
    if all(-3 < v < 10 for v in place):  # farther away the twin's Gaussian vanishes
        assert got.item() == pytest.approx(naive.spread(heat.tolist(), place), rel=1e-6)


def test_a_heatmap_is_read_finer_than_its_cells():
    y, x = np.mgrid[0:8, 0:8] + 0.5
    for place in ((3.2, 4.9), (4.5, 4.5), (2.75, 3.1)):
        heat = -((x - place[0]) ** 2 + (y - place[1]) ** 2) / 2
        assert expectation(torch.from_numpy(heat)[None, None])[0, 0].tolist() == pytest.approx(place, abs=0.03)


@pytest.mark.parametrize("head", REGISTRIES["head.landmarks"])
def test_a_landmarker_trains_answers_and_is_kept(head, tmp_path):
    torch.manual_seed(0)
    net = model(head).train()
    raw = net(images())
    assert raw.keypoints.shape == (2, 3, 2) and raw.presence.shape == (2, 3)
    terms = net.loss(raw, TRUTH)
    assert set(terms) == {"keypoints", "presence"} | ({"heat"} if head == "heatmap" else set())
    assert set(terms).isdisjoint(LandmarkEvaluator(make_annotations((1, [0, 0, 9, 9], POINTS, 0))).result())
    assert terms["keypoints"].count == 5 and terms["presence"].count == 6
    sum(t.total / t.count for t in terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    net.eval()
    save_weights(tmp_path / "w.safetensors", net)
    again = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        expected, fused = again.postprocess(again(images()), Postprocess(0.0)), again.fused()
        answers = fused.postprocess(fused(images()), Postprocess(0.0))
        assert [tuple(one.keypoints.shape) for one in answers] == [(1, 3, 3)] * 2
        for one, other in zip(answers, expected, strict=True):
            assert torch.allclose(one.keypoints, other.keypoints, atol=1e-2)
        features = again.features(images())
        assert torch.equal(again.forward_head(features).keypoints, again(images()).keypoints)
        assert again.postprocess(again(images()), Postprocess(1.0))[0].boxes.shape == (0, 4)
        assert again.postprocess(again(images(0)), Postprocess(0.0)) == []


@pytest.mark.parametrize("head", REGISTRIES["head.landmarks"])
def test_what_is_not_labelled_has_no_place_to_be_wrong_about(head):
    net = model(head).eval()
    raw = net(images())
    moved = [target([[10.0, 20, 2], [30, 31.5, 1], [50, 20, 2]]), target([[12.0, 40, 2], [99, -5, 0], [40, 44, 2]])]
    for name, term in net.loss(raw, TRUTH).items():
        assert torch.equal(term.total, net.loss(raw, moved)[name].total)
    nothing = net.loss(raw, [target(None), target(None)])
    assert nothing["keypoints"].total == 0 and nothing["keypoints"].count == 0 and nothing["presence"].total > 0


@pytest.mark.parametrize("head", REGISTRIES["head.landmarks"])
@pytest.mark.parametrize("kind", ["wing", *slowly("smooth_l1")])
def test_training_moves_points_to_their_places(head, kind):
    torch.manual_seed(0)
    config = model_config("landmarker_heatmap" if head == "heatmap" else "landmarker")
    loss = dataclasses.replace(config.loss, keypoint_kind=kind)
    net = build(dataclasses.replace(config, width=16, loss=loss), CARD).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 60)
    for _ in range(60):
        optimizer.zero_grad()
        sum(t.total / t.count.clamp(min=1) for t in net.loss(net(images()), TRUTH).values()).backward()
        optimizer.step()
        slower.step()
    found = net.postprocess(net(images()), Postprocess(0.0))
    for one, ground_truth in zip(found, TRUTH, strict=True):
        seen = ground_truth.keypoints[0, :, 2] > 0
        away = (one.keypoints[0, seen, :2] - ground_truth.keypoints[0, seen, :2]).norm(dim=1)
        assert away.mean() < 5 and away.max() < 12  # from some 20 at first
        assert torch.equal(one.keypoints[0, :, 2] > 0.5, seen)
        there = one.keypoints[0, seen, :2]  # the box is around those
        assert torch.equal(one.boxes[0], torch.cat([there.amin(0), there.amax(0)]))


def test_a_landmarker_needs_keypoints_and_a_head_that_exists():
    with pytest.raises(UserError, match="declare none"):
        build(model_config("landmarker"), dataclasses.replace(CARD, keypoint_names=[]))
    with pytest.raises(UserError, match="unknown head 'point'"):
        build(LandmarkerConfig(head="point"), CARD)


def test_the_instance_of_a_image_is_the_largest_with_labelled_points():
    none = [0] * 9
    found = Instances.of(
        make_annotations(
            *((1, [0, 0, 90, 70], none, 0), (1, [5, 5, 20, 30], POINTS, 0), (1, [10, 10, 40, 40], POINTS, 0)),
            *((2, [0, 0, 99, 79], POINTS, 1), (2, [1, 1, 9, 9], POINTS, 0)),
        )
    )
    assert found.ids.tolist() == [12, 14] and found.keypoints.shape == (2, 3, 3)
    assert found.boxes[0].tolist() == [10, 10, 50, 50]
    with pytest.raises(UserError, match=r"no object .* has a labelled keypoint"):
        Instances.of(make_annotations((1, [0, 0, 90, 70], none, 0)))
    with pytest.raises(UserError, match="declare no keypoints"):
        Instances.of(make_annotations(keypoints=[]))
    one = make_annotations((1, [0, 0, 9, 9], POINTS, 0))
    with pytest.raises(UserError, match="declare different keypoints"):
        require_points(one, make_annotations((1, [0, 0, 9, 9], POINTS, 0), keypoints=["a", "b", "c"]))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([1, 2, 2], "keypoints that are not 3 times x, y, visibility"),
        ([1, 2, 3, 1, 2, 2, 1, 2, 2], "a keypoint of visibility 3, not 0, 1 or 2"),
        ([1, 2, -1, 1, 2, 2, 1, 2, 2], "a keypoint of visibility -1"),
    ],
)
def test_keypoints_that_cannot_be_are_one_line_or_left_out(points, said):
    with pytest.raises(UserError, match=rf"annotation id 10 has {said}"):
        make_annotations((1, [0, 0, 9, 9], points, 0))


def draw_blobs(path, shape):
    """Three blobs at the points (3, 2) of an image of 96 x 64, red, green and blue."""
    canvas = np.full((64, 96, 3), 90, np.uint8)
    for (x, y), color in zip(shape, ((255, 0, 0), (0, 255, 0), (0, 0, 255)), strict=True):
        cv2.circle(canvas, (round(x), round(y)), 4, color[::-1], -1)
    cv2.imwrite(str(path), canvas)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A csv of landmarks for train and val: a triangle anywhere, the second point sometimes without numbers."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 8)):
        (folder / split).mkdir()
        with (folder / f"{split}.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "x0", "y0", "x1", "y1", "x2", "y2", "note"])
            for i in range(count):
                corner = rng.uniform((5, 15), (35, 35))
                shape = corner + np.array([[0, 0], [20, 20], [40, 0]]) + rng.uniform(-3, 3, (3, 2))
                draw_blobs(folder / split / f"{i}.png", shape)
                values = [f"{v:.2f}" for v in shape.ravel()]
                rows.writerow([f"{i}.png", *values[:2], *(["", ""] if i % 8 == 7 else values[2:4]), *values[4:], "x"])
    return folder


def test_a_table_is_keypoints(table):
    found = load_data(table, "train")
    assert found.keypoint_names == ["point_0", "point_1", "point_2"] and found.flip_pairs is None and len(found) == 32
    assert found.keypoints.shape == (32, 3, 3) and found.boxes[0].tolist() == [0, 0, 96, 64]
    assert (found.keypoints[7, 1] == 0).all() and (found.keypoints[6, :, 2] == 2).all()
    assert len(load_data(table / "val.csv", "val")) == 8


@pytest.mark.parametrize(
    ("row", "said"),
    [("0.png,1,2,x,4,5,6", r"line 2 has a point \(x, 4\)"), ("9.jpg,1,2,3,4,5,6", "line 2 .*9.jpg")],
)
def test_a_bad_row_of_a_table_is_one_line_or_left_out(table, tmp_path, row, said):
    (tmp_path / "data").mkdir()
    draw_blobs(tmp_path / "data" / "0.png", [(9, 9)] * 3)
    file = tmp_path / "data.csv"
    file.write_text(f"file,x0,y0,x1,y1,x2,y2\n{row}\n0.png,1,2,3,4,5,6\n")
    with pytest.raises(UserError, match=said):
        load_data(file, "data")
    kept = load_data(file, "data", skip_bad=True)
    assert len(kept) == 1 and len(kept.left_out) == 1


def test_a_table_that_is_no_text_further_down_is_one_line(tmp_path):
    file = tmp_path / "data.csv"
    file.write_bytes(b"file,x0,y0\n" + b"0.png,1,2\n" * 20_000 + b"\xff\n")
    with pytest.raises(UserError, match=r"data\.csv: cannot be read"):
        load_data(file, "data")


def test_the_68_points_of_a_face_mirror_onto_one_another():
    swap = mirror_swap(FACE, flip_pairs(FACE)).tolist()
    jaw, brows = [16 - i for i in range(17)], [43 - i for i in range(17, 27)]
    nose = [27, 28, 29, 30, 35, 34, 33, 32, 31]
    eyes = [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mouth = [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    assert swap == jaw + brows + nose + eyes + mouth
    assert eye_corners(FACE) == (45, 36) and len(set(FACE)) == 68
    assert {end for line in FACE_LINES for end in line} == set(range(68))


def test_samples_carry_their_points_and_mirrors_swap_them(table):
    data = dataclasses.replace(load_data(table, "train"), flip_pairs=[[0, 2]])
    everything = {"scale": 0.2, "translate": 0.05, "hue": 0.0, "saturation": 0.0, "value": 0.0}
    for flip in (0.0, 1.0):
        samples = LandmarkDataset(Instances.of(data), 64, AugmentConfig(flip=flip, **everything))
        for position in range(8):
            image, ground_truth = samples[SampleKey(0, position, 64)]
            order = (2, 1, 0) if flip else (0, 1, 2)
            for k, channel in enumerate(order):  # the point of a pair on the left is the other one in the mirror
                x, y, seen = ground_truth.keypoints[0, k].tolist()
                if seen and 3 < x < 61 and 3 < y < 61:
                    assert image[int(y), int(x)].argmax() == channel
    image, ground_truth, fit = samples.sample(3)
    assert torch.allclose(fit.undo(ground_truth.keypoints[0]), torch.from_numpy(data.keypoints[3]).float(), atol=1e-3)


def test_images_without_labelled_points_are_not_used_and_that_is_said(capsys):
    some = make_annotations((1, [0, 0, 9, 9], POINTS, 0), images=5)
    require_points(some, some)
    assert capsys.readouterr().err.count("4 of 5 images have no labelled keypoints: not used") == 2


def test_a_window_in_a_image_goes_there_and_back(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((80, 100, 3), np.uint8))
    data = dataclasses.replace(make_annotations((1, [20, 30, 30, 20], POINTS, 0), images=1), root=tmp_path)
    _, ground_truth, fit = LandmarkDataset(Instances.of(data), 64).sample(0)
    assert fit.corner == (17, 22) and fit.source == (36, 36)
    assert torch.allclose(fit.undo(ground_truth.keypoints[0]), torch.from_numpy(data.keypoints[0]).float(), atol=1e-4)
    assert torch.allclose(fit.undo(ground_truth.boxes[0]), torch.tensor([20.0, 30, 50, 50]), atol=1e-4)
    assert fit.undo(fit.forward(torch.tensor([0.0, 99])), clip=True).tolist() == [17, 58]


shapes = arrays.arrays(np.float64, (4, 3, 2), elements=st.floats(-50, 150))


@settings(max_examples=40, deadline=None)
@given(shapes, shapes, arrays.arrays(np.int64, (4, 3), elements=st.integers(0, 2)))
def test_errors_are_those_of_the_naive_twin(found, ground_truth, seen):
    seen[:, 0] = 2  # each has a point to be judged by
    rows = [np.concatenate([t.astype(np.float32), s[:, None]], 1) for t, s in zip(ground_truth, seen, strict=True)]
    one = make_annotations(*((i + 1, [0, 0, 40, 10], row.ravel().tolist(), 0) for i, row in enumerate(rows)), images=4)
    evaluator = LandmarkEvaluator(one)
    evaluator.update(one.ids.tolist()[:1], [answer(found[0])])
    other = LandmarkEvaluator(one)
    other.update(one.ids.tolist()[1:], [answer(f) for f in found[1:]])
    evaluator.extend(other.records())
    got = evaluator.result()
    single = found.astype(np.float32).tolist()
    errors = [naive.error(f, row.tolist(), 20.0) for f, row in zip(single, rows, strict=True)]
    assert got["nme"] == pytest.approx(sum(errors) / 4, rel=1e-5)
    if all(abs(e - 0.08) > 1e-6 for e in errors):  # nearer it is a matter of rounding
        assert got["failures"] == sum(e > 0.08 for e in errors) / 4
    assert got["auc"] == pytest.approx(naive.area(errors, 0.08, 4000), abs=1e-3)
    assert got["normalizer"] == "square root of the area of the box" and got["curve"] == sorted(got["curve"])


def answer(points, score=1.0) -> Detections:
    shape = torch.tensor(np.concatenate([points, np.ones((len(points), 1))], 1), dtype=torch.float32)[None]
    return Detections(torch.zeros(1, 4), torch.tensor([score]), torch.zeros(1).long(), shape)


def test_faces_are_measured_by_their_outer_eye_corners(tmp_path):
    names = ["left_eye_outer", "nose", "right_eye_outer"]
    away = [1000, 30, 2, 30, 40, 2, 990, 30, 2]  # outside the image: kept, as COCO keeps them
    flat = [20, 30, 0, 30, 40, 2, 40, 30, 2]
    one = make_annotations((1, [0, 0, 64, 16], away, 0), (2, [0, 0, 64, 16], flat, 0), keypoints=names)
    evaluator = LandmarkEvaluator(one)
    assert evaluator.lengths.tolist() == pytest.approx([10, 32])  # where a corner is not labelled, the box serves
    evaluator.update([10], [answer(np.array([[1000.0, 31], [30, 42], [990, 30]]))])
    result = evaluator.result()
    assert result["nme"] == pytest.approx(0.1) and result["failures"] == 1 and result["auc"] == 0
    assert result["normalizer"] == "distance of the outer eye corners" and result["per_point"]["nose"] == pytest.approx(
        0.2
    )
    evaluator.write(tmp_path / "found.json")
    (record,) = json.loads((tmp_path / "found.json").read_text())
    assert record["image_id"] == 1 and record["category_id"] == 4 and record["keypoints"][4] == 42
    for ids, found in (([10], [answer(np.zeros((3, 2)))]), ([9], [answer(np.zeros((3, 2)))]), ([11], [])):
        with pytest.raises(ValueError, match=r"came twice|is not known|need one detection"):
            evaluator.update(ids, found)
    with pytest.raises(ValueError, match="not finite"):
        evaluator.update([11], [answer(np.full((3, 2), math.nan))])
    assert LandmarkEvaluator(one).result() == {"nme": -1.0, "failures": -1.0, "auc": -1.0}


def test_from_data_to_drawn_points_by_the_command_line(table, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--data", table, "--model", "landmarker", "--imgsz", "64", "--epochs", "24", "--batch", "8"]
    small = ["--model.width", "16", "--augment.flip", "0", "--augment.scale", "0", "--optim.lr", "0.005"]
    assert main([str(f) for f in ["train", *flags, *small, "--out", out, *CPU]]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = min(row["nme"] for row in rows)
    weights = out / "best.safetensors"
    plain = {"workers": 0, "device": "cpu", "precision": "float32"}
    result = detect.evaluate(
        weights=weights, data=table, json=tmp_path / "n.json", detections=tmp_path / "d.json", **plain
    )
    assert result["nme"] == pytest.approx(best, rel=1e-3) and best < 0.7 * rows[0]["nme"]
    assert json.loads((tmp_path / "n.json").read_text())["curve"] == result["curve"]
    assert len(json.loads((tmp_path / "d.json").read_text())) == 8
    assert "errors are divided by the square root" in capsys.readouterr().out
    found = tmp_path / "found"
    predict = ["predict", "--weights", weights, "--source", table / "val", "--out", found, "--device", "cpu"]
    assert main([str(f) for f in [*predict, "--save-crop"]]) == 0
    answers = json.loads((found / "detections.json").read_text())
    assert len(answers) == 8 and all(len(one["keypoints"]) == 9 for one in answers)
    ground_truth = load_data(table, "val").keypoints[:, [0, 2], :2]
    got = np.array([np.array(one["keypoints"]).reshape(3, 3)[[0, 2], :2] for one in answers])
    place = {one["image"]: i for i, one in enumerate(answers)}
    near = [np.abs(got[place[f"{i}.png"]] - ground_truth[i]).mean() for i in range(8)]
    assert np.mean(near) < 12
    drawn = cv2.imread(str(found / "0.png"))
    assert (drawn != cv2.imread(str(table / "val" / "0.png"))).any()
    shape = np.array(load_weights(weights).metadata.shape)
    for i in range(8):  # the crop is the image in the pose of the points found in it, however well they were learned
        crop = cv2.imread(str(found / "crops" / "thing" / f"{i}.jpg"))
        points = np.array(answers[place[f"{i}.png"]]["keypoints"]).reshape(3, 3)
        view = Pose.of(points, shape).view(cv2.imread(str(table / "val" / f"{i}.png")))
        assert abs(len(crop) - len(view)) <= 1 and crop.shape == (len(crop), len(crop), 3)
        view = cv2.resize(view, (len(crop), len(crop)))
        assert np.abs(crop.astype(float) - view).mean() < 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--data", "{d}", "--model", "landmarker"], "declare no keypoints"),
        (["train", "--data", "{t}", "--model", "landmarker"], "mirroring needs to know"),
        (["train", "--data", "{t}", "--model", "landmarker", "--balance", "sampling"], "--balance is for"),
        (
            ["train", "--data", "{t}", "--model", "landmarker", "--model.loss.box_kind", "l1"],
            "unknown flag '--model.loss.box_kind'",
        ),
    ],
)
def test_every_mistake_is_one_line(table, digits, tmp_path, capsys, arguments, said):
    given = [a.format(d=digits, t=table) for a in [*arguments, "--out", str(tmp_path / "o"), *CPU]]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1, err


@pytest.mark.parametrize("name", ["landmarker", "lenet5", "embedder"])
def test_several_views_of_what_finds_no_boxes_are_refused(name):
    net = build(
        parse("train", ["--data", "toy", "--model", name]).model,
        ModelMetadata(["a"], [1], size=64, keypoint_names=["p"]),
    )
    for how in ({"tta": True}, {"tile": True}):
        with pytest.raises(UserError, match="--tta and --tile are for detectors"):
            detect.api.Detector(net, torch.device("cpu"), torch.float32).predictor(Postprocess(), **how)


def test_landmarks_mean_small_images_and_gentle_zoom():
    got = parse("train", ["--data", "toy", "--task", "landmarks"])
    assert (got.model.name, got.imgsz, got.augment.scale) == ("landmarker", 128, 0.2)
    got = parse("train", ["--data", "toy", "--model", "landmarker_heatmap", "--imgsz", "96"])
    assert (got.task, got.model.head, got.imgsz, got.augment.translate) == ("landmarks", "heatmap", 96, 0.05)


def test_heatmaps_have_presence_by_one_layer_as_published_here():
    """An option that a model file leaves out has the default of its kind, which is for coordinates."""
    assert model_config("landmarker_heatmap").hidden == [] and model_config("landmarker").hidden == [256]
