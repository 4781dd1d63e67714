"""Ways to detect, side by side on one page: `tools/compare.py --models`.

AP with its uncertainty by the bootstrap over images (Efron, 1979), differences between models on the same resamples,
size, multiply-accumulates, time, and the same pictures with every model's boxes. Axes: I images, S seeds, R resamples.
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

KEEP = Postprocess(score=0.001, iou=0.7, limit=100)
RESAMPLES = 300
SUPPRESSIONS = (0.7, 0.5, 0.3)
# Pictures on the page, their height in pixels; the least score of a box drawn, and the IoU of two that are one.
SHOWN, SIDE, CONF, APART = 6, 240, 0.3, 0.5


class Found(NamedTuple):
    """What the weights of one seed find in the held-out images, and what they took to train."""

    weights: Path
    records: Records
    seconds: float


def held_out(data: str) -> Annotations:
    """The test split, else val."""
    return verify(load_data(data, "test" if "test" in splits(data) else "val"), decode=False)


def found_by(weights: Path, store: Annotations, seconds: float) -> Found:
    """Everything that the weights find in the store, whatever their task: boxes by the COCO protocol."""
    detector = Detector.load(weights)
    metadata, evaluator = detector.metadata, CocoEvaluator(store)
    labels = by_name(metadata, store)
    if detector.model.needs_proposals:
        store = with_proposals(store, weights.parent / "proposals")  # where training keeps them
    loader = EvalLoader(store, metadata.size, 8, metadata.preprocess, square=detector.model.square)
    for ids, found in predict_batches(detector.model, loader, KEEP, detector.device, detector.dtype):
        evaluator.update(ids, [replace(one, labels=labels[one.labels]) for one in found])
    return Found(weights, evaluator.records(), seconds)


def resample(store: Annotations, found: Records, index: np.ndarray) -> tuple[Annotations, Records]:
    """The images `index` (I,), some of them several times, as a set of their own, and what was found in them."""
    chosen = store.select(index)
    rows = {image: row for row, image in enumerate(found.image_ids.tolist())}
    at = np.array([rows[image] for image in chosen.image_ids.tolist()])
    ends = found.counts.cumsum()
    take = np.concatenate([np.arange(ends[i] - found.counts[i], ends[i]) for i in at]).astype(np.int64)
    names = np.arange(len(index))
    new = replace(chosen, image_ids=names, ids=np.arange(1, len(chosen.ids) + 1))
    return new, Records(names, found.counts[at], found.boxes[take], found.scores[take], found.labels[take])


def bootstrap(store: Annotations, models: Mapping[str, Sequence[Found]], seed: int = 0) -> dict[str, np.ndarray]:
    """AP (R,) of each model on the same resamples of the images, each the mean over its seeds."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(store), size=(RESAMPLES, len(store)))
    return {
        name: np.array(
            [np.mean([summarize(*resample(store, one.records, draw)).numbers["AP"] for one in seeds]) for draw in draws]
        )
        for name, seeds in models.items()
    }


def chance(a: np.ndarray, b: np.ndarray) -> float:
    """How often a difference of the mean between paired resamples (R,) has the other sign: two-sided, at least 1/R."""
    less, more = (a <= b).mean(), (a >= b).mean()
    return float(min(1.0, max(1 / len(a), 2 * min(less, more))))


def milliseconds(models: Mapping[str, Sequence[Found]], files: Sequence[str], rounds: int = 3) -> dict[str, float]:
    """The median time of an image, from its file to its boxes; the models take turns."""
    detectors = {name: Detector.load(seeds[0].weights) for name, seeds in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, detector in detectors.items():
            for file in files:
                started = time.perf_counter()
                list(detector.predict(file))
                if turn:  # the first is to warm up
                    taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(times)) * 1e3 for name, times in taken.items()}


def size_of(weights: Path, store: Annotations) -> tuple[int, int]:
    """Parameters, and multiply-accumulates of one image of the size of training, with as many proposals as usual."""
    model = load_weights(weights).eval()
    image = torch.empty(1, 3, model.metadata.size, model.metadata.size, dtype=torch.uint8, device="meta")
    given: tuple[Any, ...] = ()
    if model.needs_proposals:
        known = with_proposals(store, weights.parent / "proposals").proposals
        assert known is not None
        given = ([torch.empty(round(len(known) / len(store)), 4, device="meta")],)
    count = sum(p.numel() for p in model.parameters())
    return count, sum(layer["macs"] for layer in trace(model.to("meta"), image, *given))


def pictures(store: Annotations, models: Mapping[str, Sequence[Found]]) -> np.ndarray:
    """Some images, a row each: annotations, then what each model finds above CONF; the last has no object, if any."""
    some, none = (np.flatnonzero((np.diff(store.starts) > 0) == wanted) for wanted in (True, False))
    spread = np.linspace(0, len(some) - 1, min(SHOWN, len(some))).round().astype(int)
    chosen = [*some[spread], *none[:1]][-SHOWN:]
    detectors = {name: Detector.load(seeds[0].weights) for name, seeds in models.items()}
    rows = []
    for i in chosen:
        image, truth = store.read(i), store.target(i)
        known = Detections(truth.boxes, torch.ones(len(truth)), truth.labels)
        panels = [draw(image, known, store.names)]
        for detector in detectors.values():
            ((_, found),) = detector.predict(image, conf=CONF, iou=APART)
            panels.append(draw(image, found, detector.names))
        scale = min(SIDE / image.shape[0], 4 * SIDE / image.shape[1])
        rows.append([scaled(panel, scale) for panel in panels])
    width = max(p.shape[1] for row in rows for p in row) + 4
    canvas = np.full((24 + len(rows) * (SIDE + 4), width * (1 + len(models)), 3), 255, np.uint8)
    for c, title in enumerate(["truth", *models]):
        cover = render(title, 14)[:20, : width - 8]
        canvas[2 : 2 + cover.shape[0], c * width : c * width + cover.shape[1]] = 255 - cover[..., None]
        for r, row in enumerate(rows):
            top, panel = 24 + r * (SIDE + 4), row[c]
            canvas[top : top + panel.shape[0], c * width : c * width + panel.shape[1]] = panel
    return canvas


