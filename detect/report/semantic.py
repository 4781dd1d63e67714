"""What a page says of an evaluation of class maps: IoU of the classes, confusion, the worst and the best images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.data.annotations import Annotations
from detect.data.images import scaled
from detect.data.pixel_labels import image_labels
from detect.evaluation.semantic import pixel_classes
from detect.inference.semantic_drawing import draw_map
from detect.report.confusions import add_confusions
from detect.report.examples import SIDE, add_examples
from detect.report.html import Page
from detect.semantic import IGNORED, SemanticMap
from detect.tasks.base import Evaluation, numbers
from detect.types import Frame, Postprocess


def semantic_section(page: Page, evaluation: Evaluation, detector: Detector, config: EvaluateConfig) -> None:
    """Add the metrics, a table by class, confusion, and the images with the lowest and the highest mIoU."""
    result, evaluator = evaluation.evaluator.result(), evaluation.evaluator
    values, keys = numbers(result), ("IoU", "accuracy", "pixels")
    page.table(list(values), [list(values.values())])
    if not result["per_class"]:
        return
    page.heading("Classes")
    rows = result["per_class"].items()
    page.bars({name: row["IoU"] for name, row in rows if row["pixels"]}, "IoU of the classes")
    page.table(("class", *keys), [(name, *(row[k] for k in keys)) for name, row in rows])
    page.heading("Confusion")
    names, counts = result["confusion"]["names"], np.array(result["confusion"]["counts"])
    page.matrix(counts, names, names, "pixels of true classes (rows) by predicted classes (columns)")
    add_confusions(page, names, counts, ("true class", "predicted as", "pixels"))
    records = evaluator.records()
    place = {image: i for i, image in enumerate(evaluation.annotations.image_ids.tolist())}
    order = np.argsort(records.scores, kind="stable")
    for title, chosen in (("Worst images", order), ("Best images", order[::-1])):
        chosen = chosen[: config.examples]
        images = _panels(evaluation.annotations, detector, [place[i] for i in records.ids[chosen].tolist()], config)
        captions = [f"mIoU {score:.2f}" for score in records.scores[chosen].tolist()]
        texts = [f"{name}: {caption}" for (_, name), caption in zip(images, captions, strict=True)]
        panels = [panel for panel, _ in images]
        add_examples(page, title, list(zip(panels, texts, strict=True)), "Left: annotations; right: predictions.")


def _panels(
    annotations: Annotations, detector: Detector, images: Sequence[int], config: EvaluateConfig
) -> list[tuple[np.ndarray, str]]:
    """Images twice, (h, w, 3), with their annotated and their predicted classes; and their names."""
    labels = pixel_classes(detector.metadata, annotations)
    predictor = detector.predictor(Postprocess(score=0.0), config.imgsz)
    frames = [Frame(annotations.read(i), annotations.file_name(i), i) for i in images]
    panels = []
    for frame, found in predictor(frames):
        truth = image_labels(annotations, frame.index, frame.image.shape[:2])
        background = len(annotations.names)
        known = SemanticMap(torch.from_numpy(np.where(truth == IGNORED, background, truth)), background)
        panels.append((_side_by_side(frame.image, (known, found.relabelled(labels)), annotations), frame.name))
    return panels


def _side_by_side(image: np.ndarray, maps: Sequence[SemanticMap], annotations: Annotations) -> np.ndarray:
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = scaled(image, scale)  # before drawing, so that the legend stays legible
    rows, columns = (torch.arange(n) * m // n for n, m in zip(small.shape[:2], image.shape[:2], strict=True))
    gap = np.full((small.shape[0], 6, 3), 255, np.uint8)
    described = [one.described(annotations.names, annotations.category_ids.tolist()) for one in maps]
    left, right = (
        draw_map(small, SemanticMap(one.labels[rows][:, columns], one.background, one.names)) for one in described
    )
    return np.hstack([left, gap, right])
