"""Networks in one and three dimensions: the same ones, with twins for layers."""

import math

import pytest
import torch
from torch import nn

from detect.cli.parser import parse
from detect.errors import UserError
from detect.explain.summary import describe
from detect.models.backbones import build_network, parts
from detect.models.backbones.base import Network
from detect.models.backbones.blocks import CSP, Bottleneck, Conv, Fused, PyramidPool, Residual, Separable
from detect.models.backbones.dimensions import spread
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.classifier import ClassifierConfig
from detect.registry import REGISTRIES
from detect.types import Postprocess, Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")

FLAT = "inception_v3"  # its windows are not square
SMALL = [
    *("lenet5", "alexnet", "nin", "googlenet", "resnet18", "resnet18_identity", "resnet50_paper"),
    *("squeezenet1_1", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "csp_n"),
    "efficientnet_lite0",
]
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in REGISTRIES["backbone"] if name not in (*SMALL, FLAT)]
# Those whose windows are odd, with half of themselves for padding, before one global pool.
CENTRED = [
    "resnet18",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "squeezenet1_1",
    "csp_n",
]


def classifier(backbone: str, dims: int, channels: int = 2, size: int = 32, **changes):
    pixels = Preprocess(scale=1.0, mean=(3.0,) * channels, std=(2.0,) * channels)
    config = ClassifierConfig(name=backbone, backbone=backbone, in_channels=channels, dims=dims, **changes)
    torch.manual_seed(0)
    return build(config, ModelMetadata(["a", "b", "c"], [1, 2, 3], size, pixels))


def flat(network: nn.Module) -> list[str]:
    """The layers that know images alone."""
    kinds = {type(m).__name__ for m in network.modules() if next(m.children(), None) is None}
    return [kind for kind in kinds if kind.endswith("2d")]


@pytest.mark.parametrize(("dims", "shape"), [(1, (1, 16, 10)), (3, (1, 16, 10, 10, 10))])
def test_the_course_counts(dims, shape):
    """14 by a 5-filter gives 10; 14 x 14 x 14 by 16 filters of 5 x 5 x 5 gives 10 x 10 x 10 x 16."""
    layer = spread(nn.Conv2d(1, 16, 5), dims)
    assert layer(torch.zeros(1, 1, *[14] * dims)).shape == shape
    assert layer.weight.shape == (16, 1, *[5] * dims)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", [*SMALL, *OTHERS])
def test_every_network_of_square_windows_builds(name, dims):
    side = 80 if dims == 3 else 64  # which GoogLeNet's auxiliary classifiers want
    with torch.device("meta"):
        net = Network(parts(name, 2, "same", dims), 7).eval()
        x = torch.empty(2, 2, *[side] * dims)
        assert net(x).logits.shape == (2, 7) and flat(net) == []
        stated = parts(name, 2, "same")
        for stage, channels, stride in zip(net.stages, stated.channels, stated.strides, strict=True):
            x = stage(x)
            assert x.shape == (2, channels, *[math.ceil(side / stride)] * dims)
    assert [k for k, _ in net.named_parameters()] == [k for k, _ in Network(stated, 7).named_parameters()]


BLOCKS = {
    "Conv": lambda: Conv(4, 8, 3, 2),
    "Separable": lambda: Separable(4, 8),
    "Residual": lambda: Residual(4),
    "Bottleneck": lambda: Bottleneck(4, "relu"),
    "CSP": lambda: CSP(4, 8, 2),
    "PyramidPool": lambda: PyramidPool(4),
}


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_build(name, dims):
    block, x = BLOCKS[name](), torch.randn(2, 4, 9, 9)
    shape = block(x).shape
    assert shape[2] == shape[3]
    assert spread(block, dims)(torch.randn(2, 4, *[9] * dims)).shape == (2, shape[1], *[shape[2]] * dims)


