"""Compares detection models on one page: `tools/compare.py --models`.

The page has AP with its uncertainty by the bootstrap over images (Efron, 1979), differences between models on the same
resamples, parameters, multiply-accumulates, time, and the same images with the boxes of every model.
Axes: I images, S seeds, R resamples.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from anchors import batched_nms, xywh_to_xyxy
from detect.api import Detector
from detect.data.annotations import Annotations
from detect.data.loader import EvalLoader
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data, splits
from detect.data.validate import verify
from detect.evaluation.bootstrap import draw_weights, p_value
from detect.evaluation.class_matching import by_name
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import Records, mean_defined, summarize
from detect.evaluation.dataset_pass import predict_batches
from detect.evaluation.resampled_ap import match, resampled_ap
from detect.evaluation.tide import KINDS, LIMIT, analyze_errors, error_costs
from detect.explain.summary import trace
from detect.inference.draw import draw
from detect.models.weights import load_weights
from detect.report.html import Page
from detect.types import Detections, Postprocess
from detect.utils.atomic_io import replace_text

POSTPROCESS = Postprocess(score=0.001, iou=0.7, limit=100)
RESAMPLES = 300
NMS_THRESHOLDS = (0.7, 0.5, 0.3)
# Images on the page, the width of their thumbnails in pixels; the confidence and NMS IoU thresholds of the boxes drawn.
IMAGES, THUMBNAIL, CONF, NMS_IOU = 6, 240, 0.3, 0.5


class Table(NamedTuple):
    """A table with the text that explains it; numbers in cells have three decimals."""

    text: str
    header: list[str]
    rows: list[list[str | float]]


class SeedResult(NamedTuple):
    """The detections of one seed's weights in the evaluation split, and the seconds of their training."""

    weights: Path
    records: Records
    seconds: float


def evaluation_split(data: str) -> Annotations:
    """Load the test split, or the validation split of a dataset without one."""
    return verify(load_data(data, "test" if "test" in splits(data) else "val"), decode=False)


def evaluate_weights(weights: Path, annotations: Annotations, seconds: float) -> SeedResult:
    """Detect in the images of `annotations` with a weights file of any task, and keep the boxes for the COCO protocol.

    Args:
        weights: Weights file in its run folder.
        annotations: Ground truth of the evaluation split.
        seconds: How long the training took; kept in the result.
    """
    detector = Detector.load(weights)
    metadata, evaluator = detector.metadata, CocoEvaluator(annotations)
    labels = by_name(metadata, annotations)
    if detector.model.needs_proposals:
        annotations = with_proposals(annotations, weights.parent / "proposals")  # where training keeps them
    loader = EvalLoader(annotations, metadata.size, 8, metadata.preprocess, square=detector.model.square)
    for ids, detections in predict_batches(detector.model, loader, POSTPROCESS, detector.device, detector.dtype):
        evaluator.update(ids, [replace(one, labels=labels[one.labels]) for one in detections])
    return SeedResult(weights, evaluator.records(), seconds)


def bootstrap(
    annotations: Annotations, models: Mapping[str, Sequence[SeedResult]], seed: int = 0
) -> dict[str, np.ndarray]:
    """AP (R,) of each model on the same resamples of the images, each the mean over its seeds."""
    weights = draw_weights(len(annotations), RESAMPLES, seed)
    return {
        name: np.mean([resampled_ap(match(annotations, one.records)[0], weights) for one in seeds], axis=0)
        for name, seeds in models.items()
    }


def milliseconds(models: Mapping[str, Sequence[SeedResult]], files: Sequence[str], rounds: int = 3) -> dict[str, float]:
    """Median milliseconds of each model for an image, from its file to its boxes; the models take turns."""
    detectors = {name: Detector.load(seeds[0].weights) for name, seeds in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, detector in detectors.items():
            for file in files:
                started = time.perf_counter()
                list(detector.predict(file))
                if turn:  # the first round is a warm-up
                    taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(times)) * 1e3 for name, times in taken.items()}


