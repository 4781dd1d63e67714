"""Reads json: large files fast, broken and hostile ones with an error of one line."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detect.errors import UserError
from detect.utils.atomic_io import read_bytes
from detect.utils.text_files import decode


def read_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Any:
    """The value in a json file.

    Args:
        path: the file.
        change: what to put in the place of each object, the innermost first, while the file is read.

    Raises:
        UserError: the file cannot be read, or is broken, at which line and column.
    """
    try:
        text = decode(read_bytes(path), path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    try:
        hook = unique_keys if change is None else lambda pairs: change(unique_keys(pairs))
        return json.loads(text, object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path}: broken json at {where}: {error.msg}; was the file written to its end?") from None
    except RecursionError:
        raise UserError(f"{path}: json that cannot be read: lists and objects are nested too deeply") from None
    except ValueError as error:  # a duplicate key, or a number of thousands of digits
        raise UserError(f"{path}: json that cannot be read: {error}") from None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values, for `object_pairs_hook`.

    Raises:
        ValueError: a key comes twice: one of its values would be lost.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]  # counting each key by itself would take hours
        raise ValueError(f"the key {twice!r} comes twice in an object")
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """Turn garbage collection off, which takes half the time of making millions of small objects."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
