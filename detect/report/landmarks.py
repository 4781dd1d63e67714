"""What a page says of an evaluation of landmarks: errors, the error of each keypoint, the worst and best images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.images import scaled
from detect.evaluation.landmarks import LandmarkEvaluator
from detect.inference.draw import draw
from detect.report.examples import SIDE, SIDES, add_examples
from detect.report.html import Page
from detect.tasks.base import Evaluation, numbers
from detect.types import Detections


def landmark_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """Add the metrics, the cumulative error curve, the error of each keypoint, and the worst and best images."""
    evaluator: LandmarkEvaluator = evaluation.evaluator
    result = evaluator.result()
    values = numbers(result)
    page.table(list(values), [list(values.values())])
    if "curve" not in result:
        return
    curve = list(zip(result["errors"], result["curve"], strict=True))
    page.heading("Errors")
    page.text(f"Errors are divided by the {result['normalizer']}.")
    page.curves({"": curve}, "share of images whose error is at most this large", "error", "share")
    page.bars({k: v for k, v in result["per_point"].items() if v is not None}, "mean error of each keypoint")
    error = evaluator.errors()
    order = np.argsort(-error, kind="stable")
    for title, rows in (("Worst images", order), ("Best images", order[::-1])):
        images = [_example(evaluator, row, error[row]) for row in rows[: config.examples].tolist()]
        add_examples(page, title, images, SIDES)


def _example(evaluator: LandmarkEvaluator, row: int, error: float) -> tuple[np.ndarray, str]:
    """The image of a record, with annotated and with predicted keypoints, and its caption."""
    ids, points, _ = evaluator.records()
    instances, n = evaluator.instances, evaluator.row[int(ids[row])]
    index, annotations = int(instances.images[n]), instances.annotations
    image = annotations.read(index)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small, box = scaled(image, scale), torch.from_numpy(instances.boxes[n : n + 1]).float() * scale
    known = Detections(box, torch.ones(1), torch.zeros(1, dtype=torch.int64))
    size = np.array([scale, scale, 1.0])
    panels = [
        draw(small, replace(known, keypoints=torch.from_numpy(one * size)[None].float()), [""], hide_labels=True)
        for one in (instances.keypoints[n], points[row])
    ]
    gap = np.full((small.shape[0], 6, 3), 255, np.uint8)
    return np.hstack([panels[0], gap, panels[1]]), f"{annotations.file_name(index)}: error {error:.3f}"
