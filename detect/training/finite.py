"""A check that losses and gradients are finite, which costs no step a look at the device."""

from __future__ import annotations

import torch
from torch import Tensor


class FiniteCheck:
    """Notices numbers that are not finite without making the host wait for the device at every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int], Tensor]] = []

    def __len__(self) -> int:
        return len(self.seen)

    def add(self, step: int, image_ids: list[int], values: Tensor) -> None:
        """Remember the values of a step, a vector on the device; nothing is read yet."""
        self.seen.append((step, image_ids, values))

    def first_bad(self) -> tuple[int, list[int], list[float]] | None:
        """The first step whose values are not all finite, with its images and values, or None; then forget all."""
        seen, self.seen = self.seen, []
        if not seen or torch.stack([values for _, _, values in seen]).isfinite().all():
            return None
        step, ids, values = next(s for s in seen if not s[2].isfinite().all())
        return step, ids, values.tolist()
