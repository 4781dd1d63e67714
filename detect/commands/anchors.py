"""`detect anchors`: compute anchor boxes from the labels of a dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detect.config.constraints import Count, Natural, Side
from detect.errors import UserError
from detect.utils.atomic_io import replace_text
from detect.utils.locks import locked_files, under
from detect.utils.names import say

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AnchorsConfig:
    """Compute anchor boxes from the labels of a dataset, by K-means with the distance 1 - IoU."""

    data: str
    """Dataset: a YAML file, a folder, or toy. Formats: COCO, YOLO, VOC, folders of classes, csv, signals."""
    k: Count = 9
    """Number of anchors."""
    imgsz: Side = 640
    """Image size of the training, in pixels: anchors are in its pixels."""
    split: str = "train"
    """Split whose boxes are clustered."""
    oriented: bool = False
    """Cluster the sides of oriented boxes, the longer as the width; the data needs outlines, such as four corners."""
    seed: Natural = 0
    """Seed of the random start."""
    json: str = ""
    """File to write the anchors to, as JSON."""
    plot: str = ""
    """File to write a page to that plots boxes and anchors, such as anchors.html."""
    skip_bad: bool = False
    """Leave out broken images and annotations, and list them."""
    allow_outside: bool = False
    """Also use files outside the dataset's folder. Its annotations, lists or links may lead to such."""


@under(lambda config: locked_files(config.json))
@under(lambda config: locked_files(config.plot, kind="page"))
def anchors(config: AnchorsConfig) -> dict[str, Any]:
    """Compute anchor boxes, and print them in the form that `--model.anchors` takes.

    Returns:
        `anchors`, widths and heights in pixels at `imgsz`, by area; `mean_iou`, `recall` and `imgsz`.

    Raises:
        UserError: the data cannot be used, or has too few boxes.
    """
    from anchors.kmeans import kmeans, mean_iou, recall
    from detect.data.outline_checks import outlined
    from detect.data.sources.formats import load_data
    from detect.data.validate import usable
    from detect.evaluation.evaluate import say_left_out
    from detect.evaluation.oriented_boxes import annotated_oriented
    from detect.training.setup import box_sizes

    annotations = load_data(config.data, config.split, config.skip_bad, allow_outside=config.allow_outside)
    annotations = usable(annotations, config.skip_bad)
    if config.oriented:
        annotations = outlined(annotations, config.skip_bad)
        annotations = replace(annotations, boxes=annotated_oriented(annotations)[:, :4])
    say_left_out(annotations)
    sizes = box_sizes(annotations, config.imgsz)
    if not len(sizes):
        raise UserError(f"{annotations.path} has no boxes to compute anchors from")
    try:
        boxes = kmeans(sizes, config.k, seed=config.seed)
    except ValueError as error:
        raise UserError(f"{annotations.path}: {error}") from error
    result = {
        "anchors": [[round(v, 2) for v in row] for row in boxes.tolist()],
        "mean_iou": float(mean_iou(sizes, boxes)),
        "recall": float(recall(sizes, boxes)),
        "imgsz": config.imgsz,
    }
    say(f"# {len(sizes)} boxes of {annotations.path} at {config.imgsz} px: mean IoU {result['mean_iou']:.4f},")
    say(f"# best possible recall {result['recall']:.4f}")
    say(f"anchors: {json.dumps(result['anchors'])}")
    if config.json:
        replace_text(Path(config.json), json.dumps(result) + "\n")
    if config.plot:
        replace_text(Path(config.plot), _page(sizes, result, str(annotations.path)))
    return result


def _page(sizes: Tensor, result: dict[str, Any], path: str) -> str:
    """A page with the sizes of boxes (N, 2) and of anchors, and how many boxes each anchor is nearest to."""
    import torch

    from anchors.boxes import iou
    from detect.report.html import Page

    anchors = torch.tensor(result["anchors"], dtype=sizes.dtype)
    of_boxes, of_anchors = (torch.cat([torch.zeros_like(sides), sides], 1) for sides in (sizes, anchors))
    overlap, nearest = iou(of_boxes, of_anchors).max(1)
    page = Page("Anchors")
    page.text(
        f"{len(sizes):,} boxes of {path} at {result['imgsz']} px. Mean IoU of a box and its nearest anchor, both "
        f"placed at one corner: {result['mean_iou']:.4f}; best possible recall: {result['recall']:.4f}."
    )
    names = ("box", "anchor")
    points = {name: list(map(tuple, sides.tolist())) for name, sides in zip(names, (sizes, anchors), strict=True)}
    page.dots(points, "width and height, in pixels", "width", "height")
    rows = [
        [i + 1, *sides, len(near), float(near.mean()) if len(near) else None]
        for i, sides in enumerate(result["anchors"])
        for near in [overlap[nearest == i]]
    ]
    page.table(["anchor", "width", "height", "nearest to boxes", "mean IoU with them"], rows)
    page.histogram(overlap.tolist(), "IoU of each box with its nearest anchor", "IoU")
    return str(page)
