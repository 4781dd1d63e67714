"""Learning from federated images: which negatives count, and how the regions of targets follow their images."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from detect.config.augment import AugmentConfig
from detect.data.annotations import Annotations
from detect.data.augment.complete_regions import spread_regions
from detect.data.augment.transforms import Augmenter, ImageTarget, letterboxed, merge, mirror, mosaic, single
from detect.data.datasets.detection import CocoDataset
from detect.data.datasets.windows import WindowDataset
from detect.data.federation import Federation
from detect.data.loader import TrainLoader
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.losses.federated import complete_at, known, without_unknown
from detect.types import Preprocess, Target
from tests.reference.models import with_anchors

pytestmark = pytest.mark.usefixtures("one_thread")

CARD = ModelMetadata(["a", "b", "c"], [1, 7, 9], size=64)
SMALL = {
    "yolo_n": {"width": 8},
    "yolox_nano": {"width": 8},
    "picodet_s": {},
    "faster_rcnn": {"width": 8, "hidden": [8]},
    "sliding_window": {"backbone": "lenet5"},
}


def target(complete=None, regions=((0.0, 0.0, 64.0, 64.0),)) -> Target:
    boxes = torch.tensor([[8.0, 8, 40, 44], [30, 20, 60, 60]])
    known_in = {} if complete is None else {"complete": torch.tensor(complete), "complete_in": torch.tensor(regions)}
    return Target(boxes, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool), 0, (64, 64), **known_in)


def model(name: str):
    torch.manual_seed(0)
    return build(with_anchors(dataclasses.replace(model_config(name), **SMALL[name])), CARD).train()


def raw_and_logits(net, targets: list[Target]):
    """The output of a model whose logits are a leaf, so that their gradient is that of the loss alone."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (len(targets), 3, 64, 64), dtype=torch.uint8, generator=generator)
    torch.manual_seed(0)
    raw = net(images, targets)
    logits = raw.logits.detach().clone().requires_grad_()
    return raw._replace(logits=logits), logits


def class_loss(net, targets: list[Target]) -> tuple[torch.Tensor, torch.Tensor]:
    raw, logits = raw_and_logits(net, targets)
    loss = net.loss(raw, targets)["classes"].total
    return loss.detach(), torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("name", SMALL)
def test_negatives_of_classes_that_were_not_checked_teach_nothing(name):
    net = model(name)
    loss, gradient = class_loss(net, [target()] * 2)
    same, same_gradient = class_loss(net, [target([[True] * 3])] * 2)
    assert torch.equal(loss, same) and torch.equal(gradient, same_gradient)  # what is complete is an ordinary set
    assert gradient[..., 2].abs().sum() > 0
    _, partly = class_loss(net, [target([[True, True, False]]), target([[True] * 3])])
    assert partly[0, :, 2].abs().sum() == 0 and partly[1, :, 2].abs().sum() > 0
    _, none = class_loss(net, [target([[False] * 3])] * 2)
    pushed_down = (none[..., :3] > 0).sum() if name == "yolox_nano" else (none[..., 2] != 0).sum()
    assert none[..., :2].abs().sum() > 0 and pushed_down == 0  # positives still teach their own class


@pytest.mark.parametrize("name", ["yolo_n", "faster_rcnn"])
def test_a_region_holds_for_the_priors_in_it(name):
    net = model(name)
    half = target([[True, True, False]], [(0.0, 0.0, 31.0, 64.0)])
    raw, _ = raw_and_logits(net, [half])
    centres = raw.priors.centers if name == "yolo_n" else (raw.boxes[0, :, :2] + raw.boxes[0, :, 2:]) / 2
    _, gradient = class_loss(net, [half])
    inside = centres[:, 0] <= 31
    assert gradient[0, inside, 2].abs().sum() == 0 and gradient[0, ~inside, 2].abs().sum() > 0


def test_complete_at_is_what_loops_say():
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.integers(0, 65, (40, 2))).float()
    targets = []
    for count in (1, 4, 0):
        regions = np.sort(rng.integers(0, 65, (count, 2, 2)), axis=1).reshape(count, 4)
        targets.append(target(rng.random((count, 3)) < 0.5, regions.astype(np.float32)))
    found = complete_at(points, targets)
    for n, one in enumerate(targets):
        for p, (x, y) in enumerate(points.tolist()):
            there = [
                r for r, (x0, y0, x1, y1) in enumerate(one.complete_in.tolist()) if x0 <= x <= x1 and y0 <= y <= y1
            ]
            assert found[n, p].tolist() == [all(bool(one.complete[r, c]) for r in there) for c in range(3)]
    assert complete_at(points, [target(), target()]) is None


