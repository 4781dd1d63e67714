"""Measures what a large set costs (see `tools.large_set`): seconds and memory, each in a process of its own.

    python -m tools.measure_set FOLDER [--rows labels check train evaluate] [--seconds 300] [--json FILE]

labels: the training labels from the json, then again from the cache.
check: the check of all images, then again, when they are remembered.
train: a start of `detect train` with labels and images that are remembered: seconds to the first step, and the memory
    of the process and its workers over `--seconds` of training: pages that they share count once, and those of files,
    such as libraries, do not count: other programs share them, and the system can take them back.
evaluate: `detect evaluate --results` with its page: 5,000 images of 100 random detections.

The cache is a folder beside FOLDER, which `labels` and `check` begin without. Memory is that of Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # these files, not an installed copy

from detect.errors import UserError, in_one_line  # noqa: E402
from detect.utils.atomic_io import replace_text, temporary_folder  # noqa: E402

PLUGIN = """
import time
from detect.callbacks import Callback
from detect.registry import register
from detect.utils.atomic_io import replace_text

@register("callback", "first_step")
class FirstStep(Callback):
    passive = True

    def on_train_batch_end(self, trainer, batches, losses):
        if not (trainer.run.out / "first_step").exists():
            replace_text(trainer.run.out / "first_step", f"{time.monotonic()} {time.process_time()}")
