"""Localization from data to answer: losses, model, measures, windows, commands."""

import dataclasses
import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import detect
from detect.__main__ import main
from detect.cli.parser import parse
from detect.config.train import TrainConfig
from detect.data.bad_records import BadRecords
from detect.data.rng import SampleKey
from detect.data.sources.coco import from_coco
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.evaluation.localization import LocalizationEvaluator
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.configs.localizer import LocalizerLossConfig
from detect.models.localizer import largest_objects
from detect.models.weights import load_weights, save_weights
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.types import Detections, Postprocess, Preprocess, Target

pytestmark = pytest.mark.usefixtures("one_thread")

BOX_LOSSES = {**REGISTRIES["loss.coordinates"], **REGISTRIES["loss.box"]}
CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=64)
CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]
TOOL = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "windows.py"))


def tiny(**changes):
    return dataclasses.replace(model_config("localizer"), **{"width": 16, "hidden": [32], "levels": [4], **changes})


def images(count: int = 3, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def target(*rows, crowd=()) -> Target:
    boxes = torch.tensor([row[:4] for row in rows], dtype=torch.float32).reshape(-1, 4)
    flags = torch.tensor([i in crowd for i in range(len(rows))], dtype=torch.bool)
    return Target(boxes, torch.tensor([int(row[4]) for row in rows], dtype=torch.int64), flags, 0, (64, 64))


TRUTH = [target((10, 12, 40, 50, 1)), target(), target((30, 20, 60, 44, 2), (0, 0, 9, 9, 0))]


def naive_box_loss(kind, a, b):
    """One pair of boxes at a time; the kinds that are no IoU."""
    away = [abs(x - y) for x, y in zip(a, b, strict=True)]
    each = {"l1": lambda x: x, "l2": lambda x: x * x, "smooth_l1": lambda x: x - 0.05 if x > 0.1 else x * x / 0.2}
    return sum(map(each[kind], away)) / 4


box = st.tuples(*[st.floats(0, 1)] * 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=4), st.sampled_from(["l1", "l2", "smooth_l1"]))
def test_box_losses_are_those_of_the_naive_twin(pairs, kind):
    a, b = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    expected = [naive_box_loss(kind, *pair) for pair in pairs]
    assert BOX_LOSSES[kind](a, b).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_every_box_loss_falls_to_zero_as_boxes_meet(kind):
    expected = torch.tensor([[0.2, 0.3, 0.6, 0.8]])
    found = [(expected + away).requires_grad_() for away in (0.2, 0.1, 0.0)]
    losses = [BOX_LOSSES[kind](one, expected) for one in found]
    for one, loss in zip(found, losses, strict=True):
        assert torch.autograd.grad(loss.sum(), one)[0].isfinite().all()
    assert losses[0] > losses[1] > losses[2] and losses[2].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "weight"), [("l1", 20.0), ("giou", 5.0)])
def test_a_localizer_learns_what_is_there_and_where(kind, weight):
    torch.manual_seed(0)
    net = build(tiny(loss=LocalizerLossConfig(box=weight, classes=1.0, box_kind=kind)), CARD).train()
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(70):
        terms = net.loss(net(images()), TRUTH)
        loss = sum(t.total / t.count.clamp(min=1) for t in terms.values())
        optimizer.zero_grad()
        loss.backward()
        if not step:
            assert [int(t.count) for t in terms.values()] == [3, 2, 2]
            assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
    found = net.postprocess(net(images()), Postprocess(0.5))
    assert [len(one) for one in found] == [1, 0, 1]
    assert [found[0].labels.item(), found[2].labels.item()] == [1, 2]
    for i in (0, 2):
        assert (found[i].boxes[0] - TRUTH[i].boxes[0]).abs().max() < 6


