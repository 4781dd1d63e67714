"""Ranks: one process, or several started by torchrun."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as td
from torch import Tensor

from detect.errors import UserError


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
    """The ranks that torchrun's environment speaks of (gloo on the CPU, nccl on CUDA), closed at the end.

    Raises UserError where another rank has ended.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        if not td.is_nccl_available():
            raise UserError("this build of torch has no NCCL, by which processes on CUDA talk: train with one process")
        torch.cuda.set_device(local)
    store = _launcher_store()
    if store is not None:  # in which torch would find the addresses of an earlier attempt as well
        store = td.PrefixStore(f"attempt {_attempt()}", store)
    td.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield Ranks(rank, world, local)
    except RuntimeError as error:
        if not (isinstance(error, td.DistError) or "gloo" in str(error)):  # gloo's errors have no type of their own
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun asks for the end that is under way
        raise UserError(
            "another process of this run has ended: its own message, or torchrun's, says why; "
            "go on from the last checkpoint with --resume"
        ) from error
    finally:
        td.destroy_process_group()


class Attempts:
    """The attempts at the run called `name`: with --max-restarts torchrun starts all ranks again when one has died."""

    def __init__(self, name: str):
        self.key, self.store = f"run {name}", _launcher_store()

    def again(self) -> bool:
        """Whether an earlier attempt of the same torchrun has come as far as `note`."""
        return self.store is not None and self.store.check([self.key]) and int(self.store.get(self.key)) < _attempt()

    def note(self) -> None:
        """Let later attempts know of this one."""
        if self.store is not None:
            self.store.set(self.key, str(_attempt()))


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _launcher_store() -> td.Store | None:
    """The store that torchrun keeps through all attempts; None where something else has started this process."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    at = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return td.TCPStore(*at, is_master=False, timeout=timedelta(minutes=30))
