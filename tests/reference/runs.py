"""Small training runs: their configuration, processes that may be killed, and what is left of a run at its end."""

import json
from collections.abc import Callable
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.process import BaseProcess as Process
from pathlib import Path
from typing import Any

import torch

from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig, TrainConfig
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import save_weights
from detect.training.loop import Trainer
from detect.training.setup import train

MODEL = YoloConfig(width=16, levels=[3], neck="straight", head_convs=0)  # some 60 thousand parameters
CLOCK = ("seconds", "images_per_second")


def settings(data: Path, out: Path, **changes: Any) -> TrainConfig:
    """A run of 3 epochs of 4 steps; sizes, mosaic and flips are drawn."""
    small = {
        "model": MODEL,
        "epochs": 3,
        "imgsz": 64,
        "batch": 4,
        "device": "cpu",
        "precision": "float32",
        "workers": 0,
        "save_seconds": 0,
        "multi_scale": 0.5,
        "optim": OptimConfig(warmup=0.5),
        "augment": AugmentConfig(mosaic_off=1),
    }
    return TrainConfig(data=str(data), out=str(out), **{**small, **changes})


def tiny_weights(path: Path, seed: int = 0) -> Path:
    """A weights file of a detector of ten digits that has learned nothing."""
    torch.manual_seed(seed)
    config = YoloConfig(name="tiny", width=16, levels=[3], neck="straight", head_convs=0)
    save_weights(path, build(config, ModelMetadata([str(i) for i in range(10)], list(range(1, 11)), 64)))
    return path


def ready(config: TrainConfig, monkeypatch: Any) -> Trainer:
    """The trainer of a run whose first step is still to come."""
    kept: list[Trainer] = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", lambda self: kept.append(self))
        train(config)
    return kept[0]


def apart(task: Callable[..., Any], *arguments: Any) -> Process:
    """`task(*arguments)` under way in a process of its own, forked from one that has imported torch and run nothing.

    A fork of this process would not do: threads of the evaluation engine and of OpenCV do not survive it.
    """
    context: Any = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
    context.set_forkserver_preload(["detect.commands.train", "detect.training.setup", "tests.reference.doom"])
    process = context.Process(target=task, args=arguments)
    process.start()
    return process


def status(task: Callable[..., Any], *arguments: Any) -> int:
    """The exit status of `task(*arguments)` in a process of its own; negative: the signal that killed it."""
    process = apart(task, *arguments)
    process.join(600)
    if process.exitcode is None:
        process.kill()
    return process.exitcode if process.exitcode is not None else 99


def children(pid: int | str = "self") -> list[int]:
    """The processes that a process has started and that are still there."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process is there, and not merely waiting for its parent to hear of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def rows(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def remains(out: Path) -> dict[str, Any]:
    """All that a finished run leaves behind but times and what it was told, as values that == compares to the bit."""
    state = torch.load(out / "last.ckpt", weights_only=True)
    for told in ("history", "record", "changes"):
        del state[told]
    written = {"report.html", "changes.jsonl"}  # by the command, and where another one goes on
    state["files"] = sorted({path.name for path in out.iterdir()} - written)
    return {"best": (out / "best.safetensors").read_bytes(), "rows": rows(out), **_plain(state)}


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes())
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
