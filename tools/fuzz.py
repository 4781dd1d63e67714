"""Fuzz everything that reads files: damage small valid files at random; nothing but UserError may come out.

    python -m tools.fuzz [--target weights,npz] [--seconds 60] [--seed 0] [--out runs/fuzz]
    python -m tools.fuzz --target weights --file runs/fuzz/weights-1a2b3c4d/a.safetensors

The reader works in a process of its own, with a bound on memory and on the time of each input, so that a crash of a
native library, an endless loop and a gigantic allocation count as findings too. Each finding is saved with the files it
needs; `--file` reads one again. The exit status is 1 if there was any. Targets are in `fuzz_targets`.
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

from detect.errors import UserError
from tools.fuzz_mutations import mutate
from tools.fuzz_targets import TARGETS, Target

INPUT_SECONDS = 30.0  # generous: other work on the machine must not become a finding
MEMORY = 1 << 30  # bytes beyond what the process has once it has read the valid files
INNOCENT = {".jpg", ".png"}  # files that a target needs beside those it reads; they stay as they are


class Finding(Exception):
    """What came out of a reader and is no UserError: the text of a traceback, or what ended the process."""


class Reader:
    """A process that reads files with the function of a target, started again when an input ended it."""

    def __init__(self, name: str):
        self.name = name
        self.process: multiprocessing.process.BaseProcess | None = None
        self.pipe: Any = None  # a Connection, of another class on Windows

    def start(self, seeds: list[Path]) -> None:
        """Start the process and let it read the valid files, then bound its memory."""
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        self.process.start()
        theirs.close()
        for path in seeds:
            if said := self._ask(path, 20 * INPUT_SECONDS):
                raise SystemExit(f"{self.name}: the valid file {path.name} is refused: {said}")
        self._ask(None, INPUT_SECONDS)

    def read(self, path: Path) -> str:
        """Why the file was refused, or "". Raises Finding for everything else that happened."""
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
    """Let this process take MEMORY bytes more than it has, where the system has such a limit."""
    if sys.platform == "linux":
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def _serve(name: str, pipe: Connection) -> None:
    """What the process does: read each file it is told, and say how that ended."""
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
    """("ok" or "refused" or "finding", text): a refusal is one line, and not for want of memory."""
    try:
        read(path)
    except UserError as error:
        if any("alloc" in repr(cause) or isinstance(cause, MemoryError) for cause in _causes(error)):
            return "finding", "too much memory was asked for\n" + traceback.format_exc()
        return "refused", str(error)
    except BaseException:
        return "finding", traceback.format_exc()
    return "ok", ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def fuzz(name: str, seconds: float, seed: int, out: Path) -> int:
    """Damage and read files of a target for so long. Returns how many different findings there were."""
    rng, known = random.Random(f"{name} {seed}"), set[str]()
    count = refused = 0
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
                    refused += bool(reader.read(path))
                except Finding as finding:
                    _report(name, str(finding), path, work, out, known)
                    reader.stop()
                count += 1
                path.write_bytes(contents[path])
        finally:
            reader.stop()
    print(f"{name}: {count} inputs, {refused} refused, {len(known)} findings", flush=True)
    return len(known)


def _make(target: Target, folder: Path) -> list[Path]:
    """The valid files of a target that are to be damaged."""
    with contextlib.redirect_stdout(io.StringIO()):
        target.make(folder)
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix not in INNOCENT)


def _report(name: str, text: str, path: Path, work: Path, out: Path, known: set[str]) -> None:
    """Save and print a finding, unless one that ended at the same place is known."""
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
    parser.add_argument("--target", default=",".join(TARGETS), help="targets, by comma; default: all")
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
    sys.exit(main())
