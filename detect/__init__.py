"""gridhead: train a detector on COCO-format data, measure it with COCO's numbers, run it on images and video."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from detect.api import Detector as Detector
    from detect.types import Classification as Classification
    from detect.types import Detections as Detections
    from detect.types import Embedding as Embedding
    from detect.types import Frame as Frame
    from detect.types import Postprocess as Postprocess
    from detect.types import Target as Target

from detect.errors import UserError
from detect.utils import telemetry

telemetry.turn_off()

__all__ = [
    "Classification",
    "Detections",
    "Detector",
    "Embedding",
    "Frame",
    "Postprocess",
    "Target",
    "UserError",
    "anchors",
    "evaluate",
    "label",
    "load",
    "train",
]

_LATE = {"Detector": "detect.api"} | dict.fromkeys(
    ("Classification", "Detections", "Embedding", "Frame", "Postprocess", "Target"), "detect.types"
)


def __getattr__(name: str) -> Any:
    """Names that need torch, imported when first asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module 'detect' has no attribute {name!r}")


def _command(name: str, values: dict[str, Any]) -> Any:
    from detect.cli.parser import from_values
    from detect.commands import function_of

    return function_of(name)(from_values(name, values))


def load(weights: str | Path | Sequence[str | Path], device: str = "auto", precision: str = "auto") -> Detector:
    """Load a model for prediction; see `Detector.predict`.

    Args:
        weights: weights file, exported file, or name of published weights. Several detectors: their boxes are fused;
            several embedders: their squared distances are averaged.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: auto, float32, bfloat16 or float16.
    """
    from detect.ensemble import open_detector

    one = [weights] if isinstance(weights, str) or not isinstance(weights, Sequence) else weights
    return open_detector(one, device, precision)


def train(**flags: Any) -> Path:
    """`detect train`: flags as keywords, deeper ones as {"optim.lr": 0.005}. Returns the path of the best weights."""
    best: Path = _command("train", flags)
    return best


def evaluate(**flags: Any) -> dict[str, Any]:
    """`detect evaluate`: returns the metrics by name, as the `result` of the task's evaluator.

    Of boxes they are the twelve COCO numbers and `per_class`; of masks also `mask_AP` … and `mask_per_class`, and
    `boundary_AP` … with `boundary=True`; of classifiers those of `ClassEvaluator`.
    """
    numbers: dict[str, Any] = _command("evaluate", flags)
    return numbers


def anchors(**flags: Any) -> dict[str, Any]:
    """`detect anchors`: returns `anchors`, `mean_iou` and `recall`."""
    found: dict[str, Any] = _command("anchors", flags)
    return found


def label(**flags: Any) -> list[str]:
    """`detect label`: writes predictions as labels, or joins corrected ones. Returns lines that tell how to go on."""
    lines: list[str] = _command("label", flags)
    return lines
