"""Images scaled down once and cached, decoded, in memory that the processes of a loader share."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detect.data.annotations import Annotations, known_sizes
from detect.data.images import resize

if TYPE_CHECKING:
    from detect.data.augment.stylized import StylizedCopies


def free_memory() -> int:
    """Bytes that may be taken without pushing anything out: the machine's, or the container's where that is less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        free = 2**32  # where nothing says it; a machine that trains has as much
        if sys.platform != "win32":
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    try:
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or no limit
        pass
    return max(0, free)


class ImageCache:
    """Decoded images of known size, each stored when first asked for, so that later epochs decode nothing.

    The first images that fit into `gigabytes` and a quarter of the free memory are kept; the others are made again
    every time. The pages are anonymous and shared: what one worker stores serves all, and memory is taken only as
    images come in. Two workers may store one image at the same time: they write the same bytes.

    Args:
        sides: (N, 2) the largest height and width of each image.
        gigabytes: the largest size of the cache.
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
        """Return the image (h, w, 3) uint8, to be read only: stored, or made by `make(index)` and then stored."""
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


class ScaledImages:
    """The images of a dataset, or windows of them, scaled down to at most `size` pixels a side: what is cached.

    Args:
        annotations: the dataset.
        size: the longest side that is kept; nothing is enlarged.
        stretch: scale everything to size x size instead, as the model will when it is used.
        images: (N,) int64 the image that each window is cut out of; default: each image once.
        windows: (N, 4) int64 xyxy pixels of the images; default: whole images.
        copies: stylized copies of the images. They are numbered N to 2N - 1.

    Attributes:
        sides: (N, 2) int64 height and width of each image or window as scaled.
    """

    def __init__(
        self,
        annotations: Annotations,
        size: int,
        stretch: bool = False,
        images: np.ndarray | None = None,
        windows: np.ndarray | None = None,
        copies: StylizedCopies | None = None,
    ) -> None:
        self.annotations, self.copies = annotations, copies
        self.images = np.arange(len(annotations)) if images is None else images
        if windows is None:
            windows = np.pad(known_sizes(annotations)[:, ::-1], ((0, 0), (2, 0)))
        self.windows = windows
        original = (windows[:, 2:] - windows[:, :2])[:, ::-1]
        shrink = np.minimum(1.0, size / original.max(axis=1, keepdims=True))
        self.sides = np.rint(original * shrink).astype(np.int64).clip(1)
        if stretch:
            self.sides[:] = size

    def cache(self, gigabytes: float) -> ImageCache:
        """Return a cache that has room for them, and for their copies."""
        return ImageCache(self.sides if self.copies is None else np.tile(self.sides, (2, 1)), gigabytes)

    def number(self, index: int, epoch: int | None) -> int:
        """Return the number of the image or window `index` to show in an epoch: its own, or that of its copy."""
        copied = self.copies is not None and self.copies.shown(int(self.images[index]), epoch)
        return index + copied * len(self.sides)

    def read(self, number: int) -> np.ndarray:
        """Return the image or window with this number, decoded and scaled (h, w, 3)."""
        copied, index = divmod(number, len(self.sides))
        left, top, right, bottom = self.windows[index].tolist()
        height, width = self.sides[index].tolist()
        source = self.copies if self.copies is not None and copied else self.annotations
        return resize(source.read(int(self.images[index]))[top:bottom, left:right], width, height)
