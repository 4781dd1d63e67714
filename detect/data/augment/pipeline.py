"""The transforms that the configuration names: albumentations, and those registered in the kind "transform".

A transform is a class. Its arguments come from the configuration, its result replaces image and target:

    from detect.registry import register

    @register("transform", "grayscale")
    class Grayscale:
        def __init__(self, p: float = 0.1) -> None:
            self.p = p

        def __call__(
            self, image: np.ndarray, target: Target, rng: np.random.Generator
        ) -> tuple[np.ndarray, Target]:
            if rng.random() < self.p:
                image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
            return image, target

`augment.transforms: [{grayscale: {p: 0.2}}]` applies it. The image is (H, W, 3) uint8 RGB and may be changed in place;
a result of another size is letterboxed to the canvas. A transform that moves pixels moves boxes, keypoints and outlines
with them (see `place` for the rule of visibility) and sets `Target.size`. It draws from `rng` alone, and keeps no state
between samples: then runs stay reproducible.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from detect.config.augment import AugmentConfig
from detect.errors import UserError, unknown
from detect.registry import REGISTRIES
from detect.types import Target

_BUILT_IN = {  # options that can replace transforms of albumentations where it is not installed
    "rotate": "Rotate SafeRotate RandomRotate90 ShiftScaleRotate Affine",
    "shear": "Affine",
    "scale": "RandomScale ShiftScaleRotate Affine",
    "translate": "ShiftScaleRotate Affine",
    "perspective": "Perspective",
    "warp": "ElasticTransform GridDistortion OpticalDistortion PiecewiseAffine GridElasticDeform",
    "crop": "RandomCrop RandomSizedCrop RandomResizedCrop RandomSizedBBoxSafeCrop AtLeastOneBBoxRandomCrop "
    "BBoxSafeRandomCrop RandomCropFromBorders RandomCropNearBBox",
    "flip": "HorizontalFlip",
    "hue": "HueSaturationValue ColorJitter",
    "saturation": "HueSaturationValue ColorJitter",
    "value": "HueSaturationValue ColorJitter RandomBrightnessContrast",
}


class Transform(Protocol):
    """Changes an image (H, W, 3) uint8 RGB and its target, with draws from `rng` alone."""

    def __call__(self, image: np.ndarray, target: Target, rng: np.random.Generator) -> tuple[np.ndarray, Target]: ...


def transforms(config: AugmentConfig, keypoints: bool, pad: int) -> list[Transform]:
    """Build the transforms of `config`: the albumentations pipeline, then the registered ones, in their order.

    Args:
        config: its `albumentations` and `transforms` are read.
        keypoints: whether targets have keypoints, which some transforms of albumentations cannot move.
        pad: fills the borders that transforms of albumentations bring in.

    Raises:
        UserError: a name or argument does not exist, or albumentations is not installed.
    """
    made: list[Transform] = [_albumentations(config, keypoints, pad)] if config.albumentations else []
    for item in config.transforms:
        if len(item) != 1:
            raise UserError(f"augment.transforms: expected {{transform: arguments}}, not {item!r}")
        ((name, arguments),) = item.items()
        made.append(_registered(name, arguments or {}))
    return made


def _registered(name: str, arguments: dict[str, Any]) -> Transform:
    kind = REGISTRIES["transform"][name]
    accepted = list(inspect.signature(kind).parameters)
    for key in arguments:
        if key not in accepted:
            raise unknown(f"argument of {name} in augment.transforms", key, accepted)
    try:
        transform: Transform = kind(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"augment.transforms: {name}: {' '.join(str(error).split())}") from None
    return transform


def _albumentations(config: AugmentConfig, keypoints: bool, pad: int) -> Transform:
    try:
        from detect.data.augment.albumentations_adapter import Pipeline  # late: it need not be installed
    except ModuleNotFoundError as error:
        fields: dict[str, list[str]] = {}  # options of ours, for each transform that they can replace
        for name in _names(config.albumentations):
            fields[name] = [f"augment.{ours}" for ours, theirs in _BUILT_IN.items() if name in theirs.split()]
        instead = "; ".join(f"{', '.join(ours)} for {name}" for name, ours in fields.items() if ours)
        raise UserError(
            "augment.albumentations needs an extra: pip install 'gridhead[albumentations]'"
            + (f", or use {instead}" if instead else "")
        ) from error
    return Pipeline(config.albumentations, config.visibility, keypoints, pad)


def _names(spec: Any) -> Iterator[str]:
    """The transforms that a pipeline names, those inside compositions too."""
    for item in spec if isinstance(spec, list) else ():
        for name, arguments in item.items() if isinstance(item, dict) else ():
            inner = arguments.get("transforms") if isinstance(arguments, dict) else None
            yield from _names(inner) if inner else [str(name)]
