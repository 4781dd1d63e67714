"""The configuration: frozen dataclasses that a YAML file and the command line fill, ranges checked in one place each.

This file imports neither torch nor numpy, so that `detect --help` and configuration errors are quick.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from detect.errors import UserError, unknown

_HERE = Path(__file__).parent
CONFIGS = next(p for p in (_HERE / "configs", _HERE.parent / "configs") if p.is_dir())

SCHEDULES = ("cosine", "linear", "step", "exponential", "constant")
OPTIMIZERS = ("sgd", "adamw", "adam", "adagrad", "rmsprop")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; a head uses those it has."""

    box: float = 5.0
    distance: float = 1.0
    classes: float = 1.0
    objectness: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """A network: each part is a name in its registry."""

    name: str = "yolo_n"
    kind: str = "yolo"
    backbone: str = "csp_n"
    neck: str = "pan"
    head: str = "point"
    assigner: str = "task_aligned"
    levels: list[int] = field(default_factory=lambda: [3, 4, 5])
    width: int = 64
    depth: int = 1
    in_channels: int = 3
    anchors: list[list[float]] = field(default_factory=list)
    anchors_per_level: int = 3
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class OptimConfig:
    """Optimizer and schedule. `lr` is for a batch of 16 (all ranks and accumulation together), scaled by batch / 16."""

    name: str = "adamw"
    lr: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 0.05
    schedule: str = "cosine"
    final: float = 0.01
    warmup: float = 3.0
    milestones: list[float] = field(default_factory=lambda: [0.6, 0.85])
    gamma: float = 0.1
    clip: float = 10.0
    accumulate: int = 1
    ema: float = 0.999


@dataclass(frozen=True)
class AugmentConfig:
    """How training images are varied. Probabilities are 0..1; hue, saturation and value are relative gains.

    `scale` s draws a zoom from [1 - s, 1 + s]; `translate` t shifts by up to t of the side; a box is kept when at least
    `visibility` of its area stays in the picture. `albumentations` is a list of {transform: arguments}.
    """

    mosaic: float = 1.0
    mosaic_off: int = 10
    mixup: float = 0.0
    scale: float = 0.5
    translate: float = 0.1
    flip: float = 0.5
    hue: float = 0.015
    saturation: float = 0.7
    value: float = 0.4
    visibility: float = 0.1
    flip_pairs: list[list[int]] = field(default_factory=list)
    albumentations: list[dict[str, dict]] = field(default_factory=list)
