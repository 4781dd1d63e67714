"""Transforms that a plugin registers, named in `augment.transforms`."""

from dataclasses import replace

import numpy as np
import pytest

from detect.config.augment import AugmentConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.rng import SampleKey
from detect.errors import UserError
from detect.registry import REGISTRIES, register
from tests.reference.scenes import Store

STILL = AugmentConfig(mosaic=0, scale=0, translate=0, hue=0, saturation=0, value=0, flip=0)


@pytest.fixture(autouse=True)
def halved(monkeypatch):
    """A transform that keeps the left half of an image, at a chance."""
    monkeypatch.setattr(REGISTRIES["transform"], "_entries", {})
    monkeypatch.setattr(REGISTRIES["transform"], "_modules", {})

    @register("transform", "left_half")
    class LeftHalf:
        def __init__(self, p: float = 1.0) -> None:
            self.p = float(p)

        def __call__(self, image, target, rng):
            if rng.random() >= self.p:
                return image, target
            image = image[:, : image.shape[1] // 2]
            boxes = target.boxes.clamp(max=image.shape[1])
            return image, replace(target, boxes=boxes, size=image.shape[:2])[boxes[:, 2] > boxes[:, 0]]


def test_a_registered_transform_changes_image_and_target_and_the_canvas_stays():
    plain = CocoDataset(Store(6), 96, STILL)
    changed = CocoDataset(Store(6), 96, replace(STILL, transforms=[{"left_half": {"p": 1}}]))
    for position in range(6):
        key = SampleKey(0, position, 96)
        (image, target), (other, half) = plain[key], changed[key]
        assert other.shape == image.shape and half.size == target.size == (96, 96)
        assert (other[:, :20] == 114).all()  # a half is higher than wide
        assert len(half) <= len(target)


def test_draws_of_a_transform_are_those_of_its_sample():
    spec = replace(STILL, transforms=[{"left_half": {"p": 0.5}}])
    samples = [[CocoDataset(Store(8), 64, spec)[SampleKey(1, p, 64)][0] for p in range(8)] for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(*samples, strict=True))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"left_hal": {}}, "did you mean 'left_half'"),
        ({"left_half": {"q": 1}}, "argument of left_half"),
        ({"left_half": {"p": "often"}}, "left_half: could not convert"),
        ({"left_half": {}, "other": {}}, "expected {transform: arguments}"),
    ],
)
def test_wrong_transforms_are_one_clear_line(spec, message):
    with pytest.raises(UserError, match=message) as error:
        CocoDataset(Store(2), 64, replace(STILL, transforms=[spec]))
    assert "\n" not in str(error.value)
