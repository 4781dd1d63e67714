"""What happens to bad data: strict by default, or left out and listed where the user asked to go on (`--skip-bad`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from detect.data.images import read_header, read_image
from detect.errors import UserError
from detect.progress import track

if TYPE_CHECKING:
    from detect.data.store import Annotations


class NothingUsable(UserError):
    """A set of which nothing is left; `left_out` has a line for each record that cannot be used."""

    def __init__(self, path: object, left_out: list[str]) -> None:
        why = f" that can be used; the first of {len(left_out)} reasons: {left_out[0]}" if left_out else ""
        super().__init__(f"{path}: the set is empty: it holds no image{why}")
        self.path, self.left_out = str(path), left_out


class Sieve:
    """Lets good records through. Strict: the first bad one is an error. Else: `lines` tells of each one left out."""

    def __init__(self, path: object, skip_bad: bool) -> None:
        self.path, self.skip_bad = path, skip_bad
        self.lines: list[str] = []

    def refuse(self, record: str, reason: str) -> None:
        """One bad record; raises UserError when strict."""
        line = f"{self.path}: {record} {reason}"
        if not self.skip_bad:
            raise UserError(f"{line}; mend it, or leave such records out with --skip-bad")
        self.lines.append(line)

    def refuse_all(self, records: Iterable[tuple[str, str]]) -> None:
        """Several bad records, each with its reason."""
        for record, reason in records:
            self.refuse(record, reason)

    def keep(self, alive: np.ndarray, bad: np.ndarray, say: Callable[[int], tuple[str, str]]) -> np.ndarray:
        """The rows of `alive` (N,) that are not `bad` (N,); `say(row)` gives record and reason."""
        for row in np.flatnonzero(alive & bad).tolist():
            self.refuse(*say(row))
        return alive & ~bad


def check_images(store: Annotations, decode: bool = True, workers: int = 8) -> Iterator[tuple[int, str]]:
    """(index, what is wrong) of every image that is missing, unreadable, truncated or not of its annotated size.

    With `decode` every picture is decoded once; without, only headers are read, which shows neither truncation nor
    damage in the pixels. Yields in the order of the images, so the first finding does not depend on the threads.
    """

    def look(index: int) -> str:
        path, size = store.image_path(index), store.size(index)
        try:
            if decode:
                read_image(path, size)
            else:
                read_header(path).turn(size, str(path))
        except UserError as error:
            return str(error)
        return ""

    def looked() -> Iterator[tuple[int, str]]:
        indices = iter(range(len(store)))
        with ThreadPoolExecutor(workers) as pool:
            while chunk := list(islice(indices, 64 * workers)):
                yield from zip(chunk, pool.map(look, chunk), strict=True)

    with closing(track(looked(), len(store), "check images")) as tracked:
        for index, problem in tracked:
            if problem:
                yield index, problem


def verify(store: Annotations, skip_bad: bool = False, decode: bool = True) -> Annotations:
    """The store whose images can be used, to be called once before the first step.

    Every image is decoded once; without `decode`, for sets that were decoded before, only the headers are read. The
    first bad image raises UserError; with `skip_bad`, bad images are left out with their objects and listed in
    `left_out`. What has no pictures was looked at when it was read.
    """
    if store.dims != 2:
        return store
    lines, bad = [], []
    for index, problem in check_images(store, decode=decode or skip_bad):
        if not skip_bad:
            raise UserError(f"{problem}; mend it, or leave such images out with --skip-bad")
        bad.append(index)
        objects = int(store.starts[index + 1] - store.starts[index])
        lines.append(f"{problem} (image id {store.image_ids[index]}, left out with its {objects} objects)")
    if not bad:
        return store
    good = np.delete(np.arange(len(store)), bad)
    if not len(good):
        raise NothingUsable(store.path, [*store.left_out, *lines])
    return store.select(good, left_out=[*store.left_out, *lines])


def require_objects(store: Annotations) -> None:
    """Raises UserError when there is nothing to learn from: no image, or not one object outside crowd regions."""
    if len(store) and not store.crowd.all():
        return
    what = "no object (crowd regions aside)" if len(store) else "no image"
    raise UserError(f"{store.path}: the training set is empty: it holds {what}; check the file and its path")
