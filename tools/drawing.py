"""What the pictures of the tour are drawn with: photographs, captioned tiles, matrices of numbers, charts and films."""

from __future__ import annotations

import argparse
import importlib
import io
import pkgutil
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import vl_convert
from PIL import Image
from sklearn.datasets import load_sample_images

from detect.data.images import decode_image
from detect.errors import unknown
from detect.inference.text_rendering import render
from detect.utils.atomic_io import replace_file

LETTER, LINE, GAP = 16, 22, 14  # size of letters, height of a line and space between tiles, in pixels
INK, FRAME, MUTED = (33, 37, 41), (190, 190, 190), (225, 225, 225)
QUALITY = 82  # of WebP

Color = tuple[int, int, int]
Tile = tuple[str, np.ndarray]  # its caption, of one or several lines, and its image


@cache
def photograph(name: str = "china", width: int = 0) -> np.ndarray:
    """One of scikit-learn's two photographs, (H, W, 3) uint8 RGB, 640 x 427 pixels.

    Args:
        name: "china" or "flower".
        width: width to resize it to; 0: as it is.
    """
    image = np.ascontiguousarray(load_sample_images().images[("china", "flower").index(name)])
    if width:
        image = cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])), interpolation=cv2.INTER_AREA)
    image.setflags(write=False)  # it is cached
    return image


def write(canvas: np.ndarray, text: str, corner: tuple[int, int], size: int = LETTER, color: Color = INK) -> int:
    """Write a line of text with its top left corner at (x, y); returns its width in pixels."""
    x, y = corner
    cover = render(text, size)
    place = canvas[y : y + cover.shape[0], x : x + cover.shape[1]]
    share = cover[: place.shape[0], : place.shape[1], None] / 255
    place[:] = np.rint(place * (1 - share) + np.array(color) * share)
    return cover.shape[1]


