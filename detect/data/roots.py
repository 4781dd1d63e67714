"""Which files a dataset may use: those below its own folders, wherever links lead.

A dataset comes from somewhere else: a name in its lists and annotation files, or a link in it, must not make this
machine's other files part of it, nor make it ask other machines. The folders that the user names, in a flag or in a
YAML, are its own, links or not. `--allow-outside` is for sets whose lists or links mean to lead elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from detect.errors import UserError
from detect.storage.shards import MEMBER

_LEAVING = re.compile(r"^[/\\]|^[A-Za-z]:|^[A-Za-z][A-Za-z0-9+.-]+://|(^|[/\\])\.\.($|[/\\])")
_SUSPECT = ("\n/", "\n\\", ":", "..")  # in lines of names: one that leads out has one of these
LEAVES = "leaves the image folder (--allow-outside permits it)"
OUTSIDE = "leads outside the folder of the dataset (--allow-outside permits it)"


def leaves(name: str) -> bool:
    """Whether a file name, by itself, leads out of its folder: an absolute path, a URL, or one with `..`."""
    suspect = name.startswith(("/", "\\")) or ":" in name or ".." in name  # most names are not
    return suspect and _LEAVING.search(name) is not None


def any_leaves(names: Sequence[str]) -> bool:
    """Whether one of many file names leads out of its folder."""
    lines = "\n" + "\n".join(names)  # a search in all is quicker than one in each
    return any(part in lines for part in _SUSPECT) and any(map(leaves, names))


class Roots:
    """The folders below which a dataset may use files; `anywhere` permits all files and URLs.

    `urls`: whether the YAML of the dataset may name URLs, as the user named the YAML itself.
    """

    def __init__(self, *folders: str | Path, anywhere: bool = False, urls: bool = False) -> None:
        self.anywhere, self.urls = anywhere, urls or anywhere
        self.folders = {os.path.realpath(folder) for folder in folders}
        self._real: dict[str, str] = {}  # of folders, links followed

    def adding(self, *folders: str | Path) -> Roots:
        """Return these and other folders."""
        return Roots(*self.folders, *folders, anywhere=self.anywhere, urls=self.urls)

    def holds(self, path: str) -> bool:
        """Whether the dataset may use the file or folder at an absolute path; it need not exist."""
        if self.anywhere:
            return True
        if (member := MEMBER.match(path)) is not None:  # a file in a shard: it lies where the shard does
            path = member[1]
        above, name = os.path.split(path)
        try:
            if (real := self._real.get(above)) is None:
                real = self._real[above] = os.path.realpath(above)
            place = os.path.realpath(path) if os.path.islink(path) else os.path.join(real, name)
        except ValueError:  # a name that no file can have
            return False
        return any(place == root or place.startswith(root.rstrip(os.sep) + os.sep) for root in self.folders)

    def require(self, *paths: str | Path) -> None:
        """Raises UserError for a file or folder that the dataset may not use."""
        for path in paths:
            if not self.holds(os.path.abspath(path)):
                raise UserError(f"{path}: {OUTSIDE}")

    def let_in(self, names: Sequence[object], root: Path) -> list[bool]:
        """Return which file names, relative to `root`, the dataset may use, by name and by where links lead."""
        if self.anywhere:
            return [True] * len(names)
        base, links = os.path.abspath(root), dict[str, set[str] | None]()

        def links_of(above: str) -> set[str] | None:
            if above not in links:
                folder = os.path.join(base, above)
                links[above] = _links(folder) if self.holds(os.path.join(folder, ".")) else None
            return links[above]

        def inside(name: str) -> bool:
            above, _, file = name.rpartition("/")
            if "\\" in file:  # which parts names on Windows
                above, file = os.path.split(name)
            led_astray = links_of(above)
            return (led_astray is not None and file not in led_astray) or self.holds(os.path.join(base, name))

        texts = [name for name in names if type(name) is str]
        some = any_leaves(texts)
        plain = not some and not any("\\" in name for name in texts)
        if plain and all(links_of(above) == set() for above in {name.rpartition("/")[0] for name in texts}):
            return [True] * len(names)
        return [type(name) is not str or (not (some and leaves(name)) and inside(name)) for name in names]


def _links(folder: str) -> set[str]:
    """The names of the links in a folder: one listing instead of a look at every file."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except (OSError, ValueError):
        return set()


def shared_folder(files: Sequence[str]) -> str:
    """Return the deepest folder that holds all files, given by absolute paths.

    Raises:
        UserError: they lie on several drives of Windows, which no folder holds.
    """
    try:
        return os.path.commonpath([os.path.dirname(file) for file in files])
    except ValueError:
        drives = ", ".join(sorted({os.path.splitdrive(file)[0] for file in files}))
        raise UserError(f"the images lie on several drives ({drives}): copy them onto one") from None


def rebased(root: Path, names: list[str]) -> tuple[Path, list[str]]:
    """The deepest folder that holds all files, and their names relative to it, where a name leaves `root`."""
    if not any_leaves(names):
        return root, names
    files = [os.path.abspath(os.path.join(root, name)) for name in names]
    shared = shared_folder(files)
    return Path(shared), [Path(os.path.relpath(file, shared)).as_posix() for file in files]