@pytest.mark.parametrize("name", CENTRED)
def test_a_image_one_pixel_high_is_a_signal(name):
    """Beside a single row there is nothing but padding, so the middle rows of the windows are a network of signals."""
    torch.manual_seed(0)
    images, signals = (build_network(name, 3, 2, "same", dims).eval() for dims in (2, 1))
    middle = {k: v[:, :, v.shape[2] // 2] if v.ndim == 4 else v for k, v in images.state_dict().items()}
    signals.load_state_dict(middle)
    x = torch.randn(2, 2, 70)
    with torch.no_grad():
        assert torch.allclose(signals(x).logits, images(x[:, :, None]).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1", "csp_n"])
def test_a_volume_one_cell_deep_is_a_image(name):
    torch.manual_seed(0)
    volumes, images = (build_network(name, 3, 2, "same", dims).eval() for dims in (3, 2))
    middle = {k: v[:, :, v.shape[2] // 2] if v.ndim == 5 else v for k, v in volumes.state_dict().items()}
    images.load_state_dict(middle)
    x = torch.randn(2, 2, 20, 24)
    with torch.no_grad():
        assert torch.allclose(volumes(x[:, :, None]).logits, images(x).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(8, 32, 3), lambda: nn.Conv2d(99, 99, 5, groups=99)])
def test_weights_keep_the_variance_of_what_they_sum(layer, dims):
    torch.manual_seed(0)
    old = layer()
    nn.init.normal_(old.weight, std=0.3)
    new = spread(old, dims)
    sums = [float(one.weight.detach().std()) * one.weight[0].numel() ** 0.5 for one in (old, new)]
    assert sums[1] == pytest.approx(sums[0], rel=0.2)
    assert torch.equal(new.bias, old.bias) and new.weight.requires_grad


@pytest.mark.parametrize(("dims", "params", "macs"), [(1, 21_266, 26_160), (3, 263_906, 28_714_920)])
def test_lenet_counted_by_hand(dims, params, macs):
    """Windows of 5, of 6 and 16 channels at 28 and 10, then 16 * 5 ** dims - 120 - 84 - 10."""
    dense = [(16 * 5**dims, 120), (120, 84), (84, 10)]
    assert params == 6 * (5**dims + 1) + 16 * (6 * 5**dims + 1) + sum((a + 1) * b for a, b in dense)
    assert macs == 6 * 28**dims * 5**dims + 16 * 10**dims * 6 * 5**dims + sum(a * b for a, b in dense)
    found = describe("lenet5", in_channels=1, dims=dims)
    assert (found["params"], found["macs"]) == (params, macs)
    shapes = [layer["output"] for layer in found["layers"] if layer["type"].startswith("Conv")]
    assert shapes == [[6, *[28] * dims], [16, *[10] * dims]]


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v3_small"])
def test_fields_and_strides_do_not_depend_on_dimensions(name, dims):
    ours, images = (describe(name, 64, in_channels=1, dims=d)["layers"] for d in (dims, 2))
    seen = [[(layer["name"], layer["field"], layer["stride"]) for layer in layers] for layers in (ours, images)]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("dims", [1, 3])
def test_the_command_prints_the_layers(dims, capsys):
    from detect.__main__ import main

    assert main(["info", "lenet5", "--dims", str(dims), "--in-channels", "1"]) == 0
    said = capsys.readouterr().out
    assert f"Conv{dims}d" in said and f"16x{'x'.join(['10'] * dims)}" in said


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", ["lenet5", "resnet18", "mobilenet_v1"])
def test_the_lean_copy_says_the_same(name, dims):
    model = classifier(name, dims)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm3d)):
        nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    x = torch.randn(2, 2, *[32] * dims) * 2 + 3
    model.eval()
    ready = model.for_inference(torch.device("cpu"), torch.float32)
    with torch.no_grad():
        raw = ready(x)
        assert torch.allclose(raw.logits, model(x).logits, rtol=1e-3, atol=1e-3)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm3d | Fused) for m in ready.modules())
    assert [len(one) for one in ready.postprocess(raw, Postprocess(score=0.0))] == [3, 3]


def test_numbers_are_less_the_mean_over_the_deviation():
    model = classifier("lenet5", 1)
    x = torch.tensor([[[1.0, 3, 5], [3, 7, 3]]])
    assert torch.equal(model.preprocess(x), (x - 3) / 2)
    far = torch.full((1, 2, 4), 1e4) + torch.arange(4)
    model.offset.fill_(-1e4)
    model.gain.fill_(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.preprocess(far)[0, 0].tolist() == [0, 1, 2, 3]  # which bfloat16 cannot tell apart at 10,000


def test_hidden_layers_and_initializers():
    for name in ("lenet5", "squeezenet1_1"):
        assert classifier(name, 3, hidden=[5])(torch.zeros(2, 2, 32, 32, 32)).logits.shape == (2, 3)
    from detect.training.transfer import initialize

    model = classifier("lenet5", 1)
    initialize(model, "gaussian")
    assert float(model.network.neck[2].weight.detach().std()) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("name", "dims", "said"),
    [
        (FLAT, 1, "inception_v3 comes in two dimensions alone (a window of"),
        (FLAT, 3, "take another, resnet18"),
        ("timm:resnet18", 3, "timm:resnet18 comes in two dimensions alone"),
        ("nosuch", 1, "unknown backbone 'nosuch'"),
    ],
)
def test_networks_that_have_no_twin_are_one_line(name, dims, said):
    with pytest.raises(UserError) as caught:
        build_network(name, 3, 1, "same", dims)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Conv2d(1, 1, (1, 3)), "1 x 3"),
        (nn.ZeroPad2d(1), "two-dimensional"),
        (nn.LPPool2d(2, 2), "two-dimensional"),
    ],
)
def test_layers_without_a_twin(layer, said):
    with pytest.raises(ValueError, match=said):
        spread(nn.Sequential(layer), 3)


def test_what_is_refused():
    metadata = ModelMetadata(["a"], [1], 64)
    with pytest.raises(UserError, match=r"'--model.dims' of a model of kind yolo: those of kind classifier or"):
        parse("train", ["--data", "toy", "--model.dims", "3"])
    with pytest.raises(UserError, match=r"in-channels is 2: images have 3"):
        build(ClassifierConfig(name="r", backbone="lenet5", in_channels=2), metadata)
    with pytest.raises(UserError, match=r"googlenet as published does not run in 3 dimensions on a side of 32"):
        classifier("googlenet", 3)
    for wrong in ("0", "4"):
        with pytest.raises(UserError, match=r"--model.dims is .: it must be from 1 to 3"):
            parse("train", ["--data", "toy", "--model", "lenet5", "--model.dims", wrong])
    with pytest.raises(UserError, match=r"--augment.hue has no effect on model"):
        parse("train", ["--data", "x", "--model", "lenet5", "--model.dims", "1", "--augment.hue", "0.5"])
