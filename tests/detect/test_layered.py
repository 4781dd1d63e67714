"""Networks that are lists of layers, in YAML files and by flags."""

import pytest
import torch
from torch import nn

from detect.cli.parser import parse
from detect.errors import UserError
from detect.explain.summary import describe
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.layers import LayersConfig
from detect.models.layers import layered_network
from detect.models.weights import load_weights, save_weights
from detect.registry import REGISTRIES, register

pytestmark = pytest.mark.usefixtures("one_thread")
LENET = [
    *("conv 6 5 padding=valid activation=tanh", "mean 2", "conv 16 size=5 padding=valid activation=tanh", "mean 2"),
    *("dense 120 activation=tanh", "dense 84 tanh"),
]


def test_lenet_as_a_list_is_lenet():
    ours, network = layered_network(LENET, 10, 3, 32), describe("lenet5")
    assert sum(p.numel() for p in ours.parameters()) == network["params"]
    x, sides = torch.zeros(1, 3, 32, 32), []
    for stage in ours.stages:
        x = stage(x)
        sides.append(tuple(x.shape[1:]))
    assert sides == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5)]
    assert ours.stride == 4 and [m.out_features for m in ours.neck.modules() if isinstance(m, nn.Linear)] == [120, 84]


@pytest.mark.parametrize("layer", REGISTRIES["layer"])
def test_every_layer_runs_in_every_number_of_dimensions(layer):
    layers = ["conv 8 4 stride=2 norm=true"]
    needs = {"conv": " 6", "separable": " 6", "dense": " 6"}
    for dims in (1, 2, 3):
        network = layered_network([*layers, f"{layer}{needs.get(layer, '')}", "dense 7"], 3, 2, 16, dims).eval()
        assert network(torch.zeros(1, 2, *[16] * dims)).logits.shape == (1, 3)
        assert network(torch.zeros(1, 2, *[24] * dims)).logits.shape == (1, 3)  # of another size


def test_same_padding_of_an_even_filter_has_its_extra_zero_at_the_end():
    network = layered_network(["conv 1 2 activation=none"], 2, 1, 4)
    layer = network.stages[0][0]
    nn.init.constant_(layer.weight, 1.0)
    assert network.stages[0](torch.ones(1, 1, 1, 4)).flatten().tolist() == [2, 2, 2, 1]


def test_a_file_is_a_model_that_info_describes_and_training_builds(tmp_path):
    file = tmp_path / "Small.yaml"
    file.write_text("kind: layers\nname: small\nlayers:\n- conv 4 3 norm=true\n- max all\n- dropout 0.2\n")
    told = describe(str(file), 32, 10)
    assert told["params"] == 4 * 3 * 9 + 8 + 4 * 10 + 10 and told["layers"][0]["type"] == "Conv2d"
    config = parse("train", ["--data", "toy", "--model", str(file), "--imgsz", "32"])
    assert config.task == "classify" and isinstance(config.model, LayersConfig)
    model = build(config.model, ModelMetadata(["a", "b"], [1, 2], size=32)).eval()
    save_weights(tmp_path / "w.safetensors", model)
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(load_weights(tmp_path / "w.safetensors").eval()(image).logits, model(image).logits)
    flags = parse("train", ["--data", "toy", "--model", "layers", "--model.layers", "conv 4 3", "max 2"])
    assert flags.model.layers == ["conv 4 3", "max 2"]
    (tmp_path / "nothing.yaml").write_text("layers: []\n")
    with pytest.raises(UserError, match="kind: layers"):
        describe(str(tmp_path / "nothing.yaml"))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (["cnov 8"], "number 1, 'cnov': did you mean 'conv'"),
        (["conv 8", "conv"], r"layer 2 \(conv\): conv needs filters"),
        (["conv 8 3 stide=2"], "what is stide=2\\? conv takes filters, size"),
        (["conv 8 three"], "size is three: it must be a number"),
        (["conv 8 0"], "from 1 to 65536"),
        (["conv 8 3 norm=maybe"], "true or false"),
        (["conv 8 3 padding=some"], "unknown padding"),
        (["conv 8 groups=2"], "do not divide"),
        (["conv 8", "dense 5", "max 2"], "layer 3 .*no feature map is left"),
        (["max 8", "conv 3 5 padding=valid"], "nothing is left of an image of 32 px"),
        (["dense 5"], "begins with a convolution"),
        (["conv 8", "dropout 1"], "below 1"),
    ],
)
def test_mistakes_name_the_layer(layers, said):
    with pytest.raises(UserError, match=said):
        layered_network(layers, 2, 3, 32)


def test_a_layer_of_ones_own():
    register("layer", "swish")(lambda inputs: (nn.SiLU(), inputs))
    try:
        assert isinstance(layered_network(["conv 4", "swish"], 2, 3, 8).stages[1], nn.SiLU)
    finally:
        REGISTRIES["layer"]._entries.pop("swish"), REGISTRIES["layer"]._modules.pop("swish")
