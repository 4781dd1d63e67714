"""Options that nothing would read: refused in one line, not ignored."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.tasks import Task, get_task

_YOLO, _FAST = ("yolo", "yolo_points"), ("faster_rcnn", "fast_rcnn")
_RCNN = (*_FAST, "rcnn")
_TRACKING = "tracker.low tracker.margin tracker.memory tracker.appearance lines zones"
_WHOLE = "augment.stylized augment.crop"
_WARPS = "augment.rotate augment.shear augment.perspective augment.warp"
_PICTURES = f"augment.scale {_WARPS} augment.hue augment.saturation augment.albumentations {_WHOLE}"
_PICTURED = "multi_scale pixels pretrained cache_features"
_EMBEDDED = "model.dimensions model.mirror model.loss.embed model.loss.mining model.loss.margin each"
_DENSE = (*_YOLO, "darknet", "yolox")

# Command -> (the option that decides, the values under which they are read; none: any but its default) -> options.
RULES: dict[str, dict[tuple[str, ...], str]] = {
    "train": {
        ("model.kind", "classifier"): "model.dims",
        ("model.kind", "classifier", "embedder", "localizer", "landmarker", "sliding_window", *_RCNN): "model.hidden",
        ("model.kind", "classifier", "localizer"): "model.loss.smoothing",
        ("model.kind", "classifier", "sliding_window"): "model.padding",
        ("model.kind", "sliding_window", "rcnn"): "model.window",
        ("model.kind", "sliding_window"): "model.piece model.scale_step model.regress",
        ("model.kind", "sliding_window", "embedder"): "model.step",
        ("model.kind", "sliding_window", *_DENSE, "localizer", *_RCNN): "model.loss.box model.loss.classes",
        ("model.kind", *_DENSE): "model.assigner model.loss.class_kind",
        ("model.kind", *_YOLO, "faster_rcnn"): "model.anchors model.anchors_per_level",
        ("model.kind", *_DENSE, *_RCNN): "augment.mosaic augment.mosaic_off augment.mixup",
        ("model.kind", *_DENSE, "localizer"): "model.loss.box_kind",
        ("model.kind", *_DENSE, "localizer", *_RCNN): "repeat",
        ("model.kind", *_YOLO, "localizer", "landmarker", *_FAST): "model.neck",
        ("model.kind", *_YOLO, "yolox", "localizer", "landmarker", *_FAST): "model.width model.depth",
        ("model.kind", *_DENSE, "localizer", "landmarker", *_FAST): "model.head model.loss.objectness",
        ("model.kind", *_YOLO, "localizer", "landmarker", *_RCNN): "model.levels",
        ("model.kind", *_DENSE, "localizer", "landmarker", *_RCNN): "augment.visibility",
        ("model.kind", *_DENSE, "localizer", "landmarker", "classifier", "embedder", *_RCNN): _WHOLE,
        ("model.kind", *_YOLO, "landmarker"): "model.tower",
        ("model.kind", *_DENSE, "landmarker", "faster_rcnn"): "model.loss.code",
        ("model.kind", "darknet"): "model.graph",
        ("model.kind", "embedder"): _EMBEDDED,
        ("model.kind", "fast_rcnn", "rcnn"): "proposals",
        ("model.kind", "landmarker"): "model.loss.point_kind",
        ("model.kind", "landmarker", "yolo_points"): "model.loss.points augment.flip_pairs",
        ("model.kind", *_FAST): "model.pooling",
        ("model.kind", *_DENSE, "sliding_window", "localizer", "classifier", *_RCNN): "balance",
        ("model.head", "point", "anchor", "grid", "decoupled", "landmarks", "heatmap", "rpn"): "model.loss.code",
        ("model.head", "anchor", "grid", "rpn"): "model.anchors",
        (
            "model.head",
            "anchor",
            "grid",
            "decoupled",
            "rpn",
            "dense",
            "coordinates",
            "heatmap",
        ): "model.loss.objectness",
        ("model.loss.embed", "triplet"): "model.loss.mining",
        ("model.loss.embed", "triplet", "contrastive"): "model.loss.margin",
        ("model.dims", "2"): f"{_PICTURES} {_PICTURED}",
        ("balance", "sampling"): "repeat",
        ("resume", "true"): "resume_anyway",
        ("cache_features", "true"): "features",
        ("augment.stylized",): "augment.stylized_share",
        ("augment.crop",): "augment.crop_min",
        ("freeze",): "thaw",
    },
    "stylize": {("data",): "split share", ("content",): "every"},
    "predict": {("track", "true"): _TRACKING},
}


def refuse_unused(command: str, config: Any, task: str = "") -> None:
    """Raises UserError for an option of `config` that was set and that `command` would not read.

    `task` is that of the weights, where they have been read: options that it does not list as its own are refused too,
    if another task does.
    """
    if task:
        _refuse_of_other_tasks(command, config, task)
    for (decider, *values), options in RULES.get(command, {}).items():
        decided = _value(config, decider)
        asked = str(decided).lower() in values if values else decided != _default(config, decider)
        if decided is None or asked:
            continue
        for option in options.split():
            if _value(config, option) != _default(config, option):
                raise UserError(f"{_flag(option)} {_reason(decider, values)}")


def _refuse_of_other_tasks(command: str, config: Any, task: str) -> None:
    readers: dict[str, list[Task]] = {}
    for one in map(get_task, REGISTRIES["task"]):
        for option in one.options.get(command, ()):
            readers.setdefault(option, []).append(one)
    for option, tasks in readers.items():
        if task not in {one.name for one in tasks} and _value(config, option) != _default(config, option):
            nouns = [f"{one.noun}s" for one in tasks]
            known = " and ".join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))
            raise UserError(f"{_flag(option)} is for {known}, and {config.weights} is none: leave it out")


def _reason(decider: str, values: list[str]) -> str:
    flag = f"{_flag(decider)} {' or '.join(values)}".removesuffix(" true").strip()
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
