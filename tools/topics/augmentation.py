"""Augmentation: each way of changing an image alone, and what a network gets of one image in several epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detect.config.augment import AugmentConfig
from detect.data.augment.transforms import Augmenter, ImageTarget, mosaic, single
from detect.types import Preprocess, Target
from tools.drawing import Tile, photograph, sheet
from tools.look import annotate

SIDE, PAD = 224, 114
OFF = AugmentConfig(mosaic=0, scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)
ALONE: dict[str, dict[str, Any]] = {  # options of detect train, and a value that shows
    "as it is": {},
    "flip": {"flip": 1.0},
    "crop 1": {"crop": 1.0},
    "scale 0.5": {"scale": 0.5},
    "translate 0.2": {"translate": 0.2},
    "rotate 20": {"rotate": 20.0},
    "shear 20": {"shear": 20.0},
    "perspective 0.3": {"perspective": 0.3},
    "warp 0.04": {"warp": 0.04},
    "hue 0.1": {"hue": 0.1},
    "saturation 0.7": {"saturation": 0.7},
    "value 0.4": {"value": 0.4},
}
BOXES = {"china": [[60.0, 55, 350, 415], [548, 160, 639, 425]], "flower": [[222.0, 110, 484, 402]]}
NAMES = ["pagoda", "tree", "flower"]


def draw() -> dict[str, np.ndarray]:
    """Each option alone, and eight samples of two epochs with the defaults of `detect train`."""
    return {"augmentation": _alone(), "augmentation_samples": _samples()}


def labelled(name: str) -> ImageTarget:
    """A photograph with its boxes."""
    image, boxes = photograph(name).copy(), torch.tensor(BOXES[name])
    labels = torch.tensor([0, 1] if name == "china" else [2])
    return ImageTarget(image, Target(boxes, labels, torch.zeros(len(boxes), dtype=torch.bool), 0, image.shape[:2]))


def augmented(tiles: list[ImageTarget], config: AugmentConfig, seed: int) -> np.ndarray:
    """A sample of one image, or a mosaic of four, with its boxes drawn."""
    rng = np.random.default_rng(seed)
    if len(tiles) > 1:
        image, target = mosaic(tiles, SIDE, config, rng, PAD)
    else:
        image, target = single(tiles[0], SIDE, config, rng, PAD)
    return annotate(*Augmenter(config, Preprocess())(image, target, SIDE, rng), NAMES)


def _alone() -> np.ndarray:
    tiles: list[Tile] = [
        (name, augmented([labelled("china")], replace(OFF, **options), 103)) for name, options in ALONE.items()
    ]
    return sheet(tiles, 4, gap=10)


def _samples() -> np.ndarray:
    """What two epochs show: three samples of one image, and a mosaic."""
    defaults, tiles = AugmentConfig(), list[Tile]()
    for epoch in (1, 2):
        for i in range(3):
            name = ("china", "flower", "china")[i]
            sample = augmented([labelled(name)], defaults, 10 * epoch + i)
            tiles.append((f"epoch {epoch}, sample {i + 1}", sample))
        four = [labelled(name) for name in ("china", "flower", "flower", "china")]
        tiles.append((f"epoch {epoch}, a mosaic", augmented(four, defaults, 100 + epoch)))
    return sheet(tiles, 4, gap=10)
