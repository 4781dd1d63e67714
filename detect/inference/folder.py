"""Chooses the images and videos of a folder, and tells how many files were skipped."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from detect.data.image_formats import is_unreadable
from detect.errors import UserError
from detect.utils.atomic_io import open_file
from detect.utils.names import shown
from detect.utils.text_files import read_text

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


def listed(path: Path, taken: Callable[[Path], bool]) -> list[Path] | None:
    """The images and videos that a text file lists, one a line, relative to its folder; None for any other text.

    Args:
        path: the file. It is a list if its first line that is not blank has the name of an image or video.
        taken: whether a path is an image or a video, by its name.

    Raises:
        UserError: a file of the list is missing, or has another type; the line is named.
    """
    with open_file(path) as file:
        first = next((line for line in file if line.strip()), b"").decode(errors="replace").strip()
    if not taken(Path(first)):
        return None
    found = []
    for number, line in enumerate(read_text(path, errors="surrogateescape").split("\n"), 1):
        if not (name := line.strip()):
            continue
        one = path.parent / Path(name).expanduser()
        if not (taken(one) and one.is_file()):
            what = "is no file" if taken(one) else "is not named as an image or video"
            raise UserError(f"{path}:{number}: {name!r} {what}; paths are relative to the list's folder")
        found.append(one)
    return found


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
