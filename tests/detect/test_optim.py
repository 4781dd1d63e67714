"""Optimizers, schedules and initializations by name, each against its formula."""

import math
from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

from detect.config import OptimConfig
from detect.training.optim import OPTIMIZERS, SCHEDULES, build_optimizer, rate
from tests.reference import optim as naive

DECAY = 0.1


def declared(key):
    return set(get_type_hints(OptimConfig, include_extras=True)[key].__metadata__[0].names)


def test_every_name_that_is_accepted_is_there():
    assert declared("name") == set(OPTIMIZERS) == set(naive.OPTIMIZERS)
    assert declared("schedule") == set(SCHEDULES) == set(naive.SCHEDULES)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_six_steps_of_an_optimizer_are_its_formula(name, momentum):
    """On a bowl, 0.5 * a * (w - 1) ** 2, with weight decay; the bias is not decayed."""
    config = OptimConfig(name=name, lr=0.05, momentum=momentum, weight_decay=DECAY)
    net = nn.Linear(3, 1).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[2.0, -1.0, 0.3]]))
        net.bias.fill_(0.5)
    steepness = torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
    wanted = [
        naive.OPTIMIZERS[name](w, a, 6, 0.05, momentum, decay)
        for w, a, decay in zip([2.0, -1.0, 0.3, 0.5], [1.0, 4.0, 0.5, 2.0], [DECAY] * 3 + [0.0], strict=True)
    ]
    optimizer = build_optimizer(net, config)
    for _ in range(6):
        optimizer.zero_grad()
        (0.5 * (steepness * (net.weight[0] - 1).square()).sum() + (net.bias - 1).square().sum()).backward()
        optimizer.step()
    assert [*net.weight[0].tolist(), net.bias.item()] == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    "shape", [(4, 3, 3, 3), (40, 2, 3, 3), (5, 5, 1, 1), (1, 7, 1, 1), (128, 8, 3, 3), (192, 5, 1, 1)]
)
def test_muon_turns_the_kernels_before_a_normalization(shape):
    """Three steps against the singular values; a kernel with a bias, or in groups, is AdamW's."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(shape[1], shape[0], shape[2], bias=False),
        nn.Conv2d(shape[0], 2, 1),
        nn.Conv2d(2, 2, 1, groups=2, bias=False),
    ).double()
    optimizer = build_optimizer(net, OptimConfig(name="muon", lr=0.05, weight_decay=DECAY))
    turned = [p for group in optimizer.param_groups for p in group["params"] if group.get("orthogonal")]
    assert [id(p) for p in turned] == [id(net[0].weight)]
    before, gradients = net[0].weight.detach().clone(), []
    for _ in range(3):
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        gradients.append(net[0].weight.grad.flatten(1).numpy().copy())
        optimizer.step()
    wanted = naive.muon(before.flatten(1).numpy(), gradients, 0.05, 0.9, DECAY)
    assert np.allclose(net[0].weight.detach().flatten(1).numpy(), wanted, rtol=0, atol=1e-9)


def test_muon_goes_nowhere_without_a_gradient():
    net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False))
    optimizer = build_optimizer(net, OptimConfig(name="muon", weight_decay=0.0))
    before = net[0].weight.detach().clone()
    optimizer.step()  # no gradient at all
    net[0].weight.grad = torch.zeros_like(net[0].weight)
    optimizer.step()  # one of length 0
    assert torch.equal(net[0].weight, before)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("final", [0.25, 0.01])
def test_a_schedule_is_its_formula(name, final):
    config = OptimConfig(schedule=name, final=final, milestones=[0.8, 0.5], gamma=0.3)
    got = [rate(config, step, 20, 120) for step in range(20, 121)]
    wanted = [naive.SCHEDULES[name](step, 20, 120, final, [0.5, 0.8], 0.3) for step in range(20, 121)]
    assert got == pytest.approx(wanted, rel=1e-9)


def test_one_over_t_by_hand():
    """From 1 to a fifth: a half where a quarter of the run is done, for 1 / (1 + 4 / 4)."""
    config = OptimConfig(schedule="1/t", final=0.2)
    assert [rate(config, step, 0, 8) for step in (0, 2, 4, 8)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 5])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_last_rate_of_zero_is_no_trap(name):
    got = [rate(OptimConfig(schedule=name, final=0), step, 0, 10) for step in range(11)]
    assert all(0 <= value <= 1 and math.isfinite(value) for value in got)
