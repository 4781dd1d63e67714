"""Whether an exported file gives PyTorch's results on real images; a file that does not is never written.

Float32 files hold the same arithmetic in another order: their outputs are compared number by number. Float16 and int8
files cannot be equal; for them the results are compared: is each object still detected, and in its place?
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anchors.boxes import iou, iou_aligned
from anchors.oriented import oriented_iou, oriented_iou_aligned
from detect.commands.export import ExportConfig
from detect.data.letterbox import Letterbox, in_source
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.export.forms import Bare, form_of
from detect.export.metadata import About
from detect.export.runtime import Exported
from detect.masks import RleMasks
from detect.models.base import Model
from detect.tasks import get_task
from detect.types import Detections

IMAGES = 16  # to compare on
COMPARED = 100  # boxes of an image, the best of float32
SCORE_DISTANCE = 0.05  # between two precisions, and the mean IoU of their boxes, each weighted by its score. YOLOX-nano
MEAN_IOU = 0.95  # in bfloat16 has 0.025 and 0.975, and its AP is the same but for 0.001
# A hundred layers of sums in another order change a number by about 1e-6 of itself (float32 has 1.2e-7). Measured: 1e-6
# of a score, 2e-4 of a pixel, at worst over all predictions. A hundred times that cannot be seen, and an error in the
# graph changes far more.
DEFAULT_TOLERANCE = 1e-4  # for outputs that are not named below
TOLERANCE = {"boxes": 0.02, "oriented": 0.02, "points": 0.02, "scores": 1e-4} | dict.fromkeys(
    ("presence", "logits", "coefficients", "prototypes"), 1e-3
)
# precision -> (IoU from which two boxes match, share of boxes that must match)
BOUNDS = {"float32": (0.99, 1.0), "float16": (0.9, 0.95), "int8": (0.7, 0.8)}


def photographs() -> list[np.ndarray]:
    """The two photographs of scikit-learn, (427, 640, 3) uint8 RGB: a temple and a flower."""
    from sklearn.datasets import load_sample_images

    images: list[np.ndarray] = load_sample_images().images
    return images


def sample_images(config: ExportConfig, split: str, task: str, count: int = IMAGES) -> list[np.ndarray]:
    """Images (H, W, 3) uint8 RGB of a split, evenly spaced; without `config.data` the photographs of scikit-learn.

    Args:
        config: the options of `detect export`.
        split: "train", "val" or "test".
        task: name of the model's task.
        count: largest number of images.
    """
    if not config.data:
        return photographs()
    labels = get_task(task).image_level_labels
    annotations = load_data(config.data, split, image_level_labels=labels, allow_outside=config.allow_outside)
    places = np.linspace(0, len(annotations) - 1, min(count, len(annotations))).astype(int)
    return [annotations.read(int(i)) for i in np.unique(places)]


def canvases(images: Sequence[np.ndarray], about: About) -> Iterator[Tensor]:
    """Each image letterboxed for the exported file: (1, 3, H, W) uint8."""
    for image in images:
        fit = Letterbox.fit(image.shape[:2], about.metadata.size, about.metadata.preprocess, about.square, about.stride)
        yield torch.from_numpy(fit.apply(image)).permute(2, 0, 1)[None].contiguous()


@torch.inference_mode()
def verify(model: Model, exported: Exported, images: Sequence[np.ndarray]) -> str:
    """Compare an exported file with the model that it was made of.

    Args:
        model: the fused model, in float32 and on the CPU.
        exported: the file.
        images: images (H, W, 3) uint8 RGB to compare on.

    Returns:
        One line that says what was compared, and how closely it agrees.

    Raises:
        UserError: the results differ.
    """
    about, bare = exported.about, Bare(model)
    batches = list(canvases(images, about))
    if about.dynamic:
        batches = [torch.cat([x, x.flip(3)]) for x in batches]  # more than one at a time, too
    outputs = [bare(x) for x in batches]
    if about.precision == "float32" and not about.suppressed:
        return _compare_outputs(about, outputs, [exported(x) for x in batches])
    postprocess = about.postprocess()
    pairs = zip(outputs, batches, strict=True)
    expected = [on_canvas(form_of(about.task).decode(x, postprocess), images) for x, images in pairs]
    actual = [on_canvas(exported.postprocess(exported(x), postprocess), x) for x in batches]
    return _compare_results(about, list(chain.from_iterable(expected)), list(chain.from_iterable(actual)))


def on_canvas(results: Sequence[Any], images: Tensor) -> list[Any]:
    """The results for images (B, 3, H, W) with masks in pixels of the canvas, which can be compared.

    Scores of pixels, and what has no masks, are so already.
    """
    size = (images.shape[2], images.shape[3])
    return [in_source(one, Letterbox.fit(size, size)) if isinstance(one, Detections) else one for one in results]


def _compare_outputs(about: About, expected: Sequence[Any], actual: Sequence[Any]) -> str:
    worst = {}
    for i, name in enumerate(about.outputs):
        apart = [(a[i] - b[i]).abs() for a, b in zip(expected, actual, strict=True)]
        if name == "oriented":  # an angle has a period: -pi / 2 and pi / 2 are the same
            apart = [torch.cat((x[..., :4], x[..., 4:].minimum((math.pi - x[..., 4:]).abs())), -1) for x in apart]
        worst[name] = max(x.max().item() for x in apart)
        allowed = TOLERANCE.get(name, DEFAULT_TOLERANCE)
        if not worst[name] <= allowed:  # NaN is not either
            raise UserError(
                f"export rejected: {name} differ from PyTorch's by {worst[name]:.2g}; up to {allowed:g} is rounding: "
                "please report the model as a defect"
            )
    return ", ".join(f"{name} within {value:.1g}" for name, value in worst.items()) + " of PyTorch's"


def _compare_results(about: About, expected: Sequence[Any], actual: Sequence[Any]) -> str:
    (least, required), (share, total) = BOUNDS[about.precision], matched_share(about, expected, actual)
    if not total:
        if about.precision == "float32":
            return "no detections, as with PyTorch"
        raise UserError(
            f"export rejected: PyTorch detects nothing at --conf {about.conf:g} to compare: lower it, or give --data"
        )
    agreed = f"{share:.1%} of {total:g} detections match PyTorch's (same class, IoU {least:g})"
    if share < required:
        more = "--int8-exclude auto, more images in --data, or --half" if about.precision == "int8" else "float32"
        raise UserError(f"export rejected: only {agreed}; {required:.0%} are required: try {more}")
    return agreed


def matched_share(about: About, expected: Sequence[Any], actual: Sequence[Any]) -> tuple[float, float]:
    """The share of the results for each image that match, at the IoU of the file's precision, and their number."""
    least, matches = BOUNDS[about.precision][0], form_of(about.task).matches
    matched = sum(matches(a, b, least) for a, b in zip(expected, actual, strict=True))
    total = sum(len(a) + len(b) for a, b in zip(expected, actual, strict=True)) / 2
    return matched / max(total, 1), total


