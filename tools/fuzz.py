"""Fuzzes everything that reads files: damages small valid files at random; only UserError may be raised.

    python -m tools.fuzz [--target weights,npz] [--seconds 60] [--seed 0] [--out runs/fuzz]
    python -m tools.fuzz --target weights --file runs/fuzz/weights-1a2b3c4d/a.safetensors

The reader runs in a process of its own with limits on memory and on the time of each input, so that a crash of a native
library, an endless loop and a huge allocation count as findings too. Each finding is saved with the files it needs;
`--file` reads one again. The exit status is 1 if there was any. Targets are in `fuzz_targets`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from detect.errors import UserError, quiet_pipe
from tools.fuzz_mutations import mutate
from tools.fuzz_targets import TARGETS, Target

INPUT_SECONDS = 30.0  # generous: other load on the machine must not become a finding
MEMORY = 1 << 30  # bytes beyond those of the process after it has read the valid files
COMPANIONS = {".jpg", ".png", ".JPEG"}  # images that belong to a target; they are not damaged


class Finding(Exception):
    """A failure of a reader other than UserError: the text of a traceback, or how the process ended."""


class Reader:
    """A process that reads files with the function of a target; started again after an input ended it."""

    def __init__(self, name: str):
        self.name = name
        self.process: multiprocessing.process.BaseProcess | None = None
        self.pipe: Any = None  # a Connection, of another class on Windows

    def start(self, seeds: list[Path]) -> None:
        """Start the process, let it read the valid files, then limit its memory."""
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.name, child), daemon=True)
        self.process.start()
        child.close()
        for path in seeds:
            if reason := self._ask(path, 20 * INPUT_SECONDS):
                raise SystemExit(f"{self.name}: the valid file {path.name} is rejected: {reason}")
        self._ask(None, INPUT_SECONDS)

    def read(self, path: Path) -> str:
        """Read a file.

        Returns:
            Why it was rejected, or "".

        Raises:
            Finding: If anything else happened.
        """
        return self._ask(path, INPUT_SECONDS)

    def _ask(self, path: Path | None, seconds: float) -> str:
        assert self.pipe is not None and self.process is not None
        try:
            self.pipe.send(path)
            if not self.pipe.poll(seconds):
                raise Finding(f"still busy after {seconds:g} s")
            kind, text = self.pipe.recv()
        except (EOFError, ConnectionError) as error:
            self.process.join()
            raise Finding(f"the process ended with status {self.process.exitcode}") from error
        if kind == "finding":
            raise Finding(text)
        return text

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def _bound_memory() -> None:
    """Limit this process to MEMORY bytes more than it has, where the system has such a limit."""
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def _serve(name: str, pipe: Connection) -> None:
    """Main function of the reader's process: read each file that is sent, and send the outcome back."""
    read = TARGETS[name].read
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    while True:
        path = pipe.recv()
        if path is None:
            _bound_memory()
            pipe.send(("ok", ""))
            continue
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pipe.send(outcome(read, path))


def outcome(read, path: Path) -> tuple[str, str]:
    """Read a file; returns ("ok", "rejected" or "finding", text). A rejection for lack of memory is a finding."""
    try:
        read(path)
    except UserError as error:
        if any("alloc" in repr(cause) or isinstance(cause, MemoryError) for cause in _causes(error)):
            return "finding", "out of memory\n" + traceback.format_exc()
        return "rejected", str(error)
    except BaseException:
        return "finding", traceback.format_exc()
    return "ok", ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def fuzz(name: str, seconds: float, seed: int, out: Path) -> int:
    """Damage and read files of a target for `seconds`; returns the number of different findings."""
    rng, known = random.Random(f"{name} {seed}"), set[str]()
    count = rejected = 0
    with tempfile.TemporaryDirectory() as folder:
        work, reader = Path(folder), Reader(name)
        files = _make(TARGETS[name], work)
        contents = {path: path.read_bytes() for path in files}
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                if reader.process is None:
                    reader.start(files)
                path = rng.choice(files)
                path.write_bytes(mutate(contents[path], path.suffix, rng))
                try:
                    rejected += bool(reader.read(path))
                except Finding as finding:
                    _report(name, str(finding), path, work, out, known)
                    reader.stop()
                count += 1
                path.write_bytes(contents[path])
        finally:
            reader.stop()
    print(f"{name}: {count} inputs, {rejected} rejected, {len(known)} findings", flush=True)
    return len(known)


def _make(target: Target, folder: Path) -> list[Path]:
    """Make the valid files of a target; returns those to damage."""
    with contextlib.redirect_stdout(io.StringIO()):
        target.make(folder)
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in COMPANIONS)


def _report(name: str, text: str, path: Path, work: Path, out: Path, known: set[str]) -> None:
    """Save and print a finding, unless one from the same line of code is known."""
    lines = text.strip().splitlines()
    place = [line.strip() for line in lines if line.strip().startswith("File ")][-1:]
    key = hashlib.sha256("".join([lines[-1].partition(":")[0], *place]).encode()).hexdigest()[:8]
    if key in known:
        return
    known.add(key)
    kept = out / f"{name}-{key}"
    shutil.copytree(work, kept, dirs_exist_ok=True)
    (kept / "finding.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
    again = kept / path.relative_to(work)
    print(f"{name}: {lines[-1][:300]}\n  python -m tools.fuzz --target {name} --file {again}", flush=True)


def main() -> int:
    """Fuzz the targets one after the other, or read one file again. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default=",".join(TARGETS), help="targets, separated by commas; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="how long each target is fuzzed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="folder for findings")
    parser.add_argument("--file", type=Path, help="read this file once, in this process")
    args = parser.parse_args()
    names = args.target.split(",")
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown target {unknown[0]}: known are {', '.join(TARGETS)}")
    if args.file:
        kind, text = outcome(TARGETS[names[0]].read, args.file)
        print(f"{kind}: {text}")
        return kind == "finding"
    return int(sum([fuzz(name, args.seconds, args.seed, args.out) for name in names]) > 0)


if __name__ == "__main__":
    with quiet_pipe():
        sys.exit(main())
