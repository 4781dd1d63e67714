"""Cuts windows out of images to train localization: one for each object, and as many without objects.

    python tools/windows.py SOURCE --out FOLDER [--negatives 1.0] [--seed 0]

SOURCE is whatever `--data` takes. FOLDER gets the windows of each split as JPEG files and instances_{split}.json, so
that it is a dataset too. An object takes 0.35 to 0.9 of the side of its window, at a random position; a window without
objects overlaps no box of any class, crowds included. Images without room for one are reported.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # these files, not an installed copy

from detect.data.annotations import Annotations, known_sizes
from detect.data.image_writer import save_image
from detect.data.sources.formats import recognise
from detect.errors import UserError, in_one_line
from detect.labelling.writer import shares_files
from detect.utils.atomic_io import replace_text

SHARE = (0.35, 0.9)  # of a window's side that its object takes
EMPTY = (0.3, 0.8)  # of the image's short side, for windows without objects
SEEN = 0.3  # an object counts for a window that holds at least this share of its box
TRIES = 50


@in_one_line
def main(arguments: list[str] | None = None) -> None:
    """Exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="a dataset, as `--data` takes it")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--negatives", type=float, default=1.0, help="windows without objects for each with one")
    parser.add_argument("--seed", type=int, default=0, help="seed of positions and sizes")
    options = parser.parse_args(arguments)
    if options.out.exists():
        raise UserError(f"{options.out} exists and is not overwritten; choose another --out")
    for number, (split, load) in enumerate(recognise(options.source).items()):
        if shares_files(annotations := load(False)):
            print(f"{split}: left out, for several of its images share a file, as frames of a video do")
            continue
        cut(annotations, options.out, split, options.negatives, np.random.default_rng([options.seed, number]))
    print(f"{options.out}: use it as --data")


def cut(annotations: Annotations, out: Path, split: str, negatives: float, rng: np.random.Generator) -> None:
    """Write the windows of one split and their annotations."""
    sizes, images, records, missing = known_sizes(annotations), list[dict](), list[dict](), 0
    (out / split).mkdir(parents=True)
    for i, (height, width) in enumerate(sizes.tolist()):
        target = annotations.target(i)
        boxes, single = target.boxes.numpy().astype(np.float64), ~target.crowd.numpy()
        count = int(negatives * max(1, single.sum()) + rng.random())
        empty = [one for _ in range(count) if (one := without(boxes, width, height, rng)) is not None]
        missing += count - len(empty)
        image = annotations.read(i)
        for window in [around(box, width, height, rng) for box in boxes[single]] + empty:
            left, top, right, bottom = window.tolist()
            name = f"{split}/{Path(annotations.file_name(i)).stem}_{len(images)}.jpg"
            save_image(out / name, image[top:bottom, left:right])
            images.append({"id": len(images) + 1, "file_name": name, "width": right - left, "height": bottom - top})
            for row, box in zip(*inside(boxes, window), strict=True):
                record = {"id": len(records) + 1, "image_id": len(images), "bbox": box.round(2).tolist()}
                category = int(annotations.category_ids[target.labels[row]])
                records.append(record | {"category_id": category, "iscrowd": int(not single[row])})
    categories = [
        {"id": i, "name": n} for i, n in zip(annotations.category_ids.tolist(), annotations.names, strict=True)
    ]
    content = {"images": images, "annotations": records, "categories": categories}
    replace_text(out / f"instances_{split}.json", json.dumps(content))
    shown = len({one["image_id"] for one in records})
    room = f"; no room for {missing} more without objects" if missing else ""
    print(f"{split}: {shown} windows with objects, {len(images) - shown} without{room}")


def around(box: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a square window (4,) int64 xyxy around the box (4,), within the image."""
    low, high = box[:2].clip(0, [width, height]), box[2:].clip(0, [width, height])
    side = min(max(1.0, (high - low).max()) / rng.uniform(*SHARE), float(min(width, height)))
    corner = rng.uniform(np.minimum(low, high - side), np.maximum(low, high - side))
    corner = corner.clip(0, np.maximum(0, [width - side, height - side]))
    return np.concatenate([np.floor(corner), np.ceil(corner + side)]).clip(0, [width, height] * 2).astype(np.int64)


def without(boxes: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray | None:
    """Draw a square window (4,) int64 that overlaps none of the boxes (N, 4); None if TRIES draws give none."""
    for _ in range(TRIES):
        side = max(1.0, rng.uniform(*EMPTY) * min(width, height))
        corner = rng.uniform(0, [width - side, height - side])
        window = np.concatenate([np.floor(corner), np.floor(corner) + max(1, int(side))]).astype(np.int64)
        touching = (boxes[:, :2] < window[2:]).all(1) & (boxes[:, 2:] > window[:2]).all(1)
        if not touching.any():
            return window
    return None


def inside(boxes: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the boxes (N, 4) that the window shows enough of.

    Returns:
        Their indices (M,), and the visible parts (M, 4) as x, y, width, height in pixels of the window.
    """
    low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
    left = (high - low).clip(0)
    rows = np.flatnonzero(left.prod(1) >= SEEN * (boxes[:, 2:] - boxes[:, :2]).prod(1))
    return rows, np.concatenate([low - window[:2], left], 1)[rows]


if __name__ == "__main__":
    sys.exit(main())
