"""What `detect train` adds to the values it is given: the settings of the model, and the defaults of its task."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from detect.config.fill import UnknownOption, fill, mapping, merged, named_file, nested, plain
from detect.config.train import TrainConfig
from detect.models.configs import model_class, model_values
from detect.registry import REGISTRIES
from detect.tasks import get_task

Layer = tuple[dict[str, Any], Path | None]  # values, and the folder of the file they are from
MODEL = "yolo_n"  # what is trained where nothing else is said


def train_values(layers: Sequence[Layer]) -> dict[str, Any]:
    """The values of a `TrainConfig`, nested, with the configuration of the model as a dataclass.

    A later layer wins over an earlier one. Below them all are the defaults of the task; below what they say of the
    model is the one in `weights`, or the default one of the task. Naming a model, or its file, replaces it as a whole.

    Raises:
        UnknownOption: the command or the model has no such option.
        UserError: a model, file or value that cannot be used.
    """
    model, values = dict[str, Any](), dict[str, Any]()
    for layer, folder in layers:
        of_model = {name: layer[name] for name in layer if name.partition(".")[0] == "model"}
        for name in sorted(of_model):  # "model" before "model.width"
            model = _with(model, name, of_model[name], folder)
        rest = {name: layer[name] for name in layer if name not in of_model}
        values = merged(values, nested(TrainConfig, rest, folder=folder))
    defaults = dict[str, Any]()
    task = str(values.get("task", "auto")).lower()
    if "kind" not in model:
        base, defaults = _default_model(task, values.get("weights", ""))
        model = merged(base, model)
    own = model_class(str(model["kind"]))
    if task == "auto":
        task = own.task
    defaults = _task_defaults(task) | defaults
    defaults.pop("model", None)
    try:
        built = fill(own, model, "--model.")
    except UnknownOption as error:
        raise UnknownOption(error.name, str(model["kind"]).lower()) from None
    return {**merged(nested(TrainConfig, defaults), values), "model": built}


def _with(model: dict[str, Any], name: str, value: Any, folder: Path | None) -> dict[str, Any]:
    """The values of a model with those of one more option: a whole model for "model", else a part of it."""
    value = plain(f"--{name}", value)
    parts = name.split(".")[1:]
    if not parts and isinstance(value, str) and not value.lstrip().startswith("{"):
        return _nest(mapping("--model", value, folder)) if named_file(value, folder) else model_values(value)
    value = value if parts else mapping("--model", value)
    return merged(model, _nest(reduce(lambda inner, part: {part.replace("-", "_"): inner}, reversed(parts), value)))


def _nest(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as nested dicts."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        value = _nest({rest: value}) if rest else _nest(value) if isinstance(value, dict) else value
        found = merged(found, {head: value})
    return found


def _default_model(task: str, weights: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values of the model that is trained where none is named, and other values that go with it."""
    if not weights:
        return model_values(_task_defaults(task).get("model", MODEL)), {}
    from detect.convert.open import open_weights  # late: it needs torch
    from detect.hub import resolve  # late: it may download

    config, metadata, _ = open_weights(resolve(weights))
    if config.class_weights:  # of its own classes
        config = config.with_class_weights([])
    # The data of signals and volumes say their size.
    return dataclasses.asdict(config), {"imgsz": metadata.size} if config.dims == 2 else {}


def _task_defaults(task: str) -> dict[str, Any]:
    return dict(get_task(task).defaults) if task in REGISTRIES["task"] else {}
