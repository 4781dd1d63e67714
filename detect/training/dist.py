"""The processes of a run, which torch calls ranks: one, or several that torchrun has started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch
import torch.distributed as td
from torch import Tensor

from detect.errors import UserError

WAIT = timedelta(minutes=30)  # for other ranks to start


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    Attributes:
        rank: its number, from 0.
        world: the number of processes.
        local: its number on this machine, which chooses its GPU.
        attempt: what tells this attempt at the run from earlier ones of the same torchrun; the same on all ranks.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    attempt: str = ""

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, in a new tensor."""
        if self.world == 1:
            return x
        x = x.clone()
        td.all_reduce(x)
        return x

    def gather(self, value: Any) -> list[Any]:
        """The value of each rank, in their order, on every rank.

        Args:
            value: plain containers of tensors and numbers.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        td.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until every rank has come here."""
        if self.world > 1:
            td.barrier()


@contextmanager
def join_ranks(cuda: bool) -> Iterator[Ranks]:
    """Join the ranks that torchrun's environment variables describe; leave them at the end.

    A process group that is there already, as Ray Train makes one, is used and stays.

    Args:
        cuda: whether they communicate by nccl, for CUDA; else by gloo.

    Raises:
        UserError: another rank has ended.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    if world == 1 or td.is_initialized():
        yield Ranks(rank, world, local, uuid4().hex)
        return
    if cuda:
        if not td.is_nccl_available():
            raise UserError("this build of torch has no NCCL, by which processes on CUDA talk: train with one process")
        torch.cuda.set_device(local)
    store, attempt = _launcher_store(), ""
    if store is not None:  # in which torch would find the addresses of an earlier attempt as well
        attempt = _agree_on_attempt(store, rank, world)
        store = td.PrefixStore(f"attempt {attempt}", store)
    td.init_process_group("nccl" if cuda else "gloo", store=store, rank=rank, world_size=world)
    try:
        yield Ranks(rank, world, local, attempt)
    except RuntimeError as error:
        if not (isinstance(error, td.DistError) or "gloo" in str(error)):  # gloo's errors have no type of their own
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun asks for an end that has begun already
        raise UserError(
            "another process of this run has ended: its own message, or torchrun's, says why; "
            "go on from the last checkpoint with --resume"
        ) from error
    finally:
        td.destroy_process_group()


class Attempts:
    """The attempts at a run: torchrun starts all ranks again when one has died, or when machines come or go.

    Args:
        name: what tells the run from others of the same torchrun.
        ranks: the ranks of this attempt.
    """

    def __init__(self, name: str, ranks: Ranks):
        self.key, self.own, self.store = f"run {name}", ranks.attempt, _launcher_store()

    def again(self) -> bool:
        """Whether an earlier attempt of the same torchrun has called `note`."""
        return self.store is not None and self.store.check([self.key]) and self.store.get(self.key).decode() != self.own

    def note(self) -> None:
        """Tell later attempts of this one."""
        if self.store is not None:
            self.store.set(self.key, self.own)


def _agree_on_attempt(store: td.Store, rank: int, world: int) -> str:
    """Agree with the other ranks on a name for this attempt that no earlier one has had.

    torchrun's count of restarts would not do: machines count differently, and one that joins counts from 0. Every
    other rank says hello with a word that it has just made up; the first answers to all words until all have read the
    answer, for a hello may be left from an earlier attempt.
    """
    if rank > 0:
        word = uuid4().hex
        store.set(f"hello {rank}", word)
        attempt = store.get(f"answer to {word}").decode()
        store.set(f"{rank} read {attempt}", "")
        return attempt
    attempt, missing = uuid4().hex, list(range(1, world))
    end = time.monotonic() + WAIT.total_seconds()
    while missing and time.monotonic() < end:
        for other in missing:
            if store.check([f"hello {other}"]):
                store.set(f"answer to {store.get(f'hello {other}').decode()}", attempt)
        time.sleep(0.02)
        missing = [other for other in missing if not store.check([f"{other} read {attempt}"])]
    if missing:
        raise UserError(f"processes {missing} of {world} did not come within {WAIT}: see what torchrun says there")
    return attempt


def _launcher_store() -> td.Store | None:
    """The store that torchrun keeps through all attempts; None where something else has started this process."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    at = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return td.TCPStore(*at, is_master=False, timeout=WAIT)
