"""Options that nothing would read: refused in one line, not ignored."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from detect.errors import UserError

_DETECT, _CLASSIFY = ("task", "detect"), ("task", "classify")
_ANCHORS = ("model.head", "anchor", "grid")

# Command -> (what decides, the values under which they are read) -> options. What decides is an option too, but for
# the task of a weights file.
RULES: dict[str, dict[tuple[str, ...], str]] = {
    "train": {
        ("model.kind", "classifier"): "model.hidden model.loss.smoothing",
        ("model.kind", "classifier", "sliding_window"): "model.padding",
        ("model.kind", "sliding_window"): "model.window model.scale_step model.regress",
        ("model.kind", "sliding_window", "yolo"): "model.loss.box model.loss.classes",
        (
            "model.kind",
            "yolo",
        ): "model.neck model.head model.assigner model.levels model.width model.depth model.tower model.anchors "
        "model.anchors_per_level model.loss.code model.loss.objectness model.loss.box_kind model.loss.class_kind "
        "augment.mosaic augment.mosaic_off augment.mixup augment.visibility augment.flip_pairs repeat",
        _ANCHORS: "model.anchors model.loss.objectness",
        ("balance", "sampling"): "repeat",
        ("cache_features", "true"): "features",
    },
    "evaluate": {_CLASSIFY: "crops", _DETECT: "conf iou max_det detections"},
    "predict": {_DETECT: "iou agnostic soft save_txt save_crop"},
}
_KINDS = {"detect": "detectors", "classify": "classifiers"}


def refuse_unused(command: str, config: Any, task: str = "") -> None:
    """Raises UserError for an option of `config` that was set and that `command` would not read.

    `task` is that of the weights where `config` has none; without either, only what does not depend on it is looked at.
    """
    for (decider, *values), options in RULES.get(command, {}).items():
        decided = task if decider == "task" and task else _value(config, decider)
        if decided is None or str(decided).lower() in values:
            continue
        for option in options.split():
            if _value(config, option) != _default(config, option):
                raise UserError(f"{_flag(option)} {_reason(config, decider, values, task)}")


def _reason(config: Any, decider: str, values: list[str], task: str) -> str:
    if task:
        return f"is for {_KINDS[values[0]]}, and {config.weights} is none: leave it out"
    flag = f"{_flag(decider)} {' or '.join(values)}".removesuffix(" true")
    return f"is read with {flag} alone: leave it out, or give that"


def _flag(option: str) -> str:
    return f"--{option if '.' in option else option.replace('_', '-')}"


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def _default(config: Any, name: str) -> Any:
    *above, last = name.split(".")
    for part in above:
        config = getattr(config, part)
    default = next(f for f in fields(config) if f.name == last)
    return default.default_factory() if default.default_factory is not MISSING else default.default