def test_without_an_object_box_and_class_do_not_count():
    net = build(tiny(), CARD).eval()
    raw = net(images(2))
    none = net.loss(raw, [target(), target((0, 0, 60, 60, 1), crowd=[0])])
    assert none["box"].total == none["classes"].total == 0 and none["box"].count == none["classes"].count == 0
    assert none["objectness"].count == 2 and none["objectness"].total > 0
    sum(t.total / t.count.clamp(min=1) for t in net.loss(net(images(2)), [target()] * 2).values()).backward()
    assert all(p.grad is not None for p in net.parameters())
    one = net.loss(raw, [target((5, 5, 60, 60, 1)), target()])
    also = net.loss(raw._replace(boxes=raw.boxes + torch.tensor([[0.0], [9]])), [target((5, 5, 60, 60, 1)), target()])
    assert torch.equal(one["box"].total, also["box"].total)  # whatever is said where nothing is


def test_the_object_of_an_image_is_its_largest_that_is_no_crowd():
    boxes, labels = largest_objects([target((0, 0, 9, 9, 0), (1, 1, 30, 8, 2), (0, 0, 60, 60, 1), crowd=[2]), target()])
    assert boxes.tolist() == [[1, 1, 30, 8], [0, 0, 0, 0]] and labels.tolist() == [2, -1]


@pytest.mark.parametrize("backbone", ["csp_n", "resnet18", "lenet5", "squeezenet1_1"])
def test_any_backbone_gives_one_answer_and_is_kept(backbone, tmp_path):
    net = build(tiny(backbone=backbone, levels=[5]), CARD).eval()
    save_weights(tmp_path / "w.safetensors", net)
    again = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        raw = net(images())
        assert torch.equal(again(images()).boxes, raw.boxes)
        assert torch.equal(again.forward_head(again.features(images())).boxes, raw.boxes)
        fused = net.fused()(images())
        assert torch.allclose(fused.boxes, raw.boxes, atol=1e-2) and torch.allclose(fused.logits, raw.logits, atol=1e-3)
        boxes, scores = net.candidates(raw)
        found = net.postprocess(raw, Postprocess(0.0))
        wide = net(images(1, 96))  # another size of image
    assert boxes.shape == (3, 1, 4) and scores.shape == (3, 1, 3)
    assert [len(one) for one in found] == [1, 1, 1] and found[1].labels[0] == raw.logits[1].argmax()
    assert (raw.boxes[:, 2:] > raw.boxes[:, :2]).all() and wide.boxes.shape == (1, 4)
    assert net.postprocess(net(images(0)), Postprocess(0.0)) == []
    assert {int(one.labels) for one in net.postprocess(raw, Postprocess(0.0, classes=(2,)))} == {2}


def make_annotations(*rows, images=4):
    """Annotations of 100 x 80 images; rows are (image id, bbox, category id, crowd)."""
    content = {
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": 100, "height": 80} for i in range(images)],
        "annotations": [
            {"id": n + 1, "image_id": i, "bbox": box, "category_id": c, "iscrowd": crowd}
            for n, (i, box, c, crowd) in enumerate(rows)
        ],
        "categories": [{"id": 3, "name": "a"}, {"id": 5, "name": "b"}],
    }
    return from_coco(content, Path("ground_truth.json"), Path("."), BadRecords("ground_truth.json", False))


def said(box, score, label):
    return Detections(torch.tensor([box]), torch.tensor([score]), torch.tensor([label]))


