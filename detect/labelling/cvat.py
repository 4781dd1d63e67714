"""CVAT: annotations.xml, "CVAT for images 1.1", or with tracks "CVAT for video 1.1"; and labels.json for the task.

A box is a box, which may be turned; an outline of one part is a polygon, one of several parts a group of polygons, one
with holes a mask. Keypoints are a skeleton of the label NAME_points in the group of their box. Score, review, track
and note are attributes, which labels.json declares.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from anchors.oriented import corners_to_oriented
from detect.labelling.cvat_labels import POINTS, declared, label_list
from detect.labelling.labels import LabelObject, Labels, in_files
from detect.labelling.writer import LabelFormat
from detect.labelling.xml import child, number, write_xml
from detect.utils.atomic_io import replace_text
from detect.utils.names import json_text


class CvatLabels(LabelFormat):
    """An xml file for each split, and the labels of the task."""

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        specification = label_list(list(sets.values()))
        lines = [f"{out / 'labels.json'}: paste it into the raw labels of a new task with these images"]
        for split, labels in sets.items():
            path = out / ("annotations.xml" if len(sets) == 1 else f"annotations_{split}.xml")
            tracks = labels.has_tracks and all(_fits_track(one) for one in _all(labels))
            root = ElementTree.Element("annotations")
            child(root, "version", "1.1")
            declared(root, specification, split, len(labels.annotations), "interpolation" if tracks else "annotation")
            (_tracks if tracks else _images)(root, labels)
            write_xml(path, root)
            lines.append(f"{path}: upload it to the task as CVAT {'for video' if tracks else 'for images'} 1.1")
        replace_text(out / "labels.json", json_text(specification, indent=1) + "\n")
        return lines


def _all(labels: Labels) -> Iterator[LabelObject]:
    return (one for image in range(len(labels.annotations)) for one in labels.objects(image))


def _fits_track(one: LabelObject) -> bool:
    """Whether CVAT can interpolate the shape of an object: no group, mask or skeleton."""
    return one.keypoints is None and (one.corners is not None or len(one.rings[0]) < 2)


def _images(root: ElementTree.Element, labels: Labels) -> None:
    for image, name, _, (height, width) in in_files(labels):
        element = child(root, "image", id=image, name=name, width=width, height=height)
        for one in labels.objects(image):
            for shape in _shapes(one, (height, width), labels.annotations.keypoint_names):
                element.append(shape)


def _tracks(root: ElementTree.Element, labels: Labels) -> None:
    """The objects by track; frames are counted in the order of the names, as CVAT sorts the images of a task."""
    names = [name for _, name, _, _ in in_files(labels)]
    sizes = {size for _, _, _, size in in_files(labels)}
    if len(sizes) == 1:
        (height, width) = sizes.pop()
        task = root.find("meta/task")
        original = child(root if task is None else task, "original_size")
        child(original, "width", width)
        child(original, "height", height)
    frame = {image: place for place, image in enumerate(sorted(range(len(names)), key=names.__getitem__))}
    tracks: dict[tuple[str, int], dict[int, tuple[LabelObject, tuple[int, int]]]] = defaultdict(dict)
    for image, _, _, size in in_files(labels):
        for one in labels.objects(image):
            key = (one.name, one.track if one.track is not None else -1 - one.row)
            tracks[key][frame[image]] = one, size
    for index, ((name, _), shapes) in enumerate(tracks.items()):
        track = child(root, "track", id=index, label=name, source="auto")
        for place in sorted(shapes):
            one, size = shapes[place]
            (shape,) = _shapes(one, size, [])
            for moment, outside in ((place, 0), (place + 1, 1)):
                if outside and (moment in shapes or moment >= len(names)):
                    continue
                copy = child(track, shape.tag)
                copy.attrib |= {"frame": str(moment), "keyframe": "1", "outside": str(outside)}
                copy.attrib |= {key: value for key, value in shape.attrib.items() if key not in ("label", "source")}
                copy.extend(shape)


def _shapes(one: LabelObject, size: tuple[int, int], keypoint_names: list[str]) -> list[ElementTree.Element]:
    """The elements of one object, the attributes on the first."""
    rings, holes = one.rings
    if one.corners is not None:
        cx, cy, w, h, angle = corners_to_oriented(torch.from_numpy(one.corners)[None])[0].tolist()
        found = [_box(one, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)]
        found[0].set("rotation", number(math.degrees(angle) % 360))
    elif any(holes):
        found = [_mask(one, *one.pixels(size))]
    elif rings:
        found = [_element("polygon", one, points=_points(ring)) for ring in rings]
    else:
        x, y, w, h = one.box
        found = [_box(one, x, y, x + w, y + h)]
    for name, value in one.marks().items():
        child(found[0], "attribute", str(value).lower() if isinstance(value, bool) else value, name=name)
    if one.keypoints is not None:
        found.append(_skeleton(one, one.keypoints, keypoint_names))
    if len(found) > 1:
        for element in found:
            element.set("group_id", str(one.number))
    return found


def _element(tag: str, one: LabelObject, **attributes: str) -> ElementTree.Element:
    source = "manual" if one.score is None else "auto"
    return ElementTree.Element(
        tag, {"label": one.name, "source": source, "occluded": "0", **attributes, "z_order": "0"}
    )


def _box(one: LabelObject, *edges: float) -> ElementTree.Element:
    return _element("box", one, **dict(zip(("xtl", "ytl", "xbr", "ybr"), map(number, edges), strict=True)))


def _points(ring: np.ndarray) -> str:
    return ";".join(f"{number(x)},{number(y)}" for x, y in ring.tolist())


def _mask(one: LabelObject, left: int, top: int, pixels: np.ndarray) -> ElementTree.Element:
    """A mask: the runs of the pixels of its window row by row, the first of them outside."""
    flat = pixels.ravel()
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff(np.concatenate([[0], changes, [len(flat)]])).tolist()
    place = {"left": left, "top": top, "width": pixels.shape[1], "height": pixels.shape[0]}
    return _element("mask", one, rle=", ".join(map(str, runs)), **{key: str(value) for key, value in place.items()})


def _skeleton(one: LabelObject, keypoints: np.ndarray, names: list[str]) -> ElementTree.Element:
    skeleton = _element("skeleton", one)
    skeleton.set("label", one.name + POINTS)
    for name, (x, y, seen) in zip(names, keypoints.tolist(), strict=True):
        place = {"outside": int(seen == 0), "occluded": int(0 < seen < 2), "points": f"{number(x)},{number(y)}"}
        child(skeleton, "points", label=name, source=skeleton.get("source"), **place)
    return skeleton
