"""Fine-tuning takes what was learned of a class or keypoint by its name, in every kind of model."""

import dataclasses
import json
import shutil

import pytest
import torch

from detect.errors import UserError
from detect.models.backbones import build_network
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.class_transfer import named_tensors, renamed
from detect.models.configs.classifier import ClassifierConfig
from detect.models.weights import read_weights, transfer
from detect.registry import REGISTRIES
from detect.training.setup import train
from detect.training.transfer import Source, begin
from detect.types import Preprocess
from tests.detect.test_darknet import CFG
from tests.reference.models import fitting, with_anchors
from tests.reference.runs import ready, settings

POINTS = ["left_end", "middle", "right_end"]
OLD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=64, keypoint_names=POINTS)
NEW = dataclasses.replace(OLD, names=["c", "a", "d", "e"], category_ids=[1, 2, 3, 4], keypoint_names=["middle", "nose"])
CLASSES, KEYPOINTS = [2, 0, -1, -1], [1, -1]  # where those of NEW are in OLD

SMALL = {"kind": "yolo", "backbone": "csp_n", "neck": "pan", "width": 8, "levels": [3, 4], "head_convs": 0}
CASES = {
    **{f"yolo {head}": {"head": head} for head in REGISTRIES["head"]},
    "yolo_points": {"kind": "yolo_points"},
    "yolo_seg": {"kind": "yolo_seg"},
    "yolo_obb": {"kind": "yolo_obb"},
    "darknet": {"kind": "darknet", "darknet_cfg": CFG},
    "yolox": {"kind": "yolox", "backbone": "cspdarknet_light", "depth": 1, "width": 8},
    "picodet": {"kind": "picodet", "backbone": "esnet_s"},
    "sliding_window": {"kind": "sliding_window", "backbone": "lenet5"},
    "sliding_window without boxes": {"kind": "sliding_window", "backbone": "lenet5", "regress": False},
    "faster_rcnn": {"kind": "faster_rcnn", "neck": "fpn", "hidden": [8]},
    "fast_rcnn": {"kind": "fast_rcnn", "neck": "fpn", "hidden": [8]},
    "rcnn": {"kind": "rcnn", "levels": [4], "window": 32},
    "localizer": {"kind": "localizer", "neck": "straight", "levels": [4], "hidden": [8]},
    **{
        f"landmarker {head}": {"kind": "landmarker", "neck": "straight", "head": head, "levels": [4], "hidden": [8]}
        for head in REGISTRIES["head.landmarks"]
    },
    "classifier": {"kind": "classifier", "backbone": "lenet5"},
    "classifier with hidden layers": {"kind": "classifier", "backbone": "lenet5", "hidden": [8]},
    "classifier by convolution": {"kind": "classifier", "backbone": "squeezenet1_1"},
    "layers": {"kind": "layers", "layers": ["conv 4 3", "max 2", "dense 8"]},
    "mask_rcnn": {"kind": "mask_rcnn", "neck": "fpn", "hidden": [8], "mask_width": 8},
    "unet": {"kind": "unet", "levels": [2, 3]},
    "embedder": {"kind": "embedder", "backbone": "lenet5", "dimensions": 6},
}


def made(name, metadata):
    config = with_anchors(fitting(**{**SMALL, **CASES[name]}))
    torch.manual_seed(len(metadata.names))
    model = build(config, metadata).eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn_like(p)
    return model


def said(model):
    """What the model says of two images, part by part, with the axis of classes or keypoints in front where one is."""
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        raw = model(images)._asdict()
    raw = {key: value for key, value in raw.items() if isinstance(value, torch.Tensor)}
    classes, points = len(model.metadata.names), len(model.metadata.keypoint_names)
    named, rest = {}, {}
    for key, value in raw.items():
        if key == "logits":
            value = value.movedim(1, -1) if "unet" in model.config.kind else value
            named["logits"], rest["background"] = value[..., :classes].movedim(-1, 0), value[..., classes:]
        elif key == "deltas":
            named["deltas"] = value.movedim(-2, 0)
        elif key in ("keypoints", "heat") or (key == "presence" and value.ndim == 2):
            named[f"{key} of keypoints"] = value.movedim(2 if value.ndim == 4 and key == "keypoints" else 1, 0)
            assert len(named[f"{key} of keypoints"]) == points
        else:
            rest[key] = value
    return named, rest


def test_every_kind_of_model_is_tried():
    assert {one.get("kind", "yolo") for one in CASES.values()} == set(REGISTRIES["model"])


@pytest.mark.parametrize("name", CASES)
def test_what_is_said_of_a_class_or_keypoint_moves_with_its_name(name, one_thread):
    source, model = made(name, OLD), made(name, NEW)
    moved = transfer(model, source.state_dict(), OLD)
    assert not moved.left and not moved.extra
    before, others_before = said(source)
    after, others = said(model)
    assert others.keys() == others_before.keys() and before.keys() == after.keys()
    for key, value in others.items():
        assert torch.allclose(value, others_before[key], rtol=1e-4, atol=1e-4), key
    for key, value in after.items():
        places = KEYPOINTS if key.endswith("keypoints") else CLASSES
        assert len(value) == len(places)
        for place, one in zip(places, value, strict=True):
            assert place < 0 or torch.allclose(one, before[key][place], rtol=1e-4, atol=1e-4), key
    assert after or name == "embedder"


