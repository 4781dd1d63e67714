"""The anchor-free head of oriented boxes: side lengths along the turned axes, and the angle as a vector.

A box that turns passes through every angle without a jump of any output. The angle is half that of a vector whose
target is (cos 2 angle, sin 2 angle): it has the period of a box, half a turn. The centre is an offset along the axes of
the image, not of the box: those point the other way after half a turn, and distances to the four sides would swap.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.oriented import canonical
from detect.models.heads.point import PointHead
from detect.models.losses.boxes import distribution_loss
from detect.models.losses.oriented import angle_loss
from detect.types import HeadOutput


class OrientedHead(PointHead):
    """forward(maps) -> HeadOutput as of PointHead, with regression (B, A, 4 * bins + 2).

    The bins are those of the offset of the centre in x and y, from -7.5 to 7.5 strides, and of half the sides w and h,
    from 0 to 15 strides; then comes the vector of the double angle, whose length is free.
    """

    def initial_regression(self) -> list[float]:
        """Initial biases: boxes lie around their cell, upright and four cells wide."""
        middle = (self.bins - 1) / 2
        offset, half = ([-0.4 * abs(i - zero) for i in range(self.bins)] for zero in (middle, 0))
        return [*offset, *offset, *half, *half, 1.0, 0.0]

    def boxes(self, raw: HeadOutput) -> Tensor:
        """The predicted boxes (B, A, 5), or (P, 5), decoded from `raw`."""
        distributions, double = raw.regression.split((4 * self.bins, 2), -1)
        bins = torch.arange(self.bins, dtype=double.dtype, device=double.device)
        # A matrix, not a vector: ONNX Runtime multiplies by a vector a hundred times slower.
        mean = (distributions.unflatten(-1, (4, self.bins)).softmax(-1) @ bins[:, None]).squeeze(-1)
        offset, half = (mean * raw.priors.strides[:, None]).split(2, -1)
        middle = raw.priors.strides[:, None] * ((self.bins - 1) / 2)
        angle = torch.atan2(double[..., 1:], double[..., :1]) / 2
        return torch.cat((raw.priors.centers + offset - middle, 2 * half, angle), -1)

    def regression_loss(self, raw: HeadOutput, boxes: Tensor) -> Tensor:
        """Distribution focal loss and angle loss of P predictions for target boxes (P, 5): (P,)."""
        distributions, double = raw.regression.split((4 * self.bins, 2), -1)
        boxes = canonical(boxes)
        offset = (boxes[:, :2] - raw.priors.centers) / raw.priors.strides[:, None] + (self.bins - 1) / 2
        half = boxes[:, 2:4] / (2 * raw.priors.strides[:, None])
        bins = distributions.unflatten(-1, (4, self.bins))
        return distribution_loss(bins, torch.cat((offset, half), -1)) + angle_loss(double, boxes)
