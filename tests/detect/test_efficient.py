"""MobileNets, EfficientNets and networks of timm."""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

from detect.errors import UserError
from detect.explain.summary import describe
from detect.models.backbones import build_backbone, build_network
from detect.models.backbones.efficientnet import PUBLISHED, compound
from detect.models.backbones.efficientnet_lite import Same

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def test_b0_is_where_compound_scaling_begins():
    assert compound(0) == PUBLISHED["efficientnet_b0"] == (1, 1, 224)


def test_b7_by_the_formula_is_not_b7_as_published():
    width, depth, size = compound(7)
    assert (round(width, 2), round(depth, 2), round(size)) == (1.95, 3.58, 596)
    assert PUBLISHED["efficientnet_b7"] == (2.0, 3.1, 600)


def test_one_more_costs_about_twice():
    """width squared x depth x resolution squared, which the paper held to about 2."""
    once, twice = compound(3), compound(4)
    gains = [b / a for a, b in zip(once, twice, strict=True)]
    assert gains[0] ** 2 * gains[1] * gains[2] ** 2 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_are_scaled_as_published(name):
    """The stem has 32 channels in B0, in eights times the width; its stages 1 to 4 blocks, times the depth."""
    with torch.device("meta"):
        net = build_network(name, 1000)
    width, depth, size = PUBLISHED[name]
    convs = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    assert net.size == size and abs(convs[0].out_channels - 32 * width) <= 4
    blocks = sum(type(module).__name__ == "MBConv" for module in net.modules())
    assert blocks == sum(-(-n * round(10 * depth) // 10) for n in (1, 2, 2, 3, 3, 4, 1))


def test_lite_has_neither_gates_nor_silu():
    lite, b0 = ({row["type"] for row in describe(f"efficientnet_{name}")["layers"]} for name in ("lite0", "b0"))
    assert b0 - lite == {"SiLU", "Sigmoid"} and lite - b0 == {"ReLU6", "Same"}


@pytest.mark.parametrize("side", [8, 9])
def test_what_cannot_be_halved_is_padded_at_the_end(side):
    layer = Same(1, 1, 3, 2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        ramp = torch.arange(1.0, side + 1).expand(1, 1, side, side)
        row = layer(ramp)[0, 0, 1].round(decimals=3).tolist()
    before = 0 if side % 2 == 0 else 1
    padded = [0] * before + list(range(1, side + 1)) + [0, 0]
    assert row == [3 * sum(padded[i : i + 3]) for i in range(0, side + before - 1, 2)]


@pytest.fixture(scope="module")
def published():
    file = DATA / "weights/efficientnet_lite0/efficientnet-lite0-57934424_fp16.pth"
    if not file.exists():
        pytest.skip(f"{file} is not there; set GRIDHEAD_DATA")
    return torch.load(file, weights_only=True)


def test_the_local_imagenet_file_is_lite0(published):
    net, pyramid = build_network("efficientnet_lite0", 1000), build_backbone("efficientnet_lite0")
    assert len(net.renamed(published)) == len(published)
    for taker in (net, pyramid):
        taker.load_state_dict(taker.renamed(published))


PHOTOS = {  # COCO's numbers -> ImageNet's: zebra, teddy, umbrella, toilet seat
    "000000001818": 340,
    "000000000776": 850,
    "000000009448": 879,
    "000000005503": 861,
}


@pytest.mark.parametrize("photo", PHOTOS)
def test_lite0_knows_what_is_in_photos(published, photo):
    file = DATA / f"coco-mini/val2017/{photo}.jpg"
    if not file.exists():
        pytest.skip(f"{file} is not there; set GRIDHEAD_DATA")
    net = build_network("efficientnet_lite0", 1000).eval()
    net.load_state_dict(net.renamed(published))
    with Image.open(file) as image:
        middle = ImageOps.fit(image.convert("RGB"), (net.size, net.size))
    x = torch.from_numpy(np.array(middle)).permute(2, 0, 1)[None].float().sub(127).div(128)
    with torch.no_grad():
        found = net(x).logits.softmax(1)[0]
    assert found.argmax() == PHOTOS[photo] and found.max() > 0.8


@needs_timm
@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:convnext_atto"])
def test_a_network_of_timm_is_a_backbone_like_others(name):
    net = build_backbone(name, in_channels=1, levels=(3, 4, 6)).train()
    assert net.strides == [8, 16, 32]
    maps = net(torch.rand(2, 1, 70, 45))
    assert [tuple(m.shape[1:]) for m in maps] == [
        (c, -(-70 // s), -(-45 // s)) for c, s in zip(net.channels, net.strides, strict=True)
    ]
    sum(m.square().mean() for m in maps).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
    whole = build_network(name, 7, in_channels=1).eval()
    assert whole(torch.rand(2, 1, whole.size, whole.size)).logits.shape == (2, 7)
    assert describe(name)["params"] == sum(row["params"] for row in describe(name)["layers"])


@needs_timm
def test_what_timm_cannot_give_is_the_users_mistake():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build_backbone("timm:resnet19")
    with pytest.raises(UserError, match="unknown network of timm"):
        build_backbone("timm:hf-hub:someone/something")
    with pytest.raises(UserError, match="no convolutional network"):
        build_backbone("timm:swin_tiny_patch4_window7_224")
    with pytest.raises(UserError, match=r"strides \[16\], not \[8\]"):
        build_backbone("timm:vit_tiny_patch16_224")


def test_without_timm_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"backbone timm:resnet18 needs timm: pip install 'gridhead\[timm\]'"):
        build_backbone("timm:resnet18")
