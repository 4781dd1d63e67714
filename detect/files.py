"""Files that are either the old or the new one, never half of either; the folder of the cache."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from detect.errors import UserError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, bring it to the disk, and put it in the place of `path`.

    Raises UserError when the disk is full or the folder cannot be written; the file that was there stays. What is there
    and no file, such as a device, is never replaced.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} cannot be written: it is there, and no file; choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        with suppress(OSError):  # where the folder is no folder there is nothing to remove
            part.unlink()
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path} cannot be written: {reason}; free some space or choose another place") from error


def replace_text(path: Path, text: str) -> None:
    """`replace_file` for a text in UTF-8; half a surrogate pair, which UTF-8 has no form for, as its code."""
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8", errors="backslashreplace"))


def cache_folder() -> Path:
    """The folder for what can be made again: `gridhead` in XDG_CACHE_HOME, or in ~/.cache.

    Raises:
        OSError: the user has no home folder.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "gridhead"
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
