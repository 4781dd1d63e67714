"""What a page says of how sure the numbers of an evaluation are, of its slices, and of what it is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detect.data.annotations import Annotations
from detect.data.images import scaled
from detect.evaluation.bootstrap import Bootstrap
from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.difference import UNLIKELY, Comparison, Difference
from detect.evaluation.operating_points import Target, overall_curve
from detect.evaluation.slices import Slice, shown_number
from detect.evaluation.uncertainty import Trust
from detect.inference.draw import draw
from detect.report.charts import interval_spec
from detect.report.examples import SIDE, WIDTH, add_examples, annotated, detections, resized
from detect.report.html import Page
from detect.tasks import Evaluation

CHARTED = 40  # classes up to which a chart shows their intervals


def trust_sections(page: Page, evaluation: Evaluation, trust: Trust, most: int) -> None:
    """Add intervals, slices and the comparison, as far as there are any; `most` images of each sort."""
    if trust.intervals:
        uncertainty_section(page, trust.intervals)
    if trust.slices:
        slices_section(page, trust.slices, trust.metric)
    if trust.against:
        against_section(page, evaluation, trust.against, most)


def uncertainty_section(page: Page, found: Bootstrap) -> None:
    """Add every number with its 95 % interval: single numbers, then those of classes or keypoints."""
    page.heading("How sure are these numbers?")
    count = len(next(iter(found.values.values()), ()))
    page.text(
        f"95 % intervals by a bootstrap over images: {count:,} resamples, each of as many images as there are, drawn "
        "with repetition. They say how much a number depends on which images the split happens to have, not on the "
        "seed of the training. Where few images decide a number, its interval is too narrow; where one "
        "does, there is none."
    )
    names = list(found.values)
    for group in dict.fromkeys(name[0] if len(name) > 1 else "" for name in names):
        some = [name for name in names if (name[0] if len(name) > 1 else "") == group]
        rows = [
            (" ".join(name[1:] or name), found.estimates[name], *(found.interval(name) or (None, None)))
            for name in some
        ]
        if group:
            page.heading(group.replace("_", " "), 3)
        page.table(("number", "value", "low", "high"), rows)
        known = {name: (value, low, high) for name, value, low, high in rows if low is not None and high is not None}
        if 0 < len(known) <= CHARTED:
            page.chart(interval_spec(known, group), f"{group.replace('_', ' ')} with 95 % intervals".strip())


def slices_section(page: Page, found: list[Slice], metric: str) -> None:
    """Add the numbers of each slice."""
    page.heading("Slices")
    page.text(
        "A slice of images is evaluated alone. A slice of objects leaves out objects of other slices, what matches "
        "them, and unmatched detections of other slices. Intervals are those of the slice's own images."
    )
    for kind in dict.fromkeys(one.by for one in found):
        some = [one for one in found if one.by == kind]
        first = shown_number(some, metric)
        names = [name[0] for name in some[0].numbers.estimates if len(name) == 1 and name[0] != first]
        page.heading(f"By {kind}", 3)
        rows: list[tuple[Any, ...]] = []
        for one in some:
            value, between = one.number(first)
            rest = (one.numbers.estimates.get((name,)) for name in names)
            rows.append((one.name, one.images, one.objects, value, *(between or (None, None)), *rest))
        page.table(("slice", "images", "objects", first, "low", "high", *names), rows)
        known = {row[0]: row[3:6] for row in rows if row[4] is not None}
        if known:
            page.chart(interval_spec(known, first), f"{first} by {kind} with 95 % intervals")


def against_section(page: Page, evaluation: Evaluation, found: Comparison, most: int) -> None:
    """Add the differences of all numbers, and the images that carry them."""
    page.heading(f"Against {Path(found.other).name}")
    page.text(
        "Differences are paired: both sides are evaluated on the same resamples of the images. p is two-sided. Of many "
        f"differences about one in {round(1 / UNLIKELY)} seems to be more than chance without being so."
    )
    _differences(page, found.single())
    for group, some in found.groups().items():
        page.heading(f"Differences: {group.replace('_', ' ')}", 3)
        _differences(page, some)
    about = "Left: annotations; middle: the other; right: this one." if _drawn(evaluation) else "The images."
    for title, images in zip(("Images that got better", "Images that got worse"), found.images(most), strict=True):
        names = [evaluation.annotations.file_name(i) for i in images]
        shares = [f"{name}: {found.influence[i]:+.4f}" for name, i in zip(names, images, strict=True)]
        panels = [_panel(evaluation, found, i) for i in images] if evaluation.annotations.dims == 2 else []
        if panels:
            told = f"By what each adds to the advantage in {found.metric}. {about}"
            add_examples(page, title, list(zip(panels, shares, strict=True)), told, WIDTH * 3 // 2)
        elif images:
            page.table((title, found.metric), [(n, found.influence[i]) for n, i in zip(names, images, strict=True)])


def _differences(page: Page, some: list[Difference]) -> None:
    rows = [
        (one.label, one.value, one.other, one.difference, *(one.interval or (None, None)), one.p, _yes(one))
        for one in some
    ]
    page.table(("number", "this", "other", "difference", "low", "high", "p", f"p < {UNLIKELY:g}"), rows)


def _yes(one: Difference) -> str:
    return "yes" if one.p < UNLIKELY else "no"


def _drawn(evaluation: Evaluation) -> bool:
    return isinstance(getattr(evaluation.evaluator, "boxes", None), CocoEvaluator)


def _panel(evaluation: Evaluation, found: Comparison, index: int) -> np.ndarray:
    """Image `index` (h, w, 3): with its annotations, the other detections and these; of other tasks the image alone."""
    annotations: Annotations = evaluation.annotations
    image = annotations.read(index)
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = scaled(image, scale)
    if not _drawn(evaluation):
        return small
    evaluators = found.evaluator.boxes, evaluation.evaluator.boxes
    sides = [annotated(annotations, evaluators[0].records(), index)]
    sides += [detections(one.records(), annotations, index, _threshold(one)) for one in evaluators]
    gap = np.full((small.shape[0], 6, 3), 255, np.uint8)
    panels = [
        draw(small, resized(one, scale, small.shape[:2]), annotations.names, hide_conf=one is sides[0]) for one in sides
    ]
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])


def _threshold(evaluator: CocoEvaluator) -> float:
    """The confidence of the best F1."""
    best = Target("F1").choose(overall_curve(evaluator.errors))
    return best.conf if best else 0.5
