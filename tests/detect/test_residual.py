"""Residual networks: torchvision's under its names, and the shortcuts of the paper."""

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

from detect.explain.summary import describe
from detect.models.backbones import build_network
from detect.registry import REGISTRIES

OURS = [name for name in REGISTRIES["backbone"] if name.startswith("resnet") and "_" in name]


def blocks(net):
    return [module for module in net.modules() if isinstance(module, BasicBlock | Bottleneck)]


def meta(name):
    with torch.device("meta"):
        return build_network(name, 1000)


def passes(block, x):
    """What the block gives when all its own convolutions are zero."""
    with torch.no_grad():
        for layer in block.children():
            if isinstance(layer, nn.Conv2d):
                layer.weight.zero_()
        return block.eval()(x)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_under_torchvisions_names_the_numbers_are_torchvisions(name):
    torch.manual_seed(0)
    net, reference = build_network(name, 1000).eval(), getattr(models, name)().eval()
    net.load_state_dict(net.renamed(reference.state_dict()))
    x = torch.rand(2, 3, 75, 98)
    with torch.no_grad():
        assert torch.allclose(net(x).logits, reference(x), rtol=1e-4, atol=1e-4)


def test_with_weights_of_zero_a_block_is_the_identity():
    x = torch.rand(1, 64, 9, 9)
    for name in ("resnet18", "resnet18_identity"):
        assert torch.equal(passes(blocks(build_network(name, 5))[0], x), x)
    assert not passes(blocks(build_network("resnet18_plain", 5))[0], x).any()


def test_the_fixed_shortcut_keeps_every_second_pixel_and_appends_zeros():
    block = blocks(build_network("resnet18_identity", 5))[2]
    x = torch.rand(1, 64, 9, 8)
    out = passes(block, x)
    assert out.shape == (1, 128, 5, 4)
    assert torch.equal(out[:, :64], x[..., ::2, ::2]) and not out[:, 64:].any()


def learned(name):
    return sum(p.numel() for block in blocks(meta(name)) if block.downsample for p in block.downsample.parameters())


def test_who_learns_shortcuts():
    assert learned("resnet34_plain") == learned("resnet34_identity") == 0
    changes = sum(i * o + 2 * o for i, o in ((64, 128), (128, 256), (256, 512)))
    assert learned("resnet34") == changes
    kept = sum(n * (c * c + 2 * c) for c, n in ((64, 3), (128, 3), (256, 5), (512, 2)))
    assert learned("resnet34_projection") == changes + kept


def test_the_plain_network_costs_what_its_residual_twin_costs():
    """The paper: 3.6 billion multiply-adds for both networks of 34 layers."""
    plain, residual = describe("resnet34_plain"), describe("resnet34_identity")
    assert (plain["params"], plain["macs"]) == (residual["params"], residual["macs"])
    assert plain["macs"] == pytest.approx(3.6e9, rel=0.02)
    assert sum(row["type"] in ("Conv2d", "Linear") for row in plain["layers"]) == 34


@pytest.mark.parametrize("name", ["resnet18", "resnet18_identity", "resnet18_projection", "resnet18_plain"])
def test_shortcuts_change_neither_field_nor_stride(name):
    last = [row for row in describe(name)["layers"] if row["type"] == "ReLU"][-1]
    assert (last["field"], last["stride"]) == (435, 32)


@pytest.mark.parametrize(("name", "strided"), [("resnet50", 1), ("resnet50_paper", 0)])
def test_the_place_of_the_stride(name, strided):
    convs = [[layer for layer in block.children() if isinstance(layer, nn.Conv2d)] for block in blocks(meta(name))]
    strides = [[conv.stride[0] for conv in block] for block in convs]
    expected = [1, 1, 1]
    expected[strided] = 2
    assert [block for block in strides if block != [1, 1, 1]] == [expected] * 3


def test_the_papers_place_saves_multiplications():
    """3.8 billion multiply-adds in the paper; torchvision's has 4.1."""
    assert describe("resnet50_paper")["macs"] == pytest.approx(3.8e9, rel=0.02)
    assert describe("resnet50_paper")["params"] == describe("resnet50")["params"]


@pytest.mark.parametrize("name", OURS)
def test_ours_do_not_pretend_to_published_weights(name):
    assert meta(name).names == {}
