"""Losses against naive twins."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.models.losses.boxes import distribution_loss
from detect.models.losses.classes import cross_entropy, soft_targets, varifocal
from tests.reference import losses as naive

SEEDS = st.integers(0, 2**16)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, count=st.integers(0, 5), bins=st.integers(2, 20))
def test_distribution_loss_is_its_naive_twin(seed, count, bins):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 4, bins, generator=rng, dtype=torch.float64)
    distances = torch.rand(count, 4, generator=rng, dtype=torch.float64) * (bins + 1) - 1  # some beyond the bins
    got = distribution_loss(logits, distances)
    expected = [naive.distribution_loss(a, b) for a, b in zip(logits.tolist(), distances.tolist(), strict=True)]
    assert got.tolist() == pytest.approx(expected, rel=1e-9)


def test_distribution_loss_by_hand():
    """Even logits over four bins: minus log a quarter wherever the border is."""
    got = distribution_loss(torch.zeros(1, 4, 4), torch.tensor([[0.0, 1.5, 2.9, 3.0]]))
    assert got.item() == pytest.approx(math.log(4))


def test_distribution_loss_is_least_at_the_shares_of_the_two_bins():
    distances = torch.full((1, 4), 1.25, dtype=torch.float64)
    best = torch.tensor([1e-12, 0.75, 0.25, 1e-12], dtype=torch.float64).log().expand(1, 4, 4).clone().requires_grad_()
    distribution_loss(best, distances).sum().backward()
    assert best.grad.abs().max() < 1e-9


def test_whole_distances_up_to_the_last_bin_are_finite_in_float32():
    logits = torch.randn(1, 4, 16, requires_grad=True)
    loss = distribution_loss(logits, torch.tensor([[0.0, 15.0, 14.0, 1e9]]))
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 6), classes=st.integers(1, 4))
def test_cross_entropy_is_its_naive_twin(seed, rows, classes):
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, classes, generator=rng, dtype=torch.float64)
    targets = torch.rand(rows, classes, generator=rng, dtype=torch.float64)
    used = torch.rand(rows, generator=rng) < 0.7
    expected = naive.cross_entropy(logits.tolist(), targets.tolist(), used.tolist())
    assert cross_entropy(logits, targets, used).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(logit=st.floats(-9, 9), target=st.just(0.0) | st.floats(0.01, 1))
def test_varifocal_loss_is_its_naive_twin(logit, target):
    got = varifocal(torch.tensor(logit, dtype=torch.float64), torch.tensor(target, dtype=torch.float64))
    assert got.item() == pytest.approx(naive.varifocal(naive.sigmoid(logit), target), rel=1e-6)


def test_what_is_not_used_leaves_no_gradient_not_even_where_it_is_not_finite():
    logits = torch.tensor([[1.0, -2.0], [float("inf"), 0.0]], requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)) + math.log1p(math.exp(-2)))
    assert logits.grad[1].tolist() == [0.0, 0.0]


def test_soft_targets_stand_at_their_places():
    at = (torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3]))
    got = soft_targets(torch.randn(2, 4, 3), at, torch.tensor([1, 0, 2]), torch.tensor([0.25, 1.0, 0.5]))
    expected = torch.zeros(2, 4, 3)
    expected[0, 2, 1], expected[1, 0, 0], expected[1, 3, 2] = 0.25, 1.0, 0.5
    assert torch.equal(got, expected)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert not soft_targets(torch.randn(2, 4, 3), (nothing, nothing), nothing, torch.zeros(0)).any()
