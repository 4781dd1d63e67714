"""A callback that adds the mean norm of the gradient to every row of metrics.jsonl.

detect train --plugin ./gradient_norm.py --data toy --callbacks gradient_norm
"""

from typing import Any

import torch

from detect.callbacks import Callback
from detect.registry import register


@register("callback", "gradient_norm")
class GradientNorm(Callback):
    """Its sum over the epoch so far is in every checkpoint: a run that is resumed has the same numbers."""

    passive = True  # it changes nothing, so it may be added when a run is resumed

    def __init__(self) -> None:
        self.total, self.steps = torch.zeros(()), 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"total": self.total.cpu(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.total, self.steps = state["total"], state["steps"]

    def on_before_optimizer_step(self, trainer: Any) -> None:
        """Add the norm of this step's gradient; the number stays on the device, so that nothing waits for it."""
        norms = [p.grad.norm() for p in trainer.run.model.parameters() if p.grad is not None]
        self.total = self.total.to(trainer.device) + torch.stack(norms).norm()
        self.steps += 1

    def on_epoch_end(self, trainer: Any, row: dict[str, Any]) -> None:
        """Add the mean to the row, and begin again."""
        row["gradient_norm"] = float(self.total) / max(1, self.steps)
        self.total, self.steps = torch.zeros(()), 0
