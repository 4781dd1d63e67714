"""Training runs that end badly, each in a process of its own: what happens to them, and when."""

import os
import signal
import sys
import time
import zlib
from multiprocessing import active_children
from pathlib import Path

import torch

from detect.config.augment import AugmentConfig
from detect.config.train import TrainConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import TrainLoader
from detect.errors import UserError
from detect.training import loop
from detect.training.loop import Trainer
from detect.training.setup import train
from detect.utils import atomic_io as files
from tests.reference.scenes import Store


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ask() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def maim() -> None:
    """Kill a worker."""
    active_children()[0].kill()
    time.sleep(60)


def starve() -> None:
    """No file may grow beyond 100 kB: what a full disk does."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def at_step(number: int, act: str) -> None:
    """After that step, before a checkpoint of it is written."""
    old = Trainer._between_steps

    def between(self):
        if self.run.step == number:
            globals()[act]()
        old(self)

    Trainer._between_steps = between


def in_evaluation(epoch: int, act: str) -> None:
    """After the first batch of that epoch's evaluation."""
    old, inner = Trainer._evaluate, loop.predict_batches

    def evaluate(self):
        def predict_batches(*arguments):
            for item in inner(*arguments):
                if self.run.epoch == epoch:
                    globals()[act]()
                yield item

        loop.predict_batches = predict_batches
        return old(self)

    Trainer._evaluate = evaluate


def at_replacement(name: str, number: int) -> None:
    """With the new file beside the old one, at the `number`th time."""
    old, seen = os.replace, []

    def replace(part, path):
        seen.extend([path] if path.name == name else [])
        if len(seen) == number:
            die()
        old(part, path)

    files.os.replace = replace


def half_written(number: int) -> None:
    """With half of the `number`th checkpoint on the disk."""
    old, seen = torch.save, []

    def save(state, part):
        old(state, part)
        seen.append(part)
        if len(seen) == number:
            os.truncate(part, part.stat().st_size // 2)
            die()

    torch.save = save


def after(seconds: float) -> None:
    """Wherever it is after so long on the processor: the kernel ends it as `kill -9` does. 0: never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def fading(config: TrainConfig, *fate: int | str) -> None:
    """`doomed`, but AP rises until epoch 2 and then falls; it tells any two weights apart."""
    old = Trainer._evaluate

    def evaluate(self):
        tensors = self.run.ema.module.state_dict().values()
        trace = zlib.crc32(b"".join(t.contiguous().numpy().tobytes() for t in tensors)) / 2**42
        return {**old(self), "AP": 0.5 - abs(self.run.epoch - 2) / 10 + trace}

    Trainer._evaluate = evaluate
    doomed(config, *fate)


def hold(folder: Path) -> None:
    """Wait for good, with two workers that hold batches larger than a pipe takes; their ids go to `workers`."""
    annotations = Store(64)
    annotations.things = [things * 2000 for things in annotations.things]
    loader = TrainLoader(CocoDataset(annotations, 64, AugmentConfig()), 64, 8, workers=2)
    next(loader.epoch(0))
    files.replace_text(folder / "workers", " ".join(str(child.pid) for child in active_children()))
    time.sleep(600)


def doomed(config: TrainConfig, fate: str, *arguments: int | str) -> None:
    """Train, and meet that fate; ends with the command's status, the error in `said` beside the run's folder."""
    torch.set_num_threads(1)
    globals()[fate](*arguments)
    try:
        train(config)
    except UserError as error:
        (Path(config.out).parent / "said").write_text(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
