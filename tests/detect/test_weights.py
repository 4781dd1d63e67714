"""Weights files that are damaged or crafted: refused in one line, before anything large is allocated."""

import dataclasses
import json
import random
import struct

import pytest
import torch
from safetensors.torch import save_file

from detect.config.constraints import from_values
from detect.errors import UserError
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_class
from detect.models.configs.yolo import YoloConfig
from detect.models.uninitialized import shapes
from detect.models.weights import FORMAT, checksum, load_weights, read_weights, save_weights
from detect.registry import REGISTRIES
from tests.reference.models import fitting

SMALL = YoloConfig(backbone="lenet5", neck="straight", levels=[2], width=8)
CARD = ModelMetadata(
    ["cat", "dog"], [1, 7], 64, keypoint_names=["left", "right"], flip_pairs=[[0, 1]], skeleton=[[0, 1]]
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(SMALL, CARD).eval()


def crafted(path, model, about=None, tensors=None, sign=True):
    """A file with other values in its header, {"model.width": 9}, or other tensors, and a checksum that is right."""
    state = {k: v.clone() for k, v in (model.state_dict() | (tensors or {})).items() if v is not None}
    header = {
        "format": FORMAT,
        "model": dataclasses.asdict(model.config),
        "metadata": dataclasses.asdict(model.metadata),
    }
    for name, value in (about or {}).items():
        *parts, last = name.split(".")
        inside = header
        for part in parts:
            inside = inside[part]
        if value is KeyError:
            del inside[last]
        else:
            inside[last] = value
    header |= {"checksum": checksum(header, state)} if sign else {}
    save_file(state, path, {"gridhead": json.dumps(header)})
    return path


WRONG = {
    "format": [None, "1", FORMAT + 1, 10**30, True, 0, KeyError],
    "model": [None, [], 3, {"name": 1}, {"no such": 1}],
    "model.head_convs": [10**9, -1, "1", 1.5, None, 99],
    "model.depth": [10**9, 0, [1]],
    "model.width": [10**9, 10**30, 65536, True],
    "model.levels": [[], [2] * 1000, [9], 3, "2", [7]],
    "model.hidden": [[10**9], [1] * 10**4, 5],
    "model.anchors": [[["a", "b"]], [[1]], [[1, float("nan")]], "x", [1, 2]],
    "model.backbone": ["", "../x", 3, "\0", "csp_n"],
    "model.head": ["anchor", "rpn", {}],
    "model.darknet_cfg": [3],
    "model.kind": ["darknet", "no", None],
    "model.loss": [None, {"box": float("inf")}, {"class_weights": ["a"]}],
    "model.in_channels": [10**9, 2, 0],
    "metadata": [None, [], "x"],
    "metadata.names": [["cat"], "ab", [1, 2], {"a": 1}, ["a"] * 5, KeyError],
    "metadata.category_ids": [[1, 1], ["a", "b"], [1, 10**30], [1, 2.5]],
    "metadata.size": [0, -64, 10**12, "64", 1 << 20],
    "metadata.preprocess": [
        None,
        {"mean": [0], "std": [1]},
        {"std": [0, 1, 1]},
        {"mean": "abc"},
        {"mean": [0] * 10**4},
    ],
    "metadata.preprocess.order": ["GBR", 1],
    "metadata.preprocess.scale": [float("nan"), 0, None],
    "metadata.preprocess.pad": [256, -1, 1e9],
    "metadata.skeleton": [[[0, 9]], [[0]], [0], [[0, -1]]],
    "metadata.flip_pairs": [[[0, 2]], [["a", "b"]], 3],
    "metadata.shape": [[[0.5, 0.5]], [[0.5]], [["a", "b"], [0, 0]]],
    "metadata.thresholds": [[1], {"a": "b"}, {"a": float("nan")}],
    "metadata.unheard_of": [1],
}


@pytest.mark.parametrize("name", WRONG)
def test_values_of_a_header_are_checked(model, tmp_path, name):
    for value in WRONG[name]:
        path = crafted(tmp_path / "w.safetensors", model, {name: value})
        with pytest.raises(UserError, match=r"w\.safetensors") as caught:
            read_weights(path)
        assert len(str(caught.value)) < 1000 + len(str(tmp_path)), value


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (lambda x: x * float("nan"), "holds NaN or infinity"),
        (lambda x: x + float("inf"), "holds NaN or infinity"),
        (lambda x: x.int(), "is of type I32, not float32"),
        (lambda x: x.bool(), "is of type BOOL"),
        (lambda x: x[None], "has shape"),
        (lambda x: None, "is absent"),
    ],
)
def test_tensors_are_those_of_the_network(model, tmp_path, tensor, said):
    name = next(iter(model.state_dict()))
    path = crafted(tmp_path / "w.safetensors", model, tensors={name: tensor(model.state_dict()[name])})
    with pytest.raises(UserError, match=name) as caught:
        load_weights(path)
    assert said in str(caught.value)


