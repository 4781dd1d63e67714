"""Heads by name: what turns the maps of a neck into raw predictions, and those into boxes and scores."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from detect.heads.anchor import AnchorHead, GridHead
from detect.heads.landmarks import LandmarkHead
from detect.heads.point import PointHead

HEADS: dict[str, Callable[..., nn.Module]] = {
    "point": PointHead,
    "anchor": AnchorHead,
    "grid": GridHead,
    "landmarks": LandmarkHead,
}
