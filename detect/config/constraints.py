"""Ranges and names that the values of a configuration may have: declared beside each field, checked in one place.

The command line, Python keywords and YAML files all go through `check` or `from_values`, and so do the headers of
weights files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache, partial
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from detect.errors import UserError, unknown
from detect.registry import REGISTRIES

T = TypeVar("T")


class Range:
    """The values a number may take, both ends included."""

    def __init__(self, low: float, high: float = float("inf")):
        self.low, self.high = low, high


class Length:
    """How many items a list may have, or letters a text, both ends included."""

    def __init__(self, low: int, high: int):
        self.low, self.high = low, high


class Choice:
    """The names a string may be; their case does not matter."""

    def __init__(self, *names: str):
        self._names = names

    @property
    def names(self) -> tuple[str, ...]:
        """The names, as they are declared."""
        return self._names

    def find(self, value: str) -> str | None:
        """`value` as it is declared; None for a name that is not allowed."""
        return {name.lower(): name for name in self.names}.get(value.lower())


class Registered(Choice):
    """The names registered in one or several kinds of registry, those of plugins too; their case does not matter.

    Args:
        kinds: keys of `detect.registry.REGISTRIES`.
        others: names that are allowed besides, such as "auto".
        prefix: names that begin with it are allowed as well, as they are written, such as "timm:".
    """

    def __init__(self, *kinds: str, others: tuple[str, ...] = (), prefix: str = ""):
        self.kinds, self.others, self.prefix = kinds, others, prefix

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are registered now."""
        return (*self.others, *(name for kind in self.kinds for name in REGISTRIES[kind]))

    def find(self, value: str) -> str | None:
        """`value` as it is registered; None for a name that is not allowed."""
        return value if self.prefix and value.startswith(self.prefix) else super().find(value)


class ReadWith:
    """Says that a field is read only where another option of the same configuration has one of some values.

    Args:
        option: dotted name of the other option, from the top of the configuration.
        values: the values that it must have, as text. None: any other than its default.
    """

    def __init__(self, option: str, *values: str):
        self.option, self.values = option, values


Share = Annotated[float, Range(0, 1)]
ShareOrUnset = Annotated[float | None, Range(0, 1)]
Positive = Annotated[float, Range(1e-12)]
Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
Side = Annotated[int, Range(32, 8192)]
SideOrDefault = Annotated[int, Range(0, 8192)]
Width = Annotated[int, Range(1, 65536)]  # channels of a layer; a bound that no network of today comes near
CallbackName = Annotated[str, Registered("callback")]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

_KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
}
_LONGEST = 60  # letters of a value in a message

_hints: Callable[[Any], dict[str, Any]] = cache(partial(get_type_hints, include_extras=True))  # half a millisecond


def check(config: T, prefix: str = "--") -> T:
    """Check every field of a configuration.

    Args:
        config: a configuration dataclass, nested ones included.
        prefix: what messages put before the name of a field, "--" for flags.

    Returns:
        The configuration, with names in the case in which they are declared.

    Raises:
        UserError: a value is of the wrong type, or outside its declared range.
    """
    return replace(config, **checked_values(config, prefix))  # type: ignore[type-var]


def checked_values(config: Any, prefix: str) -> dict[str, Any]:
    """The checked values of `config` by field; see `check`."""
    hints = _hints(type(config))
    return {f.name: _checked(_flag(prefix, f.name), getattr(config, f.name), hints[f.name]) for f in fields(config)}


def registered_parts(config: Any) -> list[tuple[str, str]]:
    """The kind of registry and the name of each part that a configuration names, nested ones too."""
    parts = list[tuple[str, str]]()
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        rules = [rule for rule in getattr(hint, "__metadata__", ()) if isinstance(rule, Registered)]
        base = value.partition(":")[0] if rules else ""  # a backbone may have options after its name
        parts += [(kind, base) for rule in rules for kind in rule.kinds if base in REGISTRIES[kind]]
        parts += registered_parts(value) if is_dataclass(value) else []
    return parts


