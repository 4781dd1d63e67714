"""Where the numbers of a run go besides metrics.jsonl: loggers by name, each imported only when named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from detect.errors import UserError, unknown


class Logger(Protocol):
    """What a logger does: take the numbers of an epoch, and close."""

    def log(self, epoch: int, values: dict[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run folder."""

    def __init__(self, out: Path, config: dict[str, Any]):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self.writer.close()


class Mlflow:
    """An MLflow run; where it is stored is MLflow's own setting."""

    def __init__(self, out: Path, config: dict[str, Any]):
        import mlflow

        self.mlflow = mlflow
        mlflow.start_run(run_name=out.name)
        mlflow.log_dict(config, "config.yaml")

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self.mlflow.log_metrics(values, step=epoch)

    def close(self) -> None:
        self.mlflow.end_run()


class Wandb:
    """A Weights & Biases run; offline or not is its own setting."""

    def __init__(self, out: Path, config: dict[str, Any]):
        import wandb

        self.run = wandb.init(dir=str(out), name=out.name, config=config)

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self.run.log(values, step=epoch)

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Callable[[Path, dict[str, Any]], Logger]] = {
    "tensorboard": TensorBoard,
    "mlflow": Mlflow,
    "wandb": Wandb,
}


def open_loggers(names: list[str], out: Path, config: dict[str, Any]) -> list[Logger]:
    """The loggers called `names`. Raises UserError for an unknown name or one whose package is not installed."""
    loggers = []
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        try:
            loggers.append(LOGGERS[name](out, config))
        except ImportError as error:
            raise UserError(f"--log {name} needs its package: pip install 'gridhead[{name}]'") from error
    return loggers
