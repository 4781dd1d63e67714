"""Writes the datasets of benchmarks: one in the peer's layout, and one of random boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from detect.utils.atomic_io import replace_text


def lay_out(source: Path, folder: Path) -> str:
    """Write the dataset `source` in YOLO format to `folder`; returns the path of its data.yaml."""

    import yaml

    from detect.data.sources.formats import load_data, splits

    for split in splits(str(source)):
        annotations = load_data(str(source), split)
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(len(annotations)):
            path, target = annotations.image_path(i).resolve(), annotations.target(i)
            (folder / "images" / split / path.name).symlink_to(path)
            height, width = target.size
            low, high = target.boxes.chunk(2, 1)
            rows = ((low + high) / 2, high - low)
            lines = [
                f"{label} {x / width} {y / height} {w / width} {h / height}"
                for label, (x, y), (w, h) in zip(target.labels.tolist(), *(r.tolist() for r in rows), strict=True)
            ]
            replace_text((folder / "labels" / split / path.name).with_suffix(".txt"), "\n".join(lines), durable=False)
    about = {
        "path": str(folder),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(annotations.names)),
    }
    replace_text(folder / "data.yaml", yaml.safe_dump(about))
    return str(folder / "data.yaml")


def random_dataset(count: int, detections: int, ground_truth: Path) -> Any:
    """Write random annotations of `count` images with 1 to 14 objects of 80 classes each.

    Returns:
        Detections in every image: boxes near random objects, half of them with the right class.
    """
    from detect.evaluation.coco_protocol import Records

    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    predicted, labels = [], []
    for image in range(count):
        objects = int(rng.integers(1, 15))
        boxes = np.concatenate([rng.uniform(0, 400, (objects, 2)), rng.lognormal(4, 0.7, (objects, 2))], 1)
        classes = rng.integers(80, size=objects)
        for box, label in zip(boxes.tolist(), classes.tolist(), strict=True):
            annotation = {"id": len(annotations) + 1, "image_id": image + 1, "category_id": label + 1, "iscrowd": 0}
            annotations.append({**annotation, "bbox": box, "area": box[2] * box[3]})
        of = rng.integers(objects, size=detections)
        predicted.append(boxes[of] * rng.normal(1, 0.1, (detections, 4)).clip(0.5))
        labels.append(np.where(rng.random(detections) < 0.5, classes[of], rng.integers(80, size=detections)))
    sizes = {"width": 640, "height": 640}
    images = [{"id": i + 1, "file_name": f"{i}.jpg", **sizes} for i in range(count)]
    categories = [{"id": c + 1, "name": f"class {c}"} for c in range(80)]
    replace_text(ground_truth, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    counts = np.full(count, detections)
    scores = rng.random(count * detections)
    return Records(np.arange(1, count + 1), counts, np.concatenate(predicted), scores, np.concatenate(labels))
