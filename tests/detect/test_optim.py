"""Optimizers, schedules and initializations by name, each against its formula."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch import nn

from detect.__main__ import main
from detect.cli.parser import parse
from detect.config.optim import OptimConfig, optimizer_defaults, with_defaults
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.training.optim import build_optimizer
from detect.training.schedules import lr_factor
from tests.reference import optim as naive

DECAY = 0.1
OPTIMIZERS, SCHEDULES = REGISTRIES["optimizer"], REGISTRIES["schedule"]


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
    expected = [
        naive.OPTIMIZERS[name](w, a, 6, 0.05, momentum, decay)
        for w, a, decay in zip([2.0, -1.0, 0.3, 0.5], [1.0, 4.0, 0.5, 2.0], [DECAY] * 3 + [0.0], strict=True)
    ]
    optimizer = build_optimizer(net, config)
    for _ in range(6):
        optimizer.zero_grad()
        (0.5 * (steepness * (net.weight[0] - 1).square()).sum() + (net.bias - 1).square().sum()).backward()
        optimizer.step()
    assert [*net.weight[0].tolist(), net.bias.item()] == pytest.approx(expected, rel=1e-6)


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
    expected = naive.muon(before.flatten(1).numpy(), gradients, 0.05, 0.9, DECAY)
    assert np.allclose(net[0].weight.detach().flatten(1).numpy(), expected, rtol=0, atol=1e-9)


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
    got = [lr_factor(config, step, 20, 120) for step in range(20, 121)]
    expected = [naive.SCHEDULES[name](step, 20, 120, final, [0.5, 0.8], 0.3) for step in range(20, 121)]
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["exponential", "1/t"])
@pytest.mark.parametrize("constant", [1.5, 20.0])
def test_a_schedule_in_epochs_is_its_formula(name, constant):
    """Ten epochs of 12 steps, after a warm-up; how long the run is makes no difference."""
    config = OptimConfig(schedule=name, decay_epochs=constant)
    got = [lr_factor(config, step, 20, 120, 12) for step in range(20, 121)]
    expected = [naive.SCHEDULES[name](step, 20, 120, 0.01, [], 1, 12, constant) for step in range(20, 121)]
    assert got == pytest.approx(expected, rel=1e-9)
    assert got[:40] == pytest.approx([lr_factor(config, step, 20, 9000, 12) for step in range(20, 60)])


def test_schedules_in_epochs_by_hand():
    """Of two epochs: a tenth, and a half."""
    for name, share in (("exponential", 0.1), ("1/t", 0.5)):
        config = OptimConfig(schedule=name, decay_epochs=2)
        assert lr_factor(config, 10, 0, 100, 5) == pytest.approx(share)


def test_one_over_t_by_hand():
    """From 1 to a fifth: a half where a quarter of the run is done, for 1 / (1 + 4 / 4)."""
    config = OptimConfig(schedule="1/t", final=0.2)
    assert [lr_factor(config, step, 0, 8) for step in (0, 2, 4, 8)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 5])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_last_rate_of_zero_is_reached_at_the_end_or_refused(name):
    config = OptimConfig(schedule=name, final=0)
    if name in ("exponential", "1/t"):
        with pytest.raises(UserError, match=rf"--optim.final 0: a rate that falls by {name} never reaches 0"):
            with_defaults(config)
        assert with_defaults(replace(config, decay_epochs=3)).decay_epochs == 3
        return
    got = [lr_factor(with_defaults(config), step, 0, 10) for step in range(11)]
    assert all(0 <= value <= 1 and math.isfinite(value) for value in got) and got[5] > 0
    assert (got[10] == pytest.approx(0, abs=1e-9)) == (name in ("cosine", "linear"))


def test_what_is_unset_is_the_optimizers_own():
    for name in OPTIMIZERS:
        defaults = optimizer_defaults(name)
        got = parse("train", ["--data", "toy", "--optim.name", name]).optim
        assert (got.lr, got.momentum, got.weight_decay) == defaults
        assert with_defaults(got) == got
    got = parse("train", ["--data", "toy", "--optim.name", "adam", "--optim.lr", "3", "--optim.weight_decay", "0.5"])
    assert (got.optim.lr, got.optim.momentum, got.optim.weight_decay) == (3, 0.9, 0.5)
    assert optimizer_defaults("muon") == (0.002, 0.9, 0.05)


def test_help_and_page_tell_every_default(capsys):
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "optimizers.md").read_text(encoding="utf-8")
    for name in OPTIMIZERS:
        lr, momentum, decay = optimizer_defaults(name)
        plain = "-" if momentum is None else f"{momentum:g}"
        assert main(["train", "--optim.name", name, "--help"]) == 0
        line = next(one for one in capsys.readouterr().out.splitlines() if "--optim.lr " in one)
        assert f"default {lr:g}" in line
        assert f"| `{name}` | {lr:g} | {plain} | {decay:g} |" in page


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--optim.name sgd --optim.momentum 0.5", r"--optim\.momentum is read with --optim\.name momentum or"),
        ("--optim.decay_epochs 3", r"--optim\.decay-epochs is read with --optim\.schedule exponential or 1/t alone"),
        ("--optim.schedule constant --optim.final 0.5", r"--optim\.final is read with"),
        ("--optim.gamma 0.5", r"--optim\.gamma is read with --optim\.schedule piecewise"),
        ("--optim.lr abc", r"--optim\.lr is 'abc': it must be a number"),
        ("--optim.schedule 1/t --optim.final 0", "never reaches 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        parse("train", ["--data", "toy", *flags.split()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_gets_gradients_late_is_optimized_from_then_on(name):
    """As its formula says, from its first gradient on; also where the run is resumed before, at or after that step."""

    def steps(net, optimizer, begin, end):
        for step in range(begin, end):
            optimizer.zero_grad()
            loss = 0.5 * (net[0].weight - 1).square().sum()
            (loss + (0.5 * (net[1].weight - 1).square().sum() if step >= 2 else 0)).backward()
            optimizer.step()

    expected = [naive.OPTIMIZERS[name](0.3, 1.0, n, 0.05, 0.9, DECAY) for n in (6, 4)]
    for stop in range(7):
        net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
        for layer in net:
            nn.init.constant_(layer.weight, 0.3)
        config = OptimConfig(name=name, lr=0.05, momentum=0.9, weight_decay=DECAY)
        optimizer = build_optimizer(net, config)
        steps(net, optimizer, 0, stop)
        again = build_optimizer(net, config)
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        steps(net, again, stop, 6)
        assert [layer.weight.item() for layer in net] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_with_its_defaults(name):
    """Three coloured noises, told apart by a convolution and a dense layer; the loss begins at ln 3."""
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(16)
    images = torch.randn(48, 3, 8, 8) + 2 * torch.eye(3)[labels][:, :, None, None]
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).append(nn.Linear(8, 3))
    optimizer = build_optimizer(net, OptimConfig(name=name))
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * math.log(3)


def test_what_a_plugin_registers_is_chosen_with_its_own_defaults_and_options(monkeypatch):
    """An optimizer without weight decay, and a schedule that reads `gamma` alone."""

    def plain(groups, lr=0.3, momentum=0.5):
        return torch.optim.SGD(groups, lr, momentum)

    def steps(at, gamma):
        return gamma**at.epochs

    for kind, entry in (("optimizer", plain), ("schedule", steps)):
        monkeypatch.setitem(REGISTRIES[kind]._entries, entry.__name__, entry)
    flags = ["--data", "toy", "--optim.name", "plain", "--optim.schedule", "steps"]
    config = parse("train", [*flags, "--optim.gamma", "0.5"]).optim
    assert (config.lr, config.momentum, config.weight_decay) == (0.3, 0.5, 0.0)
    assert build_optimizer(nn.Linear(2, 1), config).defaults["momentum"] == 0.5
    assert lr_factor(config, 20, 0, 100, 10) == 0.25
    with pytest.raises(UserError, match=r"--optim\.final is read with --optim\.schedule exponential or 1/t or cosine"):
        parse("train", [*flags, "--optim.final", "0.5"])
