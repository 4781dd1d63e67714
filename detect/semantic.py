"""Class maps: a class for each pixel of an image, as semantic segmentation predicts them.

Axes: K classes with the background, H and W sides of the source image, h and w of its canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detect.errors import UserError
from detect.results import Result
from detect.utils.bilinear import bilinear_weights

if TYPE_CHECKING:
    from detect.data.letterbox import Letterbox

BACKGROUND = "background"
IGNORED = 255  # label of pixels that do not count
SPECK = 1e-3  # share of an image's pixels that makes no class of it
STRIP, STRIP_VALUES = 256, 1 << 26  # rows of the source image, and scores, that are enlarged at once: bounds memory


def with_background(names: Sequence[str]) -> list[str]:
    """The class names of a class map: those of the data, and one for pixels that no object covers, the last.

    It is called background; where the data have a class of that name, unlabelled.

    Args:
        names: class names of the data.
    """
    return [*names, "unlabelled" if BACKGROUND in names else BACKGROUND]


@dataclass(frozen=True, eq=False)
class SemanticMap(Result):
    """The class of each pixel of one image.

    labels: (H, W) uint8, the label of the class, 0..C-1, or `background`, which is C, where there is none. names: class
    names by label; category_ids: their ids in the annotation file.
    """

    labels: Tensor
    background: int
    names: Sequence[str] = field(default=(), repr=False)
    category_ids: Sequence[int] = field(default=(), repr=False)

    def described(
        self, names: Sequence[str], category_ids: Sequence[int], skeleton: Sequence[tuple[int, int]] = ()
    ) -> SemanticMap:
        """A copy with names and ids. Args: see `Result.described`."""
        return replace(self, names=names, category_ids=category_ids)

    def relabelled(self, labels: Tensor) -> SemanticMap:
        """A copy with the new `labels` (C + 1,) of all classes and the background."""
        return replace(self, labels=labels.to(torch.uint8)[self.labels.long()], background=int(labels[self.background]))

    def areas(self) -> dict[int, int]:
        """The number of pixels of each class that the map shows, without the background."""
        counts = np.bincount(self.labels.numpy().reshape(-1), minlength=1)
        return {label: int(n) for label, n in enumerate(counts.tolist()) if n and label != self.background}

    def name(self, label: int) -> str:
        """The name of a class; its label, where names are not known."""
        return self.names[label] if self.names else str(label)

    def counted(self) -> list[str]:
        """The name of each class that the map shows."""
        return [self.name(label) for label in self.areas()]

    def text(self) -> str:
        """The classes and their shares of the image."""
        return ", ".join(f"{self.name(label)} {n / self.labels.numel():.1%}" for label, n in self.areas().items())

    def records(self) -> list[dict[str, Any]]:
        """A record for each class that is there: category, `area` in pixels, and `segmentation`, COCO's RLE."""
        from detect.masks import RleMasks

        records, labels = [], self.labels.numpy()
        for label, area in self.areas().items():
            segmentation = RleMasks.of(labels[None] == label).to_coco(0)
            records.append(self._category(label) | {"area": area, "segmentation": segmentation})
        return records

    def _category(self, label: int) -> dict[str, Any]:
        record: dict[str, Any] = {"category_id": self.category_ids[label] if self.category_ids else label}
        return record | ({"category": self.names[label]} if self.names else {})

    def columns(self) -> dict[str, Any]:
        """Columns `label`, `area` in pixels, and `name` where class names are known."""
        areas = self.areas()
        columns: dict[str, Any] = {"label": list(areas), "area": list(areas.values())}
        return columns | ({"name": self.counted()} if self.names else {})

    def label_image(self, what: str) -> np.ndarray:
        """The label plus 1 of each pixel, 0 for the background, (H, W) uint8: what `--save-masks classes` writes.

        Raises:
            UserError: `what` is not "classes".
        """
        if what != "classes":
            raise UserError(f"--save-masks {what} is for single objects, which a class map lacks: give classes")
        labels = self.labels.numpy()
        return np.where(labels == self.background, 0, labels + 1).astype(np.uint8)

    def _drawn(self, image: np.ndarray, *style: Any) -> np.ndarray:
        from detect.inference.semantic_drawing import draw_map

        _line_width, hide_labels, *_ = style
        return draw_map(image, self, hide_labels)


