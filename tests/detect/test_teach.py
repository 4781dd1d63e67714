"""The tool that trains a detector on what a teacher predicts: its loss terms, and a small run."""

import json

import numpy as np
import pytest
import torch

from detect.data.sources.formats import load_data
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import load_weights, save_weights
from detect.training.checkpoint import read
from tools import teach


def detector(names, seed):
    torch.manual_seed(seed)
    metadata = ModelMetadata(list(names), list(range(1, len(names) + 1)), size=64)
    model = build(YoloConfig(width=16), metadata)
    for tower in model.head.classify:  # fresh biases are too low for any confident prediction
        torch.nn.init.constant_(tower[-1].bias, -1.0)
    return model


def test_a_student_that_agrees_has_nothing_to_learn():
    student = detector("abc", 0).eval()
    losses = teach.TaughtLosses(student, detector("cab", 0).eval())
    assert losses.labels == [1, 2, 0]
    raw = student(torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8))
    raw = raw._replace(logits=raw.logits.detach().requires_grad_())
    boxes, scores = (x.detach() for x in student.candidates(raw))
    terms = losses.output_terms(raw, boxes, scores)
    assert terms["teacher_box"].count > 1
    assert terms["teacher_box"].total.item() == pytest.approx(0, abs=1e-3)
    terms["teacher_classes"].total.backward()
    assert raw.logits.grad.abs().max() < 1e-6
    assert losses.output_terms(raw, boxes + 4, scores)["teacher_box"].total > 1


def test_the_distance_of_feature_maps_is_one_minus_their_correlation():
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    each = [np.corrcoef(a[:, c].flatten(), b[:, c].flatten())[0, 1] for c in range(3)]
    assert teach.correlation_loss(a, b).item() == pytest.approx(1 - np.mean(each), abs=1e-4)
    assert teach.correlation_loss(a, 7 * a + 5).item() == pytest.approx(0, abs=1e-4)


def test_a_teacher_has_the_positions_and_classes_of_its_student(digits, tmp_path, capsys):
    save_weights(tmp_path / "t.safetensors", detector(["cat"], 0))
    arguments = ["--teacher", str(tmp_path / "t.safetensors"), "--data", str(digits), "--out", str(tmp_path / "run")]
    flags = ["--epochs", "1", "--imgsz", "64", "--batch", "8", "--workers", "0", "--device", "cpu"]
    assert teach.main([*arguments, *flags, "--model.width", "16"]) == 2
    assert "the teacher has no class" in capsys.readouterr().err
    with pytest.raises(teach.UserError, match="same strides"):
        student = build(YoloConfig(width=16, levels=[4]), detector("a", 0).metadata)
        teach.TaughtLosses(student, detector("a", 0).eval())


def test_a_taught_run_resumes_and_its_weights_are_the_student_s(digits, tmp_path, capsys):
    teacher = tmp_path / "teacher.safetensors"
    save_weights(teacher, detector([*load_data(digits, "train").names, "more"], 1))
    flags = ["--teacher", str(teacher), "--data", str(digits), "--imgsz", "64", "--batch", "8", "--workers", "0"]
    flags += ["--device", "cpu", "--precision", "float32", "--model.width", "16"]
    flags += ["--optim.schedule", "constant", "--optim.warmup", "0"]
    found = []
    for name, steps in (("whole", [2]), ("resumed", [1, 2])):
        out = tmp_path / name
        for epochs in steps:
            resume = ["--resume", "--resume-anyway"] if epochs < 2 or len(steps) > 1 else []
            assert not teach.main([*flags, "--out", str(out), "--epochs", str(epochs), *resume])
        found.append(read(out / "last.ckpt")[0])
        rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert len(rows) == 2 and all(row["teacher_features"] > 0 and row["teacher_box"] > 0 for row in rows)
    assert load_weights(out / "best.safetensors").config.kind == "yolo"
    for kept in (lambda state: state["model"], lambda state: state["callbacks"]["teach"]["project"]):
        assert all(torch.equal(a, b) for a, b in zip(*(kept(state).values() for state in found), strict=True))
