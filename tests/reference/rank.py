"""One of several ranks that train together, as torchrun starts them."""

import os

import torch

from detect.config import TrainConfig
from detect.training import setup
from detect.training.loop import Trainer
from detect.training.setup import train
from tests.reference.runs import apart


def together(task, config: TrainConfig, port: int, world: int = 2) -> list[int | None]:
    """The exit statuses of `world` ranks that run `task(config)`."""
    ranks = [apart(_as_rank, task, config, rank, world, port) for rank in range(world)]
    for rank in ranks:
        rank.join(120)
    for rank in ranks:
        rank.kill()
    return [rank.exitcode for rank in ranks]


def _as_rank(task, config: TrainConfig, rank: int, world: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    task(config)


def train_and_tell(config: TrainConfig) -> None:
    """Train; write what this rank has at the end, and what its steps were like, to `rank-N.pt` beside the run."""
    kept: list[Trainer] = []
    steps: list[dict] = []
    step, backward, clip = Trainer._step, Trainer._backward, torch.nn.utils.clip_grad_norm_

    def watched_step(self, batches):
        kept[:] = [self]
        ids = [t.image_id for batch in batches for t in batch.targets]
        steps.append({"ids": ids, "objects": sum(len(t) for batch in batches for t in batch.targets)})
        step(self, batches)

    def watched_backward(self, batches):
        steps[-1]["means"] = backward(self, batches)
        return steps[-1]["means"]

    def watched_clip(*arguments):
        steps[-1]["norm"] = clip(*arguments)
        return steps[-1]["norm"]

    Trainer._step, Trainer._backward, torch.nn.utils.clip_grad_norm_ = watched_step, watched_backward, watched_clip
    train(config)
    run = kept[0].run
    found = {"model": run.model.state_dict(), "ema": run.ema.module.state_dict(), "best": [run.best, run.best_epoch]}
    torch.save({**found, "steps": steps}, f"{config.out}-rank-{kept[0].ranks.rank}.pt")


def in_float64(config: TrainConfig) -> None:
    """`train_and_tell` with a network of float64."""
    single = setup._model
    setup._model = lambda *arguments: single(*arguments).double()
    train_and_tell(config)


def gradient(config: TrainConfig) -> None:
    """The gradient and loss terms of one step of two batches, to `rank-N.pt` beside the run."""

    def once(self):
        net = self.run.model.eval()
        means = self._backward(list(self.loader.epoch(0))[:2])
        ids = [t.image_id for batch in list(self.loader.epoch(0))[:2] for t in batch.targets]
        found = {"means": means, "ids": ids, "grads": [p.grad for p in net.parameters()]}
        torch.save(found, f"{config.out}-rank-{self.ranks.rank}.pt")

    Trainer.train = once
    train(config)