def suppressed(found: Records, iou: float) -> Records:
    """`found` after one more suppression, stricter than the one that it comes from."""
    image = np.repeat(np.arange(len(found.counts)), found.counts)
    groups = torch.from_numpy(image * (found.labels.max(initial=0) + 1) + found.labels)
    boxes, scores = xywh_to_xyxy(torch.from_numpy(found.boxes)), torch.from_numpy(found.scores)
    keep = np.sort(batched_nms(boxes, scores, groups, iou).numpy())
    counts = np.bincount(image[keep], minlength=len(found.counts))
    return Records(found.image_ids, counts, found.boxes[keep], found.scores[keep], found.labels[keep])


def by_suppression(store: Annotations, models: Mapping[str, Sequence[Found]]) -> list[str]:
    """The table of AP and AP50 by the IoU above which two boxes of a class are one: means of seeds."""
    heads = [f"{key}, {iou}" for iou in SUPPRESSIONS for key in ("AP", "AP50")]
    lines = ["The same by the IoU above which two boxes of a class are taken for one:", ""]
    lines += [f"| model | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name, seeds in models.items():
        rows = []
        for one in seeds:
            found = [summarize(store, suppressed(one.records, iou)).numbers for iou in SUPPRESSIONS]
            rows.append([numbers[key] for numbers in found for key in ("AP", "AP50")])
        lines.append(f"| `{name}` | {' | '.join(f'{value:.3f}' for value in np.mean(rows, 0))} |")
    return lines


def faults(store: Annotations, models: Mapping[str, Sequence[Found]]) -> list[str]:
    """The table of how exact boxes are, how much is found at all, and what each kind of error costs: means of seeds."""
    lines = [
        "AP by how exact a box must be, the share of objects found among 100 boxes an image, and how much AP50 would "
        "gain without each kind of error (Bolya et al., 2020):",
        "",
        f"| model | AP50 | AP75 | AP90 | AR100 | {' | '.join(KINDS)} |",
        "| --- |" + " --- |" * (4 + len(KINDS)),
    ]
    for name, seeds in models.items():
        rows = []
        for one in seeds:
            found = summarize(store, one.records)
            costs = error_costs(analyze_errors(store, one.records), len(store.names)).costs
            strict = mean_defined(found.precision[8:9, :, :, 0, 2]) or 0.0  # at IoU 0.9
            rows.append([*(found.numbers[key] for key in ("AP50", "AP75")), strict, found.numbers["AR100"]])
            rows[-1] += [costs[kind] for kind in KINDS]
        lines.append(f"| `{name}` | {' | '.join(f'{value:.3f}' for value in np.mean(rows, 0))} |")
    return lines


def page(
    store: Annotations, models: Mapping[str, Sequence[Found]], aps: Mapping[str, np.ndarray], ms: Mapping[str, float]
) -> str:
    """The page as Markdown, but for its pictures."""
    lines = [
        f"{len(store)} held-out images of {store.path.name}; AP is the mean over the seeds, in brackets the middle "
        f"95 % of {RESAMPLES} resamples of the images.",
        "",
        "| model | AP | AP50 | seeds, AP | parameters | multiply-accumulates | training | ms an image |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, seeds in models.items():
        low, high = np.quantile(aps[name], (0.025, 0.975))
        numbers = [summarize(store, one.records).numbers for one in seeds]
        each, ap50 = [n["AP"] for n in numbers], np.mean([n["AP50"] for n in numbers])
        parameters, macs = size_of(seeds[0].weights, store)
        lines.append(
            f"| `{name}` | {np.mean(each):.3f} ({low:.3f} to {high:.3f}) | {ap50:.3f} | "
            f"{', '.join(f'{v:.3f}' for v in each)} | {parameters:,} | {macs / 1e6:,.0f} M | "
            f"{np.mean([one.seconds for one in seeds]):.0f} s | {ms[name]:.1f} |"
        )
    lines += ["", *by_suppression(store, models), "", *faults(store, models)]
    lines += ["", "Difference in AP of the row's model to the column's, and how easily chance gives it (paired):", ""]
    lines += ["|   |" + "".join(f" `{name}` |" for name in models), "|" + " --- |" * (1 + len(models))]
    for a in models:
        cells = [f"{(aps[a] - aps[b]).mean():+.3f} (p {chance(aps[a], aps[b]):.2g})" if a != b else "" for b in models]
        lines.append(f"| `{a}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(data: str, models: Mapping[str, Sequence[Found]], out: Path) -> str:
    """Write OUT/page.md, OUT/pictures.jpg and OUT/page.json; the page."""
    store = held_out(data)
    aps = bootstrap(store, models)
    files = [str(store.image_path(i)) for i in range(min(16, len(store)))]
    text = page(store, models, aps, milliseconds(models, files))
    save_image(out / "pictures.jpg", pictures(store, models), quality=85)
    replace_text(out / "page.md", text + "\n![the same pictures by every model](pictures.jpg)\n")
    replace_text(out / "page.json", json.dumps({name: values.tolist() for name, values in aps.items()}))
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
