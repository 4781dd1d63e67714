"""Annotations held in memory: images of plain rectangles or ellipses whose boxes are known to the pixel."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from detect.errors import UserError
from detect.types import Target

COLORS = [(250, 20, 20), (20, 250, 20), (20, 20, 250)]


def ink(image: np.ndarray, label: int) -> np.ndarray:
    """The pixels (H, W) bool that are nearer to a class's colour than to any other and to grey."""
    others = [c for c in range(3) if c != label]
    return (image[..., label] > 135) & (image[..., others].max(axis=2) < 110)


class Store:
    """`count` images with up to three shapes, one of each class; every fifth has none. Counts what it reads."""

    def __init__(
        self, count: int, seed: int = 0, keypoints: int = 0, side: tuple[int, int] = (60, 120), ellipses=False
    ):
        rng = np.random.default_rng(seed)
        self.sizes = rng.integers(*side, size=(count, 2)).astype(np.int32)
        self.image_ids = np.arange(count) * 7 + 3
        self.keypoint_names = [f"left_{k}" if k % 2 == 0 else f"right_{k - 1}" for k in range(keypoints)]
        self.flip_pairs = [[k, k + 1] for k in range(0, keypoints - 1, 2)] if keypoints else None
        self.bad: set[int] = set()
        self.reads, self.ellipses = 0, ellipses
        self.things = [self._things(rng, *size) if i % 5 else [] for i, size in enumerate(self.sizes.tolist())]

    @staticmethod
    def _things(rng: np.random.Generator, height: int, width: int) -> list[tuple[int, int, int, int, int]]:
        found = []
        for label in range(int(rng.integers(1, 4))):  # each in a third of its own, so that none covers another
            left, right = width * label // 3, width * (label + 1) // 3
            a, b = int(rng.integers(6, (right - left) // 2 - 2)), int(rng.integers(8, height // 2 - 2))
            x, y = int(rng.integers(left + a + 1, right - a)), int(rng.integers(b + 1, height - b - 1))
            found.append((label, x, y, a, b))
        return found

    def __len__(self) -> int:
        return len(self.sizes)

    def read(self, index: int) -> np.ndarray:
        if index in self.bad:
            raise UserError(f"image-{index}.jpg: cannot be read")
        self.reads += 1
        height, width = self.sizes[index]
        image = np.full((height, width, 3), 200, np.uint8)
        for label, x, y, a, b in self.things[index]:
            if self.ellipses:
                cv2.ellipse(image, (x, y), (a, b), 0, 0, 360, COLORS[label], -1)
            else:
                cv2.rectangle(image, (x - a, y - b), (x + a, y + b), COLORS[label], -1)
        return image

    def target(self, index: int) -> Target:
        things = self.things[index]
        boxes = [[x - a, y - b, x + a + 1, y + b + 1] for _, x, y, a, b in things]
        points = [
            [[x + (1 - 2 * (k % 2)) * a / 2, y, 2] for k in range(len(self.keypoint_names))] for _, x, y, a, _ in things
        ]
        height, width = self.sizes[index].tolist()
        return Target(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([thing[0] for thing in things], dtype=torch.int64),
            crowd=torch.tensor([thing[0] == 2 for thing in things], dtype=torch.bool),
            image_id=int(self.image_ids[index]),
            size=(height, width),
            keypoints=torch.tensor(points).reshape(-1, len(self.keypoint_names), 3) if self.keypoint_names else None,
        )