@pytest.mark.parametrize("name", CASES)
def test_names_that_are_new_keep_their_start_and_equal_lists_every_bit(name, one_thread):
    source, model, fresh = made(name, OLD), made(name, NEW), made(name, NEW)
    transfer(model, source.state_dict(), OLD)
    for tensor, layout in named_tensors(model).items():
        started, now = fresh.state_dict()[tensor], model.state_dict()[tensor]
        places = CLASSES if layout.of == "names" else KEYPOINTS
        rows = torch.arange(len(now)).view(layout.groups, -1)[:, layout.before :]
        rows = rows[:, : layout.each * len(places)].unflatten(1, (-1, layout.each))
        new = rows[:, [place < 0 for place in places]].flatten()
        assert len(new) and torch.equal(now[new], started[new]), tensor
    again = made(name, OLD)
    with torch.no_grad():
        for p in again.parameters():
            p.zero_()
    transfer(again, source.state_dict(), OLD)
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in again.state_dict().items())


def test_auxiliary_classifiers_move_too():
    config = ClassifierConfig(name="googlenet", backbone="googlenet")
    with torch.device("meta"):
        layouts = named_tensors(build(config, dataclasses.replace(OLD, size=224)))
    assert {name.rpartition(".")[0] for name in layouts} >= {"network.aux.3.7", "network.aux.4.7"}
    assert len(layouts) == 6


@pytest.mark.parametrize("backbone", REGISTRIES["backbone"])
def test_the_last_layer_of_every_network_makes_its_logits(backbone):
    with torch.device("meta"):
        network = build_network(backbone, 7)
    assert {len(layer.weight) for layer in network.outputs()} == {7}
    assert len(network.outputs()) == 1 + len(network.aux)


def test_what_is_of_other_shape_or_of_other_classes_is_left():
    source, model = made("classifier", OLD), made("classifier", dataclasses.replace(OLD, names=["x", "y", "z"]))
    moved = transfer(model, source.state_dict(), OLD)
    assert set(moved.left) == set(named_tensors(model)) and set(moved.left.values()) == {"the file has other classes"}
    wide = made("classifier with hidden layers", NEW)
    assert set(renamed(wide, {"network.head.last.weight": torch.zeros(3, 7)}, OLD).values()) == {None}
    anchors = made("yolo anchor", NEW)
    name = next(name for name in named_tensors(anchors) if name.endswith("weight"))
    two_anchors = torch.zeros(2 * 3, *anchors.state_dict()[name].shape[1:])  # of three classes; the model has three
    assert renamed(anchors, {name: two_anchors}, OLD)[name] is None


def test_the_list_says_which_classes_are_taken(capsys):
    model = made("yolo_points", NEW)
    begin(
        model,
        Source("--weights W", made("yolo_points", OLD).state_dict(), Preprocess(), "model", metadata=OLD),
        tell=True,
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:] == [
        "  classes taken by name (2): c, a",
        "  classes starting fresh (2): d, e",
        "  classes of the file not used (1): b",
        "  keypoints taken by name (1): middle",
        "  keypoints starting fresh (1): nose",
        "  keypoints of the file not used (2): left_end, right_end",
    ]
    many = ModelMetadata([str(i) for i in range(80)], list(range(80)))
    begin(
        made("classifier", OLD),
        Source("--weights W", made("classifier", many).state_dict(), Preprocess(), "model", metadata=many),
        tell=True,
    )
    long = next(line for line in capsys.readouterr().err.splitlines() if "not used (80): " in line)
    assert long.endswith(": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …")
    same = made("classifier", OLD)
    begin(
        same,
        Source("--weights W", made("classifier", OLD).state_dict(), Preprocess(), "model", metadata=OLD),
        tell=True,
    )
    assert capsys.readouterr().err.splitlines()[1:] == ["  classes taken by name (3): a, b, c"]
    begin(same, Source("--pretrained", made("classifier", OLD).state_dict(), Preprocess(), "model"), tell=True)
    assert "classes: taken in the order of the file, which has no names for them" in capsys.readouterr().err


def test_old_weights_with_two_classes_of_one_name_are_told_apart_by_id_or_refused():
    twins = dataclasses.replace(OLD, names=["a", "a", "c"], category_ids=[0, 1, 2])
    new = dataclasses.replace(OLD, names=["c", "a"], category_ids=[2, 1])
    source, model = made("classifier", twins), made("classifier", new)
    transfer(model, source.state_dict(), twins)
    last = next(iter(named_tensors(model)))
    assert torch.equal(model.state_dict()[last], source.state_dict()[last][[2, 1]])
    with pytest.raises(UserError, match=r"'a' several times \(ids 0, 1\), none of id 5"):
        transfer(model := made("classifier", dataclasses.replace(new, category_ids=[2, 5])), source.state_dict(), twins)


def test_training_on_the_same_classes_in_another_order_begins_where_it_was(digits, tmp_path, monkeypatch, one_thread):
    weights = train(settings(digits, tmp_path / "first", epochs=1))
    data = tmp_path / "turned"
    shutil.copytree(digits, data)
    for path in data.glob("instances_*.json"):
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 900 - one["id"], "name": one["name"]} for one in content["categories"]]
        content["annotations"] = [{**one, "category_id": 900 - one["category_id"]} for one in content["annotations"]]
        path.write_text(json.dumps(content))
    model = ready(settings(data, tmp_path / "second", weights=str(weights)), monkeypatch).run.model
    _, metadata, tensors = read_weights(weights)
    assert model.metadata.names == metadata.names[::-1]
    named = named_tensors(model)
    assert named
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, tensors[name].flip(0) if name in named else tensors[name]), name