def test_unknown_classes_leave_a_softmax_and_a_sum():
    logits, complete = torch.zeros(2, 4), torch.tensor([[True, False, False], [True, True, True]])
    left = without_unknown(logits, torch.tensor([1, 3]), complete)
    assert torch.isinf(left).tolist() == [[False, False, True, False], [False] * 4]
    assert without_unknown(logits, torch.tensor([1, 3]), None) is logits
    used, soft = torch.tensor([True, False]), torch.tensor([[0.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert known(used, soft, complete).tolist() == [[True, True, False], [False, False, False]]


def tile(label: int) -> ImageTarget:
    one = target([[k == label for k in range(3)]])
    return ImageTarget(np.full((64, 64, 3), 80, np.uint8), dataclasses.replace(one, labels=torch.full((2,), label)))


def inside(target: Target) -> bool:
    """Whether each box lies in the regions in which its class is complete."""
    for box, label in zip(target.boxes, target.labels.tolist(), strict=True):
        region = target.complete_in[target.complete[:, label]]
        if not ((region[:, :2] <= box[:2] + 1e-3) & (box[2:] <= region[:, 2:] + 1e-3)).all(1).any():
            return False
    return True


@pytest.mark.parametrize("seed", range(8))
def test_regions_go_where_their_images_go(seed):
    rng, config = np.random.default_rng(seed), AugmentConfig(crop=0.5)
    _, four = mosaic([tile(k) for k in (0, 1, 2, 0)], 96, config, rng, 114)
    assert four.complete.shape == (4, 3) and inside(four) and inside(mirror(four, None))
    _, one = single(tile(1), 96, config, rng, 114)
    assert one.complete.shape == (1, 3) and inside(one)
    _, boxed = letterboxed(tile(2), 128, Preprocess())
    assert inside(boxed) and boxed.complete_in.tolist() == [[0, 0, 128, 128]]
    both = merge([four, one], (96, 96))
    assert both.complete.shape == (5, 3) and inside(both)
    bent = mosaic([tile(k) for k in (0, 1, 2, 0)], 96, AugmentConfig(rotate=10), rng, 114)[1]
    assert bent.complete_in.tolist() == [[0, 0, 96, 96]] * 4


def test_a_named_transform_spreads_regions_over_the_canvas():
    one = dataclasses.replace(target([[True, False, True]], [(1.0, 2.0, 3.0, 4.0)]), size=(32, 48))
    assert spread_regions(one)["complete_in"].tolist() == [[0, 0, 48, 32]] and spread_regions(target()) == {}
    augmenter = Augmenter(AugmentConfig(flip=0), Preprocess())
    augmenter.transforms = [lambda image, target, rng: (image, target)]
    _, spread = augmenter(
        np.zeros((64, 64, 3), np.uint8), target([[True] * 3], [(1.0, 2.0, 3.0, 4.0)]), 64, np.random.default_rng(0)
    )
    assert spread.complete_in.tolist() == [[0, 0, 64, 64]]


def federated(annotations: Annotations) -> Annotations:
    """Annotations that say of each image that it was checked for the classes of its objects alone."""
    starts = annotations.starts.tolist()
    checked = [set(annotations.labels[a:b].tolist()) for a, b in pairwise(starts)]
    federation = Federation.of(checked, [set()] * len(annotations))
    return dataclasses.replace(annotations, federation=federation, measured_as="lvis")


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_bring_what_is_complete_and_those_of_ordinary_sets_nothing(digits, workers):
    annotations = load_data(digits, "train")
    dataset = CocoDataset(federated(annotations), 64, AugmentConfig(), epochs=1)
    batch = next(TrainLoader(dataset, 64, 4, workers=workers).epoch(0))
    for one in batch.targets:
        assert one.complete.dtype == torch.bool and one.complete.shape[1] == len(annotations.names) and inside(one)
    plain = CocoDataset(annotations, 64, AugmentConfig(), epochs=1)
    key = SampleKey(0, 0, 64)
    (image, ordinary), (other, told) = plain[key], dataset[key]
    assert ordinary.complete is None and ordinary.complete_in is None and np.array_equal(image, other)
    assert torch.equal(ordinary.boxes, told.boxes)


def test_windows_know_what_their_image_was_checked_for(digits):
    dataset = WindowDataset(federated(load_data(digits, "train")), 96, 32, augment=AugmentConfig())
    _, one = dataset[SampleKey(0, 0, 96)]
    assert one.complete_in.tolist() == [[0, 0, 32, 32]] and one.complete[0, one.labels].all()
