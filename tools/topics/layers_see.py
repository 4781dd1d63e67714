"""What the layers of a network see: its first filters, what excites channels, and what a class rests on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from detect.explain.cam import grad_cam
from detect.explain.images import filter_tile, overlay_heat
from detect.explain.top_patches import cut, tile
from detect.models.backbones.base import Network
from detect.models.layers import layered_network
from detect.models.receptive_field import Sights
from tools.digit_crops import SIDE, crops, fit
from tools.drawing import Tile, sheet

LAYERS = ["conv 16 5 norm=true", "max 2", "conv 32 3 norm=true", "max 2", "conv 64 3 norm=true", "mean all"]
CONVS = (0, 2, 4)  # their places in the list
EPOCHS, CHANNELS, BEST, SHOWN = 12, 6, 6, 7


def draw() -> dict[str, np.ndarray]:
    """Filters before and after training, the patches of three layers, and class activation."""
    torch.manual_seed(0)
    network = layered_network(LAYERS, 10, 3, SIDE)
    before = _filters(network)
    fit(lambda x: network(x).logits, list(network.parameters()), EPOCHS, 0.003)
    network.eval()
    filters = sheet([("untrained", before), ("trained on digits", _filters(network))], 1)
    return {"layers_see": filters, "layers_see_patches": _patches(network), "layers_see_classes": _classes(network)}


def _filters(network: Network) -> np.ndarray:
    weight = next(p for p in network.stages[0].parameters() if p.ndim == 4)
    return sheet([("", filter_tile(one, bgr=False)) for one in weight], 8, gap=6)


def _maps(network: Network, images: Tensor, stage: int) -> Tensor:
    """The output of a stage, (B, C, h, w)."""
    for layer in network.stages[: stage + 1]:
        images = layer(images)
    return images


def _pixels(images: Tensor) -> Tensor:
    """Images from -1 to 1 as uint8."""
    return ((images + 1) * 127.5).round().byte()


@torch.no_grad()
def _patches(network: Network) -> np.ndarray:
    """For channels of each layer, the patches that excite them most, at most one of each image."""
    images, tiles = crops("val")[0], []
    for stage in CONVS:
        first = images[:1]
        with Sights(first) as sights:
            sight = sights.get(_maps(network, first, stage))
        assert sight is not None
        maps = _maps(network, images, stage)
        strongest = maps.amax((0, 2, 3)).argsort(descending=True)[:CHANNELS]
        for channel in strongest.tolist():
            most, cells = maps[:, channel].flatten(1).max(1)
            row = []
            for i in most.argsort(descending=True)[:BEST].tolist():
                cell = divmod(int(cells[i]), maps.shape[3])
                top, left = (round(s + c * t) for s, c, t in zip(sight.start, cell, sight.stride, strict=True))
                field = (left, top, left + round(sight.field[1]), top + round(sight.field[0]))
                row.append(tile(cut(_pixels(images[i]), field), 40))
            name = f"layer {CONVS.index(stage) + 1}: {round(sight.field[0])} × {round(sight.field[1])} pixels"
            tiles.append((name, np.hstack(row)))
    return sheet(tiles, 3)


def _classes(network: Network) -> np.ndarray:
    """Digits, and what speaks for the likeliest class and for the next one."""
    images, rows = crops("val")[0][:SHOWN], list[list[Tile]]([[], [], []])
    for one in images:
        maps = _maps(network, one[None], CONVS[-1])
        logits = network.head(network.neck(maps))[0]
        photo = tile(_pixels(one).permute(1, 2, 0).numpy(), 96)
        rows[0].append(("", photo))
        for row, label in zip(rows[1:], logits.argsort(descending=True).tolist(), strict=False):
            heat = grad_cam(logits[label], [maps], photo.shape[:2])
            row.append((f"{label}: {logits.softmax(0)[label]:.0%}", overlay_heat(photo, heat)))
    return sheet([one for row in rows for one in row], SHOWN)
