"""Rare classes: repeat factors, the order of an epoch, focal and weighted losses of the detector's class term."""

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from detect.data.datasets.detection import CocoDataset
from detect.data.rng import SampleKey
from detect.data.sampling import repeat_factors, repeated
from detect.data.sources.formats import load_data
from detect.models.configs.yolo import YoloLossConfig
from detect.models.losses.classes import BCE, cross_entropy, focal
from detect.registry import REGISTRIES
from detect.training.setup import train, with_weights
from tests.reference import losses as naive_losses
from tests.reference import sampling as naive
from tests.reference.doom import doomed
from tests.reference.runs import MODEL, ready, remains, settings, status

SEEDS = st.integers(0, 2**16)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.3, 1.0])
def test_repeat_factors_are_their_naive_twin(digits, threshold):
    annotations = load_data(digits, "train")
    sets = [set(annotations.target(i).labels[~annotations.target(i).crowd].tolist()) for i in range(len(annotations))]
    assert repeat_factors(annotations, threshold).tolist() == pytest.approx(naive.repeat_factors(sets, threshold))


def test_crowds_and_images_without_objects_want_nothing(digits):
    annotations = load_data(digits, "train")
    empty = dataclasses.replace(annotations, crowd=np.ones_like(annotations.crowd))
    assert repeat_factors(empty, 1.0).tolist() == [1.0] * len(annotations)
    assert repeat_factors(annotations.select([]), 1.0).shape == (0,)


@examples(max_examples=40, deadline=None)
@given(st.lists(st.floats(1, 6), min_size=1, max_size=30), st.integers(0, 9), st.integers(0, 9))
def test_an_image_comes_as_often_as_its_factor_says(factors, seed, epoch):
    order = repeated(np.array(factors), seed)
    got = order(epoch)
    assert len(order) == len(got) and abs(len(got) - sum(factors)) <= 0.5 + 1e-9
    counts, expected = np.bincount(got, minlength=len(factors)), np.array(factors) * len(got) / sum(factors)
    assert (counts >= np.floor(expected - 1e-9)).all() and (counts <= np.ceil(expected + 1e-9)).all()
    assert np.array_equal(repeated(np.array(factors), seed)(epoch), got)


def test_over_many_epochs_the_mean_is_the_factor():
    factors = np.array([1.0, 1.5, 2.25, 1.0, 1.25])
    order = repeated(factors, 3)
    mean = np.mean([np.bincount(order(epoch), minlength=5) for epoch in range(2000)], axis=0)
    assert mean == pytest.approx(factors, abs=0.05)
    assert len({order(epoch).tobytes() for epoch in range(20)}) > 10


def test_samples_come_in_that_order_and_the_epoch_is_as_long(digits):
    annotations = load_data(digits, "train")
    order = repeated(repeat_factors(annotations, 1.0), 0)
    data = CocoDataset(annotations, 64, seed=0, order=order)
    assert len(data) == len(order) > len(annotations)
    for position in (0, len(order) - 1):
        expected = int(annotations.image_ids[order(2)[position]])
        assert data[SampleKey(2, position, 64)][1].image_id == expected


@pytest.mark.slow
def test_a_run_with_repeated_images_resumes_to_the_bit(digits, tmp_path):
    config = settings(digits, tmp_path / "whole", balance="sampling", repeat=1.0, epochs=2)
    train(config)
    again = dataclasses.replace(config, out=str(tmp_path / "again"), save_steps=2)
    assert status(doomed, again, "at_step", 7, "die") == -signal.SIGKILL
    train(dataclasses.replace(again, resume=True))
    assert remains(tmp_path / "again") == remains(tmp_path / "whole")
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] > 4  # 16 images alone are 4 steps


@examples(max_examples=40, deadline=None)
@given(SEEDS, st.integers(0, 6), st.integers(1, 4))
def test_focal_loss_of_hard_targets_is_its_naive_twin(seed, rows, classes):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    targets = (torch.rand(rows, classes, generator=rng) < 0.3).double()
    expected = [naive.focal(x, t) for x, t in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True)]
    assert focal(logits, targets).flatten().tolist() == pytest.approx(expected, rel=1e-9)


def test_focal_loss_of_a_soft_target_is_least_at_the_target():
    for target in (0.2, 0.7):
        logits = torch.linspace(-6, 6, 2401, dtype=torch.float64)
        losses = focal(logits, torch.full_like(logits, target))
        assert logits[losses.argmin()].sigmoid().item() == pytest.approx(target, abs=2e-3)


@examples(max_examples=20, deadline=None)
@given(SEEDS, st.integers(0, 5), st.integers(1, 4))
def test_class_weights_weigh_each_class(seed, rows, classes):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    targets = torch.rand(rows, classes, generator=rng, dtype=torch.float64)
    weights = torch.rand(classes, generator=rng, dtype=torch.float64)
    used = torch.rand(rows, generator=rng) < 0.7
    expected = sum(
        weights[c].item()
        * naive_losses.cross_entropy(logits[:, c : c + 1].tolist(), targets[:, c : c + 1].tolist(), used.tolist())
        for c in range(classes)
    )
    assert cross_entropy(logits, targets, used, BCE, weights).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_balanced_weights_of_a_detector_are_one_over_the_size_of_the_class(digits, tmp_path):
    annotations = load_data(digits, "train")
    config = with_weights(settings(digits, tmp_path, balance="weights"), annotations)
    counts = np.bincount(annotations.labels[~annotations.crowd], minlength=len(annotations.names))
    weights = np.array(config.model.loss.class_weights)
    assert (weights * counts)[counts > 0] == pytest.approx(counts.sum() / (counts > 0).sum())
    assert (weights * counts).sum() == pytest.approx(counts.sum())


@pytest.mark.parametrize("kind", REGISTRIES["loss.class"])
def test_the_class_term_of_a_detector_is_that_loss(digits, tmp_path, monkeypatch, kind):
    loss = YoloLossConfig(class_kind=kind, class_weights=[2.0] * 10)
    config = settings(digits, tmp_path, model=dataclasses.replace(MODEL, loss=loss))
    model = ready(config, monkeypatch).run.model.eval()
    plain = ready(settings(digits, tmp_path / "b", model=MODEL), monkeypatch).run.model.eval()
    plain.load_state_dict(model.state_dict())
    annotations = load_data(digits, "train")
    image, target = CocoDataset(annotations, 64).sample(0)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.no_grad():
        terms, others = model.loss(model(x), [target]), plain.loss(plain(x), [target])
    assert torch.equal(terms["box"].total, others["box"].total)
    ratio = (terms["classes"].total / others["classes"].total).item()
    assert ratio == pytest.approx(2.0) if kind == "bce" else 0 < ratio < 1
