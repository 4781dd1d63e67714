"""One resize rule with its inverse, used by training, evaluation, prediction and export alike.

Coordinates are continuous: an image of width w spans 0 to w, and the centre of its first pixel is at 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from anchors.oriented import corners_to_oriented, oriented_to_corners
from detect.data.images import resize
from detect.semantic import CanvasScores
from detect.types import Detections, Preprocess


@dataclass(frozen=True)
class Letterbox:
    """How one image lies on its canvas: canvas = source * scale + (left, top); the rest of the canvas is `pad`.

    It depends on its image alone, never on the other images of a batch.

    Attributes:
        scale: (x, y), each the rounded side over the side of the source.
        left, top: where the scaled image begins on the canvas.
        source: (height, width) of the image.
        inner: (height, width) of the scaled image.
        canvas: (height, width) of the canvas.
        pad: grey level of the rest of the canvas.
        corner: (x, y) of an image that was cut out of a larger one; source coordinates are then those of the larger.
    """

    scale: tuple[float, float]
    left: int
    top: int
    source: tuple[int, int]
    inner: tuple[int, int]
    canvas: tuple[int, int]
    pad: int = 114
    corner: tuple[int, int] = (0, 0)

    @staticmethod
    def fit(
        source: tuple[int, int],
        size: int | tuple[int, int],
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        square: bool = False,
        stride: int = 32,
    ) -> Letterbox:
        """Return the letterbox that fits an image into a size, enlarging small images too.

        Args:
            source: (height, width) of the image.
            size: what its long side becomes, in pixels (see `Preprocess.long_side`); or the (height, width) that it
                must fit into.
            preprocess: padding, alignment, and stretching to `size` without regard to the aspect ratio.
            square: the canvas is exactly `size`; else the scaled image, rounded up to a multiple of `stride`.
            stride: see `square`.

        Raises:
            ValueError: a side is less than 1 pixel.
        """
        room = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        if min(*source, *room) < 1:
            raise ValueError(f"a letterbox needs sides of at least 1 pixel, not {tuple(source)} into {room}")
        height, width = int(source[0]), int(source[1])
        ratio = min(room[0] / height, room[1] / width)
        if preprocess.long_side > 1 and isinstance(size, int) and not square:
            ratio = min(ratio * preprocess.long_side, size / min(height, width))
        inner = room if preprocess.stretch else (max(1, round(height * ratio)), max(1, round(width * ratio)))
        canvas = room
        if not square and not preprocess.stretch:
            canvas = (-(-inner[0] // stride) * stride, -(-inner[1] // stride) * stride)
        centred = preprocess.alignment == "center"
        return Letterbox(
            scale=(inner[1] / width, inner[0] / height),
            left=(canvas[1] - inner[1]) // 2 if centred else 0,
            top=(canvas[0] - inner[0]) // 2 if centred else 0,
            source=(height, width),
            inner=inner,
            canvas=canvas,
            pad=preprocess.pad,
        )

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return the canvas (h, w, 3) uint8 with an image (H, W, 3) uint8. Raises ValueError for another size."""
        if image.shape != (*self.source, 3) or image.dtype != np.uint8:
            raise ValueError(f"expected a {(*self.source, 3)} uint8 image, not {image.shape} {image.dtype}")
        height, width = self.inner
        if (height, width) == self.canvas:
            return resize(image, width, height, np.empty((height, width, 3), np.uint8))
        canvas = np.full((*self.canvas, 3), self.pad, np.uint8)
        resize(image, width, height, canvas[self.top : self.top + height, self.left : self.left + width])
        return canvas

    def forward(self, coords: Tensor) -> Tensor:
        """Convert source pixels to canvas pixels: (…, 4) boxes xyxy, (…, 2) points or (…, 3) points with visibility."""
        scale, offset = self._affine(coords)
        return coords * scale + offset

    def undo(self, coords: Tensor, clip: bool = False) -> Tensor:
        """Convert canvas pixels to source pixels, the exact inverse of `forward`.

        Args:
            coords: as for `forward`.
            clip: move what lies outside to the nearest place inside the source image.
        """
        scale, offset = self._affine(coords)
        coords = (coords - offset) / scale
        if not clip:
            return coords
        (height, width), (x, y), last = self.source, self.corner, coords.shape[-1]
        if last == 3:
            low, high = [x, y, 0.0], [x + width, y + height, float("inf")]
        else:
            low, high = [x, y] * (last // 2), [x + width, y + height] * (last // 2)
        return coords.maximum(coords.new_tensor(low)).minimum(coords.new_tensor(high))

    def _affine(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.scale
        left, top = self.left - self.corner[0] * x, self.top - self.corner[1] * y
        match coords.shape[-1]:
            case 2:
                scale, offset = [x, y], [left, top]
            case 3:
                scale, offset = [x, y, 1.0], [left, top, 0]
            case 4:
                scale, offset = [x, y, x, y], [left, top, left, top]
            case last:
                raise ValueError(f"coordinates end in 2, 3 or 4 numbers, not {last}")
        return coords.new_tensor(scale), coords.new_tensor(offset)


def in_source(found: Any, fit: Letterbox, keep_empty: bool = False) -> Any:
    """Detections on a letterboxed canvas as detections in pixels of the source image, on the CPU.

    Boxes are clipped to the image; those without area there are dropped unless `keep_empty`, for landmarks: each image
    has one record of them, also where they lie outside. Oriented boxes are not clipped: part of one would be none.
    Prediction and evaluation both use this function. The scores of the pixels of a canvas become a class map; anything
    else, such as a Classification, is returned as it is.
    """
    if not isinstance(found, Detections):
        return found.in_source(fit) if isinstance(found, CanvasScores) else found
    boxes = fit.undo(found.boxes.cpu().float(), clip=True)
    points = None if found.keypoints is None else fit.undo(found.keypoints.cpu().float())
    some = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) | keep_empty
    scores, labels = found.scores.cpu().float(), found.labels.cpu()
    masks = None if found.masks is None else found.masks[some].in_source(fit, boxes[some])
    points = None if points is None else points[some]
    oriented = found.oriented
    if oriented is not None:
        oriented = corners_to_oriented(fit.undo(oriented_to_corners(oriented[some].cpu().float())))
    return Detections(boxes[some], scores[some], labels[some], points, oriented=oriented, masks=masks)
