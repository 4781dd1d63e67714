"""`detect info`: parameters and multiply-accumulates against numbers worked out by hand."""

import json

import pytest
import torch
from torch import nn

from detect import layers
from detect.__main__ import main
from detect.backbones import BACKBONES
from detect.cli import model_names
from detect.errors import UserError


def described(monkeypatch, net, *shape):
    with torch.device("meta"):
        monkeypatch.setattr(layers, "network", lambda *_: (net.to("meta"), torch.empty(1, *shape)))
        return layers.describe("net", shape[-1])


def lenet():
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)),
    )


def test_lenet_by_hand(monkeypatch):
    result = described(monkeypatch, lenet(), 1, 32, 32)
    assert [row["output"] for row in result["layers"]] == [
        *([6, 28, 28], [6, 14, 14], [16, 10, 10], [16, 5, 5], [400]),
        *([120], [84], [10]),
    ]
    assert [row["params"] for row in result["layers"]] == [156, 0, 2416, 0, 0, 48120, 10164, 850]
    assert [row["macs"] for row in result["layers"]] == [117600, 0, 240000, 0, 0, 48000, 10080, 840]
    assert (result["params"], result["macs"]) == (61706, 416520)
    assert [row["type"] for row in result["layers"]][:2] == ["Conv2d", "AvgPool2d"]


@pytest.mark.parametrize(
    ("net", "shape", "params", "macs"),
    [
        (nn.Conv2d(3, 10, 3), (3, 6, 6), 280, 27 * 16 * 10),
        (nn.Conv2d(192, 32, 5, padding=2, bias=False), (192, 28, 28), 153600, 120_422_400),
        (nn.Conv2d(192, 16, 1, bias=False), (192, 28, 28), 3072, 2_408_448),
        (nn.Conv2d(16, 32, 5, padding=2, bias=False), (16, 28, 28), 12800, 10_035_200),
        (nn.Conv2d(3, 3, 3, groups=3, bias=False), (3, 6, 6), 27, 432),
        (nn.Conv2d(3, 5, 1, bias=False), (3, 4, 4), 15, 240),
        (nn.Conv2d(3, 5, 3, bias=False), (3, 6, 6), 135, 2160),
        (nn.Conv2d(3, 4, 3, stride=2), (3, 7, 7), 112, 27 * 9 * 4),
    ],
)
def test_convolutions_of_the_course(monkeypatch, net, shape, params, macs):
    result = described(monkeypatch, nn.Sequential(net), *shape)
    assert (result["params"], result["macs"]) == (params, macs)


def test_a_layer_that_runs_twice_is_listed_twice_and_an_empty_one_hides_nothing(monkeypatch):
    pool = nn.MaxPool2d(3, 1, 1)
    result = described(monkeypatch, nn.Sequential(pool, nn.Sequential(nn.Sequential()), pool), 3, 8, 8)
    assert [row["type"] for row in result["layers"]] == ["MaxPool2d", "Sequential", "MaxPool2d"]


@pytest.mark.parametrize("name", [*BACKBONES, *model_names()])
def test_everything_registered_is_described(name):
    result = layers.describe(name, 64)
    assert result["params"] == sum(row["params"] for row in result["layers"]) > 0
    small, large = result["macs"], layers.describe(name, 128)["macs"]
    assert large == 4 * small > 0
    text = layers.table(result)
    assert len(text.splitlines()) == len(result["layers"]) + 2 and f"{result['params']:,}" in text.splitlines()[-1]


def test_classes_change_the_last_layers_alone():
    few, many = layers.describe("yolo_n", 64, classes=1), layers.describe("yolo_n", 64, classes=3)
    changed = [row["name"] for row, other in zip(few["layers"], many["layers"], strict=True) if row != other]
    assert len(changed) == 3 and all(name.startswith("head.classify") for name in changed)


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    assert main(["info", "yolo_n", "--imgsz", "64", "--json", str(tmp_path / "info.json")]) == 0
    written = json.loads((tmp_path / "info.json").read_text())
    assert written == layers.describe("yolo_n", 64) and written.keys() == {"name", "imgsz", "layers", "params", "macs"}
    assert f"yolo_n at 64 px {written['params']:,}".split() == capsys.readouterr().out.splitlines()[-1].split()[:-1]


def test_an_unknown_network_is_named():
    with pytest.raises(UserError, match="did you mean 'yolo_n'"):
        layers.describe("yolo_nn", 64)
