"""LVIS's protocol as plain loops, random federated files, and the lvis package in an interpreter of its own."""

import json
import subprocess

import numpy as np
from pycocotools import mask as rle

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {"": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}

ORACLE = """
import json, logging, sys
import numpy as np
np.float = float  # which the package still names
logging.disable(logging.CRITICAL)
from lvis import LVIS, LVISEval, LVISResults
numbers = []
for name, found, kind in json.load(sys.stdin):
    truth = LVIS(name)
    run = LVISEval(truth, LVISResults(truth, found), kind)
    run.evaluate(); run.accumulate(); run.summarize()
    numbers.append({key.replace("AR@300", "AR300").replace("@300", ""): float(v) for key, v in run.results.items()})
print(json.dumps(numbers))
"""


def package(interpreter: str, cases: list) -> list[dict[str, float]]:
    """The numbers of the lvis package for (annotation file, results, "bbox" or "segm")."""
    done = subprocess.run([interpreter, "-c", ORACLE], input=json.dumps(cases), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def federated_file(seed: int, crowded: bool = False) -> tuple[dict, list[dict]]:
    """A file in LVIS's form and results for it, near objects and anywhere; `crowded` has images of over 300 of them."""
    rng = np.random.default_rng(seed)
    ids = sorted(rng.choice(np.arange(1, 40), rng.integers(1, 6), replace=False).tolist())
    categories = [{"id": i, "name": f"thing_{i}", "frequency": str(rng.choice([*"rcf"]))} for i in ids]
    images, annotations, found = [], [], []
    for image in rng.choice(np.arange(1, 99), rng.integers(1, 7), replace=False).tolist():
        present = [i for i in ids if rng.random() < 0.5]
        absent = [i for i in ids if i not in present and rng.random() < 0.4]
        folder = rng.choice(["train2017", "val2017"])
        images.append(
            {
                "id": image,
                "width": 200,
                "height": 160,
                "coco_url": f"http://images.cocodataset.org/{folder}/{image:012d}.jpg",
                "neg_category_ids": absent,
                "not_exhaustive_category_ids": [i for i in present if rng.random() < 0.3],
            }
        )
        for category in np.repeat(present, rng.integers(1, 5)).tolist():
            x, y = rng.integers(0, 100, 2).tolist()
            width, height = rng.integers(4, (30, 60) if rng.random() < 0.5 else (100, 60)).tolist()
            outline = [x, y, x + width, y, x + width, y + 0.8 * height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, width, height],
                    "area": float(width * height * rng.uniform(0.5, 1)),
                    "segmentation": [outline],
                }
            )
            for _ in range(rng.integers(0, 3)):
                box = np.maximum(np.add([x, y, width, height], rng.normal(0, 4, 4)), [0, 0, 2, 2]).tolist()
                other = category if rng.random() < 0.9 else int(rng.choice(ids))
                found.append({"image_id": image, "category_id": other, "bbox": box})
        for _ in range(rng.integers(290, 330) if crowded else rng.integers(0, 12)):
            box = [*rng.uniform(0, 150, 2).tolist(), *rng.uniform(4, 60, 2).tolist()]
            found.append({"image_id": image, "category_id": int(rng.choice(ids)), "bbox": box})
    for one in found:
        one["score"] = float(np.round(rng.random(), 1 if rng.random() < 0.5 else 3))
    order = rng.permutation(len(found)).tolist()
    return {"images": images, "annotations": annotations, "categories": categories}, [found[i] for i in order]