def size_of(weights: Path, annotations: Annotations) -> tuple[int, int]:
    """Parameters, and multiply-accumulates for one image of the training size with an average number of proposals."""
    model = load_weights(weights).eval()
    image = torch.empty(1, 3, model.metadata.size, model.metadata.size, dtype=torch.uint8, device="meta")
    given: tuple[Any, ...] = ()
    if model.needs_proposals:
        known = with_proposals(annotations, weights.parent / "proposals").proposals
        assert known is not None
        given = ([torch.empty(round(len(known) / len(annotations)), 4, device="meta")],)
    count = sum(p.numel() for p in model.parameters())
    return count, sum(layer["macs"] for layer in trace(model.to("meta"), image, *given))


def image_panels(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> list[tuple[np.ndarray, str]]:
    """Draw some images, each with its ground truth, then with each model's detections of at least CONF; with captions.

    The last one is an image without objects, where the dataset has one.
    """
    has_objects = np.diff(annotations.starts) > 0
    filled, empty = np.flatnonzero(has_objects), np.flatnonzero(~has_objects)
    spread = np.linspace(0, len(filled) - 1, min(IMAGES, len(filled))).round().astype(int)
    detectors = {name: Detector.load(seeds[0].weights) for name, seeds in models.items()}
    panels = []
    for i in [*filled[spread], *empty[:1]][-IMAGES:]:
        image, target, file = annotations.read(i), annotations.target(i), annotations.file_name(i)
        labelled = Detections(target.boxes, torch.ones(len(target)), target.labels)
        panels.append((draw(image, labelled, annotations.names), f"ground truth, {file}"))
        for name, detector in detectors.items():
            ((_, detections),) = detector.predict(image, conf=CONF, iou=NMS_IOU)
            panels.append((draw(image, detections, detector.names), f"{name}, {file}"))
    return panels


def stricter_nms(records: Records, iou: float) -> Records:
    """Apply NMS with a lower IoU threshold to detections that have been through NMS."""
    image = np.repeat(np.arange(len(records.counts)), records.counts)
    groups = torch.from_numpy(image * (records.labels.max(initial=0) + 1) + records.labels)
    boxes, scores = xywh_to_xyxy(torch.from_numpy(records.boxes)), torch.from_numpy(records.scores)
    keep = np.sort(batched_nms(boxes, scores, groups, iou).numpy())
    counts = np.bincount(image[keep], minlength=len(records.counts))
    return Records(records.image_ids, counts, records.boxes[keep], records.scores[keep], records.labels[keep])


def nms_table(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> Table:
    """AP and AP50 by the IoU threshold of NMS: means over the seeds."""
    rows: list[list[str | float]] = []
    for name, seeds in models.items():
        numbers = [
            [summarize(annotations, stricter_nms(one.records, iou)).numbers for iou in NMS_THRESHOLDS] for one in seeds
        ]
        rows.append([name, *np.mean([[n[key] for n in row for key in ("AP", "AP50")] for row in numbers], 0).tolist()])
    header = ["model", *(f"{key}, {iou}" for iou in NMS_THRESHOLDS for key in ("AP", "AP50"))]
    return Table("AP and AP50 by the IoU threshold of non-maximum suppression (NMS):", header, rows)


def error_table(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> Table:
    """AP at stricter IoU thresholds, recall, and what each kind of error costs: means over the seeds."""
    text = (
        "AP at stricter IoU thresholds, the recall with 100 boxes an image (AR100), and how much AP50 would rise "
        "without each kind of error (Bolya et al., 2020):"
    )
    rows: list[list[str | float]] = []
    for name, seeds in models.items():
        numbers = []
        for one in seeds:
            summary = summarize(annotations, one.records)
            costs = error_costs(analyze_errors(annotations, one.records, LIMIT), len(annotations.names)).costs
            strict = mean_defined(summary.precision[8:9, :, :, 0, 2]) or 0.0  # at IoU 0.9
            numbers.append([*(summary.numbers[key] for key in ("AP50", "AP75")), strict, summary.numbers["AR100"]])
            numbers[-1] += [costs[kind] for kind in KINDS]
        rows.append([name, *np.mean(numbers, 0).tolist()])
    return Table(text, ["model", "AP50", "AP75", "AP90", "AR100", *KINDS], rows)


def result_table(
    annotations: Annotations,
    models: Mapping[str, Sequence[SeedResult]],
    aps: Mapping[str, np.ndarray],
    ms: Mapping[str, float],
) -> Table:
    """Accuracy, size and speed of each model."""
    text = (
        f"{len(annotations)} images of {annotations.path.name}, none used in training; AP is the mean over the "
        f"seeds; the brackets hold the middle 95 % of {RESAMPLES} resamples of the images."
    )
    rows: list[list[str | float]] = []
    for name, seeds in models.items():
        low, high = np.quantile(aps[name], (0.025, 0.975))
        numbers = [summarize(annotations, one.records).numbers for one in seeds]
        each, ap50 = [n["AP"] for n in numbers], float(np.mean([n["AP50"] for n in numbers]))
        parameters, macs = size_of(seeds[0].weights, annotations)
        interval, spread = f"{np.mean(each):.3f} ({low:.3f} to {high:.3f})", ", ".join(f"{v:.3f}" for v in each)
        seconds = np.mean([one.seconds for one in seeds])
        sizes = f"{parameters:,}", f"{macs / 1e6:,.0f} M", f"{seconds:.0f} s", f"{ms[name]:.1f}"
        rows.append([name, interval, ap50, spread, *sizes])
    sizes = "parameters", "multiply-accumulates", "training", "ms an image"
    return Table(text, ["model", "AP", "AP50", "seeds, AP", *sizes], rows)


def difference_table(aps: Mapping[str, np.ndarray]) -> Table:
    """The difference of every two models in AP (R,) on the same resamples, with its p-value."""
    rows: list[list[str | float]] = [
        [a, *(f"{(x - y).mean():+.3f} (p {p_value(x, y):.2g})" if a != b else "" for b, y in aps.items())]
        for a, x in aps.items()
    ]
    text = "AP of the row's model minus AP of the column's, with the p-value of a paired test:"
    return Table(text, ["", *aps], rows)


def markdown(tables: Sequence[Table]) -> str:
    """The tables as Markdown, to be pasted into a document."""
    lines = []
    for text, header, rows in tables:
        lines += [text, "", f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
        for name, *cells in rows:
            shown = [f"{cell:.3f}" if isinstance(cell, float) else cell for cell in cells]
            lines.append(f"| `{name}` | {' | '.join(shown)} |")
        lines.append("")
    return "\n".join(lines)


def write(data: str, models: Mapping[str, Sequence[SeedResult]], out: Path) -> str:
    """Write OUT/page.html and OUT/page.json; returns the tables as Markdown."""
    annotations = evaluation_split(data)
    aps = bootstrap(annotations, models)
    files = [str(annotations.image_path(i)) for i in range(min(16, len(annotations)))]
    results = result_table(annotations, models, aps, milliseconds(models, files))
    tables = [results, nms_table(annotations, models), error_table(annotations, models), difference_table(aps)]
    page = Page(f"{len(models)} models on {Path(data).name}")
    for heading, table in zip(("Results", "Suppression", "Errors", "Differences"), tables, strict=True):
        page.heading(heading)
        page.text(table.text)
        page.table(table.header, table.rows)
    page.heading("Images")
    page.text(f"Ground truth, then the predictions of each model with a score of at least {CONF}.")
    page.gallery(image_panels(annotations, models), side=THUMBNAIL)
    replace_text(out / "page.html", str(page))
    replace_text(out / "page.json", json.dumps({name: values.tolist() for name, values in aps.items()}))
    return markdown(tables)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
