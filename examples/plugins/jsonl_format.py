"""A dataset format: a folder with train.jsonl and val.jsonl beside the images, one line for each image.

    {"image": "street.jpg", "boxes": [{"name": "car", "box": [x, y, width, height]}]}

detect train --plugin ./jsonl_format.py --data FOLDER
"""

import json
from functools import partial
from pathlib import Path

from detect.data.annotations import Annotations
from detect.data.bad_records import BadRecords
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.coco import from_coco
from detect.registry import register


@register("format", "jsonl")
class JsonLines(Format):
    """One JSON object for each image; the name of a file is that of the split."""

    accepts = "a folder with train.jsonl, one JSON object for each image"

    def splits(self, source: Source) -> Splits:
        """The reader of each *.jsonl file in the folder."""
        files = sorted(source.path.glob("*.jsonl")) if source.path.is_dir() else []
        return {file.stem: partial(read, file) for file in files}


def read(path: Path, skip_bad: bool) -> Annotations:
    """The annotations in one file, checked record by record as those of a COCO file are."""
    bad_records, images, annotations, ids = BadRecords(path, skip_bad), [], [], {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            boxes = [(one["name"], one["box"]) for one in record["boxes"]]
            images.append({"id": number, "file_name": record["image"]})
        except (ValueError, KeyError, TypeError) as error:
            bad_records.reject(f"line {number}", f'is not {{"image": ..., "boxes": [...]}} ({error!r})')
            continue
        for name, box in boxes:
            label = ids.setdefault(name, len(ids) + 1)
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box})
    categories = [{"id": label, "name": name} for name, label in ids.items()]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    return from_coco(coco, path, path.parent, bad_records)
