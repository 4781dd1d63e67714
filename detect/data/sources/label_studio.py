"""Label Studio: the JSON export of a project, or tasks to import, alone or as tasks_{split}.json in a folder.

Of several annotations of a task the first that was not cancelled is used. A task without any was not labelled, and its
image is left out; where no task has one, as in tasks to import, predictions are read. Lengths are shares of the image
in per cent. Key points whose parent is the region of an object are keypoints of that object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from detect.data.annotations import Annotations
from detect.data.outlines import Outlines
from detect.data.sources.base import Format, Source, Splits
from detect.data.sources.inventory import by_split
from detect.data.sources.shapes import Item, Labelled, Point, Shape, ellipse, endings, load_export, polygon, rectangle
from detect.utils.json_files import read_json
from detect.utils.names import say


class LabelStudio(Format):
    """A JSON file of Label Studio, or a folder with tasks_train.json."""

    accepts = "a JSON export of Label Studio"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits; one file is `train`."""
        path = source.path
        if path.is_file():
            files = {"train": path} if path.suffix.lower() == ".json" and _tasks(read_json(path)) else {}
        else:
            found = {file.stem.removeprefix("tasks_"): file for file in path.glob("tasks_*.json")}
            files = {split: found[name] for split, name in by_split(path, found).items()}
        source.inside.require(*files.values())
        return {split: partial(_load, file, source, split) for split, file in files.items()}


def _load(path: Path, source: Source, split: str, skip_bad: bool) -> Annotations:
    return load_export(path, lambda: images(_tasks(read_json(path)) or []), source.inside, split, skip_bad)


def _tasks(content: Any) -> list[dict[str, Any]] | None:
    """The tasks of an export; None where it is none."""
    return content if isinstance(content, list) and content and all(map(_is_task, content)) else None


def _is_task(record: Any) -> bool:
    known = isinstance(record, dict) and isinstance(record.get("data"), dict)
    return known and bool({"annotations", "predictions"} & record.keys())


def images(records: list[dict[str, Any]]) -> Iterator[Labelled]:
    """Yield the image of each task that was labelled, with its objects."""
    source = "annotations" if any(task.get("annotations") for task in records) else "predictions"
    unlabelled = 0
    for number, task in enumerate(records, start=1):
        where = f"task {task.get('id', number)}"
        done = [one for one in task.get(source) or [] if not one.get("was_cancelled")]
        if not done:
            unlabelled += 1
            continue
        if len(done) > 1:
            say(f"{where} has {len(done)} {source}: the first is used")
        results = [one for one in done[0].get("result") or [] if "original_width" in one]
        size = next(((int(one["original_height"]), int(one["original_width"])) for one in results), None)
        yield Labelled(_names(task), size, _shapes(where, results))
    if unlabelled:
        say(f"{unlabelled} tasks that nobody has annotated are left out")


def _shapes(where: str, results: list[dict[str, Any]]) -> list[Shape]:
    parents = {str(one["id"]) for one in results if "id" in one and one.get("type") != "keypointlabels"}
    points: dict[str, list[dict[str, Any]]] = defaultdict(list)
    objects = []
    for number, one in enumerate(results, start=1):
        if one.get("type") == "keypointlabels" and str(one.get("parentID")) in parents:
            points[str(one["parentID"])].append(one)
        else:
            objects.append((number, one))
    return [Shape(f"{where} result {i}", partial(_item, one, points.get(str(one.get("id")), []))) for i, one in objects]


def _names(task: dict[str, Any]) -> list[str]:
    """What the image of a task may be called: an upload has eight letters and a dash before its name."""
    address = next((str(v) for k, v in task["data"].items() if k in ("image", "img", "ocr")), "")
    address = address or next((v for v in task["data"].values() if isinstance(v, str) and "/" in v), "")
    parts = urlsplit(address)
    path = next(iter(parse_qs(parts.query).get("d", [])), unquote(parts.path)).replace("\\", "/")
    name = path.rpartition("/")[2]
    uploaded = str(task.get("file_upload") or name)
    return list(dict.fromkeys([uploaded, *endings(path), uploaded.partition("-")[2]]))


