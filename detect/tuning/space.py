"""The search space: which options of `detect train` a study varies, and within what bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.cli.applicability import ignored_options
from detect.config import CONFIGS
from detect.config.fill import settings
from detect.config.train import TrainConfig, with_task
from detect.errors import UserError, unknown
from detect.tuning.base_settings import option_type, option_value, trial_config
from detect.utils.names import say

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

DEFAULT = CONFIGS / "spaces" / "default.yaml"
KINDS = ("range", "times", "choices")
_ON_VAL = "a study chooses on the validation set alone, and the test set has to stay unseen"
_SAME_DATA = "all trials have to be trained and judged on the same data"
_NO_SETTING = "it does not change what a run learns"
REFUSED = {
    **dict.fromkeys(("split", "splits", "test", "val", "evaluate"), _ON_VAL),
    **dict.fromkeys(("data", "task", "skip_bad", "allow_outside"), _SAME_DATA),
    "seed": "the best of several seeds is luck; --confirm trains the best settings with other seeds",
    **dict.fromkeys(("out", "resume", "resume_anyway", "auto", "find_lr", "callbacks", "device"), _NO_SETTING),
    **dict.fromkeys(("workers", "cache_gb", "save_seconds", "save_steps", "proposals", "features"), _NO_SETTING),
}


@dataclass(frozen=True)
class Dimension:
    """An option that is varied.

    Attributes:
        name: its dotted name.
        kind: "range", "times" (a range of factors on the value that the run would have) or "choices".
        bounds: the lowest and the highest value or factor; empty for choices.
        choices: the values to choose from; empty for a range.
        log: whether the scale is logarithmic.
        step: distance between two values; None: any value.
        whole: whether values are whole numbers.
    """

    name: str
    kind: str
    bounds: tuple[float, ...] = ()
    choices: tuple[Any, ...] = ()
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def labels(self) -> list[Any]:
        """The choices as Optuna takes them: text, numbers and switches as they are, anything else as JSON."""
        return [one if isinstance(one, str | int | float) else json.dumps(one) for one in self.choices]

    def distribution(self) -> BaseDistribution:
        """The distribution that Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choices":
            return CategoricalDistribution(self.labels)
        low, high = self.bounds
        if self.whole:
            return IntDistribution(int(low), int(high), self.log, int(self.step or 1))
        return FloatDistribution(low, high, self.log, self.step)

    def samples(self) -> list[Any]:
        """The values, or factors, that show whether the option takes what the space allows."""
        return self.labels if self.kind == "choices" else list(self.bounds)


Space = tuple[Dimension, ...]


def read_space(file: str, config: TrainConfig) -> Space:
    """The search space in a YAML file, every bound tried as `detect train` would read it.

    Args:
        file: the file. "": the default space, without the options that the model and the task do not read.
        config: the settings of the runs.

    Raises:
        UserError: the file cannot be read, or an entry is not an option of `detect train` that can be varied.
    """
    where, values = (file, settings(file)) if file else ("the default space", settings(DEFAULT))
    if not values:
        raise UserError(f"{where}: it names no option to vary, as in 'optim.lr: {{range: [1e-4, 1e-2], log: true}}'")
    space = tuple(_dimension(where, name.replace("-", "_"), entry) for name, entry in _entries(values).items())
    if not file:
        space = _of_use(space, config)
    return tuple(_checked(where, dimension, config) for dimension in space)


def _entries(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The entries by dotted name; groups may be nested, as in a file for `--config`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, dict) and value and all(isinstance(one, dict) for one in value.values())
        found |= _entries(value, f"{prefix}{name}.") if nested else {prefix + name: value}
    return found


def _of_use(space: Space, config: TrainConfig) -> Space:
    """The default space without options that have no effect on this model, or are switched off."""
    full = with_task(config)
    ignored, kept = ignored_options("train", full, full.task), list[Dimension]()
    for one in space:
        value = None if one.name in ignored else option_value(full, one.name)
        if value is not None and not (one.kind == "times" and value == 0):
            kept.append(one)
    if left_out := [one.name for one in space if one not in kept]:
        say(f"the default space without {', '.join(left_out)}, which {full.model.name} does not read here")
    return tuple(kept)


