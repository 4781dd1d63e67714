"""Class maps by several views of an image: probabilities are averaged over sizes, mirror images and tiles.

Axes: K classes with the background, H and W sides of the image, h and w of the scores of a view.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from detect.data.letterbox import Letterbox
from detect.inference.predictor import prefetch
from detect.inference.tiles import tile_places
from detect.inference.tta import mirrored_frame
from detect.semantic import CanvasScores, SemanticMap, enlarged_labels, enlarged_rows, keep_classes, strip_rows
from detect.types import Frame, Postprocess


class PlacedScores(NamedTuple):
    """The scores (K, h, w) float32 of a part of an image, which covers `place` (left, top, right, bottom)."""

    place: tuple[int, int, int, int]
    scores: Tensor


class SemanticViews:
    """A predictor that averages probabilities over views: frames to class maps.

    An image larger than `side` is predicted in tiles of that size, unscaled. Where tiles overlap, the weight of each
    falls linearly from its middle to its border, so that there is no seam. With `mirrored`, each tile, or the image, is
    predicted by every predictor, as it is and mirrored.

    Args:
        predictors: one for each size, the largest first, whose results are those of `canvas_scores`.
        side: of tiles in pixels; 0: no tiles.
        mirrored: whether mirror images are predicted, too.
        keep: of it the classes are read.
    """

    def __init__(self, predictors: Sequence[Any], side: int, mirrored: bool, keep: Postprocess) -> None:
        self.predictors, self.side, self.mirrored, self.keep = predictors, side, mirrored, keep

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, SemanticMap], None, None]:
        """Each frame with its class map."""
        with closing(prefetch(frames, ahead=4)) as coming:
            for frame in coming:
                height, width = frame.image.shape[:2]
                places = tile_places(height, width, self.side or max(height, width))
                with closing(self._scores(frame, places[1:] if len(places) > 1 else places)) as parts:
                    labels, background = averaged_labels(parts, (height, width))
                yield frame, SemanticMap(keep_classes(labels, self.keep.classes, background), background)

    def _scores(self, frame: Frame, places: np.ndarray) -> Generator[PlacedScores, None, None]:
        """The scores of each place (T, 4), from the top; logits where there is one view alone."""
        single = len(places) == 1 and not self.mirrored
        for _, row in groupby(places.tolist(), key=lambda place: place[1]):
            row_places = list(row)
            parts = [replace(frame, image=frame.image[y1:y2, x1:x2]) for x1, y1, x2, y2 in row_places]
            found = self._averaged(parts) if self.mirrored else _results(self.predictors[0], parts)
            for place, scores in zip(row_places, found, strict=True):
                yield PlacedScores(place, scores if single or self.mirrored else scores.softmax(0))

    def _averaged(self, parts: Sequence[Frame]) -> list[Tensor]:
        """The sum of the probabilities of all sizes and mirror images of each part.

        The sums have the size of the largest view, or of the part where that is smaller.
        """
        views = [one for part in parts for one in (part, mirrored_frame(part))]
        sums: list[Tensor] = []
        for predictor in self.predictors:
            for i, scores in enumerate(_results(predictor, views)):
                straight, part = (scores.flip(2) if i % 2 else scores).softmax(0), i // 2
                if part == len(sums):
                    sides = zip(straight.shape[1:], parts[part].image.shape[:2], strict=True)
                    sums.append(straight.new_zeros(len(straight), *map(min, sides)))
                sums[part] += interpolate(straight[None], sums[part].shape[1:], mode="bilinear")[0]
        return sums


def canvas_scores(result: CanvasScores, fit: Letterbox) -> Tensor:
    """The logits of the part of a canvas that shows the image, (K, h, w) float32: `finish` of a `Predictor`."""
    (top, left), (height, width) = (fit.top, fit.left), fit.inner
    return result.scores[:, top : top + height, left : left + width].cpu().float()


def averaged_labels(parts: Iterable[PlacedScores], size: tuple[int, int]) -> tuple[Tensor, int]:
    """The class with the greatest weighted sum of scores at each pixel, and the label of the background.

    Args:
        parts: the scores of parts that cover the image together, from the top; a part is read when the rows that it
            begins at are reached, and forgotten after its last row.
        size: H and W.

    Returns:
        (H, W) uint8, and K - 1.
    """
    coming = iter(parts)
    first = next(coming)
    classes, (height, width) = len(first.scores), size
    if first.place == (0, 0, width, height):
        return enlarged_labels(first.scores, size), classes - 1
    labels, rows = torch.empty(size, dtype=torch.uint8), strip_rows(classes, width)
    active, ahead = [first], next(coming, None)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        while ahead and ahead.place[1] < end:
            active, ahead = [*active, ahead], next(coming, None)
        total = torch.zeros(classes, end - start, width)
        for part in active:
            _add(total, part, start, end)
        labels[start:end] = total.max(0).indices.to(torch.uint8)
        active = [part for part in active if part.place[3] > end]
    return labels, classes - 1


def _add(total: Tensor, part: PlacedScores, start: int, end: int) -> None:
    """Add the weighted scores of a part to rows `start` to `end` of an image, `total` (K, end - start, W)."""
    (x1, y1, x2, y2), low, high = part.place, max(start, part.place[1]), min(end, part.place[3])
    if low < high:
        scores = enlarged_rows(part.scores, (y2 - y1, x2 - x1), low - y1, high - y1)
        weight = _hat(y2 - y1)[low - y1 : high - y1, None] * _hat(x2 - x1)
        total[:, low - start : high - start, x1:x2] += scores * weight


def _hat(length: int) -> Tensor:
    """The weight (length,) of each pixel: linear from nearly 0 at both ends to 1 in the middle."""
    at = (torch.arange(length) + 0.5) / (length / 2)
    return torch.minimum(at, 2 - at)


def _results(predictor: Any, frames: Sequence[Frame]) -> Iterator[Tensor]:
    with closing(predictor(frames)) as pairs:
        for _, result in pairs:
            yield result
