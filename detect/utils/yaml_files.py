"""Reads and writes all YAML: data files, configurations, model files and values of flags.

A few lines of YAML can describe a structure that fills all memory (aliases of aliases), has no end (an alias within its
own anchor) or is too deep to walk through. What is read here is bounded before it is built, and plain: text, numbers,
true and false, null, lists and mappings. Tags for anything else are rejected; a date is text.
"""

from __future__ import annotations

import re
from os import PathLike
from typing import Any

import yaml

from detect.errors import UserError
from detect.utils.text_files import read_text

LARGEST = 8 << 20  # bytes of a file; a list of 100,000 images takes about that
NODES = 500_000  # scalars, lists and mappings, each counted wherever an alias repeats it
DEEPEST = 50  # levels of nested lists and mappings
DIGITS = 20  # of a whole number, as 64 bits have; thousands of longer ones can share a hash, and be slow as keys
_TAG = "tag:yaml.org,2002:"
_TAGS = (None, "!", f"{_TAG}str", f"{_TAG}seq", f"{_TAG}map")


class _Bounded(yaml.SafeLoader):
    """Loads safe YAML within the bounds above; duplicate keys of a mapping are an error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = self.depth = self.deepest = 0
        self.extent: dict[int, tuple[int, int]] = {}  # of each finished node: the number of nodes in it, and its depth

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self.extent:
                raise _at(event, f"the alias {event.anchor!r} is inside its own anchor, which then has no end")
            nodes, height = self.extent[id(node)]
        else:
            if getattr(event, "tag", None) not in _TAGS:
                raise _at(event, f"the tag {event.tag!r} is not read: only text, numbers, lists and mappings are")
            outer, count = self.deepest, self.nodes
            self.depth += 1
            self.deepest = self.depth
            self._require_bounds(event)
            node = super().compose_node(parent, index)
            self.depth -= 1
            nodes, height = 1, self.deepest - self.depth
            self.extent[id(node)] = self.nodes - count + 1, height
            self.deepest = max(outer, self.deepest)
        self.nodes += nodes
        self.deepest = max(self.deepest, self.depth + height)
        self._require_bounds(event)
        return node

    def _require_bounds(self, event: yaml.Event) -> None:
        if self.deepest > DEEPEST:
            raise _at(event, f"more than {DEEPEST} levels of nested lists and mappings")
        if self.nodes > NODES:
            raise _at(event, f"more than {NODES:,} values, each counted wherever an alias repeats it")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for one, _ in node.value:
            if isinstance(one, yaml.ScalarNode) and one.tag != f"{_TAG}merge":
                if (value := self.construct_object(one)) in seen:
                    raise _at(one, f"the key {value!r} is there twice")
                seen.add(value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > DIGITS:
            raise _at(node, f"a number of {len(node.value)} digits; {DIGITS} are read")
        return super().construct_yaml_int(node)


_Bounded.add_constructor(f"{_TAG}int", _Bounded.construct_yaml_int)
_Bounded.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in known if tag != f"{_TAG}timestamp"]
    for letter, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Plain(yaml.SafeDumper):
    """Writes what `_Bounded` reads back: text that looks like a number is quoted."""


# 1e-4, which PyYAML takes for text: the dot and the sign that YAML 1.1 wants are missing.
_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$", re.ASCII)
for _one in (_Bounded, _Plain):
    _one.add_implicit_resolver(f"{_TAG}float", _EXPONENT, list("-+.0123456789"))


class _Words(_Bounded):
    """As `_Bounded`, but every scalar is text: no and 007 are words."""


_Words.yaml_implicit_resolvers = {}


def parse_yaml(text: str, words: bool = False) -> Any:
    """The value of a YAML document, whose scalars are all text if `words`.

    Raises:
        yaml.YAMLError: broken YAML, or YAML beyond the bounds of this module; its text is one line.
    """
    try:
        return yaml.load(text, Loader=_Words if words else _Bounded)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        message = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise yaml.YAMLError(where + message) from None
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise yaml.YAMLError(" ".join(str(error).split())) from None


def read_yaml(path: str | PathLike[str]) -> Any:
    """The value in a YAML file.

    Raises:
        UserError: it cannot be read: see `parse_yaml`.
    """
    try:
        return parse_yaml(read_text(path, LARGEST))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: broken YAML: {error}") from None


def dump_yaml(value: Any) -> str:
    """The YAML of plain values, in their order: `read_yaml` reads the same."""
    return yaml.dump(value, Dumper=_Plain, sort_keys=False, allow_unicode=True)


def _at(place: Any, problem: str) -> yaml.MarkedYAMLError:
    """An error at the beginning of an event or node."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)