def _dimension(where: str, name: str, entry: Any) -> Dimension:
    """The dimension that an entry of the file describes."""
    what = f"{where}: {name}"
    reason = REFUSED.get(name) or REFUSED.get(name.rpartition(".")[2] if "test" in name else "")
    if reason:
        raise UserError(f"{what} cannot be varied: {reason}")
    if not isinstance(entry, dict):
        raise UserError(f"{what} is {entry!r:.40}: give {{range: [a, b]}}, {{times: [a, b]}} or {{choices: [a, b, …]}}")
    for key in entry:
        if key not in (*KINDS, "log", "step"):
            raise UserError(f"{what}: {unknown('entry', str(key), (*KINDS, 'log', 'step'))}")
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        raise UserError(f"{what} has {' and '.join(kinds) or 'no bounds'}: give one of range, times and choices")
    (kind,), log, step = kinds, entry.get("log", False), entry.get("step")
    if kind == "choices":
        return _choices(what, name, entry)
    bounds = entry[kind]
    if not (isinstance(bounds, list) and len(bounds) == 2 and all(map(_is_number, bounds)) and bounds[0] < bounds[1]):
        raise UserError(f"{what}: {kind} is {bounds!r:.40}: it must be two numbers, [lowest, highest]")
    if not isinstance(log, bool) or (log and bounds[0] <= 0):
        raise UserError(f"{what}: log is {log!r}: it must be true, for bounds above 0, or false")
    if step is not None and (not _is_number(step) or step <= 0 or log):
        raise UserError(f"{what}: step is {step!r}: it must be a number above 0, and does not go with log")
    return Dimension(name, kind, tuple(bounds), log=log, step=step)


def _choices(what: str, name: str, entry: Mapping[str, Any]) -> Dimension:
    choices = entry["choices"]
    if not isinstance(choices, list) or len(choices) < 2 or None in choices:
        raise UserError(f"{what}: choices is {choices!r:.40}: it must be a list of two values or more")
    if "log" in entry or "step" in entry:
        raise UserError(f"{what}: log and step are for a range")
    found = Dimension(name, "choices", choices=tuple(choices))
    if len(set(map(repr, found.labels))) < len(choices):
        raise UserError(f"{what}: a choice is there twice")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(where: str, dimension: Dimension, config: TrainConfig) -> Dimension:
    """The dimension with the type of its option, after `detect train` has accepted its bounds or choices."""
    try:
        tried = [trial_config(config, (dimension,), {dimension.name: value}) for value in dimension.samples()]
    except UserError as error:
        raise UserError(f"{where}: {dimension.name}: {error}") from None
    if any(with_task(one).task != with_task(config).task for one in tried):
        raise UserError(f"{where}: {dimension.name} changes the task, and with it what is measured")
    if dimension.kind != "range":
        return dimension
    hint = option_type(tried[0], dimension.name)
    if hint not in (int, float):
        raise UserError(f"{where}: {dimension.name} is no number: give its choices")
    return replace(dimension, whole=hint is int)


def as_plain(space: Space) -> list[dict[str, Any]]:
    """The space as JSON holds it, to compare it with that of a study."""
    plain: list[dict[str, Any]] = json.loads(json.dumps([asdict(one) for one in space]))
    return plain


def default_values(space: Space, config: TrainConfig) -> dict[str, Any]:
    """The point of the space that is the settings as they are given; empty where they lie outside of it."""
    full, found = with_task(config), dict[str, Any]()
    for one in space:
        value = full.model.name if one.name == "model" else option_value(full, one.name)
        if one.kind == "choices":
            value = next(
                (label for label, choice in zip(one.labels, one.choices, strict=True) if choice == value), None
            )
        elif one.kind == "times":
            value = 1.0
        if value is None or (one.bounds and not one.bounds[0] <= float(value) <= one.bounds[1]):
            return {}
        found[one.name] = value
    return found


def named(path: str) -> str:
    """How messages call a space."""
    return Path(path).name if path else "default"
