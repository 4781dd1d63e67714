"""Heads by name: what turns the maps of a neck into raw predictions, and those into boxes and scores."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from detect.models.heads.anchor import AnchorHead, GridHead
from detect.models.heads.keypoints import LandmarkHead
from detect.models.heads.point import PointHead

HEADS: dict[str, Callable[..., nn.Module]] = {
    "point": PointHead,
    "anchor": AnchorHead,
    "grid": GridHead,
    "landmarks": LandmarkHead,
}
