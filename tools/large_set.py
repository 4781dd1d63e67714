"""Makes a dataset of COCO's size out of a few hundred images, and measures what such a set costs.

    python -m tools.large_set make FOLDER --pictures IMAGES [--scale 10] [--classes 1203]
    python -m tools.large_set measure FOLDER [--rows NAME ...]      see `tools.measure_set`

The files are COCO's: annotations/instances_train2017.json (at scale 1: 118,287 images, about 867 thousand objects with
polygons, 1 in 80 a crowd region as an RLE, 450 MB) and instances_val2017.json (5,000 images), train2017/ and val2017/.
IMAGES is a folder of JPEG files, taken in turn by hard links; without it they are those of the toy set. Objects are
random star-shaped polygons: what they show is nothing that a model could learn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.images import read_header
from detect.data.toy import toy_folder
from detect.errors import UserError, in_one_line
from detect.utils.atomic_io import replace_file
from detect.utils.progress import track

SPLITS = {"train": 118_287, "val": 5_000}  # images
PER_IMAGE = 7.33  # objects, on average; one image in a hundred has none
CORNERS = 22  # of a polygon, on average
CROWDS = 80  # one object in so many is a crowd region
BLOCK = 2_000  # images whose objects are drawn together


def make(folder: Path, pictures: Path, scale: float, classes: int, seed: int) -> None:
    """Make the set in a folder, which must not exist yet."""
    if folder.exists():
        raise UserError(f"{folder} exists already: remove it, or name another folder")
    originals = _copied(pictures, folder / "pictures")
    names = [f"class_{i:04}" for i in range(1, classes + 1)]
    for split, images in SPLITS.items():
        count = max(1, round(images * scale)) if split == "train" else max(1, round(images * min(scale, 1)))
        rng = np.random.default_rng([seed, split == "val"])
        (folder / f"{split}2017").mkdir(parents=True)
        path = folder / "annotations" / f"instances_{split}2017.json"
        records = track(_images(folder, split, count, originals), count, f"{split}: images")

        def write(part: Path, records: Any = records, rng: np.random.Generator = rng) -> None:
            with part.open("w") as file:
                _write(file, list(records), names, rng)

        replace_file(path, write, durable=False)


def _copied(pictures: Path, folder: Path) -> list[tuple[Path, tuple[int, int]]]:
    """Copies of the images, on the disk where links to them will be, with their sizes (h, w)."""
    files = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise UserError(f"{pictures}: there is no JPEG file")
    folder.mkdir(parents=True)
    copies = [Path(shutil.copyfile(path, folder / f"{i:06}.jpg")) for i, path in enumerate(files)]
    return [(copy, read_header(copy).shown) for copy in copies]


def _images(folder: Path, split: str, count: int, originals: list[tuple[Path, tuple[int, int]]]) -> Iterator[dict]:
    for number in range(1, count + 1):
        original, (height, width) = originals[(number - 1) % SPLITS["train"] % len(originals)]
        name = f"{number:012}.jpg"
        os.link(original, folder / f"{split}2017" / name)
        url = f"http://images.cocodataset.org/{split}2017/{name}"
        yield {
            "license": 3,
            "file_name": name,
            "coco_url": url,
            "height": height,
            "width": width,
            "date_captured": "2013-11-14 17:02:52",
            "flickr_url": f"http://farm7.staticflickr.com/6116/{number}_02b84fad11_z.jpg",
            "id": number,
        }


def _write(file: IO[str], images: list[dict], names: list[str], rng: np.random.Generator) -> None:
    """Write a COCO file. What lies beyond COCO's number of images repeats the objects of those before."""
    file.write('{"info": {"description": "random polygons"}, "licenses": [], "images": ')
    file.write(json.dumps(images))
    file.write(', "annotations": [')
    drawn, written = list[tuple[int, str]](), 0
    for start in range(0, min(len(images), SPLITS["train"]), BLOCK):
        block = images[start : min(start + BLOCK, SPLITS["train"])]
        drawn += [(start + i, json.dumps(record)[:-1]) for i, record in _objects(block, len(names), rng)]
    for start in range(0, len(images), SPLITS["train"]):
        for i, text in drawn:
            if start + i < len(images):
                written += 1
                comma = ", " if written > 1 else ""
                file.write(f'{comma}{text}, "image_id": {images[start + i]["id"]}, "id": {written}}}')
    categories = [{"supercategory": "thing", "id": i, "name": name} for i, name in enumerate(names, 1)]
    file.write('], "categories": ' + json.dumps(categories) + "}")


def _objects(images: list[dict], classes: int, rng: np.random.Generator) -> Iterator[tuple[int, dict]]:
    """The objects of some images, each with its image's place: random star-shaped polygons, classes by Zipf's law."""
    counts = np.where(rng.random(len(images)) < 0.01, 0, 1 + rng.geometric(1 / (PER_IMAGE / 0.99), len(images)) - 1)
    owner = np.repeat(np.arange(len(images)), counts)
    sizes = np.array([[one["width"], one["height"]] for one in images], float)[owner]
    half = sizes * np.exp(rng.uniform(np.log(0.02), np.log(0.45), sizes.shape))
    center = half + rng.random(sizes.shape) * (sizes - 2 * half)
    corners = rng.geometric(1 / (CORNERS - 5), len(owner)) + 5
    label = np.minimum(rng.zipf(1.2, len(owner)) - 1, 10**9) % classes + 1
    ends = np.cumsum(corners)
    starts = ends - corners
    turn = (np.arange(ends[-1] if len(ends) else 0) - np.repeat(starts, corners)) / np.repeat(corners, corners)
    reach = rng.uniform(0.6, 1.0, len(turn))
    around = np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)], 1) * reach[:, None]
    points = (np.repeat(center, corners, 0) + around * np.repeat(half, corners, 0)).round(2)
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        ring, image = points[start:end], images[owner[i]]
        low, high = ring.min(0), ring.max(0)
        crowd = int(rng.integers(CROWDS) == 0)
        segmentation: Any = [ring.ravel().tolist()]
        if crowd:
            segmentation = {"counts": _counts(low, high, image), "size": [image["height"], image["width"]]}
        next_x, next_y = np.roll(ring, -1, 0).T
        record = {
            "segmentation": segmentation,
            "area": round(abs(float((ring[:, 0] * next_y - next_x * ring[:, 1]).sum())) / 2, 4),
            "iscrowd": crowd,
            "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
            "category_id": int(label[i]),
        }
        yield int(owner[i]), record


def _counts(low: np.ndarray, high: np.ndarray, image: dict) -> list[int]:
    """The runs of a rectangle, column by column."""
    height, width = image["height"], image["width"]
    left, top = low.astype(int).tolist()
    right, bottom = np.minimum(high.astype(int) + 1, [width, height]).tolist()
    inside = bottom - top
    runs = [left * height + top, *([inside, height - inside] * (right - left - 1)), inside]
    return [*runs, height * width - sum(runs)]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line of this tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="make the set")
    making.add_argument("folder", type=Path)
    making.add_argument("--pictures", type=Path, help="a folder of JPEG files; default: those of the toy set")
    making.add_argument("--scale", type=float, default=1.0, help="times as many training images as COCO (default: 1)")
    making.add_argument("--classes", type=int, default=80)
    making.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    make(given.folder, given.pictures or toy_folder(), given.scale, given.classes, given.seed)


if __name__ == "__main__":
    sys.exit(in_one_line(main)())
