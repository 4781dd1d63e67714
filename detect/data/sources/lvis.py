"""LVIS (Gupta et al. 2019, arXiv 1908.03195): `lvis_v1_train.json`, `lvis_v1_val.json`, beside COCO's image folders.

The files are COCO-shaped. Images have a `coco_url` in place of a file name, whose last two parts (`train2017/x.jpg`)
say where an image lies, for LVIS's splits mix images of both of COCO's folders; `neg_category_ids` and
`not_exhaustive_category_ids`, which `detect.data.federation` explains; categories have a `frequency`. Any COCO-shaped
file with these fields is read so, whatever it is called: this format only knows the names of LVIS's own files.
"""

from __future__ import annotations

import re

from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import coco_loader
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import by_split

_FILE = re.compile(r"lvis_v[\d.]+_(?!image_info_)(.+)\.json")  # those of tests have no annotations


class Lvis(Format):
    """A folder with `lvis_v1_{split}.json`, in it or in `annotations/`, and `train2017/` and `val2017/`."""

    accepts = "a folder with lvis_v1_train.json"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits of such a folder; of several versions the last is taken."""
        folder = source.path
        if not folder.is_dir():
            return {}
        for place in (folder, folder / "annotations"):
            files = {m[1]: path for path in sorted(place.glob("lvis_v*.json")) if (m := _FILE.fullmatch(path.name))}
            if files:
                roots = image_roots(folder)
                named = by_split(folder, files).items()
                return {split: coco_loader(files[name], roots, source.inside) for split, name in named}
        return {}