def test_measures_are_those_counted_by_hand():
    ground_truth = make_annotations(
        *((1, [10.0, 10, 20, 20], 5, 0), (1, [0, 0, 5, 5], 3, 0), (2, [0, 0, 50, 50], 3, 0)),
        *((3, [0, 0, 90, 70], 3, 1), (4, [0, 0, 10, 10], 3, 0)),
    )
    found = [
        said([10.0, 10, 30, 20], 0.9, 1),  # half of the box: IoU 0.5, right in all
        said([0.0, 0, 50, 50], 0.4, 1),  # the box is right, the class is not, nor is the presence
        said([0.0, 0, 9, 9], 0.3, 0),  # nothing but a crowd: rightly not said
        Detections.none(),
    ]
    evaluator = LocalizationEvaluator(ground_truth)
    evaluator.update([1, 2, 3, 4], found)
    got = evaluator.result()
    terms = build(tiny(), CARD).loss(build(tiny(), CARD)(images(1)), [target()])
    assert set(terms).isdisjoint(got)  # both go into one line of metrics
    assert got["localized"] == 0.5 and got["presence"] == 0.5 and got["class_accuracy"] == pytest.approx(1 / 3)
    assert got["iou"] == pytest.approx(0.5) and got["iou50"] == pytest.approx(2 / 3)
    assert (got["images"], got["objects"]) == (4, 3)
    assert set(LocalizationEvaluator(ground_truth).result().values()) == {-1.0}
    empty = LocalizationEvaluator(make_annotations(images=1))
    empty.update([1], [Detections.none()])
    assert empty.result()["localized"] == 1 and empty.result()["iou"] == -1


def test_several_ranks_measure_as_one():
    ground_truth = make_annotations((1, [10.0, 10, 20, 20], 5, 0), (2, [0, 0, 50, 50], 3, 0), images=3)
    found = [said([10.0, 10, 30, 30], 0.9, 1), Detections.none(), said([0.0, 0, 9, 9], 0.8, 0)]
    whole, one, other = (LocalizationEvaluator(ground_truth) for _ in range(3))
    whole.update([1, 2, 3], found)
    one.update([3], found[2:])
    other.update([1, 2], found[:2])
    one.extend(other.records())
    assert one.result() == whole.result()


