"""A check that losses and gradients are finite, without a look at the device in every step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from detect.errors import UserError


class FiniteCheck:
    """Collects the losses of steps on the device, and looks at all of them at once now and then.

    Args:
        lr: the learning rate, for the message.
    """

    def __init__(self, lr: float) -> None:
        self.lr = lr
        self.seen: list[tuple[int, list[int], Tensor]] = []

    def __len__(self) -> int:
        """The number of steps since the last look."""
        return len(self.seen)

    def add(self, step: int, image_ids: list[int], values: Tensor) -> None:
        """Remember a step; nothing is read from the device yet.

        Args:
            step: its number.
            image_ids: the images of its batches.
            values: (T,) or (T + 1,) the means of the loss terms, and the norm of the gradient.
        """
        self.seen.append((step, image_ids, values))

    def first_bad(self) -> tuple[int, list[int], list[float]] | None:
        """The first step since the last look whose values are not all finite, with its images and values, or None."""
        seen, self.seen = self.seen, []
        if not seen or torch.stack([values for _, _, values in seen]).isfinite().all():
            return None
        step, ids, values = next(s for s in seen if not s[2].isfinite().all())
        return step, ids, values.tolist()

    def require(self, terms: Sequence[str], checkpoint: Path) -> None:
        """Check all steps since the last look.

        Args:
            terms: names of the loss terms.
            checkpoint: the checkpoint of the run, for the message.

        Raises:
            UserError: a value is not finite; the line names step, values and images.
        """
        bad = self.first_bad()
        if bad is None:
            return
        step, ids, values = bad
        said = ", ".join(f"{name} {value:g}" for name, value in zip([*terms, "gradient"], values, strict=False))
        kept = "the checkpoint before it is intact" if checkpoint.exists() else "there was no checkpoint yet"
        raise UserError(
            f"the loss is not finite at step {step}: {said}; images {ids}; {kept}: "
            f"lower --optim.lr (try {self.lr / 10:.2g}), use --precision float32, or check these images"
        )
