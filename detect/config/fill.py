"""From plain values to a configuration: what the command line, Python keywords and YAML files share.

Values are nested dicts or have dotted names (`{"optim.lr": 0.1}`); text stands for a value of any type, as on the
command line; what a nested class holds may come from a YAML file. Ranges are checked at the end, by `constraints`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml

from detect.config.constraints import from_values
from detect.config.fields import own_options
from detect.errors import UserError
from detect.utils.yaml_files import parse_yaml, read_yaml

T = TypeVar("T")
SWITCH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class UnknownOption(UserError):
    """An option that a configuration class does not have; `name` is what was given, `model` a kind of model."""

    def __init__(self, name: str, model: str = ""):
        super().__init__(f"unknown option {name!r}")
        self.name, self.model = name, model


def fill(kind: type[T], values: Mapping[str, Any], prefix: str = "--") -> T:
    """The configuration that the nested `values` describe, every range checked.

    Args:
        kind: a configuration class.
        values: values by name, as `nested` gives them.
        prefix: what messages put before a name.

    Raises:
        UnknownOption: the class has no such field.
        UserError: a value is not allowed.
    """
    return from_values(kind, nested(kind, values, prefix), prefix)


def nested(kind: type, values: Mapping[str, Any], prefix: str = "--", folder: Path | None = None) -> dict[str, Any]:
    """`values` as nested dicts, with text converted to the types of the fields.

    Args:
        kind: a configuration class.
        values: values by name; names may be dotted and have hyphens.
        prefix: what messages put before a name.
        folder: where relative names of YAML files are looked for first: that of the file which names them.

    Raises:
        UnknownOption: the class has no such field.
        UserError: a value is of a type that no configuration holds, or its file cannot be read.
    """
    options, found = own_options(kind), dict[str, Any]()
    for name in values:
        head, _, rest = str(name).partition(".")
        option = options.get(head.replace("-", "_"))
        if option is None or (rest and not option.nested):
            raise UnknownOption(prefix.removeprefix("--") + str(name))
        flag = prefix + option.name.replace("_", "-")
        value = plain(f"{flag}.{rest}" if rest else flag, values[name])
        if not option.nested:
            found[option.name] = converted(flag, value, option.hint)
            continue
        value = {rest: value} if rest else mapping(flag, value, folder)
        inner = nested(option.hint, value, f"{flag}.", folder)
        found[option.name] = merged(found.get(option.name, {}), inner)
    return found


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts as one; the value of a later layer wins."""
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
            found[name] = merged(found[name], value) if both else value
    return found


def mapping(flag: str, value: Any, folder: Path | None = None) -> dict[str, Any]:
    """The values of a nested class: a dict, YAML text of one, or the name of a YAML file.

    Raises:
        UserError: it is none of these.
    """
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        path = named_file(value, folder)
        if path is None:
            raise UserError(f"{flag} {value}: it has several values; give one as {flag}.NAME (see --help)")
        return settings(path)
    if isinstance(value, str):
        value = _yaml(flag, value)
    if not isinstance(value, dict):
        raise UserError(f"{flag} is {value!r}: it must hold names with values")
    _require_names(value, flag)
    return value


def named_file(value: str, folder: Path | None = None) -> Path | None:
    """The file of that name in `folder`, or else where the command runs; None if there is none."""
    places = ((folder or Path()) / value, Path(value))
    # Not Path.exists: it raises where the text is too long to be a name.
    return next((path for path in places if os.path.exists(path) and not os.path.isdir(path)), None)


def settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The settings in a YAML file. Raises UserError for a file that holds none, or cannot be read."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: it holds no settings, which are lines such as 'epochs: 10', but {values!r:.40}")
    _require_names(values, str(path))
    return values


def _require_names(values: dict[Any, Any], where: str) -> None:
    """Raise UserError unless every name is text, in nested settings too: YAML reads `null:` and `7:` as other types."""
    for name, value in values.items():
        if not isinstance(name, str):
            raise UserError(f"{where}: {name!r} is not the name of a setting: names are text")
        if isinstance(value, dict):
            _require_names(value, where)


def converted(flag: str, value: Any, hint: Any) -> Any:
    """Text as a value of a type, the items of a list one by one; anything else as it is.

    Text for a list is YAML, "[a, b]", or its only item.
    """
    if get_origin(hint) is list:
        item = get_args(hint)[0]
        if isinstance(value, str):
            value = _yaml(flag, value, words=_bare(item) is str) if value.startswith("[") else [value]
        return [converted(flag, one, item) for one in value] if isinstance(value, list) else value
    hint = _bare(hint)
    if not isinstance(value, str) or hint is str or get_origin(hint) is Literal:
        return value
    if hint is bool:
        return SWITCH.get(value.lower(), value)
    value = _yaml(flag, value)
    if hint is float and isinstance(value, str):  # YAML takes 1e-3 for text
        try:
            return float(value)
        except ValueError:
            return value
    return value


def plain(name: str, value: Any) -> Any:
    """A value in the types that YAML has: paths are text, tuples lists, numpy's numbers Python's.

    Raises:
        UserError: it has no such form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str) and "\0" in value:
        raise UserError(f"{name} holds a NUL, which no name of a file, class or layer does")
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral | Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, list | tuple):
        return [plain(name, one) for one in value]
    if isinstance(value, dict):
        return {str(key): plain(f"{name}.{key}", one) for key, one in value.items()}
    kind = type(value).__name__
    raise UserError(f"{name} holds {value!r} ({kind}): give text, numbers, True or False, or lists and dicts of these")


def _bare(hint: Any) -> Any:
    """The type without what `Annotated` adds."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _yaml(flag: str, text: str, words: bool = False) -> Any:
    try:
        return parse_yaml(text, words)
    except yaml.YAMLError as error:
        raise UserError(f"{flag} is {text!r:.60}, which is broken YAML: {error}") from None
