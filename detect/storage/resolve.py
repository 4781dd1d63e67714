"""From what the user names to a path on this machine."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from detect.errors import UserError
from detect.storage.trees import Entry, Tree, locate, plant
from detect.storage.tries import DeniedError, attempt
from detect.storage.urls import is_url, is_web, require_usable, safe, scheme_of, version
from detect.utils.atomic_io import TREES

if TYPE_CHECKING:
    from detect.data.roots import Roots

_ABOUT_OTHERS = frozenset((".json", ".yaml", ".yml", ".csv", ".xml", ".txt"))  # files that name files beside them
_MOST = 10_000_000  # objects below a URL
_MAGIC = re.compile(r"[*?\[]")


def local(name: str | os.PathLike[str], anew: bool = False) -> Path:
    """Return the path that stands for what the user named; for a URL its content is fetched when it is read.

    Args:
        name: a path, which is returned as it is (with ~ expanded); `file://` and a path; or the URL of an object, a
            folder, or a pattern of objects (`s3://bucket/*.jpg`), of which the folder is returned. Of a file that names
            others, such as a YAML, the folder is listed. A web server is listed where the URL ends with a slash.
        anew: list a URL again. By default a process lists it once, so that all splits of a dataset are of one time.

    Raises:
        UserError: there is no such object, it may not be read, or its driver is missing.
    """
    text = os.fspath(name)
    if not is_url(text):
        return Path(text).expanduser()
    if scheme_of(text) in ("file", "local"):
        return Path(unquote(urlsplit(text).path))
    require_usable(text)
    if anew:
        _remote.cache_clear()
    try:
        return _remote(text)
    except FileNotFoundError:
        raise UserError(f"{safe(text)}: there is no such file or folder") from None


def as_local(url: str) -> str:
    """Return the path that stands for the file at a URL, of which the store is not asked before it is read."""
    require_usable(url)
    parts = urlsplit(url)
    if scheme_of(url) in ("file", "local"):
        return unquote(parts.path)
    tree = plant(f"{parts.scheme}://{parts.netloc}", [], listed=False)
    path = unquote(parts.path) if is_web(url) else url.partition("://")[2].partition("/")[2]
    return os.path.join(tree.folder, os.path.normpath(f"/{path}").lstrip("/"))


def beside(folder: Path, name: str, inside: Roots) -> Path:
    """Return the path of what the YAML of a dataset names: relative to its `folder`, absolute, or a URL.

    A YAML on this machine may name URLs where the user named the YAML itself. A remote one may name what lies in the
    same store; local files and other hosts only with --allow-outside. What `inside` says decides.

    Raises:
        UserError: it may not name this; or as `local`.
    """
    place = locate(str(folder)) if TREES in str(folder) else None
    if place is None:
        if is_url(name) and not inside.urls:
            raise UserError(
                f"{folder}: its YAML names {safe(name)}: name the YAML itself as --data to have it read "
                "(--allow-outside permits it, too)"
            )
        return local(name) if is_url(name) else folder / Path(name).expanduser()
    here = urlsplit(place.tree.url)
    if is_url(name):
        there = urlsplit(name)
        if (there.scheme.lower(), there.netloc) != (here.scheme.lower(), here.netloc) and not inside.anywhere:
            raise UserError(f"{safe(place.url)} names {safe(name)}, another place (--allow-outside permits it)")
        return local(name)
    if os.path.isabs(os.path.expanduser(name)):
        if not inside.anywhere:
            raise UserError(f"{safe(place.url)} names {name}, a local file (--allow-outside permits it)")
        return Path(name).expanduser()
    path = os.path.normpath(folder / name)
    if (inner := locate(path)) is not None:
        if not inner.tree.listed and not os.path.splitext(path)[1]:  # a folder of a server that lists none
            os.makedirs(path, exist_ok=True)
        return Path(path)
    target = os.path.normpath(PurePosixPath("/", here.path.lstrip("/"), place.name, name)).lstrip("/")
    return local(f"{here.scheme}://{here.netloc}/{target}")


@lru_cache(maxsize=256)
def _remote(url: str) -> Path:
    """The path that stands for a URL. Raises FileNotFoundError as the store."""
    fixed, pattern = _without_pattern(url)
    if pattern or (is_web(url) and url.partition("?")[0].endswith("/")):
        tree = _listed(fixed)
        if pattern:
            found = [entry for entry in _entries(fixed) if PurePosixPath(entry.name).match(pattern)]
            tree = plant(fixed, found)
        return Path(tree.folder)
    info = attempt(url, lambda store, path: store.info(path))
    if info.get("type") == "directory" or (is_web(url) and str(info.get("url", "")).partition("?")[0].endswith("/")):
        return Path(_listed(url).folder)
    address, _, query = url.partition("?") if is_web(url) else (url, "", "")
    above, _, name = address.rpartition("/")
    name = unquote(name) if is_web(url) else name
    alone = [Entry(name, *version(info))]
    if is_web(url):
        tree = plant(above, alone, bool(query), f"?{query}" if query else "")
    elif os.path.splitext(name)[1].lower() in _ABOUT_OTHERS and above.count("/") > 1:
        tree = _listed(above)
    else:
        tree = plant(above, alone)
    return Path(tree.folder, name)


def _without_pattern(url: str) -> tuple[str, str]:
    """A URL up to its first part that is a pattern, and the pattern, which has no more parts than one."""
    if is_web(url) or not _MAGIC.search(url):
        return url, ""
    above, _, name = url.rpartition("/")
    if _MAGIC.search(above):
        raise UserError(f"{url}: a pattern is read in the last part of a URL alone, such as s3://bucket/folder/*.jpg")
    return above, name


def _listed(url: str) -> Tree:
    """The folder for everything below a URL; to that of a web server which lists nothing, files are added when read."""
    try:
        return plant(url.rstrip("/"), _entries(url))
    except (FileNotFoundError, DeniedError):
        if not is_web(url):
            raise
        return plant(url.rstrip("/"), [], listed=False)


def _entries(url: str) -> list[Entry]:
    """Everything below a URL."""

    def listing(store: Any, path: str) -> list[Entry]:
        top = store._strip_protocol(path).rstrip("/") + "/"
        found = []
        for name, info in store.find(path, detail=True).items():
            inner = name.removeprefix(top).lstrip("/")
            if inner == name or info.get("type") == "directory" or inner.endswith("/"):
                continue  # a link of a web page that leads elsewhere, or the mark of a folder
            known = version(info) if not is_web(url) else (-1, 0)
            found.append(Entry(unquote(inner) if is_web(url) else inner, *known))
        if not found:
            raise FileNotFoundError(2, "nothing is below it", path)
        return found

    found = attempt(f"{url.rstrip('/')}/" if is_web(url) else url, listing)
    if len(found) > _MOST:
        raise UserError(
            f"{safe(url)}: {len(found):,} objects lie below it, and at most {_MOST:,} are read; name a folder"
        )
    return found
