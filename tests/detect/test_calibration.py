"""Calibration by class: the error that chance explains, maps that keep the order, and what `detect evaluate` saves."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detect.__main__ import main
from detect.api import Detector
from detect.config.fusion import FusionConfig
from detect.ensemble import joined
from detect.evaluation.calibration import Judged, Reliability, calibration_values
from detect.evaluation.calibration_fit import fit_calibration, fit_isotonic, fit_temperature
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.weights import read_weights, save_weights
from detect.score_calibration import ScoreCalibration, tempered
from detect.serve.worker import Inference
from detect.types import ConfidenceThresholds, Detections, Postprocess
from tests.detect.test_thresholds import known, weights  # noqa: F401  (fixtures)

TWELVE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def drawn(count, share_of, seed=0, labels=1):
    """Predictions with uniform scores, right as often as `share_of` the score says."""
    rng = np.random.default_rng(seed)
    scores = rng.random(count).astype(np.float32).astype(float)
    return Judged(scores, rng.integers(0, labels, count), rng.random(count) < share_of(scores), 0.1)


def test_what_chance_explains_is_the_error_of_perfectly_calibrated_predictions():
    errors = [Reliability.of(drawn(200, lambda s: s, seed)) for seed in range(200)]
    measured, told = np.mean([one.error for one in errors]), np.mean([one.chance for one in errors])
    assert told == pytest.approx(measured, rel=0.15)
    assert np.mean([one.error > one.limit for one in errors]) < 0.08


@pytest.mark.parametrize(
    ("count", "share", "verdict"),
    [
        (3000, lambda s: s, "within chance"),
        (3000, lambda s: s**2, "too high"),
        (3000, np.sqrt, "too low"),
        (3000, lambda s: np.where(s > 0.5, 0.8, 0.2), "off"),
        (20, lambda s: s**2, "undecided: too few"),
        (0, lambda s: s, "undecided: too few"),
    ],
)
def test_verdicts(count, share, verdict):
    assert Reliability.of(drawn(count, share, seed=1)).verdict == verdict


def test_values_by_class_are_those_of_each_class_alone():
    judged = drawn(500, lambda s: s, labels=2)
    values = calibration_values(judged, ["a", "b", "c"])
    counted = judged.scores >= 0.1
    for label, name in enumerate("abc"):
        assert values["per_class"][name]["predictions"] == (counted & (judged.labels == label)).sum()
    assert values["per_class"]["c"]["error"] is None and json.dumps(values)


cases = st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=200)


@given(cases, st.sampled_from(["isotonic", "temperature"]))
@example([(1e-15, True)], "isotonic")  # a knot beside 0
@settings(max_examples=100, deadline=None)
def test_maps_rise_from_0_to_1_and_can_be_undone(rows, method):
    scores, right = np.array([s for s, _ in rows], float), np.array([hit for _, hit in rows], bool)
    judged = Judged(scores, np.zeros(len(scores), int), right, 0.1)
    fitted, pooled = fit_calibration(judged, [0], 1, method, "here")
    assert fitted.wrong(1) == "" and fitted.wrong(2) and (pooled == [0] or len(rows) >= 100)
    ends = np.array([0.0, 1.0, *scores, *np.linspace(0, 1, 57)])
    order = np.unique(ends)
    found = fitted.calibrated(order, np.zeros(len(order), int))
    assert ((found >= 0) & (found <= 1)).all()
    far = np.diff(order) > 1e-7  # float32 scores are no nearer where slopes are least
    assert (np.diff(found)[far & (order[:-1] > 1e-6) & (order[1:] < 1 - 1e-6)] > 0).all() and (
        np.diff(found) >= 0
    ).all()
    inner = order[(order > 0.01) & (order < 0.99)]
    back = [fitted.raw(value, 0) for value in fitted.calibrated(inner, np.zeros(len(inner), int))]
    assert back == pytest.approx(inner.tolist(), abs=1e-6)


def test_fits_find_what_was_put_in():
    truth = fit_temperature(drawn(20000, lambda s: tempered(s, 2.0))._replace(least=0.0))
    assert truth == pytest.approx(2.0, rel=0.1)
    x, y = fit_isotonic(*drawn(20000, lambda s: s**2)[::2])
    grid = np.linspace(0.05, 0.95, 19)
    assert np.abs(np.interp(grid, x, y) - grid**2).max() < 0.06
    assert fit_temperature(Judged(np.array([0.5]), np.array([0]), np.array([True]), 0.1)) == 1.0


def test_results_are_sorted_again_and_other_results_stay():
    maps = ScoreCalibration("isotonic", [], [[0, 1]] * 3, [[0, 0.5], [0, 1], [0, 1]])
    boxes = torch.arange(8.0).view(2, 4)
    found = maps.apply(Detections(boxes, torch.tensor([0.8, 0.6]), torch.tensor([0, 1])))
    assert found.scores.tolist() == pytest.approx([0.6, 0.4]) and found.labels.tolist() == [1, 0]
    assert found.boxes.tolist() == boxes.flip(0).tolist() and found.scores.dtype == torch.float32
    assert maps.apply("landmarks") == "landmarks" and len(maps.apply(Detections.none())) == 0


def test_thresholds_are_of_calibrated_confidences():
    maps = ScoreCalibration("isotonic", [], [[0, 1]] * 3, [[0, 0.5], [0, 1], [0, 1]])
    metadata = ModelMetadata(["a", "b"], [1, 2], calibration=maps)
    keep = metadata.postprocess(0.4)
    assert keep.class_scores == pytest.approx((0.8, 0.4)) and keep.score == pytest.approx(0.4)
    kept = dataclasses.replace(metadata, confidence=ConfidenceThresholds(0.3, [0.2, 0.3]))
    assert kept.postprocess().class_scores == pytest.approx((0.4, 0.3))
    assert kept.thresholds_of() == [0.2, 0.3] and metadata.thresholds_of() == [0.25, 0.25]


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_the_calibration_is_told_and_saved(known, weights, method, tmp_path, capsys):  # noqa: F811
    out, report = tmp_path / "c.safetensors", tmp_path / "r.json"
    assert main([*known, "--save-calibration", str(out), "--calibration", method, "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "expected calibration error" in said and f"after calibration ({method})" in said
    assert "undecided: too few" in said and json.loads(report.read_text())["calibration"]["per_class"]
    metadata = read_weights(out)[1]
    assert metadata.calibration.method == method and metadata.calibration.basis == "val of digits"
    assert dataclasses.replace(metadata, calibration=None) == read_weights(weights)[1]


def calibrated(path, weights, top=0.5, method="isotonic"):  # noqa: F811
    """A copy of the weights whose first class has confidences up to `top`, or logits divided by 2."""
    config, metadata, tensors = read_weights(weights)
    count = len(metadata.names) + 1
    maps = ScoreCalibration("temperature", [2.0] * count, [], [], "here")
    if method == "isotonic":
        maps = ScoreCalibration("isotonic", [], [[0, 1]] * count, [[0, top], *[[0, 1]] * (count - 1)], "here")
    save_weights(path, build(config, dataclasses.replace(metadata, calibration=maps)), tensors)
    return path


def test_evaluation_and_predictions_use_the_calibration(digits, weights, tmp_path, capsys):  # noqa: F811
    low = calibrated(tmp_path / "c.safetensors", weights)
    numbers = {}
    for path in (weights, low):
        report = tmp_path / "r.json"
        flags = ["--data", str(digits), "--device", "cpu", "--json", str(report), "--resamples", "0"]
        assert main(["evaluate", "--weights", str(path), *flags, "--detections", str(tmp_path / "d.json")]) == 0
        numbers[path] = json.loads(report.read_text())
    assert all(numbers[low][name] == numbers[weights][name] for name in TWELVE)
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    raw = Detector.load(weights, "cpu").predict(image, conf=0.1)[0][1]
    found = Detector.load(low, "cpu").predict(image, conf=0.05)[0][1]
    assert len(found) == len(raw) > 0 and found.scores.tolist() == pytest.approx((raw.scores / 2).tolist())


def test_saved_thresholds_keep_the_same_detections(known, weights, tmp_path, capsys):  # noqa: F811
    chosen, out = tmp_path / "t.safetensors", tmp_path / "c.safetensors"
    assert main([*known, "--save-thresholds", str(chosen)]) == 0
    command = [str(chosen) if one == str(weights) else one for one in known]
    assert main([*command, "--save-calibration", str(out)]) == 0
    assert "thresholds for the best F1 on val of digits are calibrated, too" in capsys.readouterr().out
    before, after = read_weights(chosen)[1], read_weights(out)[1]
    assert after.postprocess().class_scores == pytest.approx(before.postprocess().class_scores, abs=1e-6)


def test_refusals(known, weights, tmp_path, capsys, monkeypatch):  # noqa: F811
    low = calibrated(tmp_path / "c.safetensors", weights)
    again = [str(low) if one == str(weights) else one for one in known]
    for command, message in (
        ([*again, "--save-calibration", str(tmp_path / "o.safetensors")], "is calibrated already, on here"),
        ([*known, "--save-calibration", str(weights)], "are the --weights themselves"),
        ([*known, "--save-calibration", str(tmp_path / "o.pt")], "ends in .safetensors"),
        ([*known, "--calibration", "isotonic"], "is read with --save-calibration alone"),
        (
            [*known, *(x for n in ("thresholds", "calibration") for x in (f"--save-{n}", f"{n}.safetensors"))],
            "two steps",
        ),
    ):
        monkeypatch.chdir(tmp_path)
        assert main(command) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c.safetensors"]


def test_a_damaged_calibration_is_a_damaged_header(weights, tmp_path, capsys):  # noqa: F811
    config, metadata, tensors = read_weights(weights)
    count = len(metadata.names) + 1
    for maps in (
        ScoreCalibration("temperature", [1.0]),
        ScoreCalibration("isotonic", [], [[0, 1]] * count, [[1, 0]] * count),
    ):
        odd = dataclasses.replace(metadata, calibration=maps)
        save_weights(tmp_path / "o.safetensors", build(config, odd), tensors)
        assert main(["predict", "--weights", str(tmp_path / "o.safetensors"), "--source", "x.png"]) == 2
        assert "metadata: calibration has" in capsys.readouterr().err


SUFFIX = {"onnx": "onnx", "openvino": "xml", "torchscript": "torchscript"}
NEEDS = {"onnx": "onnxruntime", "openvino": "openvino", "torchscript": "torch"}


@pytest.mark.slow
@pytest.mark.parametrize("form", [*NEEDS, "onnx --nms", "openvino --nms"])
@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_an_exported_file_keeps_the_calibration(weights, tmp_path, method, form):  # noqa: F811
    form, *nms = form.split()
    pytest.importorskip(NEEDS[form])
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    low, out = calibrated(tmp_path / "c.safetensors", weights, method=method), tmp_path / "out"
    out.mkdir()
    flags = ["--conf", "0.1", *nms, "--format", form, "--out", str(out / f"c.{SUFFIX[form]}")]
    assert main(["export", "--weights", str(low), *flags]) == 0
    file = out / f"c.{SUFFIX[form]}"
    exported, ours = Detector.load(file), Detector.load(low, "cpu").predict(image, conf=0.1)[0][1]
    found = exported.predict(image)[0][1]
    assert len(found) == len(ours) > 0
    assert found.scores.tolist() == pytest.approx(ours.scores.tolist(), abs=1e-3)


def test_a_server_gives_calibrated_confidences(weights, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    pixels = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))[1]
    (tmp_path / "upload").write_bytes(pixels.tobytes())
    low = calibrated(tmp_path / "c.safetensors", weights)
    settings = {"weights": str(low), "device": "cpu", "precision": "float32", "imgsz": 0, "max_megapixels": 1}
    job = {"kind": "image", "conf": 0.05, "iou": 0.7, "polygons": False}
    status, found = Inference(settings, None).respond(job)
    (tmp_path / "a.png").write_bytes(pixels.tobytes())
    ours = Detector.load(low, "cpu", "float32").predict(tmp_path / "a.png", conf=0.05)[0][1]
    assert status == 200 and len(ours) > 0
    assert [one["score"] for one in found["detections"]] == pytest.approx(ours.scores.tolist(), abs=1e-5)


@given(st.lists(st.floats(2**-10, 1, width=32), min_size=2, max_size=60), st.sampled_from(["isotonic", "temperature"]))
@settings(max_examples=100, deadline=None)
def test_the_ranking_within_a_class_stays_ties_too(scores, method):
    """AP is of the ranking: of float32 scores that differ none become equal, and equal ones stay equal."""
    raw = np.array(scores)
    fitted, _ = fit_calibration(drawn(300, lambda s: s**3, seed=len(scores)), [0], 1, method, "here")
    ranks, after = (
        np.unique(one, return_inverse=True)[1] for one in (raw, fitted.calibrated(raw, 0 * raw.astype(int)))
    )
    assert (ranks == after).all()


def test_members_of_an_ensemble_are_fused_by_calibrated_confidences(weights, tmp_path):  # noqa: F811
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    low = calibrated(tmp_path / "c.safetensors", weights)
    alone, pair = Detector.load(low, "cpu"), [Detector.load(low, "cpu") for _ in range(2)]
    found = alone.predict(image, conf=0.05)[0][1]
    fused = joined(pair, [str(low)] * 2, FusionConfig(method="nms")).predict(image, conf=0.05)[0][1]
    assert len(found) > 0 and fused.scores.max().item() == pytest.approx(found.scores.max().item(), abs=1e-5)
    keeps = joined(pair, ["a", "b"]).fusion.member_postprocess(Postprocess(0.2))
    assert [one.class_scores[:2] for one in keeps] == [pytest.approx((0.2, 0.1))] * 2  # half of 0.2, as raw scores


def test_evaluate_takes_its_threshold_as_a_calibrated_one(digits, weights, tmp_path, capsys):  # noqa: F811
    low, told = calibrated(tmp_path / "c.safetensors", weights), []
    for path, conf in ((weights, 0.1), (low, 0.05)):
        flags = ["--data", str(digits), "--device", "cpu", "--resamples", "0", "--conf", str(conf)]
        assert main(["evaluate", "--weights", str(path), *flags, "--detections", str(tmp_path / "d.json")]) == 0
        told.append(len(json.loads((tmp_path / "d.json").read_text())))
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faster_rcnn", "yolo_grid", "yolo_anchor_n", "yolox_nano", "picodet_s", "yolo_n_seg"])
def test_every_family_predicts_calibrated_confidences(name, tmp_path):
    torch.manual_seed(0)
    config = model_config(name)
    if name in ("faster_rcnn", "yolo_anchor_n"):
        config = dataclasses.replace(config, anchors=[[side, side] for side in range(8, 80, 8)])
    model = build(config, ModelMetadata(["a", "b"], [1, 2], size=64)).eval()
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    save_weights(tmp_path / "w.safetensors", model)
    maps = ScoreCalibration("isotonic", [], [[0, 1]] * 3, [[0, 0.5], [0, 0.25], [0, 1]])
    model.metadata = dataclasses.replace(model.metadata, calibration=maps)
    save_weights(tmp_path / "c.safetensors", model)
    raw, found = (
        Detector.load(tmp_path / f"{one}.safetensors", "cpu").predict(image, conf=0, max_det=3000, iou=1)[0][1]
        for one in "wc"
    )
    wanted = torch.where(raw.labels == 0, raw.scores / 2, raw.scores / 4).sort(descending=True).values
    assert len(raw) and found.scores.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
