"""Backbones by name: a family is one file with VARIANTS, a dict from name to function (in_channels, levels)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detect.backbones import csp, resnet
from detect.backbones.base import Backbone
from detect.errors import UserError, unknown

BACKBONES: dict[str, Callable[[int, Sequence[int]], Backbone]] = {**csp.VARIANTS, **resnet.VARIANTS}


def build_backbone(name: str, in_channels: int = 3, levels: Sequence[int] = (3, 4, 5)) -> Backbone:
    """The backbone called `name`, giving the maps of `levels` (stride 2 ** level), finest first.

    Raises UserError for an unknown name or a level that the network lacks.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    try:
        return BACKBONES[name](in_channels, levels)
    except ValueError as error:
        raise UserError(f"backbone {name}: {error}; change --model.levels") from error
