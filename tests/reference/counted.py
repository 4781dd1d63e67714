"""A callback with a state that has a say in every step, and a run with it, which may be killed."""

from typing import Any

import torch

from detect.callbacks import Callback
from detect.config.train import TrainConfig
from detect.registry import register
from detect.training.setup import train
from tests.reference.doom import doomed


@register("callback", "counted")
class Counted(Callback):
    """Shortens the gradients by the number of steps so far and a sum of draws."""

    def __init__(self) -> None:
        self.steps, self.drawn = 0, torch.zeros(())

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.drawn = state["steps"], state["drawn"]

    def on_train_batch_start(self, trainer: Any, batches: Any) -> None:
        self.drawn = self.drawn + torch.rand(())

    def on_before_optimizer_step(self, trainer: Any) -> None:
        for p in trainer.run.model.parameters():
            if p.grad is not None:
                p.grad /= 1 + self.steps + self.drawn
        self.steps += 1


def run(config: TrainConfig, *fate: Any) -> None:
    """Train, or until the fate of `doomed`."""
    torch.set_num_threads(1)
    if fate:
        doomed(config, *fate)
    train(config)
