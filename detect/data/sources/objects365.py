"""Objects365 (Shao et al. 2019): `objects365_{split}.json` (v1) or `zhiyuan_objv2_{split}.json` (v2), with its images.

The files are COCO's. In the second version the name of an image is `images/v1/patch8/x.jpg`, while archives unpack to
`train/patch8/x.jpg`, `val/images/v1/patch8/x.jpg` and others: of a name as much is kept as its file has, from the end.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import load_records
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import by_split

_FILE = re.compile(r"(?:objects365_|zhiyuan_objv2_)(train|val|test)(?:_fixname)?\.json")
_FIRST = 8  # images that are looked for


class Objects365(Format):
    """A folder with such files, in it, in `annotations/` or in the folders of the splits."""

    accepts = "Objects365's folder, with zhiyuan_objv2_train.json or objects365_train.json"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder."""
        folder = source.path
        if not folder.is_dir():
            return {}
        paths = [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*/zhiyuan_objv2_*.json")]
        files = {match[1]: path for path in sorted(paths) if (match := _FILE.fullmatch(path.name))}
        for path in files.values():
            source.inside.require(path)
        named = by_split(folder, files).items()
        return {split: partial(_load, files[name], image_roots(folder, name), source.inside) for split, name in named}


def _load(path: Path, roots: list[Path], inside: Roots, skip_bad: bool) -> Annotations:
    return load_records(path, lambda data: _placed(data, roots), skip_bad, inside)


def _placed(data: Any, roots: list[Path]) -> Path:
    """The folder that holds the images; what their names have before the part that their files have is cut off."""
    images = data.get("images") if isinstance(data, dict) else None
    listed = images if isinstance(images, list) else []
    records = [one for one in listed if isinstance(one, dict) and isinstance(one.get("file_name"), str)]
    for kept in (99, 2, 1):  # parts of a name: all, patch8/x.jpg, x.jpg
        for root in roots:
            if any(os.path.isfile(root / _tail(one["file_name"], kept)) for one in records[:_FIRST]):
                for one in records:
                    one["file_name"] = _tail(one["file_name"], kept)
                return root
    return roots[0]


def _tail(name: str, parts: int) -> str:
    return "/".join(name.split("/")[-parts:])
