"""What happens to bad records: an error by default; with `--skip-bad` they are left out and listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from detect.errors import UserError


class EmptyDatasetError(UserError):
    """A dataset of which no image is left; `left_out` has a line for each record that cannot be used."""

    def __init__(self, path: object, left_out: list[str]) -> None:
        why = f" that can be used; the first of {len(left_out)} reasons: {left_out[0]}" if left_out else ""
        super().__init__(f"{path}: the dataset is empty: it holds no image{why}")
        self.path, self.left_out = str(path), left_out


class NoClassError(UserError):
    """Labels in files that name the classes of objects alone, and of which no image has an object.

    Args:
        message: for those who need the classes.
        images: COCO's records of the images.
        path: what was read.
        root: the folder to which the names of the images are relative.
    """

    def __init__(self, message: str, images: list[dict], path: Path, root: Path) -> None:
        super().__init__(message)
        self.images, self.path, self.root = images, path, root


class BadRecords:
    """The records of a file that cannot be used: the first is an error, or each is listed.

    Args:
        path: the file or folder, for messages.
        skip_bad: list bad records in `lines` instead of raising.
    """

    def __init__(self, path: object, skip_bad: bool) -> None:
        self.path, self.skip_bad = path, skip_bad
        self.lines: list[str] = []

    def reject(self, record: str, reason: str) -> None:
        """Note one bad record. Raises UserError unless `skip_bad`."""
        line = f"{self.path}: {record} {reason}"
        if not self.skip_bad:
            raise UserError(f"{line}; fix it, or leave such records out with --skip-bad")
        self.lines.append(line)

    def reject_all(self, records: Iterable[tuple[str, str]]) -> None:
        """Note several bad records, each with its reason."""
        for record, reason in records:
            self.reject(record, reason)

    def good(self, alive: np.ndarray, bad: np.ndarray, describe: Callable[[int], tuple[str, str]]) -> np.ndarray:
        """Return the rows of `alive` (N,) bool that are not `bad` (N,); `describe(row)` gives record and reason."""
        for row in np.flatnonzero(alive & bad).tolist():
            self.reject(*describe(row))
        return alive & ~bad
