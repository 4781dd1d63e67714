"""Reads the JSON export of Label Studio; for `tools/labelling.py`.

Of several annotations of a task the first that was not cancelled is used. Lengths are shares of the image in per cent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from detect.data.outlines import Outlines
from detect.utils.names import say
from tools.shapes import Labelled, Shape, ellipse, polygon, rectangle


def is_task(record: Any) -> bool:
    """Whether a record is a task of an export."""
    return isinstance(record, dict) and isinstance(record.get("data"), dict) and "annotations" in record


def tasks(records: list[Any]) -> Iterator[Labelled]:
    """Yield the image of each task, with its objects."""
    for number, task in enumerate(records, start=1):
        where = f"task {task.get('id', number)}"
        done = [one for one in task["annotations"] or [] if not one.get("was_cancelled")]
        if len(done) > 1:
            say(f"{where} has {len(done)} annotations: the first is used")
        results = [one for one in (done[0].get("result") if done else None) or [] if "original_width" in one]
        size = next(((int(one["original_height"]), int(one["original_width"])) for one in results), None)
        shapes = (Shape(f"{where} result {i}", partial(_shape, one)) for i, one in enumerate(results, start=1))
        yield Labelled(_names(task), size, shapes)


def _names(task: dict[str, Any]) -> list[str]:
    """What the image of a task may be called: an upload has eight letters and a dash before its name."""
    address = next((str(v) for k, v in task["data"].items() if k in ("image", "img", "ocr")), "")
    address = address or next((v for v in task["data"].values() if isinstance(v, str) and "/" in v), "")
    parts = urlsplit(address)
    path = unquote(next(iter(parse_qs(parts.query).get("d", [])), parts.path)).replace("\\", "/")
    name = path.rpartition("/")[2]
    uploaded = str(task.get("file_upload") or name)
    return list(dict.fromkeys([uploaded, name, uploaded.partition("-")[2], path.lstrip("/")]))


def _shape(result: dict[str, Any]) -> tuple[str, Outlines]:
    value, kind = result["value"], str(result.get("type"))
    labels = value.get(kind) or next((v for k, v in value.items() if k.endswith("labels")), None)
    if not labels:
        raise ValueError(f"has no class ({kind})")
    width, height = int(result["original_width"]), int(result["original_height"])
    share = np.array([width, height]) / 100
    turn = float(value.get("rotation") or 0)
    if kind.startswith("rectangle"):
        x, y = np.array([value["x"], value["y"]]) * share
        w, h = np.array([value["width"], value["height"]]) * share
        return labels[0], rectangle(x, y, w, h, turn)
    if kind.startswith("ellipse"):
        x, y = np.array([value["x"], value["y"]]) * share
        across, down = np.array([value["radiusX"], value["radiusY"]]) * share
        return labels[0], ellipse(x, y, across, down, turn)
    if kind.startswith("polygon"):
        return labels[0], polygon(np.asarray(value["points"], np.float64) * share)
    if kind.startswith("brush") and value.get("format") == "rle":
        mask = unpacked(value["rle"], 4 * width * height).reshape(height, width, 4)[..., 3] > 0
        return labels[0], Outlines.of_masks([mask])
    raise ValueError(f"is a shape without an inside ({kind})")


def unpacked(packed: list[int], expected: int) -> np.ndarray:
    """Return the bytes (expected,) uint8 of a brush's run-length encoding.

    It is a stream of bits: the number of values (32), their bits less one (5), and the bits less one of four ways to
    write a length (4 each); then blocks of a flag (1), the way (2) and the length less one, and either one value, which
    is repeated, or as many as the length.

    Raises:
        ValueError: it does not hold as many values of 8 bits as `expected`.
    """
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
