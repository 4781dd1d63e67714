"""What models with one result for each image share: backbone, neck and head on a square canvas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detect.models.base import PyramidModel
from detect.types import Target


class SingleObjectModel(PyramidModel):
    """images (B, 3, S, S) uint8 -> the output of the head on the feature maps of the neck."""

    square = True


def canvas_sizes(targets: Sequence[Target], device: torch.device) -> Tensor:
    """Width and height (B, 2) of the canvas of each target."""
    return torch.tensor([t.size[::-1] for t in targets], dtype=torch.float32).to(device, non_blocking=True)
