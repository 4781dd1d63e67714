"""Classifiers from data to answer: model, loss, measures, commands."""

import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import detect
from detect.__main__ import main
from detect.api import Detector
from detect.cli.parser import parse
from detect.config.constraints import check
from detect.config.train import OptimConfig
from detect.data.annotations import Annotations
from detect.data.datasets.crops import Crops
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.evaluation.classification import ClassEvaluator
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.classifier import top_classes
from detect.models.configs.classifier import ClassifierConfig, ClassifierLossConfig
from detect.models.losses.classes import softmax_cross_entropy
from detect.models.weights import load_weights, save_weights
from detect.training.setup import train, with_weights
from detect.types import Classification, Postprocess, Target
from tests.reference import classes as naive
from tests.reference.doom import doomed
from tests.reference.marks import slowly
from tests.reference.runs import remains, rows, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=64)
LENET = ClassifierConfig(name="lenet5", backbone="lenet5")
EMPTY = Annotations(
    *(Path("ground_truth.json"), Path("."), np.zeros(0, np.int64), np.zeros((0, 2), np.int32), np.zeros(1, np.int64)),
    *(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0), np.zeros(0, np.int64), None),
    *(np.arange(1), ["a"], np.zeros(0, np.uint8), np.zeros(1, np.int64)),
)
CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]


def whole(backbone: str, **changes) -> ClassifierConfig:
    return ClassifierConfig(name=backbone, backbone=backbone, **changes)


def images(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def target(label: int | None) -> Target:
    n = int(label is not None)
    return Target(torch.zeros(n, 4), torch.full((n,), label or 0), torch.zeros(n, dtype=torch.bool), 0, (64, 64))


def small(data, out, **changes):
    """A classifier's run of 3 epochs of 12 steps or so."""
    return settings(data, out, **{"task": "classify", "model": LENET, "batch": 8, "multi_scale": 0.0, **changes})


@given(st.integers(1, 6), st.integers(2, 5), st.sampled_from([0.0, 0.1, 0.9]), st.integers(0, 99))
def test_cross_entropy_is_that_of_the_naive_twin(n, c, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, labels, weight = rng.normal(0, 4, (n, c)), rng.integers(c, size=n), rng.random(n)
    expected = sum(
        w * naive.cross_entropy(row, label, smoothing)
        for row, label, w in zip(logits.tolist(), labels.tolist(), weight.tolist(), strict=True)
    )
    got = softmax_cross_entropy(*map(torch.from_numpy, (logits, labels, weight)), smoothing)
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["lenet5", "googlenet", "resnet18", "mobilenet_v3_small"])
def test_a_network_trains_answers_and_is_kept(name, tmp_path):
    torch.manual_seed(0)
    model = build(whole(name), CARD).train()
    targets = [target(0), target(2)]
    terms = model.loss(model(images()), targets)
    assert set(terms) == ({"classes", "aux"} if name == "googlenet" else {"classes"})
    assert all(t.count == 2 for t in terms.values())
    sum(t.total for t in terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    save_weights(tmp_path / "w.safetensors", model)
    again = load_weights(tmp_path / "w.safetensors")
    with torch.no_grad():
        expected = model.scores(model(images()))
        assert torch.equal(again.scores(again(images())), expected)
        fused = again.fused()
        raw = fused(images())
    assert raw.aux == () and len(fused.network.aux) == 0 and len(again.network.aux) == len(model.network.aux)
    assert torch.allclose(fused.scores(raw), expected, atol=1e-4)
    answers = fused.postprocess(raw, Postprocess(score=0.0))
    assert [len(a) for a in answers] == [3, 3]
    assert all(a.labels[0] == s.argmax() for a, s in zip(answers, expected, strict=True))


def test_published_padding_on_too_small_images_is_one_line():
    with pytest.raises(UserError, match=r"nin as published does not run on 32 px: take --imgsz 224, or .* same"):
        build(whole("nin", padding="paper"), dataclasses.replace(CARD, size=32))
    assert build(whole("lenet5", padding="paper"), dataclasses.replace(CARD, size=30))
    with pytest.raises(UserError, match="unknown value of padding 'valid'"):
        check(whole("lenet5", padding="valid"), "")


def test_a_size_too_small_for_the_weights_is_one_line():
    metadata = dataclasses.replace(CARD, size=224)
    detector = Detector(build(whole("nin"), metadata), torch.device("cpu"), torch.float32)
    assert detector.side(0) == 224 and detector.side(256) == 256 and detector.side(200) == 200
    with pytest.raises(UserError, match="nin as published does not run on 16 px: take --imgsz 224"):
        detector.predictor(Postprocess(), 16)


def test_class_weights_weigh_and_images_without_label_cost_nothing():
    model = build(whole("lenet5", loss=ClassifierLossConfig(class_weights=[1.0, 2.0, 4.0])), CARD).eval()
    x = images(3)
    raw = model(x)
    one, all_of = (
        model.loss(raw, [target(2), target(None), target(None)]),
        model.loss(raw, [target(i) for i in (2, 0, 1)]),
    )
    assert one["classes"].count == 4 and all_of["classes"].count == 7
    each = [naive.cross_entropy(row, label, 0.0) for row, label in zip(raw.logits.tolist(), (2, 0, 1), strict=True)]
    assert one["classes"].total.item() == pytest.approx(4 * each[0], rel=1e-5)
    expected = 4 * each[0] + each[1] + 2 * each[2]
    assert all_of["classes"].total.item() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="2 weights for 3 classes"):
        build(whole("lenet5", loss=ClassifierLossConfig(class_weights=[1.0, 2.0])), CARD)


def test_best_keeps_the_first_and_what_scores_enough():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.4, 0.3, 0.3]])
    assert [a.labels.tolist() for a in top_classes(scores, Postprocess(score=0.5))] == [[2], [0]]
    assert [a.labels.tolist() for a in top_classes(scores, Postprocess(score=0.15))] == [[2, 1], [0, 1, 2]]
    assert [a.labels.tolist() for a in top_classes(scores, Postprocess(score=0.0, classes=(0, 1)))] == [[1, 0], [0, 1]]
    assert top_classes(scores[:0], Postprocess()) == []


