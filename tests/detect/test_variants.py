"""Backbones with options: width, phi, and a cut at a middle stage."""

import itertools

import pytest
import torch

from detect.errors import UserError
from detect.explain.summary import describe
from detect.models.backbones import build_backbone, build_network
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.training.transfer import Source, begin
from detect.types import Preprocess

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [  # Howard et al. (2017), table 6, and Sandler et al. (2018), as their authors published them
        ("mobilenet_v1:width=0.5", 1.3, 149),
        ("MobileNet_v1:width=0.25", 0.5, 41),
        ("mobilenet_v2:width=0.35", 1.66, 59),
    ],
)
def test_the_width_multiplier_costs_what_the_papers_say(name, params, macs):
    cost = describe(name)
    assert cost["params"] / 1e6 == pytest.approx(params, rel=0.06)
    assert cost["macs"] / 1e6 == pytest.approx(macs, rel=0.02)


def test_phi_scales_width_depth_and_side():
    costs = [describe(f"efficientnet_b0:phi={phi}") for phi in (0, 1, 2)]
    assert costs[0]["params"] == describe("efficientnet_b0")["params"]
    assert [cost["imgsz"] for cost in costs] == [224, 258, 296]
    widths = [cost["layers"][-1]["params"] for cost in costs]
    assert widths == [1281_000, 1409_000, 1537_000]  # 1280, 1408 and 1536 channels: multiples of 8
    assert all(1.7 < b["macs"] / a["macs"] < 2.7 for a, b in itertools.pairwise(costs))


def test_a_network_is_cut_and_keeps_its_pretrained_stages():
    whole, config = build_network("resnet18", 3), model_config("resnet18:stages=3")
    assert config.name == config.backbone == "resnet18:stages=3"
    model = build(config, ModelMetadata(["a", "b"], [1, 2], size=64))
    assert model.network.stride == 8 and model.network.width == 128 and len(model.network.stages) == 3
    published = {whole.names[k]: v for k, v in whole.state_dict().items() if k in whole.names}
    fresh = begin(model, Source("file", published, Preprocess(), "published"), tell=False)
    assert fresh == ["network.head.0.weight", "network.head.0.bias"]
    x = torch.rand(1, 3, 64, 64)
    whole.eval(), model.network.eval()
    kept = x
    for stage in whole.stages[:3]:
        kept = stage(kept)
    assert torch.equal(kept.mean((2, 3)), model.network.features(x))


def test_a_detector_takes_a_cut_or_narrow_backbone():
    assert build_backbone("mobilenet_v1:width=0.25,stages=4", levels=(2, 3)).channels == [32, 64]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mobilenet_v1:widht=0.5", "did you mean 'width'"),
        ("resnet18:shortcut=A", "unknown option of backbone resnet18"),
        ("resnet18:stages=9", "from 1 to 5"),
        ("resnet18:3", "such as resnet18:stages=3"),
        ("mobilenet_v2:width=half", "must be a number"),
        ("mobilenet_v2:width=100", "from 0.05 to 8"),
        ("efficientnet_b0:phi=nan", "from -4 to 8"),
        ("resnet:stages=3", "did you mean 'resnet"),
    ],
)
def test_mistakes_say_what_would_work(name, said):
    with pytest.raises(UserError, match=said):
        build_network(name, 2)
