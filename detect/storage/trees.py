"""A URL as a folder: the listing of a store as empty files in the user's cache, which whatever reads folders can read.

    gridhead-trees/ID.json          the URL that the folder stands for
    gridhead-trees/ID/NAME/…        a placeholder for each object: as large (a hole, which takes no room), and as old;
                                    the microseconds of its time are a checksum of the object's tag (see `version`)

ID is a hash of the listing: a folder never changes, and a store that changes gets another one. So a run that goes on
keeps the versions that it began with, and `fetch` fails where one of them is gone. A web server that lists nothing has
a folder to which files are added as they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from detect.errors import UserError
from detect.storage.urls import joined, safe
from detect.utils.atomic_io import TREES, cache_folder, replace_text
from detect.utils.names import warn_once

_DAYS = 30  # a folder that no command asked for in so long is removed
_HOLES = sys.platform != "win32"  # where a larger empty file takes no room


class Entry(NamedTuple):
    """An object below a URL: its relative path, its size (-1: unknown) and version (0: unknown)."""

    name: str
    size: int = -1
    version: int = 0


class Tree(NamedTuple):
    """The folder that stands for a URL; `query` belongs to the URL of its one file."""

    folder: str
    url: str
    listed: bool
    query: str = ""

    def url_of(self, name: str) -> str:
        """The URL of the file with a relative path."""
        return joined(self.url, name) + self.query


class Place(NamedTuple):
    """A path within the folder of a tree."""

    tree: Tree
    name: str

    @property
    def url(self) -> str:
        return self.tree.url_of(self.name)


def plant(url: str, entries: list[Entry], listed: bool = True, query: str = "") -> Tree:
    """Return the folder of a URL that has these files; make it unless it is there.

    Raises:
        UserError: the cache cannot be written, or two objects would be a file and a folder of one name.
    """
    good = sorted(entry for entry in entries if _may_be_a_file(entry.name))
    if len(good) < len(entries):
        bad = next(entry.name for entry in entries if not _may_be_a_file(entry.name))
        warn_once(
            f"{safe(url)}: {len(entries) - len(good)} objects are left out, such as {bad!r}: no file has such a name"
        )
    digest = hashlib.sha256(json.dumps([url, query, listed]).encode())
    for entry in good:
        digest.update(f"{entry.name}\0{entry.size}\0{entry.version}\n".encode("utf-8", "surrogatepass"))
    trees, id_ = _folder(), digest.hexdigest()[:20]
    about, place = trees / f"{id_}.json", trees / id_
    tree = Tree(str(place / _base_name(url)), url, listed, query)
    if not place.is_dir() or not about.is_file():
        _remove_old(trees)
        replace_text(about, json.dumps({"url": url, "listed": listed, "query": query}), durable=False)
        _build(place, tree, good)
    with suppress(OSError):
        os.utime(about)
    return tree


def locate(path: str) -> Place | None:
    """The tree that a path lies in, and its name there; None for a path of any other folder."""
    name = os.path.normpath(path)
    before, mark, rest = name.partition(TREES)
    parts = rest.split(os.sep, 2)
    if not mark or len(parts) < 2 or (about := _about(f"{before}{mark}{parts[0]}.json")) is None:
        return None
    if parts[1] != _base_name(about[0]):  # beside the folder
        return None
    folder = os.sep.join([before + mark + parts[0], parts[1]])
    return Place(Tree(folder, *about), "/".join(parts[2:]).replace(os.sep, "/"))


def url_of(path: Path) -> str:
    """The URL that a path stands for; of other paths the path itself."""
    place = locate(str(path))
    return str(path) if place is None else safe(place.url)


def as_urls(text: str) -> str:
    """A text with each path of such a folder replaced by its URL."""
    for id_ in {rest.partition(os.sep)[0] for rest in text.split(TREES)[1:]}:
        try:
            about = _about(f"{_folder()}{os.sep}{id_}.json")
        except UserError:
            return text
        if about is not None:
            text = text.replace(str(_folder() / id_ / _base_name(about[0])), safe(about[0]).rstrip("/"))
    return text


def placeholder(path: str, size: int, version: int) -> None:
    """Make the empty file that stands for an object; one that is there gets the size and version."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        if _HOLES and size > 0:
            os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)
    os.utime(path, ns=(version, version))


def _build(place: Path, tree: Tree, entries: list[Entry]) -> None:
    """Make the folder of a tree: beside its place first, so that it is never seen in parts."""
    part = place.with_name(f".{place.name}-{os.getpid()}")
    top = part / os.path.basename(tree.folder)
    try:
        top.mkdir(parents=True)
        made = {str(top)}
        for entry in entries:
            path = os.path.join(top, *entry.name.split("/"))
            if (folder := os.path.dirname(path)) not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            placeholder(path, entry.size, entry.version)
        with suppress(OSError):  # another process was faster
            os.rename(part, place)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(
            f"{safe(tree.url)}: one object is called as the folder of another ({error.filename}); rename one"
        ) from None
    except OSError as error:
        raise _unwritable(str(part), error) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@lru_cache(maxsize=1024)
def _about(path: str) -> tuple[str, bool, str] | None:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
        return str(content["url"]), bool(content["listed"]), str(content["query"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _folder() -> Path:
    """Where the trees are kept."""
    try:
        return cache_folder() / TREES.strip(os.sep)
    except OSError as error:
        raise _unwritable("the cache folder", error) from None


def _unwritable(what: str, error: OSError) -> UserError:
    reason = error.strerror or error
    return UserError(f"{what} cannot be written: {reason}; free some space, or let XDG_CACHE_HOME name another folder")


def _base_name(url: str) -> str:
    """The name of the folder for a URL: its last part, by which formats know splits and classes."""
    name = safe(url).rstrip("/").rpartition("/")[2]
    return name if _may_be_a_file(name) else "root"


def _may_be_a_file(name: str) -> bool:
    """Whether a relative path can be that of a file below a folder, and of nothing else."""
    parts = name.split("/")
    if "\0" in name or any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 240 for part in parts):
        return False
    return os.sep == "/" or not any(letter in name for letter in '\\:*?"<>|')


def _remove_old(trees: Path) -> None:
    """Remove the folders that no command asked for in a long time."""
    latest = time.time() - _DAYS * 86400
    with suppress(OSError):
        for about in [one for one in trees.glob("*.json") if one.stat().st_mtime < latest]:
            about.unlink(missing_ok=True)
            shutil.rmtree(about.with_suffix(""), ignore_errors=True)