@given(st.data())
def test_measures_are_those_of_the_naive_twin(data):
    c = data.draw(st.integers(2, 8))
    n = data.draw(st.integers(1, 20))
    ground_truth = data.draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    answers = [data.draw(st.permutations(range(c)))[:5] for _ in range(n)]
    names = [f"c{i}" for i in range(c)]
    annotations = dataclasses.replace(EMPTY, names=names)
    crops = Crops(annotations, np.zeros(n, np.int64), np.zeros((n, 4)), np.array(ground_truth), np.arange(n) + 5)
    parts = [ClassEvaluator(crops) for _ in range(3)]
    for part, evaluator in enumerate(parts[:2]):  # as two ranks do
        ours = range(part, n, 2)
        found = [Classification(torch.zeros(len(answers[i])), torch.tensor(answers[i])) for i in ours]
        evaluator.update([i + 5 for i in ours], found)
        parts[2].extend(evaluator.records())
    result = parts[2].result()
    top1, top5, balanced, confusion = naive.measure(ground_truth, answers, c)
    assert (result["top1"], result["top5"]) == (pytest.approx(top1), pytest.approx(top5))
    assert result["balanced"] == pytest.approx(balanced)
    assert result["confusion"] == {"names": names, "counts": confusion}
    for i, name in enumerate(names):
        row, count = result["per_class"][name], ground_truth.count(i)
        assert row["count"] == count and row["recall"] == (pytest.approx(confusion[i][i] / count) if count else None)
    json.dumps(result)
    with pytest.raises(ValueError, match="twice"):
        parts[2].extend(parts[0].records())
    with pytest.raises(ValueError, match="not known"):
        parts[2].update([1], [Classification(torch.ones(1), torch.zeros(1, dtype=torch.int64))])
    assert ClassEvaluator(crops).result()["top1"] == -1


@pytest.mark.parametrize("fate", [("at_step", 16, "die"), *slowly(("half_written", 2), ("in_evaluation", 1, "die"))])
def test_a_classifier_killed_and_resumed_is_as_never_killed(digits, tmp_path, undisturbed, fate):
    config = small(digits, tmp_path / "run", balance="sampling", save_steps=5)
    assert status(doomed, config, *fate) == -signal.SIGKILL
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == undisturbed


