"""Where the images of COCO records lie, and what their files are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from detect.data.inventory import IMAGE_FOLDERS, SPLITS, folders_in, split_name

_FIRST = 8  # records that are looked for in each folder


def image_roots(base: Path, *names: str) -> list[Path]:
    """Where the images of a set may lie: in its folder, in `images/`, or in one of these names or other names of it."""
    meant = {split_name(name) for name in names}
    wanted = [*names, *(name for name, split in SPLITS.items() if split in meant)]
    above = [str(base), *folders_in(base, IMAGE_FOLDERS)]
    inner = [
        found for name in dict.fromkeys(wanted) for place in above for found in folders_in(place, [name.casefold()])
    ]
    return [Path(place) for place in dict.fromkeys([*above, *inner])]


def image_folder(data: Any, roots: Sequence[Path]) -> Path:
    """The first of `roots` that holds one of the first images of a COCO dictionary, else the first.

    Records with a `coco_url` and without a `file_name`, such as those of LVIS, get one: the last two parts of the URL
    (`val2017/x.jpg`), or the last one where that is what lies in the folder.
    """
    images = data.get("images") if isinstance(data, dict) else None
    records = [record for record in images if isinstance(record, dict)] if isinstance(images, list) else []
    linked = defaultdict[str, list[tuple[dict, str]]](list)
    for record in records:
        if not record.get("file_name") and isinstance(url := record.get("coco_url"), str):
            place, _, name = unquote(urlsplit(url).path).rpartition("/")
            linked[place.rpartition("/")[2]].append((record, name))
    first = [[str(record["file_name"])] for record in records[:_FIRST] if record.get("file_name")]
    first += [[f"{place}/{name}", name] for place, some in linked.items() for _, name in some[:_FIRST]]
    holding = (root for root in roots if any((root / name).is_file() for names in first for name in names))
    root = next(holding, roots[0])
    for place, some in linked.items():
        names = [name for _, name in some[:_FIRST]]
        bare = not any((root / place / name).is_file() for name in names)
        bare = bare and any((root / name).is_file() for name in names)
        for record, name in some:
            record["file_name"] = name if bare or not place else f"{place}/{name}"
    return root
