"""A YAML that names a COCO file and an image folder for each split.

    train: {annotations: train.json, images: images/train}
    val: {annotations: val.json, images: images/val}

Paths are relative to the YAML, absolute, or URLs. Without `images` they are looked for as beside any COCO file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detect.data.annotations import Annotations
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits, accepted
from detect.data.sources.coco import coco_loader
from detect.data.sources.image_names import image_roots
from detect.data.sources.inventory import by_split
from detect.errors import UserError, unknown
from detect.storage.resolve import beside
from detect.utils.names import require_names


class SplitYaml(Format):
    """A YAML with `train:`, `val:`, `test:`, or a folder with such a `data.yaml`. Tried after YOLO's `data.yaml`."""

    accepts = "a YAML with train: and val:, each with annotations: and images:"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits. Raises UserError for a YAML that does not describe a dataset."""
        path, content = source.yaml_path, source.yaml
        if path is None:
            return {}
        if not isinstance(content, dict) or not any(isinstance(part, dict) for part in content.values()):
            raise UserError(f"{path}: this YAML does not describe a dataset. {accepted()}")
        names = require_names([*content], range(1, len(content) + 1), path, "split")
        given = by_split(path, (name for name in names if content[name] is not None))
        return {split: _reader(path, name, content[name], source.inside) for split, name in given.items()}


def _reader(path: Path, split: str, part: Any, inside: Roots) -> Callable[[bool], Annotations]:
    if not isinstance(part, dict) or not isinstance(part.get("annotations"), str):
        raise UserError(f"{path}: {split} needs annotations: FILE.json (and images: FOLDER)")
    for key in part:
        if key not in ("annotations", "images"):
            raise UserError(f"{path}: {split}: {unknown('key', str(key), ('annotations', 'images'))}")
    annotations = beside(path.parent, part["annotations"], inside)
    images, inside = part.get("images"), inside.adding(annotations.parent)
    if images is None:
        return coco_loader(annotations, image_roots(annotations.parent, split), inside)
    if not isinstance(images, str):
        raise UserError(f"{path}: {split}: images must be one folder, not {images!r}")
    root = beside(path.parent, images, inside)
    if not os.path.isdir(root):
        raise UserError(f"{path}: {split}: there is no image folder {root}; images is relative to the YAML")
    return coco_loader(annotations, [root], inside.adding(root))
