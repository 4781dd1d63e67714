"""Chooses the images and videos of a folder, and tells how many files were skipped."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from detect.data.image_formats import is_unreadable
from detect.errors import UserError
from detect.utils.names import shown

_FOLDERS = "folders"
_log = logging.getLogger("detect")


def walk(folder: Path) -> Iterator[Path]:
    """All paths below a folder. Links to folders are followed, but no folder twice; hidden folders are skipped."""
    seen = {_identity(folder)}
    waiting = [folder]
    while waiting:
        for path in sorted(waiting.pop().iterdir(), key=lambda one: (one.is_symlink(), one)):
            if not path.is_dir() or path.name.startswith("."):
                yield path
            elif (identity := _identity(path)) not in seen:
                seen.add(identity)
                waiting.append(path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def usable(paths: Iterable[Path], what: str, taken: Callable[[Path], bool]) -> list[Path]:
    """The paths that `taken` accepts, in natural order: frame 9 before frame 10. A warning counts the others by reason.

    Args:
        paths: of files and folders.
        what: what they are from, for messages.
        taken: whether a file is an image or a video.

    Raises:
        UserError: no path is accepted.
    """
    kept, skipped = [], dict[str, list[str]]()
    for path in paths:
        if reason := _reason(path, taken):
            skipped.setdefault(reason, []).append(path.name)
        else:
            kept.append(path)
    counts = (f"{len(names)} {reason} ({min(names)})" for reason, names in sorted(skipped.items()))
    message = ", ".join(counts) or "nothing"
    if _FOLDERS in skipped:
        message += "; for those in its folders put /**/* after its name, quoted, or --recursive on detect predict"
    if not kept:
        raise UserError(f"{what}: no image or video in it, but {message}")
    if skipped:
        _log.warning("%s", shown(f"{what}: skipped {message}"))
    return sorted(kept, key=lambda p: [(int(s), "") if s.isdecimal() else (-1, s) for s in re.split(r"(\d+)", str(p))])


def _reason(path: Path, taken: Callable[[Path], bool]) -> str:
    """Why a path is skipped, in the plural; "" if it is not."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return _FOLDERS
    if not path.exists():
        return "broken links"
    if not path.is_file():
        return "that are not files"
    if taken(path):
        return ""
    return "in formats that cannot be decoded" if is_unreadable(path) else "of other types"
