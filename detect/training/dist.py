"""Ranks: one process, or several started by torchrun."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as td
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among its peers."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of `x` over all ranks, in a new tensor."""
        if self.world == 1:
            return x
        x = x.clone()
        td.all_reduce(x)
        return x

    def share_buffers(self, module: nn.Module) -> None:
        """Give every rank the buffers of rank 0: batch statistics are each rank's own."""
        if self.world > 1:
            for buffer in module.buffers():
                td.broadcast(buffer, 0)

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, on every rank. Values are plain containers of tensors and numbers."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        td.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Go on when every rank has come here."""
        if self.world > 1:
            td.barrier()


@contextmanager
def ranks(cuda: bool):
    """The ranks that torchrun's environment speaks of (gloo on the CPU, nccl on CUDA), closed at the end."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local)
    td.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks(td.get_rank(), world, local)
    finally:
        td.destroy_process_group()
