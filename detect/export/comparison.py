"""Whether an exported file says what torch says, on real pictures; a file that does not is never written.

Float32 files hold the same arithmetic in another order: their outputs are compared number by number. Float16 and int8
files cannot be equal; of them the answers are compared: is each object still found, and at its place?
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anchors.boxes import iou
from detect.commands.export import ExportConfig
from detect.data.letterbox import Letterbox
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.export.forms import Bare, form_of
from detect.export.metadata import About
from detect.export.runtime import Exported
from detect.models.base import Model
from detect.tasks import get_task
from detect.types import Detections, Postprocess

PICTURES = 16
# A hundred layers of sums in another order change a number by some 1e-6 of itself (float32 has 1.2e-7). Measured: 1e-6
# of a score, 2e-4 of a pixel, at worst over all predictions. A hundred times that is nothing a person could see and
# still no other network; an error of the graph is far more.
LEAST = 1e-4  # of an output that is not named below
TOLERANCE = {"boxes": 0.02, "points": 0.02, "scores": 1e-4, "presence": 1e-3, "logits": 1e-3}
# (the IoU at which a box is the same, the least share of boxes of either side that must have their like on the other)
BOUNDS = {"float32": (0.99, 1.0), "float16": (0.9, 0.95), "int8": (0.7, 0.8)}


def pictures(config: ExportConfig, split: str, task: str, count: int = PICTURES) -> list[np.ndarray]:
    """At most `count` pictures (H, W, 3) of a split, evenly spread; without data the photographs of scikit-learn."""
    if not config.data:
        from sklearn.datasets import load_sample_images

        return load_sample_images().images
    labels = get_task(task).image_level_labels
    store = load_data(config.data, split, image_level_labels=labels, allow_outside=config.allow_outside)
    return [store.read(int(i)) for i in np.unique(np.linspace(0, len(store) - 1, min(count, len(store))).astype(int))]


def canvases(images: Sequence[np.ndarray], about: About) -> Iterator[Tensor]:
    """Each image letterboxed as the file wants it: (1, 3, H, W) uint8."""
    for image in images:
        fit = Letterbox.fit(image.shape[:2], about.metadata.size, about.metadata.pixels, about.square, about.stride)
        yield torch.from_numpy(fit.apply(image)).permute(2, 0, 1)[None].contiguous()


@torch.inference_mode()
def verify(model: Model, exported: Exported, images: Sequence[np.ndarray]) -> str:
    """What was compared and how near it came. Raises UserError where the file says something else than `model`.

    `model` is lean, in float32 and on the CPU.
    """
    about, bare = exported.about, Bare(model)
    batches = list(canvases(images, about))
    if about.dynamic:
        batches = [torch.cat([x, x.flip(3)]) for x in batches]  # more than one at a time, too
    said = [bare(x) for x in batches]
    if about.precision == "float32" and not about.suppressed:
        return _equal(about, said, [exported(x) for x in batches])
    keep = Postprocess(about.conf, about.iou, about.max_det)
    mine = chain.from_iterable(form_of(about.task).decode(x, keep) for x in said)
    theirs = chain.from_iterable(exported.decode(exported(x), keep) for x in batches)
    return _alike(about, list(mine), list(theirs))


def _equal(about: About, mine: Sequence[Any], theirs: Sequence[Any]) -> str:
    worst = {}
    for i, name in enumerate(about.outputs):
        worst[name] = max((a[i] - b[i]).abs().max().item() for a, b in zip(mine, theirs, strict=True))
        allowed = TOLERANCE.get(name, LEAST)
        if not worst[name] <= allowed:  # NaN is not either
            raise UserError(
                f"not exported: {name} differ from torch's by {worst[name]:.2g}, and more than {allowed:g} is "
                "no rounding: please report the model as a defect"
            )
    return ", ".join(f"{name} within {value:.1g}" for name, value in worst.items()) + " of torch's"


def _alike(about: About, mine: Sequence[Any], theirs: Sequence[Any]) -> str:
    (least, share), matches = BOUNDS[about.precision], form_of(about.task).matches
    matched = sum(matches(a, b, least) for a, b in zip(mine, theirs, strict=True))
    total = sum(len(a) + len(b) for a, b in zip(mine, theirs, strict=True)) / 2
    if not total:
        if about.precision == "float32":
            return "nothing found, as by torch"
        raise UserError(f"not exported: torch finds nothing at --conf {about.conf:g} to compare: give --data or less")
    agreed = matched / total
    what = f"{agreed:.1%} of {total:g} answers are torch's"
    if agreed < share:
        raise UserError(f"not exported: {what} (same class, IoU {least:g}), and at least {share:.0%} must be")
    return what


def matching_boxes(a: Detections, b: Detections, least: float) -> int:
    """How many boxes of `a` have one in `b` of the same class with an IoU of at least `least`.

    Each box of `b` counts once; the best of `a` come first.
    """
    overlap = iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels)
    count = 0
    for row in overlap:
        if len(row) and row.max() >= least:
            count += 1
            overlap[:, row.argmax()] = 0
    return count
