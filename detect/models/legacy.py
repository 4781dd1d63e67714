"""Files that versions before 0.2 wrote, under the names of this one: headers, settings of runs and checkpoints.

A header of format 1, or settings that have `model.graph`, are of those versions: they had one list of options for all
kinds of model. Options that a kind never read are dropped; the others keep their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from detect.models.configs import model_class
from detect.registry import REGISTRIES

TASKS = {"locate": "localize"}
SETTINGS = {
    "log": "callbacks",
    "each": "images_per_identity",
    "thaw": "unfreeze_every",
}  # of `detect train`: then -> now
MODEL = {
    "tower": "head_convs",
    "graph": "darknet_cfg",
    "piece": "crop_scale",
    "step": "output_stride",
    "loss.code": "loss.regression",
    "loss.points": "loss.keypoints",
    "loss.point_kind": "loss.keypoint_kind",
    "loss.embed": "loss.kind",
}
METADATA = {"keypoints": "keypoint_names", "pixels": "preprocess"}
FEATURES = {
    "pixels or precision": "preprocessing or precision",
    "--model.step or --model.mirror": "--model.output-stride or --model.mirror",
}
TERMS = {"code": "regression", "points": "keypoints"}  # of losses
FACTS = {"pixels of the model": "preprocessing of the model"}


def current_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header of a weights file or an exported one, with the names that this version reads.

    Args:
        header: as read from the file, of any format and not checked.
    """
    if header.get("format") != 1 or not isinstance(header.get("card"), Mapping):
        return dict(header)
    found = {name: value for name, value in header.items() if name not in ("card", "format")}
    found |= {"format": 2, "metadata": _renamed(header["card"], METADATA)}
    if isinstance(header.get("model"), Mapping):
        found["model"] = _model(header["model"])
    if isinstance(header.get("task"), str):
        found["task"] = TASKS.get(header["task"], header["task"])
    return found


def current_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run as its config.yaml has them, nested, with the names that this version reads."""
    found, model = _renamed(settings, SETTINGS), settings.get("model")
    if not isinstance(model, Mapping) or "graph" not in model:
        return found
    return found | {"model": _model(model), "task": TASKS.get(str(found.get("task")), found.get("task"))}


def current_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The settings and facts of a run as a checkpoint has them, with dotted names, under the names of this version."""
    if "model.graph" not in record:
        return _renamed(record, SETTINGS)
    options = {name.removeprefix("model."): value for name, value in record.items() if name.startswith("model.")}
    rest = {name: value for name, value in record.items() if not name.startswith("model.")}
    task = record.get("task")
    kept = {f"model.{name}": value for name, value in _options(options).items()}
    return _renamed(rest, SETTINGS | FACTS) | kept | {"task": TASKS.get(str(task), task)}


def current_features(about: Mapping[str, Any]) -> dict[str, Any]:
    """What cached features depend on, as their index has it, under the names of this version."""
    return _renamed(about, FEATURES)


def current_terms(terms: list[str]) -> list[str]:
    """The names of loss terms of a checkpoint that such a version wrote."""
    return [TERMS.get(name, name) for name in terms]


def current_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of metrics of a checkpoint that such a version wrote."""
    return [_renamed(row, TERMS) for row in rows]


def _model(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model, nested, of which those are left that its kind has."""
    loss = values.get("loss")
    flat = {name: value for name, value in values.items() if name != "loss"}
    flat |= {f"loss.{name}": value for name, value in loss.items()} if isinstance(loss, Mapping) else {}
    kept = _options(flat)
    found = {name: value for name, value in kept.items() if not name.startswith("loss.")}
    return found | {"loss": {name[5:]: value for name, value in kept.items() if name.startswith("loss.")}}


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a model, those of its loss with a dotted name, of which those are left that its kind has."""
    kind = options.get("kind", "yolo")
    if kind not in REGISTRIES["model"]:
        return dict(options)
    own = model_class(kind)
    names = {f.name for f in fields(own)} | {f"loss.{f.name}" for f in fields(own().loss)}
    return {name: value for name, value in _renamed(options, MODEL).items() if name in names}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
