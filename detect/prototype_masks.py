"""Masks as a model of prototypes makes them: coefficients of each detection, and maps that all of an image share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from detect.masks import Field, Index, Masks, RleMasks

if TYPE_CHECKING:
    from detect.data.letterbox import Letterbox

# As a share of the image's side: a box that ends that near the edge is of an object that goes on behind it. Boxes end a
# little early there, and the masks of two tiles would not meet.
EDGE = 0.02


@dataclass(frozen=True, eq=False)
class PrototypeMasks(Masks):
    """Masks whose logits are sums of prototypes.

    Attributes:
        prototypes: (K, h, w).
        coefficients: (N, K).
    """

    prototypes: Tensor
    coefficients: Tensor

    def __len__(self) -> int:
        return len(self.coefficients)

    def __getitem__(self, index: Index) -> PrototypeMasks:
        return replace(self, coefficients=self.coefficients[index])

    def cpu(self) -> PrototypeMasks:
        """See `Masks.cpu`."""
        return replace(self, prototypes=self.prototypes.cpu(), coefficients=self.coefficients.cpu())

    def in_source(self, fit: Letterbox, boxes: Tensor) -> RleMasks:
        """See `Masks.in_source`. A mask ends at its box, or at the image's edge where its box ends just before that.

        One object is computed at a time.
        """
        return RleMasks.of_fields(fit.source, self._fields(fit, boxes))

    def _fields(self, fit: Letterbox, boxes: Tensor) -> Iterator[Field]:
        prototypes, coefficients = (x.float().cpu().numpy() for x in (self.prototypes, self.coefficients))
        side, size = np.array([fit.left, fit.top]), np.array(prototypes.shape[:0:-1])
        # Strides are powers of two; a canvas of a size between has a part of a cell at its end.
        stride = 2 ** round(math.log2(fit.canvas[0] / prototypes.shape[1]))
        step = stride / np.array(fit.scale)
        origin = step / 2 - side / np.array(fit.scale)
        corners = boxes.double().numpy().reshape(-1, 2, 2) - np.array(fit.corner)
        windows = corners.round().astype(np.int64)
        sides = np.array(fit.source[::-1])
        windows[:, 0] = np.where(windows[:, 0] < EDGE * sides, 0, windows[:, 0])
        windows[:, 1] = np.where(windows[:, 1] > (1 - EDGE) * sides, sides, windows[:, 1])
        # The cells that the centres of the pixels of each window lie between.
        cells = ((windows + np.array([[0.5], [-0.5]]) - origin) / step).astype(np.int64)
        low, high = cells[:, 0].clip(0, size - 1), (cells[:, 1] + 2).clip(1, size)
        for own, window, (x0, y0), (x1, y1) in zip(coefficients, windows, low, high, strict=True):
            part = prototypes[:, y0:y1, x0:x1]
            logits = (own @ part.reshape(len(own), -1)).reshape(part.shape[1:])
            start = origin + step * (x0, y0)
            yield Field(logits, (start[0], start[1]), (step[0], step[1]), (*window[0].tolist(), *window[1].tolist()))
