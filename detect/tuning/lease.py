"""Who runs a trial, and whether that process is still there."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detect.utils.locks import has_ended, in_use_since

BEAT_SECONDS = 15.0  # seconds between two signs of life
GRACE = 120.0  # seconds without one after which a process of another machine counts as dead


def own_lease() -> dict[str, Any]:
    """What this process writes beside a trial that it runs."""
    return {"machine": machine(), "name": platform.node(), "process": os.getpid(), "since": process_start(os.getpid())}


def machine() -> str:
    """This machine, as it has been since it was started: its name, boot and space of process numbers.

    Two containers may have one name; process numbers of one say nothing about the other.
    """
    parts = [platform.node()]
    for read in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        try:
            parts.append(read().strip())
        except OSError:  # a system without /proc
            parts.append("")
    return " ".join(parts)


def process_start(process: int) -> str:
    """When a process of this machine was started, as the system counts; "" where that is unknown."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@dataclass
class Leases:
    """Tells which trials have been left by a process that has died.

    A process of this machine is looked for. One of another machine counts as dead when its sign of life has not changed
    for `grace` seconds of watching: clocks of machines differ, so their times are not compared. While the folder of a
    trial is locked on this machine, its training is about to end and save: it is not taken yet.

    Args:
        grace: seconds.
    """

    grace: float = GRACE
    seen: dict[int, tuple[Any, float]] = field(default_factory=dict)

    def has_died(self, trial: int, lease: dict[str, Any] | None, beat: Any, folder: Path) -> bool:
        """Whether the process that runs a trial has died.

        Args:
            trial: the number of the trial.
            lease: what its process wrote beside it; None: it has written nothing yet.
            beat: its last sign of life.
            folder: the folder of the trial.
        """
        if lease and lease.get("machine") == machine():
            process = int(lease.get("process", 0))
            gone = has_ended(process) or process_start(process) != lease.get("since")
            return gone and in_use_since(folder) is None
        return self.unchanged(trial, beat)

    def unchanged(self, trial: int, state: Any) -> bool:
        """Whether the state of a trial has not changed for as long as a dead process needs to be called so."""
        before, since = self.seen.get(trial, (None, 0.0))
        if trial not in self.seen or before != state:
            self.seen[trial] = state, time.monotonic()
            return False
        return time.monotonic() - since >= self.grace