@dataclass(frozen=True, eq=False)
class CanvasScores(Result):
    """The logits of each pixel of a canvas, of which `in_source` makes the class map.

    scores: (K, h, w) logits, the last of the background; classes: the labels to keep, None for all: the pixels of
    others become background.
    """

    scores: Tensor
    classes: Sequence[int] | None = None

    def __len__(self) -> int:
        """How many classes the canvas shows, in more than a speck."""
        return len(self.shown(self.labels))

    @staticmethod
    def shown(labels: Tensor) -> list[int]:
        """The classes that more than a `SPECK` of the pixels of `labels` (h, w) have."""
        found, counts = labels.unique(return_counts=True)
        return found[counts > SPECK * labels.numel()].tolist()

    @property
    def labels(self) -> Tensor:
        """The class of each pixel of the canvas (h, w) uint8."""
        return self._kept(self.scores.argmax(0).cpu().to(torch.uint8))

    def in_source(self, fit: Letterbox) -> SemanticMap:
        """The class map in pixels of the source image: logits are interpolated, then compared.

        Args:
            fit: how the image lies on the canvas.
        """
        (top, left), (height, width) = (fit.top, fit.left), fit.inner
        scores = self.scores[:, top : top + height, left : left + width].cpu().float()
        return SemanticMap(self._kept(enlarged_labels(scores, fit.source)), len(scores) - 1)

    def _kept(self, labels: Tensor) -> Tensor:
        return keep_classes(labels, self.classes, len(self.scores) - 1)


def keep_classes(labels: Tensor, classes: Sequence[int] | None, background: int) -> Tensor:
    """A label map (H, W) uint8 whose pixels of other classes than `classes` are background; None keeps all."""
    if classes is None:
        return labels
    table = torch.full((background + 1,), background, dtype=torch.uint8)
    kept = torch.tensor(classes, dtype=torch.int64)
    table[kept] = kept.to(torch.uint8)
    return table[labels.long()]


def matching_classes(a: CanvasScores, b: CanvasScores, least: float) -> int:
    """How many classes that map `a` shows cover the same pixels in map `b`: an IoU of at least `least`, or but a speck.

    One pixel more or less would decide over a class of ten.
    """
    ours, theirs = a.labels, b.labels
    pairs = [(ours == label, theirs == label) for label in a.shown(ours)]
    speck = SPECK * ours.numel()
    return sum(bool((x & y).sum() >= least * (x | y).sum() or (x ^ y).sum() <= speck) for x, y in pairs)


def enlarged_labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """The class of each pixel of an image of another size, (H, W) uint8.

    Args:
        scores: (K, h, w) float32.
        size: H and W.
    """
    labels, rows = torch.empty(size, dtype=torch.uint8), strip_rows(len(scores), size[1])
    for start in range(0, size[0], rows):
        strip = enlarged_rows(scores, size, start, min(start + rows, size[0]))
        labels[start : start + rows] = strip.max(0).indices.to(torch.uint8)
    return labels


def enlarged_rows(scores: Tensor, size: tuple[int, int], start: int, end: int) -> Tensor:
    """Some rows of the scores of an image of another size, interpolated bilinearly between the middles of pixels.

    Args:
        scores: (K, h, w) float32.
        size: H and W.
        start, end: the rows of the result.

    Returns:
        (K, end - start, W).
    """
    (height, width), rows = size, scores.shape[1]
    at = ((torch.arange(start, end) + 0.5) * (rows / height) - 0.5).clamp(0, rows - 1)
    first, last = int(at[0]), min(int(at[-1]) + 1, rows - 1)
    wide = interpolate(scores[None, :, first : last + 1], (last - first + 1, width), mode="bilinear")[0]
    return bilinear_weights(at - first, last - first + 1) @ wide


def strip_rows(classes: int, width: int) -> int:
    """How many rows of an image are enlarged at once: as many as take `STRIP_VALUES` scores, and at most `STRIP`."""
    return max(1, min(STRIP, STRIP_VALUES // (classes * width)))
