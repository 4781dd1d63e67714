"""Groups of rows that lie end to end in one array: `starts` (G + 1,) says where each begins and the last ends."""

from __future__ import annotations

import numpy as np


def gather(starts: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the chosen groups, end to end, and where each group then starts."""
    first = starts[index]
    begins = np.zeros(len(index) + 1, dtype=np.int64)
    np.cumsum(starts[index + 1] - first, out=begins[1:])
    rows = np.arange(begins[-1]) + np.repeat(first - begins[:-1], begins[1:] - begins[:-1])
    return rows, begins


def starts_of(lengths: np.ndarray | list[int]) -> np.ndarray:
    """Return where groups of these lengths (G,) start."""
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


def joined(several: list[np.ndarray]) -> np.ndarray:
    """Return where the groups of several arrays, one after the other, start."""
    return starts_of(np.concatenate([np.zeros(0, np.int64), *(starts[1:] - starts[:-1] for starts in several)]))


def members(starts: np.ndarray) -> np.ndarray:
    """Return the group of each row."""
    return np.repeat(np.arange(len(starts) - 1), starts[1:] - starts[:-1])
