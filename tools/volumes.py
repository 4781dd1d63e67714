"""Makes volumes to try classifiers on, and measures a nearest-neighbour baseline.

    python tools/volumes.py make digits.npz      volumes of scikit-learn's digits, turned and noisy
    python tools/volumes.py nearest DATA         accuracy of the nearest neighbour (Euclidean), without any training

A volume has 16 x 16 x 16 cells. A digit of 8 x 8 pixels is extruded to a slab a quarter of the side thick, rotated by
up to `turn` degrees about each of the three axes, shifted by up to 2 cells, and given Gaussian noise.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.data.datasets.signals import Signals
from detect.data.sources.formats import load_data, splits
from detect.errors import UserError, in_one_line
from detect.utils.atomic_io import replace_file

SIDE, SHIFT, NOISE = 16, 2, 0.1
PARTS = {"train": 1200, "val": 297, "test": 300}


def turned(angles: Tensor) -> Tensor:
    """Build rotation matrices (N, 3, 3) from angles (N, 3) in radians about the three axes, applied in order."""
    whole = torch.eye(3).repeat(len(angles), 1, 1)
    for axis in range(3):
        a, b = (i for i in range(3) if i != axis)
        one = torch.eye(3).repeat(len(angles), 1, 1)
        one[:, a, a] = one[:, b, b] = angles[:, axis].cos()
        one[:, b, a] = angles[:, axis].sin()
        one[:, a, b] = -one[:, b, a]
        whole = whole @ one
    return whole


def volumes(digits: np.ndarray, turn: float, seed: int) -> np.ndarray:
    """Turn digits (N, 8, 8) of 0 to 16 into volumes (N, 16, 16, 16) float32, about 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    n = len(digits)
    faces = interpolate(torch.from_numpy(digits).float()[:, None] / 16, (SIDE - 4, SIDE - 4), mode="bilinear")
    slabs = torch.zeros(n, 1, SIDE, SIDE, SIDE)
    slabs[:, :, SIDE * 3 // 8 : SIDE * 5 // 8, 2:-2, 2:-2] = faces[:, :, None]
    angles = (torch.rand(n, 3, generator=generator) * 2 - 1) * math.radians(turn)
    shift = torch.randint(-SHIFT, SHIFT + 1, (n, 3, 1), generator=generator) * 2 / SIDE
    grid = affine_grid(torch.cat((turned(angles), shift), 2), list(slabs.shape), align_corners=False)
    rendered = grid_sample(slabs, grid, align_corners=False)[:, 0]
    return (rendered + NOISE * torch.randn(rendered.shape, generator=generator)).numpy()


def make(path: Path, turn: float, seed: int) -> None:
    """Write an npz of the digits as volumes: 1,200 for training, 297 for validation, 300 for the test."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    cubes = volumes(digits.images[order], turn, seed).astype(np.float16)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for split, count in PARTS.items():
        rows = slice(start, start + count)
        arrays |= {f"x_{split}": cubes[rows], f"y_{split}": digits.target[order][rows]}
        start += count

    def write(part: Path) -> None:
        with part.open("wb") as file:  # savez would add a suffix to a name
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # none is called allow_pickle

    replace_file(path, write)
    print(f"{path}: {', '.join(f'{count} {split}' for split, count in PARTS.items())}")


def nearest(data: str) -> dict[str, float]:
    """Measure the accuracy of the nearest neighbour in the training split, for each other split."""
    train_data = load_data(data, "train", image_level_labels="images")
    accuracy = {}
    for split in splits(data, "images")[1:]:
        split_data = load_data(data, split, image_level_labels="images")
        if not isinstance(train_data, Signals) or not isinstance(split_data, Signals):
            raise UserError(f"{data} holds no signals")
        model = KNeighborsClassifier(1).fit(train_data.values.reshape(len(train_data), -1), train_data.labels)
        predicted = model.predict(split_data.values.reshape(len(split_data), -1))
        accuracy[split] = float((predicted == split_data.labels).mean())
        print(f"{data} {split}: nearest-neighbour accuracy {accuracy[split]:.3f} on {len(split_data)} records")
    return accuracy


@in_one_line
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "nearest"))
    parser.add_argument("path", help="npz file to make, or dataset to measure")
    parser.add_argument("--turn", type=float, default=30.0, help="largest rotation in degrees; default: 30")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    options = parser.parse_args(arguments)
    if options.what == "make":
        make(Path(options.path), options.turn, options.seed)
    else:
        nearest(options.path)


if __name__ == "__main__":
    sys.exit(main())