def masked(truth: dict, found: list[dict]) -> list[dict]:
    """Results of boxes as results of masks: run-length encodings of the boxes."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    masks = []
    for one in found:
        code = rle.frPyObjects(np.array([one["bbox"]]), *sizes[one["image_id"]])[0]
        mask = {"size": list(code["size"]), "counts": code["counts"].decode()}
        masks.append({"image_id": one["image_id"], "category_id": one["category_id"], "segmentation": mask})
        masks[-1]["score"] = one["score"]
    return masks


def naive(truth: dict, found: list[dict], kind: str = "bbox") -> dict[str, float]:
    """LVIS's thirteen numbers, class by class and image by image."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    own = {image: [] for image in sorted(sizes)}
    for one in found:
        own[one["image_id"]].append(one)
    best = {image: sorted(some, key=lambda one: -one["score"])[:300] for image, some in own.items()}
    told = {image["id"]: image for image in truth["images"]}
    ap, recall = {}, {}
    for category in truth["categories"]:
        for size, (low, high) in SIZES.items():
            rows, objects = [], 0
            for image in own:
                things = [
                    o for o in truth["annotations"] if (o["image_id"], o["category_id"]) == (image, category["id"])
                ]
                checked = things or category["id"] in told[image]["neg_category_ids"]
                dets = [one for one in best[image] if one["category_id"] == category["id"]] if checked else []
                partial = category["id"] in told[image]["not_exhaustive_category_ids"]
                rows += _matched(dets, things, low, high, partial, kind, sizes[image])
                objects += sum(low <= o["area"] <= high for o in things)
            if objects:
                rows.sort(key=lambda row: -row[0])
                for t in range(len(IOUS)):
                    right = [row[1][t] for row in rows if row[2][t]]
                    ap[category["id"], size, t], recall[category["id"], size, t] = _area(right, objects)
    frequency = {c["id"]: c["frequency"] for c in truth["categories"]}
    numbers = {f"AP{size}": _mean(v for (_, s, _), v in ap.items() if s == size) for size in SIZES}
    numbers |= {f"AP{f}": _mean(v for (c, s, _), v in ap.items() if s == "" and frequency[c] == f) for f in "rcf"}
    numbers |= {n: _mean(v for (_, s, i), v in ap.items() if (s, i) == ("", t)) for n, t in (("AP50", 0), ("AP75", 5))}
    return numbers | {f"AR{size or '300'}": _mean(v for (_, s, _), v in recall.items() if s == size) for size in SIZES}


def _matched(dets, things, low, high, partial, kind, size):
    """(score, right (T,), counts (T,)) of each detection of a class in an image."""
    area = {"bbox": lambda d: d["bbox"][2] * d["bbox"][3], "segm": lambda d: int(rle.area(d["segmentation"]))}[kind]
    ignored = [not low <= o["area"] <= high for o in things]
    order = sorted(range(len(things)), key=lambda g: ignored[g])
    if kind == "bbox":
        iou = rle.iou([d["bbox"] for d in dets], [o["bbox"] for o in things], [0] * len(things))
    else:
        masks = [rle.merge(rle.frPyObjects(o["segmentation"], *size)) for o in things]
        iou = rle.iou([d["segmentation"] for d in dets], masks, [0] * len(things))
    rows = [(d["score"], [], []) for d in dets]
    for threshold in IOUS:
        taken = set()
        for d, row in enumerate(rows):
            match, reach = -1, threshold
            for g in order:
                if g in taken or (match >= 0 and not ignored[match] and ignored[g]):
                    continue
                if iou[d][g] >= reach:
                    match, reach = g, iou[d][g]
            taken.add(match) if match >= 0 else None
            outside = partial or not low <= area(dets[d]) <= high
            row[1].append(match >= 0)
            row[2].append(not (ignored[match] if match >= 0 else outside))
    return rows


def _area(right: list[bool], objects: int) -> tuple[float, float]:
    hits = np.cumsum(right)
    precision = hits / (np.arange(len(right)) + 1)
    values = [max(precision[hits / objects >= level], default=0.0) for level in RECALLS]
    return float(np.mean(values)), float(hits[-1] / objects) if len(right) else 0.0


def _mean(values) -> float:
    found = list(values)
    return float(np.mean(found)) if found else -1.0
