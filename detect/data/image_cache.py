"""The cache of decoded images, in memory that the processes of a loader share."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np


def free_memory() -> int:
    """Bytes that may be taken without pushing anything out: the machine's, or the container's where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        if sys.platform == "win32":
            return 2**32  # it does not say; a machine that trains has as much
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit
        pass
    return max(0, free)


class ImageCache:
    """Decoded pictures of known size, each stored when first asked for, so that later epochs decode nothing.

    sides (I, 2) are the largest height and width of each picture. The pictures that fit into `gigabytes` and a quarter
    of the free memory are kept, in order; the others are made again every time. The pages are anonymous and shared:
    one worker's work serves all, and memory is taken only as pictures come in. Two workers may store one picture at
    the same time: they write the same bytes.
    """

    def __init__(self, sides: np.ndarray, gigabytes: float) -> None:
        room = min(int(gigabytes * 2**30), free_memory() // 4)
        ends = np.cumsum(sides.astype(np.int64).prod(axis=1) * 3)
        self.kept = int(np.searchsorted(ends, room, side="right"))
        self.starts = np.concatenate([[0], ends[: self.kept]])
        if self.kept:
            self.pixels = np.frombuffer(mmap.mmap(-1, int(self.starts[-1])), np.uint8)
            self.shapes = np.frombuffer(mmap.mmap(-1, self.kept * 8), np.int32).reshape(-1, 2)  # 0, 0: not yet stored

    def get(self, index: int, make: Callable[[int], np.ndarray]) -> np.ndarray:
        """The picture (h, w, 3) uint8, to be read only: stored, or made by `make(index)` and stored."""
        if index >= self.kept:
            return make(index)
        start, end = self.starts[index], self.starts[index + 1]
        height, width = self.shapes[index]
        if not height:
            image = make(index)
            height, width = image.shape[:2]
            if image.size > end - start:
                return image
            self.pixels[start : start + image.size] = image.reshape(-1)
            self.shapes[index, 1] = width
            self.shapes[index, 0] = height  # last: it is what readers look at
        return self.pixels[start : start + int(height) * int(width) * 3].reshape(height, width, 3)

    def __getstate__(self) -> dict:
        """A pickled copy (workers that are spawned, not forked) shares nothing, so it keeps nothing."""
        return {"kept": 0}
