"""A detector that learns from another one: its loss terms against naive twins, and small runs."""

import dataclasses
import itertools
import json
import math
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anchors.grid import priors
from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.config.teacher import DistillConfig
from detect.config.train import OptimConfig
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_class
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import load_weights, save_weights
from detect.training.distillation import (
    Distillation,
    best_anchor,
    correlation_loss,
    output_distances,
    same_places,
    score_logits,
)
from detect.training.run_record import FORM
from detect.training.setup import train
from detect.training.teacher import Lesson
from detect.types import HeadOutput, LossTerm
from tests.reference.doom import doomed
from tests.reference.rank import together, train_and_tell
from tests.reference.runs import remains, rows, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")
ANCHORS = [[8.0, 8.0], [16.0, 9.0], [24.0, 30.0], [40.0, 20.0], [50.0, 60.0], [90.0, 80.0]]


def detector(names, seed, size=64, **options):
    torch.manual_seed(seed)
    metadata = ModelMetadata(list(names), list(range(1, len(names) + 1)), size=size)
    model = build(YoloConfig(**{"width": 16, "neck": "straight", "head_convs": 0, **options}), metadata)
    for tower in model.head.classify:  # fresh biases are too low for any confident prediction
        torch.nn.init.constant_(tower[-1].bias, 1.0)
    for tower in model.head.regress if options.get("head") == "anchor" else ():
        torch.nn.init.constant_(tower[-1].bias, 0.0)
    return model.eval()


