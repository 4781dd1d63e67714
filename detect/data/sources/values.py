"""Values of json as columns of numbers, and which of them are none; rows of lists by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detect.errors import UserError

T = TypeVar("T")


def listed_once(path: Path, rows: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return the values of the rows of a list by their names.

    Raises:
        UserError: a name has two rows that differ.
    """
    found: dict[str, T] = {}
    for name, value in rows:
        if found.setdefault(name, value) != value:
            raise UserError(f"{path}: {name[:60]!r} is listed twice, with {found[name]!r:.60} and {value!r:.60}")
    return found


def whole(values: list) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) int64 of whole numbers, and which of the values are not (they become 0)."""
    if not values:
        return np.zeros(0, np.int64), np.zeros(0, bool)
    if not set(map(type, values)) - {int}:
        try:
            return np.array(values, dtype=np.int64), np.zeros(len(values), bool)
        except OverflowError:
            pass
    good = [
        (type(v) is int and abs(v) < 2**63) or (type(v) is float and v.is_integer() and abs(v) < 2**53) for v in values
    ]
    kept = [int(value) if fine else 0 for value, fine in zip(values, good, strict=True)]
    return np.array(kept, np.int64), ~np.array(good, bool)


def numbers(values: Sequence[Any] | np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, width) float64 of finite numbers, and which rows are not (they become 0)."""
    try:
        array = np.array(values, dtype=np.float64).reshape(len(values), width)
    except (TypeError, ValueError, OverflowError):
        array = np.full((len(values), width), np.nan)
        for row, value in enumerate(values):
            try:
                array[row] = np.array(value, dtype=np.float64).reshape(width)
            except (TypeError, ValueError, OverflowError):
                continue  # stays NaN, and so is reported
    bad = np.asarray(~np.isfinite(array).all(1))
    array[bad] = 0
    return array, bad
