"""Measures what padding does to sliding windows: how far the convolutional form differs from crops, by network.

    python tools/sliding.py [--windows N]

Every network classifies N x N windows of one random image twice: all in one convolutional pass, and each crop on its
own with dense layers. Weights are random (seed 0). Differences are those of logits, beside their standard deviation.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.errors import quiet_pipe
from detect.models.backbones import build_network
from detect.models.backbones.fully_convolutional import convolutional

WINDOWS = {"lenet5": 32, "alexnet": 227, "vgg11": 224, "nin": 224, "resnet18": 435}
PADDED = [("alexnet", "paper", 227), ("vgg11", "paper", 224), ("nin", "paper", 224), ("resnet18", "paper", 224)]
OUTPUTS = 10


def difference(name: str, padding: str, window: int, count: int) -> tuple[float, float]:
    """Measure the largest difference of a logit between the two forms, and the standard deviation of the crops' logits.

    Args:
        name: Registered backbone.
        padding: "valid", or "paper" for the padding of its paper.
        window: Side of a window in pixels.
        count: Windows along each axis.
    """
    torch.manual_seed(0)
    network = build_network(name, OUTPUTS, 3, padding).eval()
    slides, step = convolutional(copy.deepcopy(network), window), network.stride
    side = window + (count - 1) * step
    image = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        dense = slides(image).logits[0, :, :count, :count].flatten(1).T
        corners = [(y * step, x * step) for y in range(count) for x in range(count)]
        crops = [network(image[..., y : y + window, x : x + window]).logits[0] for y, x in corners]
    each = torch.stack(crops)
    return float((dense - each).abs().max()), float(each.std())


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Print the table as Markdown; returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=2, metavar="N", help="windows along each axis; default: 2")
    parser.add_argument("--networks", nargs="+", default=None, metavar="NAME", help="only these; default: all")
    options = parser.parse_args(arguments)
    rows: list[tuple[str, ...]] = [("network", "padding", "window", "greatest difference", "deviation of the logits")]
    print(f"{line(rows[0])}\n|{'---|' * len(rows[0])}")
    for name, padding, window in [*((n, "valid", w) for n, w in WINDOWS.items()), *PADDED]:
        if options.networks is None or name in options.networks:
            worst, spread = difference(name, padding, window, options.windows)
            rows.append((name, padding, f"{window} px", f"{worst:.1e}", f"{spread:.2f}"))
            print(line(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    with quiet_pipe():
        main()
