"""Where the images of COCO records lie, and what their files are called."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detect.data.sources.inventory import IMAGE_FOLDERS, SPLITS, Finder, folders_in, split_name
from detect.utils.atomic_io import STORED

FIRST = 8  # records that are looked for in each folder


def image_roots(base: Path, *names: str) -> list[Path]:
    """Return where the images of a split may lie: the folder, `images/`, or folders in these with one of its names."""
    meant = {split_name(name) for name in names}
    wanted = [*names, *(name for name, split in SPLITS.items() if split in meant)]
    above = [str(base), *folders_in(base, IMAGE_FOLDERS)]
    inner = [
        found for name in dict.fromkeys(wanted) for place in above for found in folders_in(place, [name.casefold()])
    ]
    return [Path(place) for place in dict.fromkeys([*above, *inner])]


def image_folder(data: Any, roots: Sequence[Path]) -> Path:
    """Return the first of `roots` that holds one of the first images of a COCO dictionary, else the first.

    A root that holds one under a name that `as_on_disk` equates counts where no root holds one exactly.

    Records with a `coco_url` and without a `file_name`, such as those of LVIS, get one: the last two parts of the URL
    (`val2017/x.jpg`), or the last one where that is what lies in the folder.
    """
    images = data.get("images") if isinstance(data, dict) else None
    records = [record for record in images if isinstance(record, dict)] if isinstance(images, list) else []
    linked = defaultdict[str, list[tuple[dict, str]]](list)
    for record in records:
        if not record.get("file_name") and isinstance(url := record.get("coco_url"), str):
            place, _, name = _path_of(url).rpartition("/")
            linked[place.rpartition("/")[2]].append((record, name))
    first = [[str(record["file_name"])] for record in records[:FIRST] if record.get("file_name")]
    first += [[f"{place}/{name}", name] for place, some in linked.items() for _, name in some[:FIRST]]
    finder = Finder()
    spelled = [name for names in first for name in names]
    exact = (root for root in roots if any(os.path.isfile(root / name) for name in spelled))
    alike = (root for root in roots if any(_found(finder, root, name) for name in spelled))
    root = next(exact, None) or next(alike, roots[0])
    for place, some in linked.items():
        names = [name for _, name in some[:FIRST]]
        bare = not any(os.path.isfile(root / place / name) for name in names)
        bare = bare and any(os.path.isfile(root / name) for name in names)
        for record, name in some:
            record["file_name"] = name if bare or not place else f"{place}/{name}"
    return root


def as_on_disk(names: Sequence[str], root: Path) -> list[str]:
    """Return file names relative to `root`, spelled as their files are.

    The name of a missing file becomes that of the only file that differs from it in case, Unicode form or backslashes
    alone. It stays as it is where no such file is there, several are, or another name in the list means the same file.
    """
    folders = {name[: name.rfind("/") + 1] for name in names}
    there = {place + file for place in folders if not STORED.search(place) for file in _listing(root / place)}
    spelled = list(names)
    missing = [i for i, name in enumerate(names) if name not in there and not STORED.search(name)]  # or in a shard
    if not missing:
        return spelled
    finder = Finder()
    found = {index: path for index in missing if (path := _found(finder, root, names[index]))}
    meant = Counter(found.values())
    meant.update(os.path.normpath(name) for name in set(names).difference(names[index] for index in missing))
    for index, path in found.items():
        if meant[path] == 1:
            spelled[index] = Path(path).as_posix()
    return spelled


def _found(finder: Finder, root: Path, name: str) -> str | None:
    """The path, relative to `root`, of the file that a name may mean; None where there is none, or several."""
    base = os.path.abspath(root)
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        path = finder.find(os.path.abspath(os.path.join(base, spelling)))
        if path and path.startswith(base.rstrip(os.sep) + os.sep):
            return os.path.relpath(path, base)
    return None


def _listing(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except (OSError, ValueError):
        return set()


def _path_of(url: str) -> str:
    """The path in a URL; nothing in what is none."""
    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""
