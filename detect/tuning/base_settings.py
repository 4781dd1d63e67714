"""The settings that all runs of a study share, and those of one run, built as `detect train` would read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from detect.cli.parser import from_values
from detect.config.fields import dotted, own_options
from detect.config.train import TrainConfig, with_task
from detect.errors import UserError
from detect.models.configs import model_config, model_names

if TYPE_CHECKING:
    from detect.tuning.space import Dimension

# Settings that machines may have of their own, and requests that are none.
OWN = (
    *("out", "data", "device", "workers", "cache_gb", "save_seconds", "save_steps", "callbacks", "proposals"),
    *("features", "resume", "resume_anyway", "auto", "find_lr", "task"),
)


def trial_config(config: TrainConfig, space: Sequence[Dimension], params: Mapping[str, Any], **own: Any) -> TrainConfig:
    """The settings of a run.

    Args:
        config: the settings that all runs share.
        space: the options that are varied.
        params: the value, or the factor, of each of them.
        own: other options of this run.

    Raises:
        UserError: an option does not exist, or does not take the value.
    """
    values, factors = dict[str, Any](), dict[str, float]()
    for one in space:
        if one.name not in params:
            continue
        if one.kind == "choices":
            values[one.name] = one.choices[one.labels.index(params[one.name])]
        elif one.kind == "times":
            factors[one.name] = params[one.name]
        else:
            values[one.name] = params[one.name]
    base = plain_settings(config)
    base["model"], of_model = _model(config, "model" in values)
    given = {**base, **of_model, **own, **values}
    if factors:
        full = from_values("train", given)
        values |= {name: _scaled(full, name, factor) for name, factor in factors.items()}
    made: TrainConfig = from_values("train", {**given, **values})
    return made


def _model(config: TrainConfig, varied: bool) -> tuple[Any, dict[str, Any]]:
    """The model as a value of the option, and by dotted name what is set of it; nothing where it is not `varied`."""
    if not varied:
        return asdict(config.model), {}
    return config.model.name, changed_model_options(config)


def changed_model_options(config: TrainConfig) -> dict[str, Any]:
    """The options `model.NAME` that differ from those that the name of the model stands for."""
    name = config.model.name
    if name not in model_names():
        raise UserError(f"the model {name} is from a file or from weights: it cannot be varied")
    plain, own = (dotted(asdict(one), "model.") for one in (model_config(name), config.model))
    return {option: value for option, value in own.items() if plain.get(option) != value}


def _scaled(config: TrainConfig, name: str, factor: float) -> float:
    """A multiple of the value of an option, which is whole where the option is."""
    value = option_value(config, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value:
        raise UserError(f"it is {value!r} here, which has no multiples: give a range")
    return max(1, round(value * factor)) if isinstance(value, int) else float(f"{value * factor:.6g}")


def option_value(config: Any, name: str) -> Any:
    """The value of an option by dotted name; None where there is no such option."""
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def option_type(config: Any, name: str) -> Any:
    """The type of an option by dotted name, such as `int`."""
    *above, last = name.split(".")
    for part in above:
        config = getattr(config, part)
    kind: type = type(config)
    return own_options(kind)[last].hint


def plain_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of a run as nested plain values."""
    asked = ("resume", "resume_anyway", "auto", "find_lr")
    values: dict[str, Any] = {f.name: getattr(config, f.name) for f in fields(TrainConfig) if f.name not in asked}
    return {
        name: asdict(one) if is_dataclass(one) and not isinstance(one, type) else one for name, one in values.items()
    }


def settings_record(config: TrainConfig) -> dict[str, Any]:
    """What all processes of a study must have in common, as JSON holds it."""
    record: dict[str, Any] = json.loads(json.dumps(dotted(plain_settings(with_task(config)))))
    return {name: value for name, value in record.items() if name not in OWN}


def short_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that differ from the defaults, as a short file for `--config` names them."""
    plain = with_task(TrainConfig(data="", model=config.model))
    values = {
        name: value
        for name, value in dotted({**plain_settings(config), "model": {}}).items()
        if name not in (*OWN, "model") and value != option_value(plain, name)
    }
    if config.model.name in model_names():
        model = {"model": config.model.name, **changed_model_options(config)}
    else:
        model = {"model": asdict(config.model)}
    return {"data": config.data, "task": config.task, **model, **values}
