"""Plants label errors into a dataset, and measures how well `detect mistakes` finds them.

python -m tools.planted_errors plant --data D --out P [--split train] [--share 0.05] [--seed 0]
detect mistakes --data P --fine-tune picodet_s_320 --imgsz 320 --epochs 8 --out M
python -m tools.planted_errors score --planted P --mistakes M
python -m tools.planted_errors draw --mistakes M --out first.webp

`plant` writes a new dataset: copies of the images, instances_train.json with the errors, planted.json with the list of
them. Of every kind it plants `share` of the number of labels; of pairs of near-duplicate images `share` of the number
of images. `score` prints for each kind how many were planted, k; the share of them among the first k mistakes of the
kind (precision and recall in one) and among the first 2k; the same if labels, and predictions without a label, are
ordered by the confidence of the same predictions alone; and among k of these at random.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from anchors.boxes import iou, xywh_to_xyxy
from detect.data.annotations import Annotations, known_sizes
from detect.data.boxes import owners
from detect.data.image_writer import save_image
from detect.data.images import read_image
from detect.data.sources.formats import load_data
from detect.data_check.marked import grid
from detect.errors import UserError, in_one_line
from detect.evaluation.coco_protocol import Records
from detect.evaluation.coco_results import read_results
from detect.mistakes.drawing import drawn
from detect.mistakes.evidence import overlaps
from detect.mistakes.kinds import Mistake
from detect.utils.atomic_io import replace_file, replace_text
from tools.drawing import save

KINDS = ("missing", "spurious", "class", "location", "duplicate")
PAIRS = "near_duplicate"
APART = 0.15  # the largest IoU of a spurious box with a label
LOOSE = (0.35, 0.7)  # the IoU of a loose or shifted box with the right one
DOUBLE = (0.7, 0.97)  # the IoU of a duplicate with its label
COLUMNS = ("found in k", "found in 2k", "confidence alone in k", "confidence alone in 2k")

Record = dict[str, Any]


class Planter:
    """A dataset in COCO form, into which errors are planted one after the other.

    Args:
        coco: images, annotations and categories; changed in place.
        seed: of every choice.
    """

    def __init__(self, coco: Record, seed: int) -> None:
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
            changed |= {"bbox": box, "area": box[2] * box[3]}
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


def overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU (N,) of a box (4,) x, y, width, height with others (N, 4)."""
    mine, theirs = (xywh_to_xyxy(torch.from_numpy(one.astype(float))) for one in (box[None], others))
    return iou(mine, theirs)[0].numpy()


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
        for key in ("segmentation", "corners", "keypoints", "num_keypoints"):
            one.pop(key, None)
    planter = Planter(coco, options.seed)
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


class Ranking:
    """Suspected labels, the likeliest mistakes first, as (image id, annotation id or None, box, class id or None)."""

    def __init__(self, rows: Sequence[Record], planted: Sequence[Record]) -> None:
        self.hits = [self._hit(row, planted) for row in rows]

    @staticmethod
    def _hit(row: Record, planted: Sequence[Record]) -> int:
        """The index of the planted error that a row is about, -1 for none."""
        for n, one in enumerate(planted):
            if one["image_id"] != row["image_id"]:
                continue
            if one["annotation_id"] is None:
                box = np.array(one["was"]["bbox"], float)
                if row["annotation_id"] is None and overlap(box, np.array([row["bbox"]], float)).item() >= 0.5:
                    return n
            elif row["annotation_id"] is not None and row["annotation_id"] in (one["annotation_id"], one["twin_id"]):
                return n
        return -1

    def recall(self, first: int, total: int) -> float:
        """The share of `total` planted errors that are among the first rows; each counts once."""
        return len(set(self.hits[:first]) - {-1}) / max(1, total)


def score(options: argparse.Namespace) -> None:
    """Print a table: for each kind, how many of the planted errors are among the first k and 2k."""
    folder, out = Path(options.planted), Path(options.mistakes)
    planted = json.loads((folder / "planted.json").read_text(encoding="utf-8"))
    found = json.loads((out / "mistakes.json").read_text(encoding="utf-8"))["mistakes"]
    annotations = load_data(folder / "data.yaml", "train")
    records = read_results(annotations, out / "predictions.json")
    plain = by_confidence(annotations, records)
    rows = []
    for kind in (*KINDS, PAIRS, "all"):
        some = [one for one in planted if kind in (one["kind"], "all")]
        if not some:
            continue
        listed = [suspected(one) for one in found if kind in (one["kind"], "all")]
        only_missing = kind == "missing"
        alone = [one for one in plain if kind in (PAIRS, "all") or (one["annotation_id"] is None) == only_missing]
        k, orders = len(some), (Ranking(listed, some), Ranking(alone, some))
        chance = np.mean([_chance(alone, some, k, seed) for seed in range(20)])
        values = [order.recall(first, k) for order in orders for first in (k, 2 * k)]
        rows.append({"kind": kind, "planted": k, **dict(zip(COLUMNS, values, strict=True)), "random": float(chance)})
    for row in rows:
        print(" | ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    if options.json:
        replace_text(Path(options.json), json.dumps(rows, indent=1))


def suspected(one: Record) -> Record:
    """A row of mistakes.json as a `Ranking` takes it."""
    return {**one, "bbox": one["suggestion"].get("bbox") or one["bbox"]}


def _chance(rows: Sequence[Record], planted: Sequence[Record], k: int, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(rows))[:k]
    return Ranking([rows[i] for i in order], planted).recall(k, k)


def by_confidence(annotations: Annotations, records: Records) -> list[Record]:
    """Labels by the score of the best prediction of their class at their place, lowest first; predictions that no
    label overlaps, highest first; both in one list."""
    found = overlaps(annotations, records)
    same = (found.iou >= 0.5) & (annotations.labels[found.label] == records.labels[found.prediction])
    trust = np.zeros(len(annotations.labels))
    np.maximum.at(trust, found.label[same], records.scores[found.prediction[same]])
    free = np.ones(len(records.scores), bool)
    free[found.prediction[found.iou >= 0.5]] = False
    images, owner = annotations.image_ids, owners(annotations)
    rows = [
        (1 - trust[n], {"image_id": int(images[owner[n]]), "annotation_id": int(annotations.ids[n]), "bbox": []})
        for n in range(len(trust))
    ]
    rows += [
        (float(records.scores[n]), {"image_id": int(images[found.image[n]]), "annotation_id": None, "bbox": box})
        for n, box in enumerate(records.boxes.tolist())
        if free[n]
    ]
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


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
    drawing = commands.add_parser("draw", help="draw the first mistakes")
    drawing.add_argument("--mistakes", required=True, help="folder that `detect mistakes` wrote")
    drawing.add_argument("--count", type=int, default=20, help="how many")
    drawing.add_argument("--out", required=True, help="image to write")
    options = parser.parse_args()
    {"plant": plant, "score": score, "draw": draw}[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
