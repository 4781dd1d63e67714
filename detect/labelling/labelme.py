"""LabelMe: a json file for each image, which names it relative to itself and does not hold its pixels.

A box is a rectangle, an oriented box a polygon of its four corners. An outline is a polygon for each part, of one
group; one with holes is a mask. Keypoints are points of the group of their box, called as the keypoints; the flag
`occluded` marks those that are labelled, but hidden. A mark for review is the flag `review` of shape and image, the
score stands in the description.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detect.labelling.labels import REVIEW, LabelObject, Labels, in_files
from detect.labelling.writer import LabelFormat, distinct_stems
from detect.utils.atomic_io import replace_text
from detect.utils.names import json_text

VERSION = "5.5.0"  # of LabelMe, whose files have these keys
HIDDEN, SEEN = 1, 2  # visibility of keypoints in COCO files


class LabelmeLabels(LabelFormat):
    """A json file for each image, in a folder for each split; labels.txt lists the classes for `labelme --labels`."""

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        names = dict.fromkeys(name for labels in sets.values() for name in labels.names)
        points = dict.fromkeys(name for labels in sets.values() for name in labels.annotations.keypoint_names)
        listed = [name for name in [*names, *points] if "\n" not in name]
        replace_text(out / "labels.txt", "".join(f"{name}\n" for name in listed), durable=False)
        for split, labels in sets.items():
            stems = distinct_stems([labels.annotations.file_name(i) for i in range(len(labels.annotations))])
            for image, _, path, size in in_files(labels):
                target = out / split / f"{os.path.splitext(stems[image])[0]}.json"
                content = _content(
                    labels, image, Path(os.path.relpath(path.absolute(), target.parent.absolute())), size
                )
                replace_text(target, json_text(content, indent=1) + "\n", durable=False)
        flags = f"--labels {out / 'labels.txt'} --nodata"
        return [f"labelme {out / split} {flags}: opens the labels of {split}" for split in sets]


def _content(labels: Labels, image: int, path: Path, size: tuple[int, int]) -> dict[str, Any]:
    shapes = [shape for one in labels.objects(image) for shape in _shapes(one, labels.annotations.keypoint_names, size)]
    return {
        "version": VERSION,
        "flags": {REVIEW: bool(labels.to_review[image])},
        "shapes": shapes,
        "imagePath": path.as_posix(),
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def _shapes(one: LabelObject, keypoint_names: list[str], size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The shapes of one object."""
    x, y, w, h = one.box
    rings, holes = one.rings
    group = one.number if len(rings) > 1 or one.keypoints is not None else None
    if one.corners is not None:
        yield _shape(one, "polygon", one.corners.tolist(), None)
    elif any(holes):
        left, top, pixels = one.pixels(size)
        mask = base64.b64encode(cv2.imencode(".png", pixels.astype(np.uint8) * 255)[1].tobytes()).decode("ascii")
        corner = [left + pixels.shape[1] - 1, top + pixels.shape[0] - 1]
        yield _shape(one, "mask", [[left, top], corner], group) | {"mask": mask}
    elif rings:
        for ring in rings:
            yield _shape(one, "polygon", ring.tolist(), group)
    else:
        yield _shape(one, "rectangle", [[x, y], [x + w, y + h]], group)
    if one.keypoints is not None:
        for name, (x, y, seen) in zip(keypoint_names, one.keypoints.tolist(), strict=True):
            if seen > 0:
                point = _shape(one, "point", [[x, y]], group)
                yield point | {"label": name, "flags": {"occluded": seen < SEEN}, "description": ""}


def _shape(one: LabelObject, kind: str, points: list[list[float]], group: int | None) -> dict[str, Any]:
    marks = one.marks()
    review = marks.pop(REVIEW, False)
    return {
        "label": one.name,
        "points": [[round(x, 6), round(y, 6)] for x, y in points],
        "group_id": group,
        "description": ", ".join(f"{name} {value}" for name, value in marks.items()),
        "shape_type": kind,
        "flags": {REVIEW: review},
        "mask": None,
    }