def test_a_sample_is_one_image_on_a_square_canvas(digits):
    config = parse("train", ["--data", str(digits), "--model", "localizer", "--imgsz", "64"])
    data = load_data(digits, "train")
    samples = get_task("localize").training_data(data, config, Preprocess(), 0.1)
    single = dataclasses.replace(config, augment=dataclasses.replace(config.augment, mosaic=0.0))
    alone = get_task("detect").training_data(data, single, Preprocess(), 0.1)
    for position in range(4):
        (image, ground_truth), (other, same) = (one[SampleKey(0, position, 64)] for one in (samples, alone))
        assert np.array_equal(image, other) and torch.equal(ground_truth.boxes, same.boxes)
    loader = get_task("localize").eval_loader(data, 64, 4, Preprocess(), square=True)
    assert {tuple(batch.images.shape[2:]) for batch in loader} == {(64, 64)}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (tiny(levels=[2]), None),
        (tiny(backbone="resnet"), "unknown backbone"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(config, said):
    if said is None:
        assert build(config, CARD)
        return
    with pytest.raises(UserError, match=said):
        build(config, CARD)


def test_the_task_need_not_be_given():
    got = parse("train", ["--data", "toy", "--model", "localizer"])
    assert isinstance(got, TrainConfig) and (got.task, got.imgsz, got.model.kind) == ("localize", 256, "localizer")
    got = parse("train", ["--data", "toy", "--task", "localize"])
    assert got.model.name == "localizer"
    with pytest.raises(UserError, match="--task is localize, but model yolo_n is for --task detect"):
        parse("train", ["--data", "toy", "--task", "localize", "--model", "yolo_n"])
    with pytest.raises(UserError, match=r"--augment\.mosaic is for detectors,.* and"):
        parse("train", ["--data", "toy", "--model", "localizer", "--augment.mosaic", "0.5"])


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Pictures of 96 x 64 in which there is one blob of two classes, or none, one in three."""
    folder = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("val", 12)):
        images, annotations = [], []
        for i in range(count):
            canvas = np.full((64, 96, 3), 60, np.uint8)
            images.append({"id": i + 1, "file_name": f"{split}_{i}.png", "width": 96, "height": 64})
            if i % 3:
                label = i % 3 - 1
                side = rng.integers(20, 40)
                x, y = rng.integers(0, (96 - side, 64 - side))
                canvas[y : y + side, x : x + side] = ((250, 40, 40), (40, 250, 40))[label]
                box = [int(v) for v in (x, y, side, side)]
                annotations.append({"id": i + 1, "image_id": i + 1, "bbox": box, "category_id": label + 1})
            cv2.imwrite(str(folder / f"{split}_{i}.png"), canvas)
        categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


def test_from_data_to_drawn_boxes_by_the_command_line(blobs, tmp_path, capsys):
    out, small = tmp_path / "run", ["--model.width", "16", "--model.levels", "[4]", "--hidden", "32"]
    flags = ["--model", "localizer", *small, "--imgsz", "64", "--epochs", "25", "--batch", "8", "--optim.lr", "0.004"]
    mild = ["--augment.scale", "0.1", "--augment.hue", "0"]
    assert main([str(f) for f in ["train", "--data", blobs, *flags, *mild, "--out", out, *CPU]]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = max(rows, key=lambda row: row["localized"])
    assert best["localized"] > 0.6 and best["presence"] > 0.8
    weights = out / "best.safetensors"
    files = {"json": tmp_path / "n.json", "detections": tmp_path / "d.json"}
    result = detect.evaluate(weights=weights, data=blobs, **files, workers=0, device="cpu", precision="float32")
    assert result["localized"] == pytest.approx(best["localized"]) and result["objects"] == 8
    assert "localized 0." in capsys.readouterr().out or result["localized"] == 1
    assert len(json.loads((tmp_path / "d.json").read_text())) == 12
    found = tmp_path / "found"
    predict = ["predict", "--weights", weights, "--source", blobs / "val_*.png", "--out", found, "--conf", "0.5"]
    assert main([str(f) for f in [*predict, "--device", "cpu"]]) == 0
    answers = json.loads((found / "detections.json").read_text())
    assert {one["category"] for one in answers} <= {"red", "green"} and len(answers) == len(
        {a["image"] for a in answers}
    )
    cached = ["--weights", weights, "--freeze", "-1", "--cache-features", "--out", tmp_path / "top"]
    again = ["train", "--data", blobs, *flags, "--epochs", "1", *cached, *CPU]
    assert main([str(f) for f in again]) == 0  # the head alone, on features that were kept
    assert (tmp_path / "top" / "best.safetensors").is_file()


def test_windows_hold_an_object_each_or_none(blobs, tmp_path, capsys):
    out = tmp_path / "windows"
    assert TOOL["main"]([str(blobs), "--out", str(out), "--negatives", "0.5"]) == 0
    cut = load_data(out, "train")
    counts = np.diff(cut.starts)
    assert (counts > 0).sum() == 32 and 16 <= (counts == 0).sum() <= 40 and len(cut) == len(counts)
    assert cut.names == ["red", "green"]
    for i in range(len(cut)):
        image, ground_truth = cut.read(i), cut.target(i)
        colored = (image.max(2) > 200).mean()
        assert (colored > 0.05) == bool(len(ground_truth)), cut.file_name(i)
        if len(ground_truth):
            x0, y0, x1, y1 = ground_truth.boxes[0].round().int().tolist()
            assert image[(y0 + y1) // 2, (x0 + x1) // 2].max() > 200 and x1 <= image.shape[1]
    assert TOOL["main"]([str(blobs), "--out", str(out)]) == 2
    assert "is not overwritten" in capsys.readouterr().err
    first = tmp_path / "again"
    TOOL["main"]([str(blobs), "--out", str(first), "--negatives", "0.5"])
    assert (first / "instances_val.json").read_bytes() == (out / "instances_val.json").read_bytes()


def test_a_image_full_of_objects_has_no_window_without():
    rng = np.random.default_rng(0)
    assert TOOL["without"](np.array([[0.0, 0, 100, 80]]), 100, 80, rng) is None
    assert TOOL["without"](np.zeros((0, 4)), 100, 80, rng) is not None
