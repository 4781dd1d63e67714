"""Types, ranges and names that configuration values may have: declared beside each field, checked in one place.

The command line, the Python keywords and YAML files all go through `check`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from detect.errors import UserError, unknown

T = TypeVar("T")


class Range:
    """The values a number may take, both ends included."""

    def __init__(self, low: float, high: float = float("inf")):
        self.low, self.high = low, high


class Choice:
    """The names a string may be; their case does not matter."""

    def __init__(self, *names: str):
        self.names = names


Share = Annotated[float, Range(0, 1)]
Positive = Annotated[float, Range(1e-12)]
Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Side = Annotated[int, Range(32, 8192)]
SideOrDefault = Annotated[int, Range(0, 8192)]
Precision = Annotated[str, Choice("auto", "float32", "bfloat16", "float16")]

_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}


def check(config: T, prefix: str = "--") -> T:
    """The configuration, with names in the case in which they are declared.

    Raises UserError, naming the field with `prefix`, for a value of the wrong type or outside its declared range.
    """
    return replace(config, **checked_values(config, prefix))  # type: ignore[type-var]


def checked_values(config: Any, prefix: str) -> dict[str, Any]:
    """The fields of `config`, as `check` has them."""
    hints = get_type_hints(type(config), include_extras=True)
    changed: dict[str, Any] = {}
    for f in fields(config):
        value, flag = getattr(config, f.name), prefix + f.name
        if is_dataclass(value):
            changed[f.name] = check(value, flag + ".")
        elif get_origin(hints[f.name]) is list and isinstance(value, list):
            changed[f.name] = [_checked(flag, one, get_args(hints[f.name])[0]) for one in value]
        else:
            changed[f.name] = _checked(flag, value, hints[f.name])
    return changed


def _checked(flag: str, value: Any, hint: Any) -> Any:
    """`value`, a name as it is declared. Raises UserError where `hint` does not allow it."""
    rules = getattr(hint, "__metadata__", ())
    base = get_args(hint)[0] if rules else hint
    allowed = get_args(base) if isinstance(base, UnionType) else (base,)
    kind = next((one for one in allowed if one in _KINDS), None)
    if kind is None or (value is None and type(None) in allowed):  # lists of lists; unset
        return value
    wanted, name = _KINDS[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{flag} is {value!r}: it must be {name}")
    if kind in (int, float) and type(value) not in (int, float):  # numpy's numbers
        value = kind(value)
    for rule in rules:
        value = _held(flag, value, rule)
    return value


def _held(flag: str, value: Any, rule: Range | Choice) -> Any:
    if isinstance(rule, Choice):
        named = {name.lower(): name for name in rule.names}
        if value.lower() not in named:
            raise unknown(f"value of {flag}", value, rule.names)
        return named[value.lower()]
    if not rule.low <= value <= rule.high:  # also catches NaN
        bound = f"at least {rule.low:g}" if rule.high == float("inf") else f"from {rule.low:g} to {rule.high:g}"
        raise UserError(f"{flag} is {value}: it must be {bound}")
    return value
