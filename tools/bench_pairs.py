"""Paired measurement: sides that take turns, in this process or in one of their own, and the table of their ratios."""

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

NANO = ("yolo11n", "yolo26n")  # the peer's models of the size of ours


class Sample(NamedTuple):
    """One round: seconds of wall time and of CPU time, and the peak of device memory in bytes (0 on the CPU)."""

    wall: float
    cpu: float
    memory: int = 0


Side = Callable[[], Sample]


@dataclass
class Setting:
    """How to measure: `scale` multiplies the numbers of images, boxes and rounds; `stack` ends what a row starts.

    `trained` is a folder of trained weights by the name of their model; where it has none, networks are untrained.
    """

    data: Path
    peer: str
    device: str
    threads: int
    scale: float
    stack: ExitStack
    folder: Path
    trained: Path | None = None

    def some(self, count: int, least: int = 2) -> int:
        return max(least, round(count * self.scale))

    def weights(self, model: str, suffix: str) -> str:
        """The trained weights of a model, "" if there are none."""
        path = self.trained / f"{model}{suffix}" if self.trained else None
        return str(path.resolve()) if path and path.exists() else ""


@dataclass
class Line:
    """A line of the table. `count` items a round; `rate` shows items a second, else milliseconds an item."""

    what: str
    target: str
    ours: list[Sample]
    peers: dict[str, list[Sample]] = field(default_factory=dict)
    count: int = 1
    rate: bool = False

    def show(self, samples: Sequence[Sample]) -> str:
        middle = statistics.median(s.wall for s in samples) / self.count
        memory = max(s.memory for s in samples)
        text = f"{1 / middle:,.1f} /s" if self.rate else f"{1e3 * middle:,.2f} ms"
        return f"{text}, {memory / 2**20:,.0f} MiB" if memory else text

    def rows(self) -> list[tuple[str, ...]]:
        """Cells of the table, one row for each peer: what, ours, peer, its time, ratio, ratio by CPU, target."""
        if not self.peers:
            missing = "no peer given" if self.target.startswith(">") else ""
            return [(self.what, self.show(self.ours), missing, "", "", "", self.target)]
        return [
            (self.what, self.show(self.ours), name, self.show(samples), *self.ratios(samples), self.target)
            for name, samples in self.peers.items()
        ]

    def ratios(self, peer: Sequence[Sample]) -> tuple[str, str]:
        """Format how many times faster ours is, by wall time with quartiles and by CPU time."""
        pairs = list(zip(self.ours, peer, strict=True))
        wall = statistics.quantiles([b.wall / a.wall for a, b in pairs], n=4, method="inclusive")
        cpu = statistics.median(b.cpu / a.cpu for a, b in pairs)
        return f"{wall[1]:.2f} ({wall[0]:.2f} to {wall[2]:.2f})", f"{cpu:.2f}"


def by_turns(rounds: int, ours: Side, peers: dict[str, Side]) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """Run every side once a round, after one warm-up round; returns our samples, and those of each peer."""
    sides = {"": ours, **peers}
    times: dict[str, list[Sample]] = {name: [] for name in sides}
    for i in range(-1, max(2, rounds)):
        for name in list(sides) if i % 2 else reversed(sides):
            sample = sides[name]()
            if i >= 0:
                times[name].append(sample)
    return times.pop(""), times


def timed(work: Callable[[], Any], times: int = 1) -> Side:
    """Make a side that runs in this process; a sample is the mean of `times` calls."""

    def side() -> Sample:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(times):
            work()
        return Sample((time.perf_counter() - wall) / times, (time.process_time() - cpu) / times)

    return side


def started(setting: Setting, python: str, side: str, name: str, job: dict[str, Any]) -> Side:
    """Start a side in a process of its own; see bench_side.py."""
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
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"bench: {side} {name} ended:\n{log.read_text()[-2000:]}")
        return Sample(*json.loads(line))

    return turn


def table(lines: Sequence[Line]) -> str:
    """Format the lines as a Markdown table."""
    head = ("what", "ours", "peer", "peer's", "times as fast", "by CPU", "target")
    rows = [head, *(row for line in lines for row in line.rows())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([texts[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *texts[1:]])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