@pytest.fixture(scope="module")
def undisturbed(one_thread, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    train(small(digits, out, balance="sampling", save_steps=5))
    assert {"classes", "top1", "top5", "balanced"} <= rows(out)[0].keys()
    return remains(out)


def test_balance_weighs_by_one_over_the_size_of_a_class(digits, tmp_path):
    annotations = load_data(digits, "train")
    config = with_weights(small(digits, tmp_path, balance="weights"), annotations)
    weights, counts = np.array(config.model.loss.class_weights), Crops.of(annotations).counts
    assert (weights * counts).sum() == pytest.approx(counts.sum())
    assert np.ptp((weights * counts)[counts > 0]) < 1e-9
    train(dataclasses.replace(config, epochs=1))
    assert load_weights(tmp_path / "best.safetensors").config.loss.class_weights == weights.tolist()


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A folder of two classes that a network learns at once."""
    root, rng = tmp_path_factory.mktemp("colours") / "f", np.random.default_rng(0)
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (root / name).mkdir(parents=True)
        for i in range(20):
            noisy = np.clip(np.array(colour) + rng.normal(0, 20, (20, 30, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / name / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def weights(one_thread, colours, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(small(colours, out, epochs=6, imgsz=32, optim=OptimConfig(lr=0.01, warmup=1)))


def test_the_commands_from_a_folder_to_classes(colours, weights, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--imgsz", "32", "--epochs", "1", "--batch", "8", "--model", "lenet5", *CPU]
    assert main(["train", "--task", "classify", "--data", str(colours), "--out", str(out), *flags]) == 0
    said = capsys.readouterr()
    assert "top1" in said.out and "a fifth of each class" in said.err
    assert main(["train", "--config", str(out / "config.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (out / "best.safetensors").read_bytes()
    capsys.readouterr()
    source = ["--source", str(colours / "red"), "--out", str(tmp_path / "p"), "--device", "cpu"]
    assert main(["predict", "--weights", str(weights), *source]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 21 and said[0].startswith("00.png: red ") and said[-1].startswith("20 frames: 20 red")
    found = json.loads((tmp_path / "p" / "classes.json").read_text())
    assert {r["category"] for r in found} == {"red"} and "bbox" not in found[0]
    image = np.array(Image.open(tmp_path / "p" / "00.png"))
    assert not np.array_equal(image, np.array(Image.open(colours / "red" / "00.png")))
    (frame, answer), *_ = detect.load(weights, device="cpu").predict(str(colours / "blue"), conf=0.0)
    assert isinstance(answer, Classification) and len(answer) == 2 and answer.labels[0] == 0 and frame.name == "00.png"


def test_training_and_evaluate_agree_and_equal_members_change_nothing(colours, weights, tmp_path, capsys):
    plain = ["evaluate", "--weights", str(weights), "--data", str(colours), *CPU]
    assert main([*plain, "--json", str(tmp_path / "1.json")]) == 0
    one = json.loads((tmp_path / "1.json").read_text())
    best_row = max(rows(weights.parent), key=lambda row: (row["top1"], row["epoch"]))
    assert one["top1"] == best_row["top1"] == 1.0
    several = ["evaluate", "--weights", str(weights), str(weights), "--data", str(colours), *CPU]
    for extra in ([], ["--crops", "10"]):
        assert main([*several, *extra, "--json", str(tmp_path / "2.json")]) == 0
        found = json.loads((tmp_path / "2.json").read_text())
        if extra:  # crops give the same classes by other scores
            del found["calibration"], one["calibration"]
        assert found == one
    assert "red" in capsys.readouterr().out
    other = tmp_path / "other.safetensors"
    model = load_weights(weights)
    model.metadata = dataclasses.replace(model.metadata, names=["blue", "green"])
    save_weights(other, model)
    assert main(["evaluate", "--weights", str(weights), str(other), "--data", str(colours), *CPU]) == 2
    assert "cannot be averaged" in capsys.readouterr().err
    result = detect.evaluate(weights=other, data=colours, workers=0, device="cpu")
    assert result["confusion"]["names"] == ["blue", "red", "green"] and result["top1"] == 0.5
    assert "lack, counted as missed: red" in capsys.readouterr().err


def test_a_calibrated_classifier_has_other_confidences_and_the_same_classes(colours, weights, tmp_path, capsys):
    plain, out = ["--data", str(colours), "--resamples", "0", *CPU], tmp_path / "c.safetensors"
    model = load_weights(weights)
    with torch.no_grad():
        [*model.parameters()][-1][0] += 3  # some are wrong, so that there is something to learn
    save_weights(tmp_path / "odd.safetensors", model)
    odd, told = str(tmp_path / "odd.safetensors"), []
    assert main(["evaluate", "--weights", odd, *plain, "--save-calibration", str(out), "--crops", "10"]) == 2
    assert "leave --crops 10 out" in capsys.readouterr().err
    assert main(["evaluate", "--weights", odd, *plain, "--save-calibration", str(out)]) == 0
    for one in (odd, str(out)):
        assert main(["evaluate", "--weights", one, *plain, "--json", str(tmp_path / "r.json")]) == 0
        told.append(json.loads((tmp_path / "r.json").read_text()))
    before, after = told
    assert all(before[name] == after[name] for name in ("top1", "top5", "confusion"))
    temperature = load_weights(out).metadata.calibration.temperatures[0]
    image = colours / "red" / "00.png"
    raw, found = (detect.load(one, "cpu").predict(image, conf=0)[0][1] for one in (odd, str(out)))
    logits = raw.scores.log() / temperature
    assert found.scores.tolist() == pytest.approx(logits.softmax(0).tolist(), abs=1e-4) and temperature != 1
    assert found.labels.tolist() == raw.labels.tolist()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--data", "{d}", "--out", "{o}", "--task", "detect", "--model", "lenet5"], "--task is detect"),
        (["train", "--data", "{d}", "--out", "{o}", "--task", "classify", "--model", "yolo_n"], "is for --task detect"),
        (
            ["train", "--data", "{d}", "--out", "{o}", "--task", "classify", "--model", "lenet6"],
            "did you mean 'lenet5'",
        ),
        (["train", "--data", "{c}", "--out", "{o}"], "--task classify"),
        (["train", "--data", "{c}/red", "--out", "{o}", "--task", "classify"], "not a dataset in a known format"),
        (["evaluate", "--data", "{d}", "--weights", "{w}"], "none of the classes"),
        (["evaluate", "--data", "{c}", "--weights", "{w}", "--crops", "11"], "--crops is 11"),
        (["predict", "--source", "{c}", "--weights", "{w}", "--out", "{o}", "--save-txt"], "--save-txt is for detec"),
        (["evaluate", "--data", "{c}", "--weights", "{w}", "--detections", "d.json"], "--detections is for detectors"),
    ],
)
def test_every_mistake_is_one_line(colours, weights, digits, tmp_path, capsys, arguments, named):
    extra = ["--workers", "0"] if arguments[0] != "predict" else []
    given = [a.format(c=colours, d=digits, w=weights, o=tmp_path / "o") for a in [*arguments, *extra]]
    assert main(given) == 2
    err = capsys.readouterr().err
    assert named in err and err.count("\n") == 1, err


def test_what_a_task_means_where_nothing_else_is_said(tmp_path):
    got = parse("train", ["--data", "toy", "--task", "classify"])
    assert (got.model.kind, got.model.backbone, got.imgsz) == ("classifier", "resnet18", 224)
    got = parse("train", ["--data", "toy", "--model", "lenet5"])
    assert (got.task, got.model.kind, got.imgsz) == ("classify", "classifier", 224)
    got = parse("train", ["--data", "toy"])
    assert (got.task, got.model.kind, got.imgsz) == ("detect", "yolo", 640)
    got = parse("train", ["--imgsz=96", "--data", "toy", "--task=classify", "--model", "alexnet"])
    assert (got.model.backbone, got.imgsz) == ("alexnet", 96)
    (tmp_path / "c.yaml").write_text("imgsz: 128\nmodel: {kind: classifier, name: nin, backbone: nin}\n")
    got = parse("train", ["--data", "toy", "--task", "classify", "--config", str(tmp_path / "c.yaml")])
    assert (got.model.backbone, got.imgsz) == ("nin", 128)
