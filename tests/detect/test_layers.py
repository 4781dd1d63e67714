"""`detect info`: parameters, multiply-accumulates, receptive fields and strides against published figures."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from detect.__main__ import main
from detect.errors import UserError
from detect.explain import summary as layers
from detect.models.configs import shipped_names
from detect.registry import REGISTRIES
from tests.reference.marks import slowly


def traced(net, *shape):
    with torch.device("meta"):
        return layers.trace(net.to("meta"), torch.empty(1, *shape))


def test_a_layer_that_runs_twice_is_listed_twice_and_an_empty_one_hides_nothing():
    pool = nn.MaxPool2d(3, 1, 1)
    rows = traced(nn.Sequential(pool, nn.Sequential(nn.Sequential()), pool), 3, 8, 8)
    assert [row["type"] for row in rows] == ["MaxPool2d", "Sequential", "MaxPool2d"]
    assert [row["field"] for row in rows] == [3, 3, 5]


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.gain = nn.Conv2d(1, 2, 1), nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, x):
        return self.inner(x) * self.gain


def test_weights_of_a_layer_that_has_layers_count_once():
    rows = traced(nn.Sequential(Scaled()), 1, 4, 4)
    assert [(row["name"], row["params"]) for row in rows] == [("0.inner", 4), ("0", 2)]


def test_a_layer_that_the_image_does_not_reach_has_no_field():
    class Position(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, x):
            return x + self.layer(torch.zeros(1, 1, device=x.device))

    (row,) = traced(Position(), 1, 4, 4)
    assert (row["field"], row["stride"], row["params"]) == (None, None, 2)


NAMES = [*REGISTRIES["backbone"], *shipped_names()]
BIG = [name for name in NAMES if re.search(r"(_[mlx]|50|101|152|b[1-7])(_|$)", name)]  # larger sizes of what is there


@pytest.mark.parametrize("name", [*(name for name in NAMES if name not in BIG), *slowly(*BIG)])
def test_everything_registered_is_described(name):
    result = layers.describe(name)
    assert result["params"] == sum(row["params"] for row in result["layers"]) > 0
    assert result["macs"] > 0
    maps = [row for row in result["layers"] if len(row["output"]) == 3]
    assert all(row["field"] >= row["stride"] >= 1 for row in maps if row["type"] != "Identity")
    text = layers.table(result).splitlines()
    assert len(text) == len(result["layers"]) + 2
    assert text[-1].endswith(f"{result['params']:,}  {result['macs']:,}")


PUBLISHED = {  # millions of parameters, millions of multiply-accumulates: of the papers or, where built so, torchvision
    "alexnet": (62.378, 1135.3),
    "vgg16": (138.358, 15470.3),
    "inception_v3": (23.835, 5713.2),
    "squeezenet1_1": (1.235, 349.2),
    "resnet18": (11.690, 1814.1),
    "resnet50": (25.557, 4089.2),
    "resnet152": (60.193, 11513.6),
    "mobilenet_v1": (4.232, 568.7),
    "mobilenet_v2": (3.505, 300.8),
    "mobilenet_v3_small": (2.543, 56.5),
    "mobilenet_v3_large": (5.483, 216.6),
    "efficientnet_b0": (5.289, 385.8),
    "efficientnet_b7": (66.348, 37745.9),
    "efficientnet_lite0": (4.652, 385.2),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_multiplications_are_the_published_ones(name):
    result = layers.describe(name)
    assert (result["params"] / 1e6, result["macs"] / 1e6) == pytest.approx(PUBLISHED[name], abs=0.06)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        *(("vgg16", 212), ("inception_v3", 1311), ("mobilenet_v1", 315)),
        *(("resnet50_paper", 483), ("resnet101_paper", 1027), ("resnet152_paper", 1507)),
    ],
)
def test_receptive_fields_are_those_of_araujo_and_others(name, field):
    """Computing receptive fields of convolutional neural networks, Distill 2019, table 2."""
    maps = [row for row in layers.describe(name)["layers"] if row["stride"] == 32]
    assert max(row["field"] for row in maps) == field


def test_a_classifier_sees_more_than_its_last_map_and_has_no_stride():
    rows = layers.describe("resnet18")["layers"]
    assert [(row["type"], row["field"], row["stride"]) for row in rows[-3:]] == [
        ("AdaptiveAvgPool2d", 435 + 6 * 32, 224),
        ("Flatten", 435 + 6 * 32, None),
        ("Linear", 435 + 6 * 32, None),
    ]


def test_maps_of_a_detector_have_the_strides_of_its_levels():
    rows = layers.describe("yolo_n")["layers"]
    last = [row for row in rows if row["type"] == "Predict"]
    assert [(row["stride"], row["output"][1]) for row in last] == [(8, 80), (16, 40), (32, 20)] * 2


def test_auxiliary_classifiers_are_not_of_inference():
    assert not any(row["name"].startswith("aux") for row in layers.describe("googlenet")["layers"])


def test_size_classes_and_channels_are_the_networks_own_unless_given():
    assert [layers.describe(name)["imgsz"] for name in ("lenet5", "efficientnet_b7", "yolo_n")] == [32, 600, 640]
    assert layers.describe("lenet5")["layers"][-1]["output"] == [10]
    given = layers.describe("resnet18", size=64, classes=7, in_channels=1)
    assert given["layers"][-1]["output"] == [7] and given["layers"][0]["params"] == 7 * 7 * 64
    assert given["imgsz"] == 64 and given["macs"] < layers.describe("resnet18")["macs"] / 11
    grey, colour = (layers.describe("yolo_n", 64, in_channels=n) for n in (1, 3))
    changed = [pair for pair in zip(colour["layers"], grey["layers"], strict=True) if pair[0] != pair[1]]
    assert [one["macs"] / other["macs"] for one, other in changed] == [3]


def test_classes_change_the_last_layers_alone():
    few, many = layers.describe("yolo_n", 64, classes=1), layers.describe("yolo_n", 64, classes=3)
    changed = [row["name"] for row, other in zip(few["layers"], many["layers"], strict=True) if row != other]
    assert len(changed) == 3 and all(name.startswith("head.classify") for name in changed)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    command = ["info", "yolo_n", "--imgsz", "64", "--in-channels", "1", "--json", str(tmp_path / "info.json")]
    assert main(command) == 0
    written = json.loads((tmp_path / "info.json").read_text())
    assert written == layers.describe("yolo_n", 64, in_channels=1)
    assert written.keys() == {"name", "imgsz", "layers", "params", "macs"}
    assert written["layers"][0].keys() == {"name", "type", "output", "params", "macs", "field", "stride"}
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["layer", "type", "output", "params", "MACs", "field", "stride"]
    assert f"yolo_n at 64 px {written['params']:,} {written['macs']:,}".split() == printed[-1].split()


def test_mistakes_are_named():
    with pytest.raises(UserError, match="did you mean 'yolo_n'"):
        layers.describe("yolo_nn", 64)
    with pytest.raises(UserError, match=r"alexnet does not run on 16 px .* give another --imgsz"):
        layers.describe("alexnet", 16)


def test_regions_are_counted_as_the_page_says():
    """Of R-CNN each region costs the same at any image size; of the others the image counts too."""
    page = (Path(__file__).parents[2] / "docs" / "explanations" / "rcnn.md").read_text(encoding="utf-8")
    for name in ("rcnn", "fast_rcnn", "faster_rcnn"):
        small, large = (layers.describe(name, size) for size in (160, 320))
        assert small["regions"] == 300
        line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |") and " G |" in line)
        assert f"{small['macs'] / 1e9:.2f} G" in line
        assert (large["macs"] > small["macs"]) == (name != "rcnn")
    assert "300 regions" in layers.table(small) and "regions" not in layers.describe("yolo_n", 64)