def test_numbers_whose_sum_overflows_are_no_infinity(model, tmp_path):
    name = next(iter(model.state_dict()))
    huge = torch.full_like(model.state_dict()[name], 3e38)
    assert load_weights(crafted(tmp_path / "w.safetensors", model, tensors={name: huge}))
    with pytest.raises(UserError, match="x is not known"):
        load_weights(crafted(tmp_path / "w.safetensors", model, tensors={"x": torch.zeros(1)}))


def test_no_flipped_bit_goes_unseen(model, tmp_path):
    path, rng = tmp_path / "w.safetensors", random.Random(0)
    save_weights(path, model)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for low, high in [(0, header)] * 60 + [(header, len(whole))] * 20:
        data = bytearray(whole)
        data[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            found = load_weights(path)
        except UserError:
            continue
        assert (found.metadata, found.config) == (
            model.metadata,
            model.config,
        )  # a blank between two values, or the like
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in found.state_dict().items())


def test_files_without_a_checksum_are_read(model, tmp_path):
    found = load_weights(crafted(tmp_path / "w.safetensors", model, sign=False))
    assert found.metadata == model.metadata
    with pytest.raises(UserError, match="is damaged: the checksum"):
        load_weights(crafted(tmp_path / "w.safetensors", model, {"checksum": None}, sign=False))
    with pytest.raises(UserError, match="its header has 'checksue'"):  # one flipped bit
        load_weights(crafted(tmp_path / "w.safetensors", model, {"checksue": 1}, sign=False))


KINDS = {
    "yolo": {},
    "faster_rcnn": {"anchors": [[8, 8], [16, 24]], "anchors_per_level": 2, "hidden": [8]},
    "landmarker": {"head": "heatmap"},
    "classifier": {"hidden": [8]},
    "embedder": {"dimensions": 8},
}


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_known_without_memory(kind):
    options = {"backbone": "lenet5", "neck": "straight", "levels": [2], "width": 8}
    config = fitting(kind, **{**options, **KINDS[kind]})
    found, model = shapes(config, CARD), build(config, CARD)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert all(v.is_meta for v in found.values() if v.numel() > 100)
    huge = shapes(dataclasses.replace(SMALL, width=65536, depth=50, head_convs=50), CARD)  # some 2 TB
    assert sum(v.numel() for v in huge.values()) > 10**11


@pytest.mark.parametrize("kind", REGISTRIES["model"])
def test_every_option_of_every_kind_refuses_nonsense(kind):
    own = model_class(kind)
    for name in (f.name for f in dataclasses.fields(own)):
        with pytest.raises(UserError, match=f"model.{name}"):
            from_values(own, {name: {"a": [None]}}, "model.")
    for name in (f.name for f in dataclasses.fields(own().loss)):
        with pytest.raises(UserError, match=f"model.loss.{name}"):
            from_values(own, {"loss": {name: {"a": [None]}}}, "model.")
