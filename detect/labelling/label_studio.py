"""Label Studio: tasks_{split}.json to import, and labelling_config.xml for the project.

Objects with scores are predictions, which a person accepts or corrects; without scores they are annotations. Lengths
are shares of the image in per cent, none above 100, which Label Studio refuses. A box is a rectangle, which may be
turned; an oriented box that is longer than both sides of the image is a polygon; an outline of one part is a polygon,
any other a brushed mask. Keypoints are regions of their own, whose parent is their box. A mark for review is a text of
the region; the score of a task is that of its least certain object, by which Label Studio sorts tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import torch

from anchors.oriented import corners_to_oriented
from detect.labelling.brush import packed
from detect.labelling.labels import LabelObject, Labels, in_files
from detect.labelling.writer import LabelFormat
from detect.labelling.xml import child, write_xml
from detect.utils.atomic_io import replace_text
from detect.utils.names import json_text

LOCAL = "/data/local-files/?d="  # the address of a file below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
CONTROLS = {
    "rectangle": "RectangleLabels",
    "polygon": "PolygonLabels",
    "brush": "BrushLabels",
    "keypoint": "KeyPointLabels",
}


class LabelStudioLabels(LabelFormat):
    """Tasks to import for each split, and the labelling configuration that they need."""

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        lines = []
        for split, labels in sets.items():
            root = Path(labels.annotations.root).resolve()
            tasks = [_task(labels, image, f"{root.name}/{name}", size) for image, name, _, size in in_files(labels)]
            replace_text(out / f"tasks_{split}.json", json_text(tasks, indent=1) + "\n")
            told = f"import it where LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT is {root.parent}"
            lines.append(f"{out / f'tasks_{split}.json'}: {told}")
        write_xml(out / "labelling_config.xml", _config(list(sets.values())))
        return [f"{out / 'labelling_config.xml'}: the labelling interface of the project", *lines]


def _config(several: list[Labels]) -> ElementTree.Element:
    """The labelling interface: a control for each kind of shape that the labels have."""
    view = ElementTree.Element("View")
    child(view, "Image", name="image", value="$image")
    data = [labels.annotations for labels in several]
    kinds = ["rectangle", *(["polygon", "brush"] if any(one.outlines is not None for one in data) else [])]
    names = list(dict.fromkeys(name for one in data for name in one.names))
    points = list(dict.fromkeys(name for one in data for name in one.keypoint_names))
    for kind, values in (*((kind, names) for kind in kinds), *([("keypoint", points)] if points else [])):
        control = child(view, CONTROLS[kind], name=kind, toName="image")
        for name in values:
            child(control, "Label", value=name)
    return view


def _task(labels: Labels, image: int, file: str, size: tuple[int, int]) -> dict[str, Any]:
    objects = labels.objects(image)
    result = [region for one in objects for region in _regions(one, labels.annotations.keypoint_names, size)]
    data = {"image": LOCAL + quote(file), "file": labels.annotations.file_name(image)}
    if labels.scores is None:
        return {"data": data, "annotations": [{"result": result}]}
    prediction: dict[str, Any] = {"model_version": "gridhead", "result": result}
    if scores := [one.score for one in objects if one.score is not None]:
        prediction["score"] = round(min(scores), 5)
    return {"data": data | {"review": bool(labels.to_review[image])}, "predictions": [prediction]}


def _regions(one: LabelObject, keypoint_names: list[str], size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The regions of one object."""
    name = str(one.number)
    yield _region(name, *_shape(one, size), one.name, size) | _told(one)
    if one.keypoints is not None:
        for label, (x, y, seen) in zip(keypoint_names, one.keypoints.tolist(), strict=True):
            if seen > 0:
                value = {"x": min(100 * x / size[1], 100), "y": min(100 * y / size[0], 100), "width": 0.5}
                point = _region(f"{name}-{label}", "keypoint", value, label, size) | {"parentID": name}
                yield point if seen > 1 else point | {"meta": {"text": ["occluded"]}}


def _told(one: LabelObject) -> dict[str, Any]:
    """The score of a region, and what its information says."""
    marks = one.marks()
    score = {"score": marks.pop("score")} if "score" in marks else {}
    texts = [name if value is True else f"{name} {value}" for name, value in marks.items()]
    return score | ({"meta": {"text": texts}} if texts else {})


def _region(name: str, kind: str, value: dict[str, Any], label: str, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "id": name,
        "type": f"{kind}labels",
        "from_name": kind,
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value | {f"{kind}labels": [label]},
    }


def _shape(one: LabelObject, size: tuple[int, int]) -> tuple[str, dict[str, Any]]:
    """The kind of an object's region, and its value without the class."""
    share = 100 / np.array([size[1], size[0]], np.float64)
    if one.corners is not None:
        turned = _turned(one.corners, size)
        return ("polygon", _polygon(one.corners * share)) if turned is None else ("rectangle", turned)
    rings, holes = one.rings
    if len(rings) == 1 and not any(holes):
        return "polygon", _polygon(rings[0] * share)
    if rings:
        left, top, pixels = one.pixels(size)
        canvas = np.zeros(size, bool)
        canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        return "brush", {"format": "rle", "rle": packed(np.repeat(canvas.ravel(), 4).astype(np.uint8) * 255)}
    x, y, width, height = one.box
    left, top, right, bottom = (np.array([x, y, x + width, y + height]) * np.tile(share, 2)).clip(0, 100).tolist()
    return "rectangle", {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}


def _polygon(points: np.ndarray) -> dict[str, Any]:
    return {"points": np.minimum(points, 100).tolist(), "closed": True}


def _turned(corners: np.ndarray, size: tuple[int, int]) -> dict[str, Any] | None:
    """The value of a turned rectangle; None where it has a number above 100, from whichever corner it begins."""
    cx, cy, across, down, angle = corners_to_oriented(torch.from_numpy(corners)[None])[0].tolist()
    for quarter in range(4):  # of a turn
        width, height = (across, down) if quarter % 2 == 0 else (down, across)
        turn = angle + quarter * np.pi / 2
        along, below = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        x, y = np.array([cx, cy]) - along * width / 2 - below * height / 2
        values = 100 * np.array([x, y, width, height]) / [size[1], size[0], size[1], size[0]]
        if values.max() <= 100:
            found = dict(zip(("x", "y", "width", "height"), values.tolist(), strict=True))
            return found | {"rotation": float(np.degrees(turn) % 360)}
    return None