def from_values(kind: type[T], values: Any, prefix: str) -> T:
    """Build a dataclass from plain, unchecked values, as JSON holds them.

    Args:
        kind: the dataclass.
        values: its values by field.
        prefix: what messages put before the name of a field.

    Raises:
        UserError: a value is missing, unknown, or not allowed; see `check`.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{prefix.removesuffix('.')} is {_short(values)}: it must hold names with values")
    hints, given = _hints(kind), dict[str, Any]()
    if extra := [name for name in values if name not in hints]:
        raise UserError(f"{prefix}{_short(extra[0])[1:-1]} is nothing that this version knows; update gridhead")
    for f in fields(kind):  # type: ignore[arg-type]
        if f.name in values:
            given[f.name] = _checked(_flag(prefix, f.name), values[f.name], hints[f.name])
        elif f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{prefix}{f.name} is not there")
    return kind(**given)


def _flag(prefix: str, name: str) -> str:
    """How messages call a field: flags have hyphens."""
    return prefix + (name.replace("_", "-") if prefix.startswith("--") else name)


def _checked(flag: str, value: Any, hint: Any) -> Any:
    """`value`, a name as it is declared. Raises UserError where `hint` does not allow it."""
    rules = getattr(hint, "__metadata__", ())
    base = get_args(hint)[0] if rules else hint
    if isinstance(base, UnionType):
        kinds = get_args(base)
        if value is None and type(None) in kinds:
            return None
        base = next(one for one in kinds if one is not type(None))
    if is_dataclass(base):
        return check(value, flag + ".") if is_dataclass(value) else from_values(base, value, flag + ".")  # type: ignore[arg-type]
    origin = get_origin(base)
    if origin is Literal:
        rules, base = (Choice(*get_args(base)), *rules), str
    if origin in (list, tuple):
        value = _items(flag, value, origin, get_args(base))
    elif origin is dict:
        value = _entries(flag, value, get_args(base)[1])
    elif base in _KINDS:
        value = _one(flag, value, base)
    for rule in rules:
        if isinstance(rule, Range | Choice | Length):
            value = _held(flag, value, rule)
    return value


def _one(flag: str, value: Any, kind: Any) -> Any:
    expected, name = _KINDS[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind is not bool):
        raise UserError(f"{flag} is {_short(value)}: it must be {name}")
    if kind is float and not _is_finite(value):
        raise UserError(f"{flag} is {_short(value)}: it must be a finite number")
    if kind in (int, float) and type(value) not in (int, float):  # numpy's numbers
        value = kind(value)
    return value


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _items(flag: str, values: Any, origin: type, kinds: tuple[Any, ...]) -> Any:
    """A list or tuple, each of its items checked; of a tuple of fixed length also how many there are."""
    if not isinstance(values, list | tuple):
        raise UserError(f"{flag} is {_short(values)}: it must be a list")
    fixed = origin is tuple and kinds[-1] is not Ellipsis
    if fixed and len(values) != len(kinds):
        raise UserError(f"{flag} has {len(values)} values: it must have {len(kinds)}")
    hints = kinds if fixed else (kinds[0],) * len(values)
    return origin(_checked(flag, value, hint) for value, hint in zip(values, hints, strict=True))


def _entries(flag: str, values: Any, hint: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{flag} is {_short(values)}: it must hold names with values")
    return {name: _checked(f"{flag}.{_short(name)[1:-1]}", value, hint) for name, value in values.items()}


def _held(flag: str, value: Any, rule: Range | Choice | Length) -> Any:
    if isinstance(rule, Choice):
        named = rule.find(value)
        if named is None:
            raise unknown(f"value of {flag}", value, rule.names)
        return named
    amount = len(value) if isinstance(rule, Length) else value
    if not rule.low <= amount <= rule.high:  # also catches NaN
        bound = f"at least {rule.low:g}" if rule.high == float("inf") else f"from {rule.low:g} to {rule.high:g}"
        if isinstance(rule, Length):
            raise UserError(f"{flag} has {amount} values or letters: it must have {bound}")
        raise UserError(f"{flag} is {_short(value)}: it must be {bound}")
    return value


def _short(value: Any) -> str:
    """The value as a message shows it: a number of thousands of digits has no text at all."""
    try:
        text = repr(value)
    except ValueError:
        return "a number of very many digits"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
