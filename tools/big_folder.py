"""Predicts a folder of many files: memory over time, images a second, and whether a run that is killed ends the same.

    python tools/big_folder.py --weights W --images FOLDER --count 100000 --format jsonl --kills 5 --out runs/big

The folder holds hard links to the images, so it takes no space. One run is never disturbed; its images and memory are
printed ten times. Another one is killed with SIGKILL at random moments, `--kills` times, and continued with --resume
each time; then every file of both is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.errors import UserError, in_one_line

LIST = ".predict.jsonl"
PAUSE = 1.0  # seconds between two looks at a process


def linked(images: Path, folder: Path, count: int) -> None:
    """Fill a folder with `count` hard links to the images of another one, or with copies across file systems."""
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".pgm"))
    if not files:
        raise UserError(f"{images}: no images in it")
    folder.mkdir(parents=True)
    first = dict[int, Path]()  # a file of this file system for each image, which others link to
    for i in range(count):
        source, target = files[i % len(files)], folder / f"{i:07d}{files[i % len(files)].suffix}"
        if i % len(files) not in first:
            shutil.copy(source, target)
            first[i % len(files)] = target
        else:
            os.link(first[i % len(files)], target)


def command(options: argparse.Namespace, out: Path) -> list[str]:
    words = [sys.executable, "-m", "detect", "predict", "--weights", options.weights, "--source"]
    words += [str(options.out / "images"), "--out", str(out), "--format", options.format, "--conf", str(options.conf)]
    return [*words, "--max-det", "10", "--device", options.device, "--precision", "float32", "--annotate", "false"]


def resident(process: int) -> float:
    """The resident memory of a process in MB."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def busy(process: int) -> float:
    """The seconds that a process has had a core."""
    if sys.platform == "win32":  # which has no /proc
        return 0.0
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def done(out: Path) -> int:
    """How many images a run has noted as done."""
    try:
        with (out / LIST).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
            lines = file.read().split(b"\n")[1:-1]  # the first and the last may be parts of lines
    except OSError:
        return 0
    return max((json.loads(line)["frames"] for line in lines if line.startswith(b'{"part"')), default=0)


def last(log: IO[str]) -> str:
    """The last lines of what a process has written to standard error."""
    log.seek(0)
    return " ".join(log.read()[-2000:].split())


def undisturbed(options: argparse.Namespace, out: Path) -> float:
    """Run without a kill; print images, memory and time of the processors at every tenth. Returns the seconds."""
    begun, shown, first = time.monotonic(), 0, (0.0, 0.0, 0)
    quiet = subprocess.DEVNULL
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command(options, out), stderr=log, stdout=quiet) as process,
    ):
        while process.poll() is None:
            images, memory, used, now = done(out), resident(process.pid), busy(process.pid), time.monotonic() - begun
            first = first if first[2] else (now, used, images)
            if images - max(shown, first[2]) >= options.count // 10:
                rate = (images - first[2]) / (now - first[0])
                each = 1000 * (used - first[1]) / (images - first[2])
                work = f"{rate:.0f} a second, {each:.1f} ms of a core each"
                print(f"{now:.0f} s: {images:,} images, {memory:.0f} MB, {work}", flush=True)
                shown = images
            time.sleep(PAUSE)
        if process.returncode:
            raise UserError(f"detect predict ended with {process.returncode} after {done(out):,} images: {last(log)}")
    print(f"{time.monotonic() - begun:.0f} s in all, {first[0]:.0f} s until the first image", flush=True)
    return time.monotonic() - begun


def disturbed(options: argparse.Namespace, out: Path, seconds: float) -> None:
    """Run and kill it at random moments, spread over the time that a whole run takes; continue it until it ends."""
    for number in range(options.kills + 1):
        wait = random.uniform(0, 2 * seconds / (options.kills + 1)) if number < options.kills else None
        process = subprocess.Popen([*command(options, out), "--resume", "true"], stdout=subprocess.DEVNULL)
        try:
            process.wait(wait)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            print(f"kill {number + 1} after {wait:.1f} s: {done(out):,} images are done", flush=True)
    if process.returncode:
        raise UserError(f"detect predict ended with {process.returncode}")


@in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder whose images are linked to")
    parser.add_argument("--count", type=int, default=100_000, help="files of the folder that is predicted")
    parser.add_argument("--format", default="jsonl", choices=("coco", "jsonl", "parquet"))
    parser.add_argument("--conf", type=float, default=0.25)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/big"), help="a new folder")
    options = parser.parse_args()
    random.seed(options.seed)
    linked(options.images, options.out / "images", options.count)
    disturbed(options, options.out / "killed", undisturbed(options, options.out / "whole"))
    names = [{path.name for path in (options.out / run).iterdir()} - {LIST} for run in ("whole", "killed")]
    same = names[0] == names[1] and all(
        (options.out / "whole" / name).read_bytes() == (options.out / "killed" / name).read_bytes() for name in names[0]
    )
    print(f"the killed run left {'the same files' if same else 'OTHER FILES'}: {sorted(names[0])}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
