"""One contract for every registered network, as a pyramid under a detector and whole; and the figures of the papers."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from detect.errors import UserError
from detect.models.backbones import build_backbone, build_network
from detect.models.backbones.base import Logits, initialized
from detect.models.backbones.conv_windows import padded, side_after
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloConfig
from detect.models.necks import build_neck
from detect.models.weights import transfer
from detect.registry import REGISTRIES
from tools import backbones

BACKBONES = REGISTRIES["backbone"]
SMALLEST = [*backbones.SMALLEST, "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0", "resnet18_identity"]
DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
CARD = ModelMetadata(["a", "b"], [1, 2], size=64)


def ceil(side, stride):
    return -(-side // stride)


@pytest.fixture
def shapes_alone(monkeypatch):
    """On the meta device most time goes to batch normalization, which changes no shape."""
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)
    with torch.device("meta"), torch.no_grad():
        yield


@pytest.mark.parametrize("name", BACKBONES)
def test_a_detector_stands_on_every_network(name, shapes_alone):
    model = build(YoloConfig(backbone=name, width=16), CARD).eval()
    raw = model(torch.empty(1, 3, 64, 64, dtype=torch.uint8))
    assert raw.logits.shape == (1, 8 * 8 + 4 * 4 + 2 * 2, 2)
    maps = model.backbone(torch.empty(1, 3, 97, 131))
    assert [m.shape[1] for m in maps] == model.backbone.channels
    assert [tuple(m.shape[2:]) for m in maps] == [(ceil(97, s), ceil(131, s)) for s in model.backbone.strides]


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_is_a_classifier(name, shapes_alone):
    net = build_network(name, 7, in_channels=1).eval()
    image = torch.empty(1, 1, net.size, net.size)
    seen = []
    net.head[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0].shape[1]))
    found = net(image)
    assert found.logits.shape == (1, 7) and seen == [net.width]
    assert len(found.aux) == len(net.aux) and all(aux.shape == (1, 7) for aux in found.aux)
    assert set(net.names) in (set(), set(net.state_dict()))


TORCHVISIONS = ({*models.list_models(module=models)} & {*SMALLEST, "vgg11_bn", "inception_v3"}) - {
    "alexnet",
    "googlenet",
}


@pytest.mark.parametrize("name", sorted(TORCHVISIONS))
def test_published_names_are_torchvisions(name):
    with torch.device("meta"):
        net = build_network(name, 1000)
        reference = getattr(models, name)(**{"init_weights": False} if name == "inception_v3" else {})
    assert sorted(net.names.values()) == sorted(reference.state_dict())


def backward(net, x):
    out = net(x)
    sum((m * torch.linspace(-1, 1, m.shape[1]).view(-1, *[1] * (m.ndim - 2))).sum() for m in out).backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert still == []
    return out


@pytest.mark.parametrize("name", SMALLEST)
def test_a_pyramid_runs_in_every_form(name):
    torch.manual_seed(0)
    net = build_backbone(name, in_channels=1).train()
    x = torch.rand(2, 1, 65, 97).to(memory_format=torch.channels_last)
    trained = backward(net, x)
    assert type(trained) is type(net.eval()(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert {m.dtype for m in net(x)} == {torch.bfloat16}
    again = build_backbone(name, in_channels=1).eval()
    again.load_state_dict(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again(x), net(x), strict=True))


@pytest.mark.parametrize("name", [name for name in SMALLEST if name != "vgg11"])  # 0.5 GB of dense layers
def test_a_network_runs_in_every_form(name):
    torch.manual_seed(0)
    net = build_network(name, 5, in_channels=1, padding="same").train()
    x = torch.rand(4, 1, 97, 65).to(memory_format=torch.channels_last)
    found = net(x)
    assert isinstance(found, Logits)
    losses = [nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])) for logits in (found.logits, *found.aux)]
    sum(losses).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    net.eval()
    whole = net(x)
    assert isinstance(whole, Logits) and len(whole.aux) == len(found.aux)
    assert torch.equal(net.head(net.features(x)), whole.logits)
    net.drop_aux()
    assert torch.equal(net(x).logits, whole.logits) and net(x).aux == ()
    with torch.autocast("cpu", torch.bfloat16):
        assert net(x).logits.isfinite().all()


def sides(net, size, in_channels=3):
    with torch.device("meta"):
        x, out = torch.empty(1, in_channels, size, size), []
        for stage in net.stages:
            x = stage(x)
            out.append((x.shape[1], x.shape[2]))
    return out


def weights(module):
    return sum(p.numel() for p in module.parameters())


def meta(name, classes, **options):
    with torch.device("meta"):
        return build_network(name, classes, **options).eval()


def dense(net):
    layers = [layer for layer in (*net.neck, *net.head) if isinstance(layer, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def test_lenet_of_the_course():
    net = meta("lenet5", 10, in_channels=1)
    assert sides(net, 32, 1) == [(6, 28), (16, 10), (16, 5)]
    assert side_after(28, net.stages[1][0]) == 14
    assert dense(net) == [400, 120, 84, 10]
    assert weights(net) == 61706


def test_alexnet_of_the_course():
    net = meta("alexnet", 1000)
    assert sides(net, 227) == [(96, 55), (256, 27), (256, 13), (256, 6)]
    assert [m.out_channels for m in net.stages.modules() if isinstance(m, nn.Conv2d)] == [96, 256, 384, 384, 256]
    assert dense(net) == [9216, 4096, 4096, 1000]
    assert weights(net) == 62_378_344


def test_vgg_of_the_course():
    net = meta("vgg16", 1000)
    assert sides(net, 224) == [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14), (512, 7)]
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == 16
    assert weights(net) == 138_357_544


def test_googlenet_of_the_course():
    net = meta("googlenet", 1000)
    block = net.stages[2][1]
    with torch.device("meta"):
        assert block(torch.empty(1, 192, 28, 28)).shape == (1, 256, 28, 28)
    branch = [m for m in block.branches[2].modules() if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size for m in branch] == [(1, 1), (5, 5)]
    assert [m.weight.numel() * 28 * 28 for m in branch] == [2_408_448, 10_035_200]
    assert sides(net, 224) == [(64, 112), (192, 56), (480, 28), (512, 14), (528, 14), (832, 14), (1024, 7)]
    with_aux = weights(net)
    net.drop_aux()
    norms = sum(weights(m) for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    # 6,998,552 weights and biases in the paper's network; normalization has two numbers where that has a bias.
    assert weights(net) - norms // 2 == 6_998_552 and with_aux > weights(net)


def test_nin_and_squeezenet_shapes():
    assert sides(meta("nin", 1000), 224) == [(96, 54), (256, 27), (384, 13), (1024, 6)]
    assert sides(meta("squeezenet1_1", 1000), 224) == [(64, 111), (128, 55), (256, 27), (512, 13)]


@pytest.mark.parametrize("name", ["vgg11_bn", "squeezenet1_1", "inception_v3"])
def test_torchvisions_weights_give_torchvisions_numbers(name):
    torch.manual_seed(0)
    net = build_network(name, 1000).eval()
    net.drop_aux()
    options = {"init_weights": False, "transform_input": False} if name == "inception_v3" else {}
    reference = getattr(models, name)(**options).eval()
    taken, left, _ = transfer(net, net.renamed(reference.state_dict()))
    assert left == {} and set(taken) == set(net.state_dict())
    x = torch.rand(1, 3, 107, 139)
    with torch.no_grad():
        assert torch.allclose(net(x).logits, reference(x), atol=1e-5)


def test_published_colour_filters_are_summed_for_grey():
    published = models.squeezenet1_1().state_dict()
    colour, grey = (
        build_network("squeezenet1_1", 1000).eval(),
        build_network("squeezenet1_1", 1000, in_channels=1).eval(),
    )
    for net in (colour, grey):
        assert transfer(net, net.renamed(published)).left == {}
    x = torch.rand(1, 1, 64, 64)
    assert torch.allclose(grey(x).logits, colour(x.expand(-1, 3, -1, -1)).logits, atol=1e-5)


def test_a_pyramid_takes_published_weights_too():
    published = models.squeezenet1_1().state_dict()
    net = build_backbone("squeezenet1_1", levels=(2, 3))
    assert transfer(net, net.renamed(published)).left == {}
    assert torch.equal(net.stages[0][0].weight, published["features.0.weight"])


def test_the_local_imagenet_file_is_squeezenet():
    file = DATA / "weights/squeezenet1.1/squeezenet1_1_fp16_torchvision_keys.pth"
    if not file.exists():
        pytest.skip(f"{file} is not there; set GRIDHEAD_DATA")
    published = torch.load(file, weights_only=True)
    net = build_network("squeezenet1_1", 1000)
    taken, left, _ = transfer(net, net.renamed(published))
    assert left == {} and len(taken) == len(published)


@pytest.mark.parametrize("name", [n for n in SMALLEST if BACKBONES[n](1, "valid").unpadded])
def test_without_padding_a_window_gives_what_its_crop_gives(name):
    torch.manual_seed(0)
    parts = BACKBONES[name](1, "valid")
    net, stride = nn.Sequential(*parts.stages).eval(), parts.strides[-1]
    image = torch.rand(1, 1, parts.size + 2 * stride, parts.size + stride)
    with torch.no_grad():
        whole = net(image)
        crop = net(image[..., 2 * stride :, stride:])
    side = crop.shape[-1]
    assert torch.allclose(whole[..., 2 : 2 + side, 1 : 1 + side], crop, atol=1e-4)


def test_networks_that_need_their_padding_say_so():
    with pytest.raises(UserError, match="googlenet cannot do without padding"):
        build_network("googlenet", 10, padding="valid")
    with pytest.raises(ValueError, match="paper, valid or same"):
        build_network("lenet5", 10, padding="none")


def test_levels_that_cannot_be_made_are_the_users_mistake():
    with pytest.raises(UserError, match=r"alexnet: .* not \[2\]; change --model.levels"):
        build_backbone("alexnet", levels=(1, 3))
    with pytest.raises(UserError, match="did you mean 'alexnet'"):
        build_backbone("alexnett")


@pytest.mark.parametrize("levels", [(3, 4, 5), (2, 3), (3, 6), (6, 7)])
def test_the_neck_makes_the_levels_that_a_network_lacks(levels):
    net = build_backbone("lenet5", levels=levels)
    assert net.strides == [4] and net.channels == [16]
    expected = [2**level for level in levels]
    neck = build_neck("pan", net.channels, net.strides, expected, 8, 1)
    maps = neck(net(torch.rand(2, 3, 97, 131)))
    assert [tuple(m.shape) for m in maps] == [(2, 8, ceil(97, s), ceil(131, s)) for s in expected]
    assert (neck.channels, neck.strides) == ([8] * len(levels), expected)
    backward(neck, net(torch.rand(2, 3, 97, 131)))


def test_gaussian_weights_keep_the_size_of_what_passes():
    torch.manual_seed(0)
    net = initialized(nn.Sequential(*(part for _ in range(10) for part in (nn.Linear(256, 256), nn.ReLU()))))
    x = torch.randn(64, 256)
    assert 0.5 < net(x).square().mean() / x.square().mean() < 2
    assert all(not p.any() for n, p in net.named_parameters() if n.endswith("bias"))


LAYERS = st.builds(
    lambda kind, kernel, stride, dilation: (
        nn.Conv2d(1, 1, kernel, stride, dilation=dilation) if kind is nn.Conv2d else kind(kernel, stride)
    ),
    st.sampled_from([nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d]),
    st.sampled_from([1, 3, 5, 7, 11]),
    st.integers(1, 4),
    st.integers(1, 2),
) | st.builds(lambda kind: kind(2), st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))


def after(layer, side):
    with torch.device("meta"):
        return layer.to("meta")(torch.empty(1, 1, side, side)).shape[-1]


@given(LAYERS, st.integers(25, 70), st.sampled_from(["same", "valid", "paper"]))
def test_the_output_size_formula_is_what_layers_do(layer, side, padding):
    layer = padded(layer, padding)
    assert side_after(side, layer) == after(layer, side)
    if padding == "same":
        stride = layer.stride if isinstance(layer.stride, int) else layer.stride[0]
        assert after(layer, side) == ceil(side, stride)


@given(st.integers(2, 4), st.integers(1, 4), st.integers(4, 40))
def test_the_output_size_formula_of_pools_that_reach_over_the_edge(kernel, stride, side):
    layer = nn.MaxPool2d(kernel, stride, kernel // 2, ceil_mode=True)
    assert side_after(side, layer) == after(layer, side)


@pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 2, 2), nn.MaxPool2d(4, 2)])
def test_even_windows_have_no_same_padding(layer):
    with pytest.raises(ValueError, match="no same padding"):
        padded(layer, "same")
