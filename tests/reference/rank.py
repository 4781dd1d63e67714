"""One of several ranks that train together, as torchrun starts them.

As a program, `python -m tests.reference.rank STEP train ...`, it is `detect`, but that rank 0 of the first attempt dies
in the middle of a step.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as td

from detect.__main__ import main
from detect.config.train import TrainConfig
from detect.training import setup
from detect.training.loop import Losses, Trainer
from detect.training.setup import train
from detect.training.sync_batch_norm import over_ranks
from tests.reference.runs import apart


def together(task, config, port: int, world: int = 2) -> list[int | None]:
    """The exit statuses of `world` ranks that run `task(config)`."""
    ranks = [apart(_as_rank, task, config, rank, world, port) for rank in range(world)]
    for rank in ranks:
        rank.join(600)
    for rank in ranks:
        rank.kill()
    return [rank.exitcode for rank in ranks]


def _as_rank(task, config, rank: int, world: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    task(config)


class _Ended(Exception):
    """A run was broken off after it was saved."""


def train_and_tell(config: TrainConfig, last: int = -1) -> None:
    """Train; write what this rank has at the end, and what its steps were like, to `rank-N.pt` beside the run.

    The run is saved and broken off after `last` steps.
    """
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

    def break_off(self):
        if self.run.step == last:
            self._save()
            self.ranks.wait()
            raise _Ended

    Trainer._between_steps = break_off
    Trainer._step, Trainer._backward, torch.nn.utils.clip_grad_norm_ = watched_step, watched_backward, watched_clip
    with suppress(_Ended):
        train(config)
    run = kept[0].run
    found = {"model": run.model.state_dict(), "ema": run.ema.module.state_dict(), "best": [run.best, run.best_epoch]}
    torch.save({**found, "steps": steps}, f"{config.out}-rank-{kept[0].ranks.rank}.pt")


def in_float64(config: TrainConfig, last: int = -1) -> None:
    """`train_and_tell` with a network of float64."""
    single = setup._build_model
    setup._build_model = lambda *arguments: single(*arguments).double()
    train_and_tell(config, last)


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


def normalize(out: Path) -> None:
    """Batch normalization of this rank's part of what `plain` normalizes as a whole, to `norm-N.pt` in `out`."""
    td.init_process_group("gloo")
    rank, found = td.get_rank(), {}
    for kind in KINDS:
        layer, images, grads = layer_and_images(kind)
        layer = over_ranks(torch.nn.Sequential(layer), torch.device("cpu"))
        found[kind] = normalized(layer, images[PARTS[rank]], grads[PARTS[rank]])
    torch.save(found, out / f"norm-{rank}.pt")
    td.barrier()  # a rank that leaves early can keep the others waiting in torch 2.6
    td.destroy_process_group()


KINDS = ("float64", "float32", "bfloat16", "vectors")
PARTS = (slice(0, 1), slice(1, 3), slice(3, 7))  # of the images of three ranks


def layer_and_images(kind: str) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A layer that has seen something, images of large mean (7, 5, 6, 4), and gradients of its output.

    Of "vectors" the layer has neither weight nor bias, and takes (7, 5).
    """
    torch.manual_seed(0)
    if kind == "vectors":
        images = 3 * torch.randn(7, 5, dtype=torch.float64) + 20
        return torch.nn.BatchNorm1d(5, affine=False).double(), images, torch.randn_like(images)
    layer = torch.nn.BatchNorm2d(5, momentum=0.03).double()
    for value in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        torch.nn.init.uniform_(value, 0.5, 2)
    layer = layer if kind == "float64" else layer.float()
    images = 3 * torch.randn(7, 5, 6, 4, dtype=torch.float64) + 20
    images = images.to(getattr(torch, kind)).to(memory_format=torch.channels_last)
    return layer, images, torch.randn_like(images)


def normalized(layer: torch.nn.Module, images: torch.Tensor, grads: torch.Tensor) -> dict[str, torch.Tensor]:
    """What training does to the images, to their gradients and to the layer."""
    images = images.clone().requires_grad_()
    out = layer(images)
    out.backward(grads)
    names = {name.split(".")[-1]: value for name, value in layer.named_parameters()}
    found = {f"{name} gradient": value.grad for name, value in names.items()}
    found |= {name.split(".")[-1]: value for name, value in layer.named_buffers()}
    return {"out": out.detach(), "gradient": images.grad, **found}


def die_in_step(number: int) -> None:
    """Die in that step, from 0, when the loss is known but not yet its gradient."""
    old, steps = Losses.forward, []

    def forward(self, *arguments):
        found = old(self, *arguments)
        steps.extend([1] if self.model.training else [])
        if len(steps) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Losses.forward = forward


if __name__ == "__main__":
    if os.environ["RANK"] == os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        die_in_step(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
