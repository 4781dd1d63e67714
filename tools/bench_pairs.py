"""Paired measurement: sides that take turns, in this process or in their own, and the table that compares them."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


class Sample(NamedTuple):
    """One round: seconds of the clock, seconds of the processor, device memory held at most (bytes, 0 on the CPU)."""

    wall: float
    cpu: float
    memory: int = 0


Side = Callable[[], Sample]


@dataclass
class Setting:
    """How to measure: `scale` times the usual numbers of images, boxes and rounds; `stack` ends what a row starts."""

    data: Path
    peer: str
    device: str
    threads: int
    scale: float
    stack: ExitStack
    folder: Path

    def some(self, count: int, least: int = 2) -> int:
        return max(least, round(count * self.scale))


@dataclass
class Line:
    """A line of the table. `count` items a round; `rate` shows items a second, else milliseconds an item."""

    what: str
    target: str
    ours: list[Sample]
    theirs: dict[str, list[Sample]] = field(default_factory=dict)
    count: int = 1
    rate: bool = False

    def show(self, samples: Sequence[Sample]) -> str:
        middle = statistics.median(s.wall for s in samples) / self.count
        memory = max(s.memory for s in samples)
        text = f"{1 / middle:,.1f} /s" if self.rate else f"{1e3 * middle:,.2f} ms"
        return f"{text}, {memory / 2**20:,.0f} MiB" if memory else text

    def rows(self) -> list[tuple[str, ...]]:
        """(what, ours, peer, theirs, ratio, by CPU, target), one a peer."""
        if not self.theirs:
            missing = "no peer given" if self.target.startswith(">") else ""
            return [(self.what, self.show(self.ours), missing, "", "", "", self.target)]
        return [
            (self.what, self.show(self.ours), name, self.show(theirs), *self.ratios(theirs), self.target)
            for name, theirs in self.theirs.items()
        ]

    def ratios(self, theirs: Sequence[Sample]) -> tuple[str, str]:
        """How many times faster ours is."""
        pairs = list(zip(self.ours, theirs, strict=True))
        wall = statistics.quantiles([b.wall / a.wall for a, b in pairs], n=4, method="inclusive")
        cpu = statistics.median(b.cpu / a.cpu for a, b in pairs)
        return f"{wall[1]:.2f} ({wall[0]:.2f} to {wall[2]:.2f})", f"{cpu:.2f}"


def by_turns(rounds: int, ours: Side, theirs: dict[str, Side]) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """Every side once a round, after one round that does not count."""
    sides = {"": ours, **theirs}
    taken: dict[str, list[Sample]] = {name: [] for name in sides}
    for i in range(-1, max(2, rounds)):
        for name in list(sides) if i % 2 else reversed(sides):
            sample = sides[name]()
            if i >= 0:
                taken[name].append(sample)
    return taken.pop(""), taken


def timed(work: Callable[[], Any], times: int = 1) -> Side:
    """A side in this process: the mean of `times` calls."""

    def side() -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            work()
        return Sample((time.perf_counter() - wall) / times, (time.process_time() - cpu) / times)

    return side


def started(setting: Setting, python: str, side: str, name: str, job: dict[str, Any]) -> Side:
    """A side in a process of its own; see bench_side.py."""
    job = {"device": setting.device, "threads": setting.threads, **job}
    log = setting.folder / f"{side}-{name}-{len(list(setting.folder.iterdir()))}.log"
    environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"]), "YOLO_CONFIG_DIR": str(setting.folder)}
    command = [python, str(Path(__file__).with_name("bench_side.py")), side, name, json.dumps(job)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdin=-1, stdout=-1, stderr=file, text=True, cwd=setting.folder, env=environment
        )
    setting.stack.callback(process.wait)
    setting.stack.callback(process.kill)

    def turn() -> Sample:
        assert process.stdin and process.stdout
        try:
            print(file=process.stdin, flush=True)
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise SystemExit(f"bench: {side} {name} ended:\n{log.read_text()[-2000:]}")
        return Sample(*json.loads(answer))

    return turn


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown."""
    head = ("what", "ours", "peer", "theirs", "times as fast", "by CPU", "target")
    rows = [head, *(row for line in lines for row in line.rows())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
