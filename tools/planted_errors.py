"""Plants label errors into a dataset, and measures how well `detect mistakes` finds them.

python -m tools.planted_errors plant --data D --out P [--split train] [--share 0.05] [--seed 0]
detect mistakes --data P --fine-tune picodet_s_320 --imgsz 320 --epochs 8 --out M
python -m tools.planted_errors score --planted P --mistakes M
python -m tools.planted_errors table seed-1.json seed-2.json
python -m tools.planted_errors draw --mistakes M --out first.webp

`plant` writes a new dataset: copies of the images, instances_train.json with the errors, planted.json with the list of
them. Of every kind it plants `share` of the number of labels; of pairs of near-duplicate images `share` of the number
of images. `score` prints for each kind how many were planted, k; the share of them among the first k mistakes of the
kind (precision and recall in one) and among the first 2k; the same if labels, and predictions without a label, are
ordered by the confidence of the same predictions alone; and among k of these at random. `table` gives mean and standard
deviation of several scores (`--json`). Outlines and oriented boxes are moved and scaled with their boxes; keypoints are
left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.annotations import Annotations, known_sizes
from detect.data.image_writer import save_image
from detect.data.images import read_image
from detect.data.outlines import Outlines
from detect.data.sources.formats import load_data
from detect.data_check.marked import grid
from detect.errors import UserError, in_one_line
from detect.mistakes.drawing import drawn
from detect.mistakes.kinds import Mistake
from detect.utils.atomic_io import replace_file, replace_text
from tools.drawing import save
from tools.planted_scores import KINDS, PAIRS, Record, overlap, score, table

APART = 0.15  # the largest IoU of a spurious box with a label
LOOSE = (0.35, 0.7)  # the IoU of a loose or shifted box with the right one
DOUBLE = (0.7, 0.97)  # the IoU of a duplicate with its label


class Planter:
    """A dataset in COCO form, into which errors are planted one after the other.

    Args:
        coco: images, annotations and categories; changed in place.
        seed: of every choice.
        outlines: that of each annotation which has one, by its id.
    """

    def __init__(self, coco: Record, seed: int, outlines: Mapping[int, Outlines]) -> None:
        self.outlines = outlines
        self.coco, self.rng, self.planted = coco, np.random.default_rng(seed), list[Record]()
        self.sizes = {one["id"]: (one["width"], one["height"]) for one in coco["images"]}
        self.next_id = 1 + max((one["id"] for one in coco["annotations"]), default=0)

    def plant(self, share: float, images: set[int]) -> None:
        """Plant errors of every kind into some images; no label gets two."""
        free = [one for one in self.coco["annotations"] if one["image_id"] in images and not one["iscrowd"]]
        count = round(share * len(self.coco["annotations"]))
        order = iter([free[i] for i in self.rng.permutation(len(free))])
        for kind in KINDS:
            if kind == "class" and len(self.coco["categories"]) < 2:
                continue
            done = 0
            while done < count and (one := next(order, None)) is not None:
                done += self.one(kind, one)

    def one(self, kind: str, label: Record) -> bool:
        """Plant an error of a kind at a label; whether that was possible."""
        before = {key: label[key] for key in ("bbox", "category_id")}
        changed: Record | None = label
        if kind == "missing":
            self.coco["annotations"].remove(label)
            changed = None
        elif kind == "class":
            others = [one["id"] for one in self.coco["categories"] if one["id"] != label["category_id"]]
            label["category_id"] = int(self.rng.choice(others))
        else:
            box = self._box(kind, label)
            if box is None:
                return False
            changed = label if kind == "location" else self._added(label)
            shape = self._moved(label, before["bbox"], box)
            changed |= {"bbox": box, "area": box[2] * box[3]} | shape
        self.planted.append(
            {"kind": kind, "image_id": label["image_id"], "annotation_id": changed and changed["id"], "was": before}
            | {"twin_id": label["id"] if kind == "duplicate" else None}
        )
        return True

    def _added(self, label: Record) -> Record:
        copy = {key: label[key] for key in ("image_id", "category_id", "iscrowd")} | {"id": self.next_id}
        self.next_id += 1
        self.coco["annotations"].append(copy)
        return copy

    def _moved(self, label: Record, old: Sequence[float], new: Sequence[float]) -> Record:
        """The outline and the corners of a label, moved and scaled as its box was."""
        (x, y, *sides), (left, top, *others) = (np.array(one, float) for one in (old, new))

        def move(points: np.ndarray) -> np.ndarray:
            return (points - [x, y]) * np.divide(others, sides) + [left, top]

        found: Record = {}
        if outline := self.outlines.get(label["id"]):
            width, height = self.sizes[label["image_id"]]
            found["segmentation"] = outline.moved(move).rle(0, (height, width))
        if corners := label.get("corners"):
            found["corners"] = move(np.array(corners, float)).round(2).tolist()
        return found

    def _box(self, kind: str, label: Record) -> list[float] | None:
        """A wrong box x, y, width, height: nowhere near a label, beside the label, or almost on it."""
        size = np.array(self.sizes[label["image_id"]], float)
        there = np.array([one["bbox"] for one in self.coco["annotations"] if one["image_id"] == label["image_id"]])
        box = np.array(label["bbox"], float)
        for _ in range(200):
            tried = self._tried(kind, box, size)
            low, high = tried[:2].clip(0, size), (tried[:2] + tried[2:]).clip(0, size)
            tried = np.concatenate([low, high - low])
            if (tried[2:] < 2).any():
                continue
            if kind == "spurious":
                fits = overlap(tried, there).max() <= APART
            else:
                least, most = LOOSE if kind == "location" else DOUBLE
                fits = least <= overlap(tried, box[None]).item() <= most
            if fits:
                return [round(float(value), 2) for value in tried]
        return None

    def _tried(self, kind: str, box: np.ndarray, size: np.ndarray) -> np.ndarray:
        middle, sides = box[:2] + box[2:] / 2, box[2:]
        if kind == "spurious":
            middle = sides / 2 + self.rng.random(2) * (size - sides)
        elif kind == "duplicate":
            middle, sides = middle + self.rng.normal(0, 0.04, 2) * sides, sides * self.rng.uniform(0.9, 1.1, 2)
        elif self.rng.random() < 0.5:
            middle = middle + self.rng.uniform(-0.5, 0.5, 2) * sides
        else:
            sides = sides * (self.rng.uniform(1.2, 1.8) if self.rng.random() < 0.5 else self.rng.uniform(0.55, 0.85))
        return np.concatenate([middle - sides / 2, sides])


def twins(planter: Planter, images: Sequence[Record], folder: Path) -> None:
    """Add a nearly equal copy of each image, in whose labels, or in those of the original, one error is planted."""
    for image in images:
        pixels = read_image(folder / image["file_name"])
        number = 1 + max(one["id"] for one in planter.coco["images"])
        name = f"twin_{Path(image['file_name']).stem}.jpg"
        save_image(folder / name, (pixels * 0.94 + 6).astype(np.uint8), quality=80)
        planter.coco["images"].append({**image, "id": number, "file_name": name})
        planter.sizes[number] = planter.sizes[image["id"]]
        own = [one for one in planter.coco["annotations"] if one["image_id"] == image["id"]]
        copies = [one | {"id": planter.next_id + n, "image_id": number} for n, one in enumerate(own)]
        planter.next_id += len(copies)
        planter.coco["annotations"] += copies
        side = (own, copies)[int(planter.rng.integers(2))]
        kinds = ("missing", "class")[: len(planter.coco["categories"])]
        planter.one(str(planter.rng.choice(kinds)), side[int(planter.rng.integers(len(side)))])
        planter.planted[-1]["kind"] = PAIRS


def plant(options: argparse.Namespace) -> None:
    """Write the dataset with errors, and the list of them."""
    out = Path(options.out)
    if out.exists():
        raise UserError(f"{out} exists: remove it, or choose another --out")
    annotations = load_data(options.data, options.split)
    coco, sizes = annotations.to_coco(), known_sizes(annotations)
    for i, image in enumerate(coco["images"]):
        name = image["file_name"].replace("/", "_")
        copy = partial(shutil.copyfile, annotations.image_path(i))
        replace_file(out / "images" / name, copy, durable=False)
        image |= {"file_name": name, "width": int(sizes[i, 1]), "height": int(sizes[i, 0])}
    for one in coco["annotations"]:
        for key in ("keypoints", "num_keypoints"):
            one.pop(key, None)
    planter = Planter(coco, options.seed, outlines_of(annotations))
    filled = {one["image_id"] for one in coco["annotations"]}
    chosen = planter.rng.permutation([one["id"] for one in coco["images"] if one["id"] in filled])
    pairs = set(chosen[: round(options.share * len(coco["images"]))].tolist())
    planter.plant(options.share, filled - pairs)
    twins(planter, [one for one in coco["images"] if one["id"] in pairs], out / "images")
    replace_text(out / "instances_train.json", json.dumps(coco))
    replace_text(out / "data.yaml", "train: {annotations: instances_train.json, images: images}\n")
    replace_text(out / "planted.json", json.dumps(planter.planted, indent=1))
    for kind in (*KINDS, PAIRS):
        print(kind, sum(one["kind"] == kind for one in planter.planted))


def outlines_of(annotations: Annotations) -> dict[int, Outlines]:
    """The outline of each annotation that has one, by its id."""
    outlines = annotations.outlines
    if outlines is None:
        return {}
    return {int(annotations.ids[n]): outlines[n : n + 1] for n in np.flatnonzero(outlines.present).tolist()}


def draw(options: argparse.Namespace) -> None:
    """Write an image of the first mistakes in mistakes.json, row by row."""
    content = json.loads((Path(options.mistakes) / "mistakes.json").read_text(encoding="utf-8"))
    annotations = load_data(content["data"], content["split"])
    image_of, row_of = ({one: n for n, one in enumerate(c.tolist())} for c in (annotations.image_ids, annotations.ids))
    label_of = {one: n for n, one in enumerate(annotations.category_ids.tolist())}
    drawings = []
    for one in content["mistakes"][: options.count]:
        to, row = one["suggestion"], row_of.get(one["annotation_id"], -1)
        label = label_of[to["category_id"]] if "category_id" in to else int(annotations.labels[row])
        box = tuple(to.get("bbox") or one["bbox"])
        mistake = Mistake(one["kind"], one["score"], image_of[one["image_id"]], row, to["action"], box, label)
        drawings.append(drawn(mistake, annotations, 240))
    save(Path(options.out), grid([one for one in drawings if one is not None], 150, 5))


@in_one_line
def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant", help="write a dataset with label errors")
    planting.add_argument("--data", required=True, help="dataset to copy")
    planting.add_argument("--split", default="train", help="the split to copy")
    planting.add_argument("--share", type=float, default=0.05, help="errors of each kind, as a share of the labels")
    planting.add_argument("--seed", type=int, default=0, help="seed of every choice")
    planting.add_argument("--out", required=True, help="new folder")
    scoring = commands.add_parser("score", help="measure how well the errors were found")
    scoring.add_argument("--planted", required=True, help="folder that `plant` wrote")
    scoring.add_argument("--mistakes", required=True, help="folder that `detect mistakes` wrote")
    scoring.add_argument("--json", default="", help="file to write the table to")
    tabulating = commands.add_parser("table", help="mean and standard deviation of several scores")
    tabulating.add_argument("files", nargs="+", help="files that `score --json` wrote")
    drawing = commands.add_parser("draw", help="draw the first mistakes")
    drawing.add_argument("--mistakes", required=True, help="folder that `detect mistakes` wrote")
    drawing.add_argument("--count", type=int, default=20, help="how many")
    drawing.add_argument("--out", required=True, help="image to write")
    options = parser.parse_args()
    {"plant": plant, "score": score, "table": table, "draw": draw}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
