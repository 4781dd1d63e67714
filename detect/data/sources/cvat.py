"""CVAT: the xml files of "CVAT for images 1.1" and "CVAT for video 1.1", alone or in a folder with the images.

Files are called annotations.xml, or annotations_{split}.xml. Polygons of one label and group are parts of one object.
A skeleton gives keypoints to the box or outline of its group; the label of a skeleton may end in `_points`, which does
not count. Frames of tracks are the images in the order of their names. Tags of whole images are passed over.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from detect.data.annotations import Annotations
from detect.data.outlines import Outlines
from detect.data.roots import Roots
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.inventory import by_split, take_stock
from detect.data.sources.shapes import Item, Labelled, Point, Shape, ellipse, joined, load_export, polygon, rectangle
from detect.errors import UserError
from detect.utils.names import counted
from detect.utils.xml_files import read_xml

POINTS = "_points"  # at the end of the label of a skeleton beside boxes: see `detect.labelling.cvat_labels`
OUTLINED = ("box", "polygon", "ellipse", "mask")
SHAPES = (*OUTLINED, "skeleton", "points", "polyline", "cuboid")


class Cvat(Format):
    """An xml file of CVAT, or a folder with annotations.xml."""

    accepts = "CVAT's annotations.xml"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits; annotations.xml is `train`."""
        path = source.path
        files = [path] if path.is_file() and path.suffix.lower() == ".xml" else sorted(path.glob("annotations*.xml"))
        found = {file.stem.partition("_")[2] or "train": file for file in files if _is_cvat(file)}
        if path.is_file() and found:
            found = {"train": path}
        source.inside.require(*found.values())
        return {split: partial(_load, found[name], source, split) for split, name in by_split(path, found).items()}


def _is_cvat(file: Path) -> bool:
    try:
        return read_xml(file).tag == "annotations"
    except UserError:
        return False


def _load(path: Path, source: Source, split: str, skip_bad: bool) -> Annotations:
    def frames() -> list[str]:
        files = take_stock(path.parent, inside=source.inside).images
        return sorted(Path(file).relative_to(Path(path.parent).absolute()).as_posix() for file in files)

    root = read_xml(path)
    return load_export(path, lambda: _images(root, path, frames), source.inside, split, skip_bad)


def load_tracks(path: Path, frames: Sequence[str], skip_bad: bool = False) -> Annotations | None:
    """Read an xml file with tracks whose frames are not beside it; None for any other file.

    Args:
        path: the file.
        frames: the images of the task, in the order of their names.
        skip_bad: leave bad records out and list them.

    Raises:
        UserError: there are not as many images as the file has frames; see `load_export` for others.
    """
    if not _is_cvat(path) or (root := read_xml(path)).find("track") is None:
        return None
    inside = Roots(path.parent, anywhere=True)
    return load_export(path, lambda: _images(root, path, lambda: list(frames)), inside, skip_bad=skip_bad)


def _images(root: Element, path: Path, frames: Callable[[], list[str]]) -> Iterator[Labelled]:
    for image in root.iter("image"):
        size = int(image.attrib["height"]), int(image.attrib["width"])
        name = image.attrib["name"].replace("\\", "/")
        yield Labelled(
            [name, *([f"{subset}/{name}"] if (subset := image.get("subset")) else [])], size, _shapes(name, list(image))
        )
    if root.find("track") is not None:
        yield from _frames(root, path, frames())


def _frames(root: Element, path: Path, names: list[str]) -> Iterator[Labelled]:
    """The frames of a video with tracks: images in the order of their names."""
    shapes: dict[int, list[Element]] = defaultdict(list)
    for track in root.iter("track"):
        for shape in track:
            if shape.tag in SHAPES and shape.get("outside") != "1":
                shape.set("label", track.get("label", ""))
                shapes[int(shape.attrib["frame"])].append(shape)
    size = root.findtext("meta/task/size") or root.findtext("meta/job/size")
    if len(names) != int(size or -1):
        raise UserError(
            f"{path}: has tracks on {size} frames, and {counted(len(names), 'image')} may be meant: put its images "
            "beside it, or export CVAT for images"
        )
    for frame, name in enumerate(names):
        yield Labelled([name], None, _shapes(name, shapes.get(frame, [])))


