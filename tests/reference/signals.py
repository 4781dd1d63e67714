"""Signals and volumes that a network learns at once."""

from pathlib import Path

import numpy as np


def waves(n, length=40, seed=0, channels=1):
    """(n, channels, length) sines of one frequency or five times that, in any phase, and their classes (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    phase, noise = rng.uniform(0, 2 * np.pi, (n, channels, 1)), rng.normal(0, 0.1, (n, channels, length))
    times = np.linspace(0, 4 * np.pi, length)
    values = 50 + 7 * (np.sin(times * (1 + 4 * labels)[:, None, None] + phase) + noise)
    return values.astype(np.float32), labels


def bodies(n, side=10, seed=0):
    """(n, side, side, side) rods along the first axis, or plates across it, and their classes (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    values = rng.normal(0, 0.1, (n, side, side, side))
    for volume, label in zip(values, labels, strict=True):
        a, b = rng.integers(1, side - 2, 2)
        if label:
            volume[a : a + 2] += 1
        else:
            volume[:, a : a + 2, b : b + 2] += 1
    return values.astype(np.float32), labels


def write(path: Path, make, **more) -> Path:
    """An npz of what `make` makes: 32 records to train on, 16 held out."""
    parts = {}
    for seed, (split, n) in enumerate((("train", 32), ("val", 16))):
        parts[f"x_{split}"], parts[f"y_{split}"] = make(n, seed=seed)
    np.savez(path, **parts, **more)
    return path
