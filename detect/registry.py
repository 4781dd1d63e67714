"""Registries: the names that options may have, and the functions and classes that they stand for.

Built-in entries are a table of names and the modules that register them, so that `--help` and error messages know every
name without importing torch; a module is imported when one of its names is asked for. Anyone else registers with the
same decorator, before the command runs:

    from detect.registry import register

    @register("backbone", "my_net")
    def my_net(in_channels: int, padding: str) -> Parts: ...
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from detect.errors import unknown

T = TypeVar("T")


class Registry(Mapping[str, Any]):
    """The entries of one kind, by name; names are lower case.

    Args:
        kind: what an entry is, as messages say it, such as "backbone".
        built_in: for each built-in name the module that registers it when imported, or "module:attribute".
    """

    def __init__(self, kind: str, built_in: Mapping[str, str] | None = None):
        self.kind = kind
        self._places = dict(built_in or {})
        self._entries: dict[str, Any] = {}

    def add(self, name: str, entry: Any) -> None:
        """Register `entry` as `name`.

        Raises:
            ValueError: the name is not lower case, or belongs to another entry.
        """
        if name != name.lower() or not name:
            raise ValueError(f"{self.kind} {name!r}: names are lower case")
        module = getattr(entry, "__module__", None)
        place = self._places.get(name, "").partition(":")[0]
        known = self._entries.get(name)
        if (known is not None and known is not entry) or (place and known is None and module and place != module):
            raise ValueError(f"{self.kind} {name!r} is registered already, by {place or known.__module__}")
        self._entries[name] = entry

    def __getitem__(self, name: str) -> Any:
        """The entry called `name`, whatever its case.

        Raises:
            UserError: there is no such name; the nearest one is suggested.
        """
        name = name.lower()
        if name not in self:
            raise unknown(self.kind, name, self)
        if name not in self._entries:
            module, _, attribute = self._places[name].partition(":")
            imported = importlib.import_module(module)
            if attribute:
                self._entries[name] = getattr(imported, attribute)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name.lower() in self._entries or name.lower() in self._places)

    def __iter__(self) -> Iterator[str]:
        """Every name: the built-in ones in the order of the table, then the others."""
        return iter(self._places | self._entries)

    def __len__(self) -> int:
        return len(self._places | self._entries)


def register(kind: str, *names: str) -> Callable[[T], T]:
    """A decorator that registers a function or class under one or several names.

    Args:
        kind: a key of `REGISTRIES`, such as "backbone", "loss.box" or "task".
        names: the names, lower case.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in REGISTRIES:
        raise unknown("kind of registry", kind, REGISTRIES)

    def add(entry: T) -> T:
        for name in names:
            REGISTRIES[kind].add(name, entry)
        return entry

    return add


REGISTRIES: dict[str, Registry] = {}
