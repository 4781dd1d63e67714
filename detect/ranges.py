"""What the numbers and names of a configuration may be, declared beside each and checked in one place."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

from detect.errors import UserError, unknown


class Range:
    """The values a number may take, both ends included."""

    def __init__(self, low: float, high: float = float("inf")):
        self.low, self.high = low, high


class Choice:
    """The names a string may be."""

    def __init__(self, *names: str):
        self.names = names


Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(1e-12)]
Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Side = Annotated[int, Range(32, 8192)]
Precision = Annotated[str, Choice("auto", "float32", "bfloat16", "float16")]


def check(config: Any, prefix: str = "") -> None:
    """Hold every number and name of a configuration to its declared range. Raises UserError naming the key."""
    hints = get_type_hints(type(config), include_extras=True)
    for f in fields(config):
        value, key = getattr(config, f.name), prefix + f.name
        if is_dataclass(value):
            check(value, key + ".")
            continue
        hint = hints[f.name]
        values = [value]
        if getattr(hint, "__origin__", None) is list:
            hint, values = hint.__args__[0], value
        for rule in getattr(hint, "__metadata__", ()):
            for v in (v for v in values if v is not None):  # unset
                _check_value(key, v, rule)


def _check_value(key: str, value: Any, rule: Range | Choice) -> None:
    if isinstance(rule, Choice):
        if value not in rule.names:
            raise unknown(f"value of --{key}", value, rule.names)
    elif not rule.low <= value <= rule.high:  # also catches NaN
        bound = f"at least {rule.low:g}" if rule.high == float("inf") else f"from {rule.low:g} to {rule.high:g}"
        raise UserError(f"--{key} is {value}: it must be {bound}")