def _item(result: dict[str, Any], points: list[dict[str, Any]]) -> Item:
    return Item(_label(result), _outline(result), None, dict(map(_keypoint, points)))


def _label(result: dict[str, Any]) -> str:
    value, kind = result["value"], str(result.get("type"))
    labels = value.get(kind) or next((v for k, v in value.items() if k.endswith("labels")), None)
    if not labels:
        raise ValueError(f"has no class ({kind})")
    return str(labels[0])


def _share(result: dict[str, Any]) -> np.ndarray:
    """Pixels of one per cent of the image, in x and y."""
    return np.array([int(result["original_width"]), int(result["original_height"])]) / 100


def _keypoint(result: dict[str, Any]) -> tuple[str, Point]:
    x, y = (np.array([result["value"]["x"], result["value"]["y"]]) * _share(result)).tolist()
    hidden = "occluded" in ((result.get("meta") or {}).get("text") or [])
    return _label(result), (x, y, 1 if hidden else 2)


def _outline(result: dict[str, Any]) -> Outlines:
    value, kind, share = result["value"], str(result.get("type")), _share(result)
    turn = float(value.get("rotation") or 0)
    if kind.startswith("rectangle"):
        x, y = np.array([value["x"], value["y"]]) * share
        w, h = np.array([value["width"], value["height"]]) * share
        return rectangle(x, y, w, h, turn)
    if kind.startswith("ellipse"):
        x, y = np.array([value["x"], value["y"]]) * share
        across, down = np.array([value["radiusX"], value["radiusY"]]) * share
        return ellipse(x, y, across, down, turn)
    if kind.startswith("polygon"):
        return polygon(np.asarray(value["points"], np.float64) * share)
    if kind.startswith("brush") and value.get("format") == "rle":
        width, height = int(result["original_width"]), int(result["original_height"])
        mask = unpacked(value["rle"], 4 * width * height).reshape(height, width, 4)[..., 3] > 0
        return Outlines.of_masks([mask])
    raise ValueError(f"is a shape without an inside ({kind})")


def unpacked(packed: list[int], expected: int) -> np.ndarray:
    """Return the bytes (expected,) uint8 of a brush's run-length encoding.

    It is a stream of bits: the number of values (32), their bits less one (5), and the bits less one of four ways to
    write a length (4 each); then blocks of a flag (1), the way (2) and the length less one, and either one value, which
    is repeated, or as many as the length.

    Raises:
        ValueError: it does not hold as many values of 8 bits as `expected`.
    """
    if any(not 0 <= number <= 255 for number in packed):  # NumPy 1 takes them modulo 256
        raise ValueError("has a mask whose encoding holds numbers that are no bytes")
    bits = np.unpackbits(np.asarray(packed, np.uint8))
    place = 0

    def take(count: int) -> int:
        nonlocal place
        if place + count > len(bits):
            raise ValueError("has a mask whose encoding is cut off")
        chunk, place = bits[place : place + count], place + count
        return int(np.packbits(chunk, bitorder="big").tobytes().hex() or "0", 16) >> (-count % 8)

    count, word = take(32), take(5) + 1
    if count != expected or word != 8:
        raise ValueError(f"has a mask of {count} values of {word} bits, not of {expected} of 8 bits")
    lengths = [take(4) + 1 for _ in range(4)]
    found, filled = np.zeros(count, np.uint8), 0
    while filled < count:
        repeated, way = take(1), take(2)
        length = take(lengths[way]) + 1
        if filled + length > count:
            raise ValueError("has a mask whose encoding holds too many values")
        if repeated:
            found[filled : filled + length] = take(8)
        else:
            if place + 8 * length > len(bits):
                raise ValueError("has a mask whose encoding is cut off")
            found[filled : filled + length] = np.packbits(bits[place : place + 8 * length])
            place += 8 * length
        filled += length
    return found
