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
from detect.data.image_writer import save_image
from detect.data.images import scaled
from detect.data.loader import EvalLoader
from detect.data.proposals import with_proposals
from detect.data.sources.formats import load_data, splits
from detect.data.validate import verify
from detect.evaluation.bootstrap import draw_weights, match, p_value, resampled_ap
from detect.evaluation.class_matching import by_name
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import Records, mean_defined, summarize
from detect.evaluation.dataset_pass import predict_batches
from detect.evaluation.tide import KINDS, analyze_errors, error_costs
from detect.explain.summary import trace
from detect.inference.draw import draw
from detect.inference.text_rendering import render
from detect.models.weights import load_weights
from detect.types import Detections, Postprocess
from detect.utils.atomic_io import replace_text

POSTPROCESS = Postprocess(score=0.001, iou=0.7, limit=100)
RESAMPLES = 300
NMS_THRESHOLDS = (0.7, 0.5, 0.3)
# Rows of images on the page, their height in pixels; the confidence and NMS IoU thresholds of the boxes drawn.
ROWS, HEIGHT, CONF, NMS_IOU = 6, 240, 0.3, 0.5


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
        name: np.mean([resampled_ap(match(annotations, one.records), weights) for one in seeds], axis=0)
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


def image_panels(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> np.ndarray:
    """Draw some images, one a row: ground truth, then each model's detections of at least CONF.

    The last row is an image without objects, where the dataset has one.
    """
    has_objects = np.diff(annotations.starts) > 0
    filled, empty = np.flatnonzero(has_objects), np.flatnonzero(~has_objects)
    spread = np.linspace(0, len(filled) - 1, min(ROWS, len(filled))).round().astype(int)
    chosen = [*filled[spread], *empty[:1]][-ROWS:]
    detectors = {name: Detector.load(seeds[0].weights) for name, seeds in models.items()}
    rows = []
    for i in chosen:
        image, target = annotations.read(i), annotations.target(i)
        labelled = Detections(target.boxes, torch.ones(len(target)), target.labels)
        panels = [draw(image, labelled, annotations.names)]

        for detector in detectors.values():
            ((_, detections),) = detector.predict(image, conf=CONF, iou=NMS_IOU)
            panels.append(draw(image, detections, detector.names))
        scale = min(HEIGHT / image.shape[0], 4 * HEIGHT / image.shape[1])
        rows.append([scaled(panel, scale) for panel in panels])
    width = max(p.shape[1] for row in rows for p in row) + 4
    canvas = np.full((24 + len(rows) * (HEIGHT + 4), width * (1 + len(models)), 3), 255, np.uint8)
    for c, title in enumerate(["ground truth", *models]):
        cover = render(title, 14)[:20, : width - 8]
        canvas[2 : 2 + cover.shape[0], c * width : c * width + cover.shape[1]] = 255 - cover[..., None]
        for r, row in enumerate(rows):
            top, panel = 24 + r * (HEIGHT + 4), row[c]
            canvas[top : top + panel.shape[0], c * width : c * width + panel.shape[1]] = panel
    return canvas


def stricter_nms(records: Records, iou: float) -> Records:
    """Apply NMS with a lower IoU threshold to detections that have been through NMS."""
    image = np.repeat(np.arange(len(records.counts)), records.counts)
    groups = torch.from_numpy(image * (records.labels.max(initial=0) + 1) + records.labels)
    boxes, scores = xywh_to_xyxy(torch.from_numpy(records.boxes)), torch.from_numpy(records.scores)
    keep = np.sort(batched_nms(boxes, scores, groups, iou).numpy())
    counts = np.bincount(image[keep], minlength=len(records.counts))
    return Records(records.image_ids, counts, records.boxes[keep], records.scores[keep], records.labels[keep])


def nms_table(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> list[str]:
    """The table of AP and AP50 by the IoU threshold of NMS: means over the seeds."""
    heads = [f"{key}, {iou}" for iou in NMS_THRESHOLDS for key in ("AP", "AP50")]
    lines = ["AP and AP50 by the IoU threshold of non-maximum suppression (NMS):", ""]
    lines += [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name, seeds in models.items():
        rows = []
        for one in seeds:
            results = [summarize(annotations, stricter_nms(one.records, iou)).numbers for iou in NMS_THRESHOLDS]
            rows.append([numbers[key] for numbers in results for key in ("AP", "AP50")])
        lines.append(f"| `{name}` | {' | '.join(f'{value:.3f}' for value in np.mean(rows, 0))} |")
    return lines


def error_table(annotations: Annotations, models: Mapping[str, Sequence[SeedResult]]) -> list[str]:
    """The table of AP at stricter IoU thresholds, recall, and what each kind of error costs: means over the seeds."""
    lines = [
        "AP at stricter IoU thresholds, the recall with 100 boxes an image (AR100), and how much AP50 would rise "
        "without each kind of error (Bolya et al., 2020):",
        "",
        f"| model | AP50 | AP75 | AP90 | AR100 | {' | '.join(KINDS)} |",
        "| --- |" + " --- |" * (4 + len(KINDS)),
    ]
    for name, seeds in models.items():
        rows = []
        for one in seeds:
            summary = summarize(annotations, one.records)
            costs = error_costs(analyze_errors(annotations, one.records), len(annotations.names)).costs
            strict = mean_defined(summary.precision[8:9, :, :, 0, 2]) or 0.0  # at IoU 0.9
            rows.append([*(summary.numbers[key] for key in ("AP50", "AP75")), strict, summary.numbers["AR100"]])
            rows[-1] += [costs[kind] for kind in KINDS]
        lines.append(f"| `{name}` | {' | '.join(f'{value:.3f}' for value in np.mean(rows, 0))} |")
    return lines


def page(
    annotations: Annotations,
    models: Mapping[str, Sequence[SeedResult]],
    aps: Mapping[str, np.ndarray],
    ms: Mapping[str, float],
) -> str:
    """The page as Markdown, without its plot."""
    lines = [
        f"{len(annotations)} images of {annotations.path.name}, none used in training; AP is the mean over the "
        f"seeds; the brackets hold the middle 95 % of {RESAMPLES} resamples of the images.",
        "",
        "| model | AP | AP50 | seeds, AP | parameters | multiply-accumulates | training | ms an image |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seeds in models.items():
        low, high = np.quantile(aps[name], (0.025, 0.975))
        numbers = [summarize(annotations, one.records).numbers for one in seeds]
        each, ap50 = [n["AP"] for n in numbers], np.mean([n["AP50"] for n in numbers])
        parameters, macs = size_of(seeds[0].weights, annotations)
        lines.append(
            f"| `{name}` | {np.mean(each):.3f} ({low:.3f} to {high:.3f}) | {ap50:.3f} | "
            f"{', '.join(f'{v:.3f}' for v in each)} | {parameters:,} | {macs / 1e6:,.0f} M | "
            f"{np.mean([one.seconds for one in seeds]):.0f} s | {ms[name]:.1f} |"
        )
    lines += ["", *nms_table(annotations, models), "", *error_table(annotations, models)]
    lines += ["", "AP of the row's model minus AP of the column's, with the p-value of a paired test:", ""]
    lines += ["|   |" + "".join(f" `{name}` |" for name in models), "|" + " --- |" * (1 + len(models))]
    for a in models:
        cells = [f"{(aps[a] - aps[b]).mean():+.3f} (p {p_value(aps[a], aps[b]):.2g})" if a != b else "" for b in models]
        lines.append(f"| `{a}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(data: str, models: Mapping[str, Sequence[SeedResult]], out: Path) -> str:
    """Write OUT/page.md, OUT/images.jpg and OUT/page.json; returns the page as Markdown."""
    annotations = evaluation_split(data)
    aps = bootstrap(annotations, models)
    files = [str(annotations.image_path(i)) for i in range(min(16, len(annotations)))]
    text = page(annotations, models, aps, milliseconds(models, files))
    save_image(out / "images.jpg", image_panels(annotations, models), quality=85)
    replace_text(
        out / "page.md",
        f"{text}\n![Ground truth and the predictions of each model with a score of at least {CONF}](images.jpg)\n",
    )
    replace_text(out / "page.json", json.dumps({name: values.tolist() for name, values in aps.items()}))
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