def images_of(count=2, size=64):
    return torch.randint(0, 255, (count, 3, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("options", [{}, {"head": "anchor", "anchors": ANCHORS, "anchors_per_level": 2}])
def test_a_student_that_agrees_has_nothing_to_learn(options):
    student = detector("abc", 0, levels=[3, 4, 5], **options)
    raw = student(images_of())
    raw = raw._replace(logits=raw.logits.detach().requires_grad_())
    boxes, scores = (x.detach() for x in student.candidates(raw))
    terms = output_distances(student, raw, boxes, scores, [0, 1, 2], 0.1)
    assert scores.max() > 0.1
    assert all(abs(terms[name].item()) < 1e-3 for name in ("box", "classes"))
    terms["classes"].backward()
    assert raw.logits.grad.abs().max() < 1e-5
    assert output_distances(student, raw, boxes + 9, scores, [0, 1, 2], 0.1)["box"] > 0.3
    assert output_distances(student, raw, boxes, 1 - scores, [0, 1, 2], 0.1)["classes"] > 0.01


def test_scores_have_the_logits_of_objectness_times_class():
    logits, objectness = 9 * torch.randn(2, 5, 3), 9 * torch.randn(2, 5)
    raw = HeadOutput(logits, torch.zeros(2, 5, 4), priors([(1, 5)], [8]), objectness)
    found = score_logits(raw).double().sigmoid()
    assert torch.allclose(found, (logits.double().sigmoid() * objectness.double().sigmoid()[..., None]), rtol=1e-4)
    assert torch.equal(score_logits(raw._replace(objectness=None)), logits)


def test_the_distance_of_feature_maps_is_one_minus_their_correlation():
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    each = [np.corrcoef(a[:, c].flatten(), b[:, c].flatten())[0, 1] for c in range(3)]
    assert correlation_loss(a, b).item() == pytest.approx(1 - np.mean(each), abs=1e-4)
    assert correlation_loss(a, 7 * a + 5).item() == pytest.approx(0, abs=1e-4)


@given(
    size=st.sampled_from([32, 64, 96]),
    other=st.sampled_from([32, 64, 96, 160]),
    strides=st.sampled_from([(8, 16, 32), (8, 16, 32, 64), (16, 32), (8,)]),
    each=st.integers(1, 3),
)
def test_places_are_the_cells_of_the_nearest_level(size, other, strides, each):
    own = priors([(-(-size // s),) * 2 for s in (8, 16, 32)], (8, 16, 32))
    sizes = [torch.ones(each, 2)] * len(strides)
    others, scale = priors([(-(-other // s),) * 2 for s in strides], strides, sizes), size / other
    found = same_places(own, others, scale)
    assert found.shape == (len(own.strides), each)
    for (x, y), stride, place in zip(own.centers.tolist(), own.strides.tolist(), found.tolist(), strict=True):
        level = min(strides, key=lambda s: (round(abs(math.log(s * scale / stride)), 6), s))
        assert {others.strides[i].item() for i in place} == {level}
        for i in place:
            cx, cy = others.centers[i].tolist()
            inside = all(abs(c - v / scale) <= level / 2 + 1e-3 for c, v in ((cx, x), (cy, y)))
            assert inside or max(x, y) / scale >= other // level * level
    if scale == 1 and strides == (8, 16, 32) and each == 1:
        assert found.squeeze(1).tolist() == list(range(len(found)))


def test_one_anchor_of_a_place_learns_the_box():
    anchors, boxes = torch.rand(6, 4), torch.rand(3, 6, 4)
    anchors[:, 2:] += anchors[:, :2]
    boxes[..., 2:] += boxes[..., :2]
    found = best_anchor(anchors, boxes, 2)
    for image, place in itertools.product(range(3), range(3)):
        ious = []
        for i in (2 * place, 2 * place + 1):
            w, h = (anchors[i, 2:] - anchors[i, :2]).tolist()
            v, g = (boxes[image, i, 2:] - boxes[image, i, :2]).tolist()
            inner = min(w, v) * min(h, g)
            ious.append(inner / (w * h + v * g - inner))
        assert found[image, 2 * place : 2 * place + 2].tolist() == [ious[0] >= ious[1], ious[0] < ious[1]]


def lesson(student, images):
    maps = student.features(images)
    terms = {"box": LossTerm(torch.tensor(8.0), torch.tensor(4.0))}
    return Lesson(images, [], maps, student.forward_head(maps), terms)


@pytest.mark.parametrize("size", [0, 96])
def test_classes_come_by_name_and_the_teacher_has_its_own_size_and_head(size, capsys):
    student = detector("abcd", 0)
    other = {"head": "anchor", "anchors": ANCHORS, "anchors_per_level": 2, "levels": [3, 4, 5]}
    teacher = detector("cxba", 1, **other)
    taught = Distillation(student, teacher, DistillConfig(imgsz=size), tell=True)
    assert (taught.own_labels, taught.labels) == ([0, 1, 2], [3, 2, 0])
    told = capsys.readouterr().err
    assert "does not know d" in told and ("no feature maps" in told) == bool(size)
    terms = taught(student, lesson(student, images_of()))
    assert list(terms) == [f"distill_{n}" for n in ("classes", "box", "regression", "features")[: 3 if size else 4]]
    assert all(term.total > 0 and term.count == 4 for term in terms.values())


def test_a_box_of_a_larger_teacher_comes_in_pixels_of_the_student():
    """The same network sees an image of twice the size, of which each pixel is four: its boxes are half as large."""
    student, teacher = detector("ab", 0, levels=[4]), detector("ab", 0, levels=[4])
    taught = Distillation(student, teacher, DistillConfig(imgsz=128))
    images = images_of(1)
    one = lesson(student, images)
    other = taught._predict(teacher, images)[1]
    boxes, scores = taught._targets(one, other)
    expected, all_scores = teacher.candidates(other)
    place = same_places(one.raw.priors, other.priors, 0.5)[:, 0]
    assert torch.allclose(boxes, expected[:, place] / 2) and torch.equal(scores, all_scores[:, place])


@pytest.mark.parametrize(
    ("names", "kind", "options", "said"),
    [
        ("xy", "yolo", {"width": 16}, "none of the classes"),
        ("ab", "faster_rcnn", {"backbone": "csp_n", "anchors": ANCHORS[:3] * 3}, "no dense head"),
        ("ab", "yolo_obb", {"width": 16}, "oriented"),
    ],
)
def test_a_teacher_that_has_nothing_in_common_is_refused(names, kind, options, said):
    metadata = ModelMetadata(list(names), [1, 2], size=64)
    teacher = build(model_class(kind)(**options), metadata).eval()
    with pytest.raises(UserError, match=said):
        Distillation(detector("ab", 0), teacher, DistillConfig())


@pytest.fixture(scope="module")
def teacher(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_weights(path, detector([*load_data(digits, "train").names, "more"], 1))
    return path


def taught(digits, out, teacher, **changes):
    """Two batches a step, mosaics, sizes that change."""
    more = {"optim": OptimConfig(accumulate=2, warmup=0.5), "augment": AugmentConfig(mosaic_off=1), **changes}
    return settings(digits, out, teacher=str(teacher), **more)


def test_a_taught_run_that_was_killed_ends_as_one_that_was_not(digits, tmp_path, teacher, monkeypatch):
    config = taught(digits, tmp_path / "run", teacher, save_steps=1)
    assert status(doomed, config, "at_step", 4, "die") == -signal.SIGKILL
    fused = json.loads(torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["record"])[FORM]
    monkeypatch.setattr("detect.training.setup.use_fused", lambda _: fused)
    train(taught(digits, tmp_path / "whole", teacher))
    # As a busy machine may measure when the run goes on.
    monkeypatch.setattr("detect.training.setup.use_fused", lambda _: not fused)
    train(dataclasses.replace(config, resume=True))
    found, whole = remains(tmp_path / "run"), remains(tmp_path / "whole")
    assert found == whole
    assert list(whole["teachers"]) == ["distillation.project.0.weight", "distillation.project.0.bias"]
    assert all(row["distill_features"] > 0 and row["distill_box"] > 0 for row in rows(tmp_path / "whole"))
    assert not [name for name in load_weights(tmp_path / "run" / "best.safetensors").state_dict() if "project" in name]
    with pytest.raises(UserError, match=r"of another run: .*weights of the teacher: .* -> unset"):
        train(dataclasses.replace(config, resume=True, teacher="", epochs=4))


def test_flags_of_a_teacher_are_refused_without_one_and_for_other_tasks(digits, capsys):
    flags = ["train", "--data", str(digits)]
    assert main([*flags, "--distill.features", "1"]) == 2
    assert "--distill.features is read with --teacher alone" in capsys.readouterr().err
    assert main([*flags, "--task", "classify", "--teacher", "t.safetensors"]) == 2
    assert "--teacher is for" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_have_the_same_projections(digits, tmp_path, teacher, port):
    config = taught(digits, tmp_path / "run", teacher, batch=2)
    assert together(train_and_tell, config, port) == [0, 0]
    one, two = (torch.load(f"{config.out}-rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
