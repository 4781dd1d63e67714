"""AP of several detectors, and of their fusion by each method: `python -m tools.fusion_table --help`.

Each image is predicted once by each model at its own image size; what was found is then fused by every method, as
`detect evaluate --weights A B --fusion.method M` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from detect.api import Detector
from detect.config.fusion import FusionConfig
from detect.data.annotations import Annotations
from detect.data.sources.formats import load_data
from detect.errors import in_one_line
from detect.evaluation.dataset_pass import predict_images
from detect.evaluation.evaluate import relabelled
from detect.inference.detection_fusion import DetectionFusion
from detect.inference.fusion_methods import METHODS
from detect.models.base import ModelMetadata
from detect.tasks import get_task
from detect.types import Postprocess

KEEP = Postprocess(score=0.001, iou=0.7, limit=300)  # the defaults of detect evaluate


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", nargs="+", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, default=0, help="the first images of the split; default: all")
    parser.add_argument("--iou", type=float, nargs="+", default=[0.55], help="IoU thresholds of the fusion")
    return parser.parse_args()


def measured(name: str, annotations: Annotations, task: Any, metadata: ModelMetadata, found: Sequence[Any]) -> None:
    """Print a row of the table."""
    labels, evaluator = task.match_classes(metadata, annotations), task.evaluator(annotations)
    for id_, one in zip(annotations.image_ids.tolist(), found, strict=True):
        evaluator.update([id_], [relabelled(one, labels, None)])
    result = evaluator.result()
    print(f"| {name} | {result['AP']:.3f} | {result['AP50']:.3f} | {result['AP75']:.3f} |", flush=True)


@in_one_line
def main() -> None:
    """Predict, fuse, evaluate and print."""
    given = options()
    members = [Detector.load(path, "cpu", "float32") for path in given.weights]
    task = get_task(members[0].model.task)
    annotations = load_data(given.data, given.split)
    if given.images:
        annotations = annotations.select(range(given.images))
    each = []
    print("| detector | AP | AP50 | AP75 |\n| --- | --- | --- | --- |")
    for path, member in zip(given.weights, members, strict=True):
        each.append([one for _, (one,) in predict_images(member.predictor(KEEP, batch=8), annotations)])
        measured(path, annotations, task, member.metadata, each[-1])
    for method in METHODS:
        for iou in given.iou:
            fuse = DetectionFusion(members, given.weights, FusionConfig(method=method, iou=iou))  # type: ignore[arg-type]
            found = [fuse(KEEP, results) for results in zip(*each, strict=True)]
            measured(f"{method}, IoU {iou:g}", annotations, task, fuse.metadata, found)


if __name__ == "__main__":
    main()
