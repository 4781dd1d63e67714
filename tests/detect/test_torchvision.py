"""torchvision's state dictionaries give torchvision's numbers here: Faster R-CNN, and ImageNet classifiers."""

import os
from pathlib import Path

import cv2
import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

import detect
from detect.cli.parser import parse
from detect.convert.coco_classes import IDS, NAMES
from detect.convert.open import open_model
from detect.convert.published import PublishedFile
from detect.data.images import read_image
from detect.data.letterbox import Letterbox
from detect.errors import UserError
from detect.models.weights import load_weights
from detect.registry import REGISTRIES
from detect.training.transfer import find_source
from detect.types import Postprocess

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
UNUSED = [i for i in range(1, 91) if i not in IDS]
CLASSIFIERS = [name for name in REGISTRIES["backbone"] if name in models.list_models(module=models)]
OURS = {"alexnet", "googlenet"}  # the papers' networks, which differ from torchvision's
SMALL = ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "efficientnet_b0"]

pytestmark = pytest.mark.usefixtures("one_thread")


def their_detector(norm: type, classes: int = 91, kind: type = FasterRCNN) -> FasterRCNN:
    """Random weights whose scores spread; like the released ones, they never name an id that COCO does not use."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm)
    net = kind(body, classes, min_size=96, max_size=160, representation_size=64, box_detections_per_img=1000).eval()
    spread_statistics(net)
    predictor, rpn = net.roi_heads.box_predictor, net.rpn.head
    with torch.no_grad():
        for layer, gain in (
            (rpn.cls_logits, 30),
            (rpn.bbox_pred, 10),
            (predictor.cls_score, 20),
            (predictor.bbox_pred, 5),
        ):
            layer.weight.mul_(gain)
        predictor.cls_score.bias[[i for i in UNUSED if i < classes]] = -100.0
    return net


def spread_statistics(net: nn.Module) -> None:
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, FrozenBatchNorm2d | nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
            if isinstance(layer, FrozenBatchNorm2d):
                layer.eps = 0.0  # as torchvision sets it for the released weights


def released_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names in the released file, which is older than the numbers that torchvision has put between them."""
    for old, new in ((".conv.0.0.", ".conv."), *((f"_blocks.{i}.0.", f"_blocks.{i}.") for i in range(4))):
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """torchvision's network with frozen normalization, and its file."""
    net, path = their_detector(FrozenBatchNorm2d), tmp_path_factory.mktemp("torchvision") / "released.pth"
    torch.save(released_names(net.state_dict()), path)
    return net, path


def images():
    """Photos of which nothing is padded; the second side has an odd number of cells of the coarsest backbone map."""
    folder = DATA / "coco-mini"
    files = sorted(folder.rglob("*.jpg"))[:2]
    if not files:
        pytest.skip("no coco-mini: set GRIDHEAD_DATA")
    return [cv2.resize(read_image(file), (128, 96)) for file in files]


def compare(found, wanted) -> None:
    """Each has its like, but for few where rounding decides: at the thresholds of score and of overlap."""
    assert len(wanted["scores"]) > 100 and wanted["scores"].max() > 0.3
    ours, theirs = torch.tensor(IDS)[found.labels], wanted["labels"]
    gaps = torch.cdist(found.boxes, wanted["boxes"], compute_mode="donot_use_mm_for_euclid_dist")
    gaps += 100 * (ours[:, None] != theirs) + 100 * (found.scores[:, None] - wanted["scores"]).abs()
    assert all((gaps.amin(side) < 0.1).float().mean() > 0.99 for side in (0, 1))


def test_detections_are_those_of_torchvision(released):
    net, path = released
    detector = detect.load(path, "cpu", "float32")
    assert (detector.model.config.name, detector.metadata.names) == ("faster_rcnn_resnet18", NAMES)
    for image in images():
        found = detector.predict(image, conf=0.05, iou=0.5, max_det=1000, imgsz=96)[0][1]
        with torch.no_grad():
            wanted = net([torch.from_numpy(image).permute(2, 0, 1) / 255])[0]
        compare(found, wanted)


@pytest.mark.slow
def test_masks_are_those_of_torchvision(tmp_path, monkeypatch):
    """Before they are pasted into the image: torchvision rounds boxes to whole pixels."""
    net, image = their_detector(FrozenBatchNorm2d, kind=MaskRCNN), images()[0]
    torch.save(net.state_dict(), tmp_path / "w.pth")
    model = open_model(tmp_path / "w.pth")
    assert (model.config.name, model.task, model.config.mask_width) == ("mask_rcnn_resnet18", "segment", 256)
    net.roi_heads.detections_per_img = 20
    monkeypatch.setattr(net.transform, "postprocess", lambda found, *_: found)
    given = torch.from_numpy(image).permute(2, 0, 1)
    with torch.no_grad():
        found = model.postprocess(model(given[None]), Postprocess(0.05, 0.5, 20))[0]
        wanted = net([given / 255])[0]
    assert torch.allclose(found.scores, wanted["scores"], atol=1e-3) and len(found) == 20
    assert (found.masks.values - wanted["masks"][:, 0]).abs().max() < 1e-2
    assert wanted["masks"].std() > 0.05


def test_normalization_that_was_trained_stays_so(tmp_path):
    net = their_detector(nn.BatchNorm2d)
    torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    model, image = open_model(tmp_path / "w.pth"), images()[0]
    assert not model.metadata.folded
    given = torch.from_numpy(image).permute(2, 0, 1)
    with torch.no_grad():
        found = model.postprocess(model(given[None]), Postprocess(0.05, 0.5, 1000))[0]
        compare(found, net([given / 255])[0])


