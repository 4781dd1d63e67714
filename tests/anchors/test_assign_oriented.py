"""Assignment of oriented boxes: the task-aligned assigner with their own inside test and overlap."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.assign import PaddedTargets, pad_targets
from anchors.assign.oriented import centered_oriented, oriented_task_aligned
from anchors.assign.targets import centered
from anchors.grid import priors
from anchors.oriented import prob_iou_aligned
from tests.reference import assign as naive


def overlap(a, b):
    return float(prob_iou_aligned(*(torch.tensor(box, dtype=torch.float64) for box in (a, b))))


def around(p, generator, count=1):
    """Predictions near their priors, of any angle: (B, A, 5)."""
    shape = (count, len(p.centers))
    center = p.centers + 3 * torch.randn(*shape, 2, generator=generator)
    sides = p.strides[:, None] * (0.5 + 3 * torch.rand(*shape, 2, generator=generator))
    return torch.cat((center, sides, 7 * torch.rand(*shape, 1, generator=generator) - 3.5), -1).double()


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_equals_naive(seed):
    g, p = torch.Generator().manual_seed(seed), priors([(6, 6), (3, 3)], [8, 16])
    p = type(p)(p.centers.double(), p.strides.double())
    boxes, scores = around(p, g, 2), torch.rand(2, len(p.centers), 2, generator=g, dtype=torch.float64)
    objects = around(p, g, 2)[:, torch.randperm(len(p.centers), generator=g)[:5]]
    objects[:, 0, 3] = 1.0  # narrower than a cell
    valid, crowd = torch.rand(2, 5, generator=g) < 0.8, torch.rand(2, 5, generator=g) < 0.2
    targets = PaddedTargets(objects, torch.randint(2, (2, 5), generator=g), valid, crowd)
    found = oriented_task_aligned()(scores, boxes, p, targets)
    expected = naive.task_aligned(scores, boxes, p, targets, inside=naive.inside_oriented, overlap=overlap)
    for b, (index, weight) in enumerate(expected):
        assert found.index[b].tolist() == index
        assert found.weight[b].tolist() == pytest.approx(weight, abs=1e-9)


@given(st.integers(0, 10**6))
def test_an_upright_box_holds_the_centres_that_it_holds_as_an_oriented_one(seed):
    g = torch.Generator().manual_seed(seed)
    centers, middle = 64 * torch.rand(50, 2, generator=g), 64 * torch.rand(4, 2, generator=g)
    sides, least = 1 + 40 * torch.rand(4, 2, generator=g), torch.tensor(8.0)
    upright = torch.cat((middle - sides / 2, middle + sides / 2), -1)
    oriented = torch.cat((middle, sides, torch.zeros(4, 1)), -1)
    quarter = torch.cat((middle, sides.flip(-1), torch.full((4, 1), -math.pi / 2)), -1)
    for small in (None, least):
        expected = centered(centers, upright, small)
        assert torch.equal(centered_oriented(centers, oriented, small), expected)
        assert torch.equal(centered_oriented(centers, quarter, small), expected)


@given(st.floats(10, 50), st.floats(10, 50), st.floats(-4, 4))
def test_a_box_too_small_for_the_grid_gets_a_prior_at_any_angle(x, y, angle):
    p = priors([(8, 8)], [8])
    box = torch.tensor([[x, y, 3.0, 0.5, angle]])
    boxes = torch.cat((p.centers, torch.full((64, 2), 4.0), torch.zeros(64, 1)), -1)[None]
    targets = pad_targets([(box, torch.zeros(1), torch.zeros(1))])
    index, weight = oriented_task_aligned()(torch.full((1, 64, 1), 0.5), boxes, p, targets)
    assert (index == 0).any() and weight.max() > 0
