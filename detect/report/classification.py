"""What a page says of an evaluation of classes: the report of a run and `detect evaluate --page`."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.datasets.crops import Crops, views
from detect.data.images import scaled
from detect.evaluation.calibration import judged_classes
from detect.report.calibration import calibration_section
from detect.report.confusions import add_confusions
from detect.report.examples import add_examples
from detect.report.html import Page
from detect.tasks.base import Evaluation, numbers

SIDE = 240  # pixels of the longer side of an image


def class_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """Add the metrics, a table by class, confusion, calibration, and the images that went wrong and right."""
    evaluator = evaluation.evaluator
    result = evaluator.result()
    values, keys = numbers(result), ("count", "precision", "recall", "f1")
    page.table(list(values), [list(values.values())])
    if not result["per_class"]:
        return
    page.heading("Classes")
    page.table(("class", *keys), [(name, *(row[k] for k in keys)) for name, row in result["per_class"].items()])
    page.heading("Confusion")
    names, counts = result["confusion"]["names"], np.array(result["confusion"]["counts"])
    page.matrix(counts, names, names, "true classes (rows) by predicted classes (columns)")
    add_confusions(page, names, counts, ("true class", "predicted as", "samples"))
    page.heading("Calibration")
    right, scores = evaluator.right(), evaluator.records().scores[:, 0]
    calibration_section(page, judged_classes(evaluator), evaluator.names, "predictions")
    if evaluation.annotations.dims == 2:
        _examples(page, evaluator, right, scores, config.examples)


def _examples(page: Page, evaluator: Any, right: np.ndarray, scores: np.ndarray, most: int) -> None:
    """The wrong images of the highest confidence, the right ones of the lowest, and the right ones of the highest."""
    ids, labels, _ = evaluator.records()
    place = {one: row for row, one in enumerate(evaluator.crops.ids.tolist())}
    wrong, hits = np.flatnonzero(~right), np.flatnonzero(right)

    def add(title: str, rows: np.ndarray, about: str) -> None:
        images = []
        for row in rows[:most].tolist():
            crop = place[int(ids[row])]
            name, truth = evaluator.names[labels[row, 0]], evaluator.names[evaluator.crops.labels[crop]]
            told = f"{name} {scores[row]:.2f}" + ("" if right[row] else f", is {truth}")
            images.append((crop_image(evaluator.crops, crop), f"{_file(evaluator.crops, crop)}: {told}"))
        add_examples(page, title, images, about, SIDE)

    about = "wrong at high confidence: the labels may be wrong, too."
    add("Most surprising errors", wrong[np.argsort(-scores[wrong], kind="stable")], f"Classes that are {about}")
    add("Least certain of the right", hits[np.argsort(scores[hits], kind="stable")], "Right, at low confidence.")
    add("Best images", hits[np.argsort(-scores[hits], kind="stable")], "Right, at the highest confidence.")


def _file(crops: Crops, index: int) -> str:
    return crops.annotations.file_name(int(crops.images[index]))


def crop_image(crops: Crops, index: int) -> np.ndarray:
    """The crop at `index` with its margin, as the network sees it, its longer side SIDE pixels."""
    image = crops.annotations.read(int(crops.images[index]))
    height, width = image.shape[:2]
    left, top, right, bottom = views(crops.boxes[index : index + 1], np.array([[width, height, width, height]]))[0]
    part = image[top:bottom, left:right]
    return scaled(part, SIDE / max(part.shape[:2]))
