"""COCO files: instances_{split}.json, or person_keypoints_{split}.json, and a data.yaml for `--data`.

Besides COCO's keys an annotation has, where they are known, `score`, `review` (true: a person should look at it),
`track_id` and `note`. Readers of COCO files pass over keys of one's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from detect.labelling.labels import Labels
from detect.labelling.writer import LabelFormat
from detect.storage.trees import url_of
from detect.utils.atomic_io import replace_text
from detect.utils.names import json_text
from detect.utils.yaml_files import dump_yaml


class CocoLabels(LabelFormat):
    """A COCO file for each split, and data.yaml, which says where the images are."""

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        parts = {}
        for split, labels in sets.items():
            file = f"{'instances' if labels.annotations.keypoints is None else 'person_keypoints'}_{split}.json"
            replace_text(out / file, json_text(coco_content(labels)) + "\n")
            root, here = Path(labels.annotations.root).resolve(), out.resolve()
            inside = root.is_relative_to(here)
            parts[split] = {
                "annotations": file,
                "images": Path(os.path.relpath(root, here)).as_posix() if inside else url_of(root),
            }
        replace_text(out / "data.yaml", dump_yaml(parts))
        return [f"{out / 'data.yaml'}: use it as --data"]


def coco_content(labels: Labels) -> dict:
    """The content of the COCO file of a split."""
    content = labels.annotations.to_coco()
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    objects = (one for image in range(len(labels.annotations)) for one in labels.objects(image))
    for record, one in zip(content["annotations"], objects, strict=True):
        record |= one.marks()
        if any(one.rings[1]) and not one.is_mask:  # a list of polygons cannot say which are holes
            assert one.outline is not None
            record["segmentation"] = one.outline.rle(0, sizes[record["image_id"]])
    return {"info": {"images": url_of(Path(labels.annotations.root).resolve())}, **content}
