"""What a page says of an evaluation of localizers: one object in an image, its presence, class and box."""

from __future__ import annotations

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.evaluation.localization import PRESENT
from detect.report.calibration import add_reliability
from detect.report.examples import SIDES, add_examples, side_by_side
from detect.report.html import Page
from detect.tasks.base import Evaluation, numbers


def localization_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """Add the metrics, the overlap of boxes, the calibration of the presence, and the worst and best images."""
    values = numbers(evaluation.evaluator.result())
    page.table(list(values), [list(values.values())])
    found = evaluation.evaluator.per_image()
    if not len(found.score):
        return
    page.heading("Boxes")
    page.histogram(found.iou[found.has_object].tolist(), "IoU of box and object, images with an object", "IoU")
    page.heading("Calibration")
    add_reliability(page, found.score, found.has_object, "images", means="show an object")
    index = {image: i for i, image in enumerate(evaluation.annotations.image_ids.tolist())}
    records = evaluation.evaluator.records()
    rows = np.array([index[image] for image in records.image_ids.tolist()])
    sure = np.abs(found.score - PRESENT)
    worst = np.lexsort((-sure, found.iou * found.has_object, found.localized))
    best = np.lexsort((-found.score, -found.iou, ~found.localized))
    sorts = {"Worst images": worst[~found.localized[worst]], "Best images": best[found.localized[best]]}
    for title, order in sorts.items():
        images = [
            (
                side_by_side(evaluation.annotations, records, int(rows[n]), 0.0),
                f"{evaluation.annotations.file_name(int(rows[n]))}: presence {found.score[n]:.2f}, "
                + (f"IoU {found.iou[n]:.2f}" if found.has_object[n] else "no object"),
            )
            for n in order[: config.examples].tolist()
        ]
        add_examples(page, title, images, SIDES)
