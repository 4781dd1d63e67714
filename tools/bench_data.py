"""Writes the datasets of benchmarks: one in the peer's layout, and one of random boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from detect.utils.atomic_io import replace_text


def lay_out(source: Path, folder: Path, form: str = "boxes", files: dict[str, str] | None = None) -> str:
    """Write the dataset `source` in YOLO format to `folder`; returns the path of its data.yaml.

    Args:
        source: folder of the dataset.
        folder: is made.
        form: what a label is: "boxes", "masks" (the largest polygon of each object) or "oriented" (four corners).
        files: annotation file of each split in the folder `source`. Default: its own train and val.
    """

    import yaml

    from detect.data.sources.formats import load_data, splits

    data = str(source)
    if files:
        data = str(folder / "source.yaml")
        folder.mkdir(parents=True)
        places = {split: {"annotations": str(source / file), "images": str(source)} for split, file in files.items()}
        replace_text(Path(data), yaml.safe_dump(places))
    for split in splits(data):
        annotations = load_data(data, split)
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for i in range(len(annotations)):
            path = annotations.image_path(i).resolve()
            (folder / "images" / split / path.name).symlink_to(path)
            lines = [" ".join(map(str, row)) for row in _rows(annotations, i, form)]
            replace_text((folder / "labels" / split / path.name).with_suffix(".txt"), "\n".join(lines), durable=False)
    about = {
        "path": str(folder),
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(annotations.names)),
    }
    replace_text(folder / "data.yaml", yaml.safe_dump(about))
    return str(folder / "data.yaml")


def _rows(annotations: Any, index: int, form: str) -> Iterator[list[float]]:
    """The numbers of the label of each object of an image, in shares of its width and height."""
    target, rows = annotations.target(index), slice(*annotations.starts[index : index + 2].tolist())
    size, outlines = np.array(target.size[::-1]), annotations.outlines[rows] if form != "boxes" else None
    low, high = target.boxes.numpy()[:, :2], target.boxes.numpy()[:, 2:]
    for i, label in enumerate(target.labels.tolist()):
        if outlines is None:
            points = np.stack([(low[i] + high[i]) / 2, high[i] - low[i]])
        elif form == "masks":
            rings, holes = outlines.rings(i)
            points = max((ring for ring, hole in zip(rings, holes, strict=True) if not hole), key=_area)
        else:
            points = outlines[i].corners()[0]
        yield [label, *(points / size).ravel().tolist()]


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


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


def untrained(folder: Path, name: str = "yolo_n") -> tuple[Path, Any]:
    """Build a model for 80 classes with random weights; returns its weights file and the model."""
    from detect.models.base import ModelMetadata
    from detect.models.builder import build
    from detect.models.configs import model_config
    from detect.models.weights import save_weights

    model = build(model_config(name), ModelMetadata([str(c) for c in range(80)], list(range(80))))
    save_weights(folder / f"{name}.safetensors", model)
    return folder / f"{name}.safetensors", model