def agree(exported: Exported, expected: Sequence[Any], actual: Sequence[Any]) -> bool:
    """Whether a file's outputs in fewer bits are those of float32, but for what cannot be seen.

    Boxes before NMS, and their masks, are compared one by one, where float32 has the best scores: no object need be in
    the images.
    Results of other files are compared as those of float16 files are.

    Args:
        exported: the file.
        expected: the outputs for each image, in float32.
        actual: the same in the other precision.
    """
    about, form = exported.about, form_of(exported.about.task)
    if form.rows and not about.suppressed:
        weights, overlaps, near = [], [], True
        for pair in zip(expected, actual, strict=True):
            highest, best = pair[0][1][0].amax(1).topk(min(COMPARED, pair[0][1].shape[1]))
            one, other = (
                [x[0] if name in form.shared else x[0, best] for name, x in zip(form.outputs, outputs, strict=True)]
                for outputs in pair
            )
            near &= bool(((one[1] - other[1]).abs() <= SCORE_DISTANCE).all())  # NaN is not
            weights.append(highest)
            overlaps.append(form.overlaps(one, other, about.metadata.size))
        weight = torch.cat(weights)
        return near and bool((torch.cat(overlaps) * weight).sum() >= MEAN_IOU * weight.sum())
    least, required = BOUNDS["float16"]
    postprocess, matches = about.postprocess(), form.matches
    pairs = [[exported.postprocess(x, postprocess)[0] for x in both] for both in zip(expected, actual, strict=True)]
    total = sum(len(a) + len(b) for a, b in pairs) / 2
    return total > 0 and sum(matches(a, b, least) for a, b in pairs) / total >= required


def box_overlaps(a: Sequence[Tensor], b: Sequence[Tensor], size: int = 0) -> Tensor:
    """The IoU (R,) of the boxes (R, 4) or oriented boxes (R, 5) in `a[0]` and `b[0]`: see `ExportForm.overlaps`."""
    return (oriented_iou_aligned if a[0].shape[-1] == 5 else iou_aligned)(a[0], b[0])


def mask_overlaps(a: Sequence[Tensor], b: Sequence[Tensor], size: int) -> Tensor:
    """The IoU (R,) of boxes, or of the masks in them where that is lower: see `ExportForm.overlaps`.

    Masks are compared by the cells of the prototypes whose centres lie in the box, each in its own.
    """
    inside = []
    for boxes, _, coefficients, prototypes in (a, b):
        height, width = prototypes.shape[1:]
        stride = 2 ** round(math.log2(size / max(height, width)))  # a power of two: see `PrototypeMasks`
        x, y = ((torch.arange(n) + 0.5) * stride for n in (width, height))
        columns = (x > boxes[:, 0, None]) & (x < boxes[:, 2, None])
        rows = (y > boxes[:, 1, None]) & (y < boxes[:, 3, None])
        logits = torch.einsum("rk,khw->rhw", coefficients, prototypes)
        inside.append((logits > 0) & rows[:, :, None] & columns[:, None])
    shared, either = ((fold(*inside)).sum((1, 2)) for fold in (torch.logical_and, torch.logical_or))
    return torch.where(either > 0, shared / either.clamp_min(1), 1.0).minimum(box_overlaps(a, b))


def matching_boxes(a: Detections, b: Detections, least: float) -> int:
    """How many boxes, oriented boxes or masks of `a` match one of `b`: same class, an IoU of at least `least`.

    Each of `b` matches once; the best-scored of `a` choose first.
    """
    if isinstance(a.masks, RleMasks) and isinstance(b.masks, RleMasks):
        overlap = torch.from_numpy(a.masks.iou(b.masks))
    elif a.oriented is not None and b.oriented is not None:
        overlap = oriented_iou(a.oriented, b.oriented)
    else:
        overlap = iou(a.boxes, b.boxes)
    overlap = overlap * (a.labels[:, None] == b.labels)
    count = 0
    for row in overlap:
        if len(row) and row.max() >= least:
            count += 1
            overlap[:, row.argmax()] = 0
    return count