"""
TRAIN = "--model yolo_n --imgsz 64 --batch 32 --epochs 1 --workers 1 --cache-gb 0 --device cpu"


def labels(folder: Path, _: float) -> Iterator[dict[str, Any]]:
    """Read the training labels twice."""
    shutil.rmtree(_cache(folder) / "gridhead" / "annotations", ignore_errors=True)
    for start in ("first", "second"):
        yield {"what": f"labels, {start} start", **_child(folder, "read_labels", str(folder))}


def check(folder: Path, _: float) -> Iterator[dict[str, Any]]:
    """Check the images twice."""
    shutil.rmtree(_cache(folder) / "gridhead" / "images", ignore_errors=True)
    for start in ("first", "second"):
        yield {"what": f"check of images, {start} start", **_child(folder, "check_images", str(folder))}


def train(folder: Path, seconds: float) -> Iterator[dict[str, Any]]:
    """Train for a while, and look at the memory of all processes."""
    with temporary_folder() as out:
        words = ["train", "--data", str(folder), "--out", str(out / "run"), *TRAIN.split()]
        replace_text(out / "first_step.py", PLUGIN)
        words += ["--plugin", str(out / "first_step.py"), "--callbacks", "first_step"]
        begun, sizes = time.monotonic(), list[float]()
        with tempfile.TemporaryFile("w+") as log:
            command = [sys.executable, "-m", "detect", *words]
            process = subprocess.Popen(command, cwd=ROOT, env=_environment(folder), stdout=log, stderr=log)
            first, used = None, 0.0
            while process.poll() is None and (first is None or time.monotonic() - begun - first < seconds):
                time.sleep(1)
                if first is None and (out / "run" / "first_step").exists():
                    at, used = map(float, (out / "run" / "first_step").read_text().split())
                    first = at - begun
                elif first is not None:
                    sizes.append(_shared_size(process.pid))
            process.send_signal(signal.SIGINT)
            process.wait()
            log.seek(0)
            if first is None:
                raise UserError(f"training ended before its first step: {log.read()[-500:]}")
    quarter = max(1, len(sizes) // 4)
    yield {"what": "first step of training", "seconds": first, "cpu_seconds": used}
    for place, name in enumerate(("first", "second", "third", "last")):
        part = sizes[place * quarter :][:quarter]
        yield {"what": f"memory in training, {name} quarter of {len(sizes)} s", "megabytes": float(np.median(part))}


def evaluate(folder: Path, _: float) -> Iterator[dict[str, Any]]:
    """Evaluate random detections, with the page."""
    yield {"what": "evaluation of 100 detections an image", **_child(folder, "evaluate_random", str(folder))}


ROWS: dict[str, Callable[[Path, float], Iterator[dict[str, Any]]]] = {
    one.__name__: one for one in (labels, check, train, evaluate)
}


def read_labels(folder: str) -> None:
    """Read the training labels."""
    from detect.data.sources.formats import load_data

    load_data(folder, "train")


def check_images(folder: str) -> None:
    """Check the images of both splits."""
    from detect.data.sources.formats import load_data
    from detect.data.validate import verify

    sets = [load_data(folder, split) for split in ("train", "val")]
    _begin()
    for one in sets:
        verify(one)


def evaluate_random(folder: str) -> None:
    """Evaluate 100 random detections an image of the validation split, half of them near objects."""
    from detect.__main__ import main
    from detect.data.sources.formats import load_data

    annotations, rng = load_data(folder, "val"), np.random.default_rng(0)
    found = list[dict[str, Any]]()
    for i, image_id in enumerate(annotations.image_ids.tolist()):
        own = annotations.boxes[annotations.starts[i] : annotations.starts[i + 1]]
        boxes = rng.uniform(1, 200, (100, 4))
        if len(own):
            boxes[:50] = own[rng.integers(len(own), size=50)] * rng.uniform(0.9, 1.1, (50, 4))
        classes = annotations.category_ids[rng.integers(len(annotations.names), size=100)]
        for box, score, one in zip(boxes.round(2).tolist(), rng.random(100).tolist(), classes.tolist(), strict=True):
            found.append({"image_id": image_id, "category_id": one, "bbox": box, "score": score})
    with temporary_folder() as out:
        replace_text(out / "found.json", json.dumps(found))
        del found
        _begin()
        page = ["--page", str(out / "page.html"), "--json", str(out / "numbers.json")]
        status = main(["evaluate", "--data", folder, "--results", str(out / "found.json"), *page])
        if status:
            raise UserError(f"detect evaluate ended with status {status}")


_started = 0.0


def _begin() -> None:
    """Count seconds from here."""
    global _started
    _started = time.monotonic()


def _child(folder: Path, function: str, *arguments: str) -> dict[str, float]:
    """What a function of this file takes, in a process of its own."""
    command = [sys.executable, "-m", "tools.measure_set", "--call", function, *arguments]
    run = subprocess.run(command, cwd=ROOT, env=_environment(folder), capture_output=True, text=True)
    if run.returncode:
        raise UserError(f"{function}: {run.stderr[-500:]}")
    return dict(json.loads(run.stdout.splitlines()[-1]))


def _call(function: str, arguments: Sequence[str]) -> None:
    import detect.data.sources.formats
    import detect.data.validate  # noqa: F401  before the clock starts

    if sys.platform == "win32":
        return  # see main
    _begin()
    before = time.process_time()
    globals()[function](*arguments)
    seconds, peak = time.monotonic() - _started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "cpu_seconds": time.process_time() - before, "megabytes": peak}))


def _cache(folder: Path) -> Path:
    return folder.resolve().with_name(f"{folder.resolve().name}-cache")


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(_cache(folder)), "PYTHONPATH": str(ROOT)}


def _shared_size(process: int) -> float:
    """The memory of a process and its children in megabytes; what they share counts once, pages of files do not."""
    found, total = [process], 0.0
    for one in found:
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line of this tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=[*ROWS])
    parser.add_argument("--seconds", type=float, default=300, help="how long to train (default: 300)")
    parser.add_argument("--json", type=Path, help="save the figures here")
    parser.add_argument("--call", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if sys.platform == "win32":
        raise UserError("memory is read from /proc, which Windows does not have")
    if given.call:
        _call(given.call[0], given.call[1:])
        return
    if given.folder is None or not given.folder.is_dir():
        raise UserError(f"{given.folder}: there is no such folder; make it with tools.large_set")
    figures = list[dict[str, Any]]()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n")
    print("| what | seconds | of the processor | memory, MB |\n| --- | --- | --- | --- |")
    for name in given.rows:
        for row in ROWS[name](given.folder.resolve(), given.seconds):
            numbers = (f"{row[key]:,.1f}" if key in row else "" for key in ("seconds", "cpu_seconds", "megabytes"))
            print(f"| {row['what']} | {' | '.join(numbers)} |", flush=True)
            figures.append(row)
    if given.json:
        replace_text(given.json, json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(in_one_line(main)())
