"""One side of a paired measurement: a process that runs a round on request, so that two sides can take turns.

    PYTHON tools/bench_side.py SIDE JOB JSON        (started by tools/bench.py, which uses its pipes)

SIDE `ours` needs gridhead; SIDE `peer` needs ultralytics and uses its documented interface only. Each JOB prepares
itself, then runs a round for every line on standard input and writes one JSON line: seconds of wall time, seconds of
this process's CPU time, and the peak of device memory in bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Turns:
    """Waits for a request, runs a round, and reports how long it took."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.results = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print must not mix with the results
        self.last: tuple[float, float, int] | None = None

    def start(self) -> None:
        """Report the last round, after everything that follows it is done, and wait for the next request.

        The process ends at the end of standard input.
        """
        if self.last:
            self.results.write(json.dumps(self.last) + "\n")
        if not sys.stdin.readline():
            os._exit(0)
        self.began = self._clocks()

    def stop(self) -> None:
        wall, cpu = (now - then for now, then in zip(self._clocks(), self.began, strict=True))
        self.last = wall, cpu, self._memory()

    def serve(self, work: Callable[[], Any]) -> None:
        """Run `work` once for every request."""
        while True:
            self.start()
            work()
            self.stop()

    def _clocks(self) -> tuple[float, float]:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def _memory(self) -> int:
        if self.device == "cpu":
            return 0
        import torch

        return torch.cuda.max_memory_allocated()


def ours_train(turns: Turns, job: dict[str, Any]) -> None:
    """Train one epoch a round: loading and steps, without evaluation and checkpoint."""
    import detect
    from detect.training import setup

    class InTurn(setup.TrainLoader):
        def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
            turns.start()
            yield from super().epoch(epoch, start)
            turns.stop()

    setattr(setup, "TrainLoader", InTurn)  # noqa: B010  (pyrefly rejects an assignment)
    flags = {"data": job["data"], "model": job["model"], "imgsz": job["size"], "batch": job["batch"]}
    detect.train(**flags, epochs=1000, device=turns.device, out=job["out"])


def peer_train(turns: Turns, job: dict[str, Any]) -> None:
    _peer_training(job, turns, {"on_train_epoch_start": turns.start, "on_train_epoch_end": turns.stop})


def ours_samples(turns: Turns, job: dict[str, Any]) -> None:
    """Load one epoch of augmented batches a round, in this process, from decoded images in memory."""
    from detect.config.augment import AugmentConfig
    from detect.data.datasets.detection import CocoDataset
    from detect.data.loader import TrainLoader
    from detect.data.sources.formats import load_data

    size = job["size"]
    loader = TrainLoader(CocoDataset(load_data(job["data"], "train"), size, AugmentConfig()), size, job["batch"])
    epochs = itertools.count()
    turns.serve(lambda: _exhaust(loader.epoch(next(epochs))))


def peer_samples(turns: Turns, job: dict[str, Any]) -> None:
    def loop(trainer: Any) -> None:
        turns.serve(lambda: _exhaust(trainer.train_loader))

    _peer_training({**job, "workers": 0, "cache": "ram"}, turns, {"on_train_start": loop})


def ours_predict(turns: Turns, job: dict[str, Any]) -> None:
    """Predict every image once a round, from file to boxes, with default settings: in one call or one call each."""
    import detect

    detector = detect.load(job["model"], turns.device, job.get("as", "auto"))
    turns.serve(lambda: [list(detector.predict(source, imgsz=job["size"])) for source in _sources(job)])


def peer_predict(turns: Turns, job: dict[str, Any]) -> None:
    model, size = _peer(job["model"]), job["size"]
    turns.serve(lambda: [model.predict(f, imgsz=size, verbose=False, device=turns.device) for f in _sources(job)])


def _sources(job: dict[str, Any]) -> list[Any]:
    return [job["files"]] if job.get("together") else job["files"]


def peer_exported(turns: Turns, job: dict[str, Any]) -> None:
    """Predict like `peer_predict` with a file that the peer has exported."""
    size, files, network = job["size"], job["files"], _peer(job["model"])
    model = type(network)(network.export(imgsz=size, device=turns.device, **job["flags"]), task="detect")
    turns.serve(lambda: [model.predict(f, imgsz=size, verbose=False, device=turns.device) for f in files])


def _exhaust(batches: Any) -> None:
    for _ in batches:
        pass


def _peer(name: str) -> Any:
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false")  # before the import, which reads them
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report the import
    from ultralytics import YOLO, settings

    settings.update({"sync": False})  # it would send usage statistics
    return YOLO(name)


def _peer_training(job: dict[str, Any], turns: Turns, hooks: dict[str, Callable]) -> None:
    """Train with the peer's default augmentation, but without the last epochs that have no mosaic."""
    model = _peer(job["model"])
    for event, act in hooks.items():
        takes_trainer = event == "on_train_start"
        model.add_callback(event, act if takes_trainer else lambda _, act=act: act())
    model.train(
        **{key: job[key] for key in ("data", "batch", "workers", "cache") if key in job},
        imgsz=job["size"],
        epochs=1000,
        close_mosaic=0,
        device=turns.device,
        project=job["out"],
        verbose=False,
        plots=False,
        save=False,
        val=False,
    )


JOBS = {
    ("ours", "train"): ours_train,
    ("peer", "train"): peer_train,
    ("ours", "samples"): ours_samples,
    ("peer", "samples"): peer_samples,
    ("ours", "predict"): ours_predict,
    ("peer", "predict"): peer_predict,
    ("peer", "exported"): peer_exported,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for word in ("side", "name", "job"):
        parser.add_argument(word, metavar={"name": "JOB", "job": "JSON"}.get(word, "SIDE"))
    given = parser.parse_args()
    job = json.loads(given.job)
    turns = Turns(job["device"])
    if given.side == "ours":
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # these files, not an installed copy
    import cv2
    import torch

    torch.set_num_threads(job["threads"])
    if job["threads"] == 1:
        cv2.setNumThreads(0)
    JOBS[given.side, given.name](turns, job)


if __name__ == "__main__":
    main()
