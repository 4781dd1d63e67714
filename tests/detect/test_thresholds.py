"""`detect evaluate --page`, and confidence thresholds: found by evaluate, kept in weights, used by predict."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from detect.__main__ import main
from detect.api import Detector
from detect.data.sources.coco import load_coco
from detect.evaluation import evaluate as evaluation
from detect.inference.box_fusion import suppress
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import read_weights, save_weights
from detect.models.yolo import select_detections
from detect.types import ConfidenceThresholds, Detections, Postprocess
from tests.browser import check_look


@pytest.fixture(scope="module")
def weights(digits, tmp_path_factory):
    """A detector that sees a few boxes of its first class everywhere, which is not annotated, by two scores."""
    annotations = load_coco(digits / "instances_val.json")
    names, ids = ["cat", *reversed(annotations.names)], [99, *reversed(annotations.category_ids.tolist())]
    torch.manual_seed(0)
    model = build(model_config("yolo_n"), ModelMetadata(names, ids, size=64))
    with torch.no_grad():
        for level, bias in enumerate((-8.0, -0.5, 0.5)):
            model.get_parameter(f"head.classify.{level}.1.bias").copy_(torch.tensor([bias, *[-8.0] * (len(names) - 1)]))
    path = tmp_path_factory.mktemp("thresholds") / "w.safetensors"
    save_weights(path, model)
    return path


@pytest.fixture
def known(digits, weights, monkeypatch):
    """Makes `detect evaluate` take these for predictions: every object, and below it a box of its class elsewhere."""
    names = Detector.load(weights, "cpu").names

    def predictions(config, detector, annotations, postprocess):
        for i in range(len(annotations)):
            target = annotations.target(i)
            places = [names.index(annotations.names[n]) for n in target.labels.tolist()]
            label = torch.tensor(places, dtype=torch.int64)
            high = 0.9 - 0.01 * i * torch.ones(len(label))
            boxes = torch.cat([target.boxes, target.boxes + 200])
            yield [target.image_id], [Detections(boxes, torch.cat([high, high - 0.5]), torch.cat([label, label]))]

    monkeypatch.setattr(evaluation, "predictions", predictions)
    return ["evaluate", "--weights", str(weights), "--data", str(digits), "--device", "cpu"]


def test_thresholds_are_printed_written_and_kept_by_class(known, weights, tmp_path, capsys):
    out, report = tmp_path / "t.safetensors", tmp_path / "r.json"
    flags = ["--target-precision", "0.95", "--save-thresholds", str(out), "--json", str(report)]
    assert main([*known, *flags]) == 0
    said = capsys.readouterr().out
    assert "confidence thresholds for precision 0.95 at IoU 0.5, an estimate on val" in said
    assert "all classes" in said and f"{out}: the weights with these thresholds" in said
    told = json.loads(report.read_text())["thresholds"]["precision"]
    assert told["target"] == 0.95 and told["overall"]["precision"] == told["overall"]["recall"] == 1.0
    config, metadata, tensors = read_weights(out)
    kept = metadata.confidence
    assert kept.overall == told["overall"]["conf"] and kept.basis == "precision 0.95 on val of digits"
    for name, value in zip(metadata.names, kept.classes, strict=True):
        point = told["per_class"].get(name)  # classes that are not annotated take that of all
        assert value == (point["conf"] if point else kept.overall), name
    before = read_weights(weights)
    assert config == before[0] and metadata == dataclasses.replace(before[1], confidence=kept)
    assert all(torch.equal(tensors[name], value) for name, value in before[2].items())


def test_what_cannot_be_reached_is_said_with_the_nearest(known, capsys):
    assert main([*known, "--target-recall", "1", "--target-precision", "0.2"]) == 0
    assert "is not reached" not in capsys.readouterr().out

    def wrong(config, detector, annotations, postprocess):
        for i in range(len(annotations)):
            box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
            found = Detections(box, torch.tensor([0.9]), torch.tensor([1]))
            target = annotations.target(i)
            if i == 0:
                found = Detections(target.boxes[:1], torch.tensor([0.5]), torch.tensor([1]))
            yield [target.image_id], [found]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "predictions", wrong)
        patch.setattr(evaluation, "relabelled", lambda result, labels, points: result)
        assert main([*known, "--target-precision", "0.9"]) == 0
    said = capsys.readouterr().out
    assert "none: no detection is right" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--target-precision 0.9 --target-recall 0.9 --save-thresholds o.safetensors", "keeps one threshold of each"),
        ("--save-thresholds o.pt", "a weights file ends in .safetensors"),
        ("--save-thresholds {weights}", "are the --weights themselves"),
        ("--target-precision 1.5", "it must be from 0 to 1"),
        ("--examples 3", "is read with --page alone"),
    ],
)
def test_refusals(known, weights, flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*known, *flags.format(weights=weights).split()]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in line and list(tmp_path.iterdir()) == []


def kept(path, weights, *classes):
    """A copy of the weights with these thresholds."""
    config, metadata, tensors = read_weights(weights)
    confidence = ConfidenceThresholds(0.4, [*classes, *[0.4] * (len(metadata.names) - len(classes))], "precision 0.9")
    save_weights(path, build(config, dataclasses.replace(metadata, confidence=confidence)), tensors)
    return path


def test_predict_uses_the_thresholds_of_the_weights_unless_told_otherwise(weights, tmp_path, capsys):
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    every = Detector.load(weights, "cpu").predict(image, conf=0.01)[0][1].scores
    some = int((every > 0.5).sum())
    chosen = kept(tmp_path / "k.safetensors", weights, 0.5)
    detector = Detector.load(chosen, "cpu")
    assert len(detector.predict(image)[0][1]) == some > 0
    assert len(detector.predict(image, conf=0.01)[0][1]) == len(every) > some
    flags = ["--source", str(image), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["predict", "--weights", str(chosen), *flags]) == 0
    assert "confidence thresholds of the weights, for precision 0.9: cat" in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out/detections.json").read_text())) == some
    assert main(["predict", "--weights", str(chosen), *flags, "--conf", "0.01"]) == 0
    assert "confidence thresholds" not in capsys.readouterr().err
    assert len(json.loads((tmp_path / "out/detections.json").read_text())) == len(every)
    assert main(["predict", "--weights", str(chosen), *flags, "--track"]) == 0
    assert "0.4 for all classes" in capsys.readouterr().err


def test_weights_without_thresholds_are_predicted_at_a_quarter(weights):
    metadata = read_weights(weights)[1]
    assert metadata.confidence is None and metadata.postprocess() == Postprocess()
    assert metadata.postprocess(0.4, iou=0.5) == Postprocess(0.4, 0.5)


def test_thresholds_of_another_number_of_classes_are_a_damaged_header(weights, tmp_path, capsys):
    config, metadata, tensors = read_weights(weights)
    odd = dataclasses.replace(metadata, confidence=ConfidenceThresholds(0.4, [0.4]))
    save_weights(tmp_path / "o.safetensors", build(config, odd), tensors)
    assert main(["predict", "--weights", str(tmp_path / "o.safetensors"), "--source", "x.png"]) == 2
    assert "confidence has 1 thresholds for" in capsys.readouterr().err


def test_each_class_has_its_threshold_before_suppression_and_after_fusion():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    scores = torch.tensor([[0.5, 0.0], [0.3, 0.0], [0.0, 0.5], [0.0, 0.7]])
    keep = Postprocess(0.2, class_scores=(0.4, 0.6), agnostic=True)
    found = select_detections(boxes, scores, keep)
    assert found.scores.tolist() == pytest.approx([0.7, 0.5]) and found.labels.tolist() == [1, 0]
    fused = suppress(Detections(boxes, scores.amax(1), scores.argmax(1)), keep)
    assert fused.boxes.tolist() == found.boxes.tolist()


@pytest.mark.slow
def test_an_exported_file_keeps_the_thresholds(weights, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    chosen = kept(tmp_path / "k.safetensors", weights, 0.5)
    file = tmp_path / "k.onnx"
    assert main(["export", "--weights", str(chosen), "--nms", "--out", str(file)]) == 0
    exported = Detector.load(file)
    assert exported.model.about.conf == pytest.approx(min(exported.metadata.confidence.classes))
    assert len(exported.predict(image)[0][1]) == len(Detector.load(chosen, "cpu").predict(image)[0][1]) > 0
    assert main(["evaluate", "--weights", str(file), "--data", "toy", "--save-thresholds", "o.safetensors"]) == 2
    assert "is an exported file" in capsys.readouterr().err
    assert main(["export", "--weights", str(chosen), "--conf", "0.01", "--out", str(file)]) == 0
    assert Detector.load(file).metadata.confidence is None  # the user's own threshold


def test_a_page_tells_of_the_evaluation_in_full(known, tmp_path, capsys):
    page = tmp_path / "out.html"
    assert main([*known, "--page", str(page), "--examples", "2", "--target-precision", "0.97"]) == 0
    assert f"see {page}" in capsys.readouterr().out
    text = page.read_text()
    for part in (
        *(
            "w.safetensors on val of digits",
            "chosen for precision 0.97",
            "precision against recall",
            "F1 by confidence",
        ),
        *("Confusion", "Cost of errors", "AP by object size", "AP by aspect ratio", "AP by objects in the image"),
        *("F1 by confidence", "AP by mean brightness", "expected calibration error", "Worst images", "Best images"),
        "Most surprising",
        *("for precision 0.97", "for recall 0.9", "95 % interval"),
    ):
        assert part in text, part
    assert text.count("<li><figure>") >= 6  # two of each sort
    assert main([*known, "--page", str(page)]) == 0  # a page of ours may be written again
    (tmp_path / "mine.html").write_text("mine")
    assert main([*known, "--page", str(tmp_path / "mine.html")]) == 2
    assert "not a page file that gridhead wrote" in capsys.readouterr().err


def test_a_page_fits_every_screen(known, tmp_path, page_at):
    assert main([*known, "--page", str(tmp_path / "out.html"), "--target-precision", "0.97"]) == 0
    check_look(page_at(tmp_path / "out.html"))


def test_a_page_of_nothing_detected_is_a_page(known, tmp_path, monkeypatch):
    def nothing(config, detector, annotations, postprocess):
        yield annotations.image_ids.tolist(), [Detections.none() for _ in range(len(annotations))]

    monkeypatch.setattr(evaluation, "predictions", nothing)
    assert main([*known, "--page", str(tmp_path / "out.html")]) == 0
    assert "Nothing is detected" in (tmp_path / "out.html").read_text()
    assert main([*known, "--save-thresholds", str(tmp_path / "t.safetensors")]) == 2
    assert not (tmp_path / "t.safetensors").exists()
