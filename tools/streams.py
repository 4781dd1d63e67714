"""Plays videos in real time as so many cameras, predicts all of them at once, and prints how far behind results are.

    python tools/streams.py --weights W --videos FOLDER --streams 8 --seconds 20 --imgsz 160

Each stream is one of the videos, whose frames come at their own times. Both policies are measured: every frame, and the
latest one. The delay of a frame is from when it was due until its result is there; detections are tracked, and written
as lines of JSON; no copies are drawn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from detect.api import Detector
from detect.errors import UserError, in_one_line
from detect.inference.folder import VIDEOS
from detect.inference.pipeline import Job, predict_jobs
from detect.inference.source import Source, open_source
from detect.inference.streams import StreamReader, Streams, in_rounds
from detect.tracking.video_tracker import VideoTracker
from detect.types import Frame


class Paced:
    """A video whose frames come at their own times, for some seconds; `begin` is when it was opened."""

    number, has_end, live = 0, True, True
    count: int | None = None

    def __init__(self, path: Path, seconds: float, stride: int) -> None:
        (self.part,) = open_source(path, stride).parts
        self.name, self.seconds, self.begin = self.part.name, seconds, 0.0
        self.rate: Fraction | None = self.part.rate
        self.came = 0

    def __iter__(self) -> Iterator[Frame]:
        self.begin = time.monotonic()
        for frame in self.part:
            due = self.begin + (frame.time or 0.0)
            if due - self.begin >= self.seconds:
                return
            time.sleep(max(0.0, due - time.monotonic()))
            self.came += 1
            yield frame

    def close(self) -> None:
        self.part.close()


def measured(detector: Detector, videos: list[Path], latest: bool, options: argparse.Namespace) -> str:
    """A row of the table: what becomes of the streams under one policy."""
    parts = [Paced(videos[i % len(videos)], options.seconds, options.stride) for i in range(options.streams)]
    readers = [StreamReader(f"{i}", partial(Source, [part], "stream"), latest=latest) for i, part in enumerate(parts)]
    keep = detector.metadata.postprocess(0.1, 0.7, 100)
    finder, delays = in_rounds(detector.predictor(keep, options.imgsz, options.batch)), list[float]()

    def timed(streams: Streams) -> Iterator[Any]:
        for frame, result in finder(streams):
            yield frame, result
            delays.append(time.monotonic() - parts[frame.part].begin - (frame.time or 0.0))

    jobs = [Job(reader, reader.name, VideoTracker(0.25, detector.names)) for reader in readers]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        known = (detector.names, detector.metadata.category_ids, out)
        predict_jobs(
            Streams(readers, options.batch, device=detector.device.type),
            jobs,
            timed,
            *known,
            results_file="detections.jsonl",
            annotate=False,
        )
    seconds = time.monotonic() - start
    came, lost = sum(part.came for part in parts), sum(reader.lost for reader in readers)
    twentieths = statistics.quantiles(delays, n=20)
    cells = [
        "latest" if latest else "every",
        f"{came / options.seconds:.0f}",
        f"{len(delays) / seconds:.0f}",
        f"{1000 * statistics.median(delays):.0f}",
        f"{1000 * twentieths[-1]:.0f}",
        f"{lost} of {came}",
    ]
    if came - lost != len(delays):
        raise UserError(f"{came} frames came, {lost} were replaced, and {len(delays)} predicted: some are missing")
    return "| " + " | ".join(cells) + " |"


@in_one_line
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos, which is searched")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each stream plays")
    parser.add_argument("--stride", type=int, default=1, help="every which frame comes, as of slower cameras")
    parser.add_argument("--imgsz", type=int, default=0, help="image size; 0: the training size")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    videos = sorted(path for path in options.videos.rglob("*") if path.suffix.lower() in VIDEOS)
    if not videos:
        raise UserError(f"{options.videos}: no videos in it")
    detector = Detector.load(options.weights, options.device)
    print(f"{options.streams} streams of {len(videos)} videos; {detector.computed(options.imgsz)}", end="; ")
    print(f"{torch.get_num_threads()} threads", flush=True)
    print("| policy | frames a second that came | predicted a second | delay, median (ms) | 95 % (ms) | lost |")
    print("| --- | --- | --- | --- | --- | --- |")
    for latest in (False, True):
        print(measured(detector, videos, latest, options), flush=True)


if __name__ == "__main__":
    main()