def shaded(values: Any, signed: bool = False, top: float = 0.0) -> np.ndarray:
    """A map (H, W) as grey levels (H, W, 3) uint8.

    Args:
        values: array or tensor.
        signed: 0 is middle grey, and the largest magnitude white or black; otherwise the range is black to white.
        top: the value that becomes white; 0: the largest one.
    """
    values = np.asarray(values, dtype=np.float64)
    high = top or (np.abs(values).max() if signed else values.max())
    low = -high if signed else min(values.min(), 0.0)
    grey = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def numbers(values: Any, cell: int = 34, digits: int = 0, muted: np.ndarray | None = None) -> np.ndarray:
    """A matrix as cells with their numbers: white is 0, orange positive, blue negative, deeper for larger ones.

    Args:
        values: (H, W).
        cell: side of a cell in pixels.
        digits: decimals.
        muted: (H, W) bool, cells that are grey instead, such as padding.
    """
    values = np.asarray(values, dtype=np.float64)
    most = max(np.abs(values).max(), 1e-12)
    texts = {where: f"{value:z.{digits}f}".replace("-", "−") for where, value in np.ndenumerate(values)}
    size = round(cell * 0.42)
    while size > 8 and max(render(text, size).shape[1] for text in texts.values()) > cell - 3:
        size -= 1
    canvas = np.full((values.shape[0] * cell + 1, values.shape[1] * cell + 1, 3), 150, np.uint8)
    for (y, x), value in np.ndenumerate(values):
        deep = np.array((253, 174, 97) if value > 0 else (116, 173, 209))
        color = 255 + (deep - 255) * abs(value) / most if muted is None or not muted[y, x] else np.array(MUTED)
        canvas[y * cell + 1 : (y + 1) * cell, x * cell + 1 : (x + 1) * cell] = np.rint(color)
        height, width = render(texts[y, x], size).shape
        write(canvas, texts[y, x], (x * cell + (cell - width) // 2 + 1, y * cell + (cell - height) // 2 + 1), size)
    return canvas


def enlarged(image: np.ndarray, times: int) -> np.ndarray:
    """Every pixel as a square of `times` pixels."""
    return image.repeat(times, axis=0).repeat(times, axis=1)


def sheet(tiles: Sequence[Tile], columns: int, gap: int = GAP) -> np.ndarray:
    """Tiles in rows, each below its caption; (H, W, 3) uint8. Every column is as wide as its widest tile."""
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    widths = [max(_width(row[i]) for row in rows if i < len(row)) for i in range(min(columns, len(tiles)))]
    parts = []
    for row in rows:
        head = LINE * max(caption.count("\n") + bool(caption) for caption, _ in row)
        height = head + max(image.shape[0] for _, image in row) + gap
        part = np.full((height, sum(widths) + gap * len(widths), 3), 255, np.uint8)
        for i, (caption, image) in enumerate(row):
            left = sum(widths[:i]) + gap * i + gap // 2
            for line, text in enumerate(caption.split("\n") if caption else ()):
                write(part, text, (left, line * LINE))
            height, width = image.shape[:2]
            part[head : head + height, left : left + width] = image
            cv2.rectangle(part, (left, head), (left + width - 1, head + height - 1), FRAME, 1)
        parts.append(part)
    return np.concatenate(parts)


def _width(tile: Tile) -> int:
    caption, image = tile
    return max(image.shape[1], *(render(line, LETTER).shape[1] for line in caption.split("\n")))


def blocks(shapes: Sequence[tuple[str, tuple[int, ...]]], unit: float = 0.55, gap: int = 34) -> np.ndarray:
    """Feature maps as boxes: the face is the map, the thickness its channels; both are drawn smaller than they are.

    Args:
        shapes: for each box what is written below it, and (C, H, W), or (C,) for a vector.
        unit: pixels of a box for a pixel of a map of 256; smaller ones are drawn larger, by the root of their side.
        gap: pixels from one box to the next.
    """
    boxes, left, top = [], gap // 2, 0
    for label, shape in shapes:
        side = max(unit * 16 * (shape[1] if len(shape) > 1 else 1) ** 0.5, 4)
        thick = max(4 * np.log2(shape[0] + 1), 3) if len(shape) > 1 else 6
        side, slant = (side, 0.42 * side) if len(shape) > 1 else (10 + 12 * np.log2(shape[0]), 4)
        lines = [*label.split("\n"), " × ".join(map(str, (*shape[1:], shape[0])))]
        wide = max([thick + slant, *(render(line, LETTER - 2).shape[1] for line in lines)])
        boxes.append((left, thick, side, slant, lines))
        left, top = round(left + wide + gap), max(top, round(side + slant))
    top += 6
    canvas = np.full((top + LINE * max(len(lines) for *_, lines in boxes) + 14, left, 3), 255, np.uint8)
    for x, thick, side, slant, lines in boxes:
        _box(canvas, x, top, thick, side, slant)
        for i, line in enumerate(lines):
            write(canvas, line, (round(x), top + 8 + i * LINE), LETTER - 2)
    return canvas


def _box(canvas: np.ndarray, x: float, bottom: float, thick: float, side: float, slant: float) -> None:
    """A box whose front is `thick` wide and `side` high; its depth goes up and to the right by `slant`."""
    ahead, back = bottom - side, slant
    faces = {
        (198, 219, 239): [(x, ahead), (x + thick, ahead), (x + thick, bottom), (x, bottom)],
        (222, 235, 247): [(x, ahead), (x + back, ahead - back), (x + back + thick, ahead - back), (x + thick, ahead)],
        (158, 188, 218): [
            *((x + thick, ahead), (x + thick + back, ahead - back)),
            *((x + thick + back, bottom - back), (x + thick, bottom)),
        ],
    }
    for color, corners in faces.items():
        points = np.rint(np.array(corners)).astype(np.int32)
        cv2.fillPoly(canvas, [points], color, cv2.LINE_AA)
        cv2.polylines(canvas, [points], True, (66, 103, 145), 1, cv2.LINE_AA)


def chart(spec: dict[str, Any], scale: float = 1.5) -> np.ndarray:
    """A Vega-Lite chart, (H, W, 3) uint8 RGB.

    Args:
        spec: the chart, as Vega-Lite describes it; its schema may be left out.
        scale: pixels for each pixel of the chart's size.
    """
    config = {"background": "white", "font": "sans-serif", "axis": {"labelFontSize": 12, "titleFontSize": 13}}
    config |= {"legend": {"labelFontSize": 12, "titleFontSize": 13}, "view": {"stroke": "#ccc"}}
    whole = {"$schema": "https://vega.github.io/schema/vega-lite/v5.json", **spec}
    whole["config"] = config | spec.get("config", {})
    return decode_image(vl_convert.vegalite_to_png(whole, scale=scale), "chart")


def save(path: Path, drawn: np.ndarray | Sequence[np.ndarray], milliseconds: int = 200) -> None:
    """Write a picture (H, W, 3) uint8 RGB as WebP; a sequence of them is a film, each shown for `milliseconds`."""
    frames: Sequence[np.ndarray] = [drawn] if isinstance(drawn, np.ndarray) else drawn
    images = [Image.fromarray(frame) for frame in frames]
    film: dict[str, Any] = {"save_all": True, "append_images": images[1:], "duration": milliseconds, "loop": 0}
    held = io.BytesIO()
    images[0].save(held, "WEBP", quality=QUALITY, method=6, **(film if len(images) > 1 else {}))
    replace_file(path, lambda part: part.write_bytes(held.getvalue()), durable=False)


def draw_all(package: str, folder: Path, description: str, arguments: Sequence[str] | None = None) -> None:
    """Draw the pictures of the modules that are named on the command line, each by its `draw()`.

    Args:
        package: the package of the modules, such as "tools.topics".
        folder: where pictures belong, unless `--out` names another folder.
        description: what `--help` says.
        arguments: the command line. Default: that of the process.

    Raises:
        UserError: there is no such module; the nearest one is suggested.
    """
    known = sorted(module.name for module in pkgutil.iter_modules(importlib.import_module(package).__path__))
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=folder, help="folder of the pictures; default: where they belong")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same bits whatever the number of cores
    for name in options.names or known:
        if name not in known:
            raise unknown("name", name, known)
        start = time.perf_counter()
        torch.manual_seed(0)
        for picture, drawn in importlib.import_module(f"{package}.{name}").draw().items():
            path = options.out / f"{picture}.webp"
            save(path, drawn)
            print(f"{name}: {path}, {path.stat().st_size // 1024} KB, {time.perf_counter() - start:.1f} s", flush=True)