@pytest.mark.parametrize("side", [(480, 640), (640, 480), (427, 640), (200, 900)])
def test_images_get_the_sides_that_torchvision_gives_them(released, side):
    height, width = side
    fit = Letterbox.fit(side, 800, open_model(released[1]).metadata.preprocess)
    scale = min(800 / min(side), 1333 / max(side))
    assert abs(fit.inner[0] - scale * height) <= 1 and abs(fit.inner[1] - scale * width) <= 1
    assert (fit.left, fit.top) == (0, 0) and fit.canvas == tuple(-(-n // 32) * 32 for n in fit.inner)


def test_fine_tuning_begins_with_its_size_and_knows_that_it_was_frozen(released):
    config = parse("train", ["--data", "toy", "--weights", str(released[1])])
    assert (config.model.kind, config.imgsz, config.task) == ("faster_rcnn", 800, "detect")
    assert find_source(config).folded


@pytest.mark.slow
def test_it_is_fine_tuned_like_any_other(released, digits, tmp_path):
    flags = {"imgsz": 96, "batch": 8, "workers": 0, "device": "cpu", "out": tmp_path / "run", "data": digits}
    best = load_weights(detect.train(weights=released[1], epochs=1, **flags))
    assert len(best.metadata.names) == 10 and best.metadata.preprocess.long_side > 1.6
    assert best.metadata.folded is False  # the statistics were measured first


def in_memory(path: Path, state: dict[str, torch.Tensor]) -> PublishedFile:
    file = PublishedFile(path)
    file.__dict__["state"] = state
    return file


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s.pop("rpn.head.bbox_pred.weight"), "bbox_pred.weight is absent"),
        (lambda s: s.update({"rpn.head.conv.1.0.weight": torch.ones(1)}), "conv.1.0.weight is not known"),
        (lambda s: s.update({"roi_heads.box_predictor.bbox_pred.bias": torch.ones(7)}), "7"),
        (lambda s: s.update({"roi_heads.box_predictor.cls_score.bias": torch.ones(7)}), "out of bounds"),
        (lambda s: s.update({"backbone.fpn.inner_blocks.0.0.bias": torch.ones(10**7)}), "has shape"),
        (lambda s: s.pop("roi_heads.box_head.fc7.bias"), "fc7.bias"),
        (lambda s: s.update({"backbone.body.layer1.5.conv1.weight": torch.ones(1)}), "blocks"),
        (
            lambda s: s.update({"backbone.body.conv1.weight": torch.ones(64, 4, 7, 7)}),
            r"stages.0.0.weight has shape \[64, 4, 7, 7\]",
        ),
    ],
)
def test_another_faster_rcnn_is_refused_in_one_line(released, tmp_path, spoil, said):
    state = dict(released[0].state_dict())
    spoil(state)
    with pytest.raises(UserError, match=said) as caught:
        REGISTRIES["importer"]["faster_rcnn"](in_memory(tmp_path / "w.pth", state))
    assert "\n" not in str(caught.value) and "w.pth" in str(caught.value)


def test_classes_of_its_own_need_names(tmp_path):
    net = their_detector(nn.BatchNorm2d, 4)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="COCO has 80 classes, the network 3: give detect import a file of --names"):
        open_model(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in CLASSIFIERS if n not in OURS]
)
def test_a_classifier_gives_the_logits_of_torchvision(name, tmp_path):
    torch.manual_seed(0)
    theirs = models.get_model(name, **({"transform_input": True} if name == "inception_v3" else {})).eval()
    spread_statistics(theirs)
    state = theirs.state_dict()
    if name == "resnet18":  # files of before batches were counted
        state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / f"{name}-0a1b2c3d.pth")
    model = open_model(tmp_path / f"{name}-0a1b2c3d.pth")
    preset = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    assert (model.task, model.config.name, model.metadata.size) == ("classify", name, preset.crop_size[0])
    assert len(set(model.metadata.names)) == 1000 and model.metadata.names[0] == "tench"
    side = 299 if name == "inception_v3" else 96  # its auxiliary classifier needs that
    image = torch.randint(0, 256, (1, 3, side, side), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preset.mean, preset.std))
    with torch.no_grad():
        found, wanted = model(image).logits, theirs((image / 255 - mean) / std)
    assert (found - wanted).abs().max() < 1e-4 * max(1.0, float(wanted.abs().max()))  # random ones may be huge


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_network_that_differs_from_ours_is_not_taken_for_it(name, tmp_path):
    with torch.device("meta"):
        state = models.get_model(name, **({"init_weights": False} if name == "googlenet" else {})).state_dict()
    assert REGISTRIES["importer"]["imagenet"](in_memory(tmp_path / f"{name}.pth", state)) is None


@pytest.mark.parametrize(
    ("file", "name", "order"),
    [
        ("efficientnet_lite0/efficientnet-lite0-57934424_fp16.pth", "efficientnet_lite0", "RGB"),
        ("squeezenet1.1/squeezenet1_1_fp16_torchvision_keys.pth", "squeezenet1_1", "BGR"),
    ],
)
def test_the_local_classifiers_see_what_is_there(file, name, order):
    path = DATA / "weights" / file
    if not path.exists():
        pytest.skip(f"no {file}: set GRIDHEAD_DATA")
    detector = detect.load(path, "cpu")
    assert (detector.model.config.name, detector.metadata.preprocess.order) == (name, order)
    assert len(detector.metadata.names) == 1000
