"""The fields of a configuration class: type, rules, default, and what the string below each says of it."""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class Advanced:
    """Marks a field that few people set: only `--help-all` shows it."""


ADVANCED = Advanced()


@dataclass(frozen=True)
class Option:
    """A field of a configuration class, those of a nested class with a dotted name."""

    name: str
    """Dotted name, such as "optim.lr"."""

    hint: Any
    """Its type, without rules and None: `int`, `list[str]`, `Literal["a", "b"]`, or a nested configuration class."""

    rules: tuple[Any, ...]
    """What `Annotated` adds: `Range`, `Length`, `Choice`, `ReadWith`, `ADVANCED`."""

    default: Any
    """Its default; `dataclasses.MISSING` where it is required."""

    explanation: str
    """The string literal below the field, in one line."""

    @property
    def advanced(self) -> bool:
        """Whether only `--help-all` shows it."""
        return any(isinstance(rule, Advanced) for rule in self.rules)

    @property
    def nested(self) -> bool:
        """Whether it is a configuration class itself."""
        return is_dataclass(self.hint)


@functools.cache
def own_options(kind: type) -> dict[str, Option]:
    """The fields of a configuration class by name, without those inside nested ones."""
    hints, said, found = get_type_hints(kind, include_extras=True), explanations(kind), {}
    for field in fields(kind):
        hint, rules = hints[field.name], list[Any]()
        while get_origin(hint) in (Annotated, UnionType):
            arguments = get_args(hint)
            if get_origin(hint) is Annotated:
                rules += arguments[1:]
                hint = arguments[0]
            else:
                hint = next(one for one in arguments if one is not NoneType)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found[field.name] = Option(field.name, hint, tuple(rules), default, said.get(field.name, ""))
    return found


def options_of(kind: type, prefix: str = "") -> Iterator[Option]:
    """Every field of a configuration class, each nested class before its own fields."""
    for option in own_options(kind).values():
        name = prefix + option.name
        yield Option(name, option.hint, option.rules, option.default, option.explanation)
        if option.nested:
            yield from options_of(option.hint, f"{name}.")


def dotted(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings as one level, by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        found |= dotted(value, f"{above}{name}.") if nested else {above + name: value}
    return found


@functools.cache
def explanations(kind: type) -> dict[str, str]:
    """The string literals below the fields of a class and of those it inherits from, by field name.

    They are read from the source, for Python keeps no docstrings of attributes.
    """
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        node = _class_nodes(one.__module__).get(one.__qualname__) if is_dataclass(one) else None
        for field, below in pairwise(node.body if node else []):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[field.target.id] = " ".join(text.value.split())
    return found


@functools.cache
def _class_nodes(module: str) -> dict[str, ast.ClassDef]:
    """The classes in the source of a module by qualified name; none where there is no source.

    A module is parsed once: `inspect.getsource` of a class would parse and tokenize all of it for each class.
    """
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return {}
    return dict(_named_classes(tree, ""))


def _named_classes(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _named_classes(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            yield from _named_classes(node, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.stmt):  # such as an if, whose classes carry no name of it
            yield from _named_classes(node, prefix)