def _shapes(name: str, elements: list[Element]) -> list[Shape]:
    """The objects of an image: shapes in groups, and the others one by one."""
    parts: dict[tuple[object, str], list[Element]] = defaultdict(list)
    points: dict[tuple[object, str], list[Element]] = defaultdict(list)
    for number, element in enumerate(elements, start=1):
        group, label = element.get("group_id") or "", element.get("label", "")
        if element.tag == "skeleton" and group not in ("", "0"):
            points[group, label.removesuffix(POINTS)].append(element)
        elif element.tag in SHAPES:
            whole = element.tag not in ("polygon", "mask") or group in ("", "0")
            parts[(number, label) if whole else (group, label)].append(element)
    shapes = list[Shape]()
    for (_, label), some in parts.items():
        mine = points.pop((some[0].get("group_id") or "", label), [])
        shapes.append(Shape(f"{name} {some[0].tag} {len(shapes) + 1}", partial(_item, label, some, mine)))
    for (_, label), some in points.items():
        shapes.append(Shape(f"{name} skeleton {len(shapes) + 1}", partial(_item, label, some, [])))
    return shapes


def _item(label: str, elements: list[Element], skeletons: list[Element]) -> Item:
    if not label.strip():
        raise ValueError("has no class")
    skeletons = [one for one in (*elements, *skeletons) if one.tag == "skeleton"]
    outlined = [one for one in elements if one.tag in OUTLINED]
    keypoints = dict(_keypoint(point) for one in skeletons for point in one.iter("points"))
    if outlined:
        return Item(label, joined([_outline(one) for one in outlined]), None, keypoints)
    seen = np.array([(x, y) for x, y, visible in keypoints.values() if visible]).reshape(-1, 2)
    if not len(seen):
        raise ValueError(f"is a shape without an inside ({elements[0].tag})")
    (left, top), (right, bottom) = seen.min(0).tolist(), seen.max(0).tolist()
    return Item(label.removesuffix(POINTS), None, (left, top, right - left, bottom - top), keypoints)


def _keypoint(point: Element) -> tuple[str, Point]:
    x, y = _pairs(point.attrib["points"])[0].tolist()
    if point.get("outside") == "1":
        return point.attrib["label"], (0.0, 0.0, 0)
    return point.attrib["label"], (x, y, 1 if point.get("occluded") == "1" else 2)


def _pairs(text: str) -> np.ndarray:
    """Points (V, 2) of a text such as "1,2;3,4"."""
    return np.array([[float(value) for value in pair.split(",")] for pair in text.split(";")], np.float64)


def _outline(element: Element) -> Outlines:
    kind = element.tag
    if kind == "polygon":
        return polygon(_pairs(element.attrib["points"]))
    if kind == "box":
        x, y, right, bottom = (float(element.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        turn = float(element.get("rotation") or 0)
        if not turn:
            return rectangle(x, y, right - x, bottom - y)
        middle, angle = np.array([x + right, y + bottom]) / 2, math.radians(turn)
        half = np.array([right - x, bottom - y]) / 2 * [[-1, -1], [1, -1], [1, 1], [-1, 1]]
        cosine, sine = math.cos(angle), math.sin(angle)
        return polygon(half @ np.array([[cosine, sine], [-sine, cosine]]) + middle)
    if kind == "ellipse":
        cx, cy, rx, ry = (float(element.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        return ellipse(cx, cy, rx, ry, float(element.get("rotation") or 0))
    left, top, width, height = (int(float(element.attrib[key])) for key in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in element.attrib["rle"].split(",")], np.int64)
    if (runs < 0).any() or runs.sum() > width * height or width * height > 2**32:
        raise ValueError("has a mask whose runs do not fit its width and height")
    flat = np.zeros(width * height, bool)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat[: len(inside)] = inside
    return Outlines.of_masks([flat.reshape(height, width)]).moved(lambda ring: ring + np.array([left, top]))
