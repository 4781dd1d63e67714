"""What a source holds and is not read: each file is counted by the reason, so that nothing is lost in silence."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import PurePath

from detect.data.image_formats import is_unreadable

FOLDERS = "folders"
# Suffixes of files that hold others, and are not opened beside images or in shards.
_ARCHIVES = frozenset(".tar .parquet .zip .gz .tgz .bz2 .tbz2 .xz .txz .zst .7z .rar .lmdb .h5 .hdf5 .tfrecord".split())  # noqa: SIM905


class Skipped:
    """Counts files that are not read, by the reason; of each reason it names one file.

    Args:
        keep: also takes the path and the reason of each.
    """

    def __init__(self, keep: Callable[[str, str], object] | None = None) -> None:
        self.keep = keep
        self.counts = dict[str, tuple[int, str]]()  # how many of each reason, and the first name in the alphabet

    def add(self, path: str | os.PathLike[str], reason: str) -> None:
        """Count a file. `reason` follows a number: "of other types"."""
        text = os.fspath(path)
        name = text.replace(os.sep, "/").rpartition("/")[2]
        count, first = self.counts.get(reason, (0, name))
        self.counts[reason] = count + 1, min(first, name)
        if self.keep:
            self.keep(text, reason)

    def __str__(self) -> str:
        counts = (f"{count:,} {reason} ({first})" for reason, (count, first) in sorted(self.counts.items()))
        text = ", ".join(counts) or "nothing"
        if FOLDERS in self.counts:
            text += "; for those in its folders put /**/* after its name, quoted, or --recursive on detect predict"
        return text


def reason_by_name(path: PurePath) -> str:
    """Why a file that is no image or video is not read."""
    if path.name.startswith("."):
        return "hidden"
    if path.suffix.lower() in _ARCHIVES:
        return "archives"
    return "in formats that cannot be decoded" if is_unreadable(path) else "of other types"
