"""Kill random processes of a bulk job at random moments, start it again, and compare its files in the end.

    python tools/bulk_kill.py --weights picodet_s_416 --source photos/ --out runs/kills --seconds 300

The job runs on Ray with two workers; with --workers 0 it is one process. The driver, an actor, or any other process
that the driver has started is killed by SIGKILL; if the job has ended without being done, it is started again with
--resume. Jobs follow one another for so many seconds, each in a new folder, and each is compared with the files of a
job in one process that nothing has disturbed. Linux only: processes are looked up in /proc. The last line is a JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # these files, not an installed copy

from detect.errors import UserError, in_one_line  # noqa: E402
from detect.utils.names import say  # noqa: E402


def arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/kills"), help="a folder that does not exist yet")
    parser.add_argument("--seconds", type=float, default=300, help="when the last job may begin")
    parser.add_argument("--longest", type=float, default=40, help="most seconds between two kills")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def command(given: argparse.Namespace, out: Path, workers: int) -> list[str]:
    """The words of a job that starts, or continues."""
    words = [sys.executable, "-m", "detect", "bulk", "--weights", given.weights, "--source", given.source]
    words += ["--out", str(out), "--workers", str(workers), "--resume", "true", "--part-images", "8", "--conf", "0.001"]
    return [*words, "--max-det", "50", "--device", "cpu", "--precision", "float32"]


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The driver; what it and its processes print goes to a log."""
    part = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fair = {**os.environ, "RAY_worker_niceness": "0"}  # at 15 a busy machine hardly runs them
        return subprocess.Popen(words, cwd=ROOT, stdout=part, stderr=part, env=fair)
    finally:
        os.close(part)


def family(driver: int) -> dict[int, str]:
    """The processes that a driver has started, those that they have started, and itself; each with its name."""
    parents, names = dict[int, int](), dict[int, str]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, ValueError, IndexError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                number, state = int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()
                parents[number], names[number] = int(state[1]), kind_of([word.decode() for word in words])
    found = {driver: "driver"} if driver in names else {}
    grown = True
    while grown:
        new = {number: names[number] for number, parent in parents.items() if parent in found and number not in found}
        grown = bool(new)
        found |= new
    return found


def kind_of(words: list[str]) -> str:
    """What a process of Ray is, in a word."""
    if words[0].startswith("ray::"):
        return "actor" if "MapWorker" in words[0] else "other worker"
    text = " ".join(words)
    known = {
        "gcs_server": "gcs",
        "raylet/raylet": "raylet",
        "agent": "agent",
        "monitor": "monitor",
        "log": "log monitor",
    }
    return next((kind for part, kind in known.items() if part in text), "other")


def disturbed(given: argparse.Namespace, out: Path, draw: random.Random) -> Counter[str]:
    """Run one job to its end, killing all the while. Returns the kills by kind, and the starts.

    Raises:
        UserError: it does not come to its end, or this is Windows, which has no SIGKILL.
    """
    if sys.platform == "win32":
        raise UserError("processes are killed by SIGKILL, which Windows does not have")
    found, log = Counter[str](), out.with_suffix(".log")
    while found["starts"] < 100:
        found["starts"] += 1
        job = start(command(given, out, given.workers), log)
        spared = found["starts"] % 4 == 0  # so that a slow machine comes to an end
        while True:
            try:
                status = job.wait(draw.uniform(0, given.longest) if not spared else None)
                break
            except subprocess.TimeoutExpired:
                kind, victims = draw.choice(sorted(by_kind(family(job.pid)).items()))
                with suppress(ProcessLookupError):
                    os.kill(draw.choice(victims), signal.SIGKILL)
                    found[kind] += 1
        if status == 0:
            return found
        if status not in (1, 2, -signal.SIGKILL):  # 1: Ray ends the driver whose own raylet has died
            raise UserError(f"the job ended with status {status}: see {log}")
    raise UserError(f"the job did not come to its end: see {log}")


def by_kind(processes: dict[int, str]) -> dict[str, list[int]]:
    """The processes of each kind: one of many workers is not killed more often than the driver."""
    kinds = dict[str, list[int]]()
    for number, kind in processes.items():
        kinds.setdefault(kind, []).append(number)
    return kinds


def contents(out: Path) -> dict[str, bytes]:
    """The files of a job, but for what it was begun with."""
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@in_one_line
def main() -> None:
    """Run jobs until the time is over."""
    given = arguments()
    given.source = os.path.abspath(given.source)
    if os.path.exists(given.weights):
        given.weights = os.path.abspath(given.weights)
    out = given.out.absolute()
    out.mkdir(parents=True)
    if start(command(given, out / "whole", 0), out / "whole.log").wait():
        raise UserError(f"the job in one process failed: see {out / 'whole.log'}")
    expected, total, jobs, begun = contents(out / "whole"), Counter[str](), 0, time.monotonic()
    draw = random.Random(given.seed)
    while not jobs or time.monotonic() - begun < given.seconds:
        jobs += 1
        found = disturbed(given, out / f"job{jobs}", draw)
        total.update(found)
        if contents(out / f"job{jobs}") != expected:
            raise UserError(f"{out / f'job{jobs}'} has other files than {out / 'whole'}, after {dict(found)}")
        say(f"job {jobs}: {dict(found)}", sys.stderr, flush=True)
        shutil.rmtree(out / f"job{jobs}")
    starts = total.pop("starts")
    seconds = round(time.monotonic() - begun)
    about = {"jobs": jobs, "starts": starts, "kills": total.total(), "of": dict(total), "seconds": seconds}
    say(json.dumps(about | {"parts": sum(name.startswith("part-") for name in expected), "equal": True}))


if __name__ == "__main__":
    sys.exit(main())
