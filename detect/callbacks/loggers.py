"""Loggers: callbacks that send the numbers of every epoch somewhere besides metrics.jsonl."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from detect.callbacks.base import Callback
from detect.errors import UserError
from detect.registry import register

if TYPE_CHECKING:
    from detect.training.loop import Trainer


class Logger(Callback):
    """What loggers share: the main process opens one, sends it the numbers of each epoch, and closes it."""

    passive = True
    package = ""
    """The package that is needed, which is also the name of the extra that installs it."""
    module = ""
    """The module to import."""

    def __init__(self) -> None:
        try:
            self.library: Any = importlib.import_module(self.module)
        except ImportError as error:
            remedy = f"pip install 'gridhead[{self.package}]'"
            raise UserError(f"--callbacks {self.package} needs its package: {remedy}") from error

    def open(self, trainer: Trainer, settings: dict[str, Any]) -> None:
        """Begin to log a run with these settings."""
        raise NotImplementedError

    def log(self, epoch: int, values: dict[str, Any]) -> None:
        """Send the numbers of an epoch."""
        raise NotImplementedError

    def close(self) -> None:
        """End the log."""
        raise NotImplementedError

    def on_fit_start(self, trainer: Trainer) -> None:
        if trainer.ranks.main:
            self.open(trainer, dataclasses.asdict(trainer.config))

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        if trainer.ranks.main:
            self.log(row["epoch"], {name: value for name, value in row.items() if name != "epoch"})

    def on_fit_end(self, trainer: Trainer) -> None:
        if trainer.ranks.main:
            self.close()

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        self.on_fit_end(trainer)


@register("callback", "tensorboard")
class TensorBoard(Logger):
    """Event files in the folder `tensorboard` of the run."""

    package, module = "tensorboard", "torch.utils.tensorboard"

    def open(self, trainer: Trainer, settings: dict[str, Any]) -> None:
        self.writer = self.library.SummaryWriter(str(trainer.run.out / "tensorboard"))

    def log(self, epoch: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        self.writer.close()


@register("callback", "mlflow")
class Mlflow(Logger):
    """An MLflow run; where it is stored is MLflow's own setting."""

    package = module = "mlflow"

    def open(self, trainer: Trainer, settings: dict[str, Any]) -> None:
        self.library.start_run(run_name=trainer.run.out.name)
        self.library.log_dict(settings, "config.yaml")

    def log(self, epoch: int, values: dict[str, Any]) -> None:
        self.library.log_metrics(values, step=epoch)

    def close(self) -> None:
        self.library.end_run()


@register("callback", "wandb")
class Wandb(Logger):
    """A Weights & Biases run; offline or not is its own setting."""

    package = module = "wandb"

    def open(self, trainer: Trainer, settings: dict[str, Any]) -> None:
        self.run = self.library.init(dir=str(trainer.run.out), name=trainer.run.out.name, config=settings)

    def log(self, epoch: int, values: dict[str, Any]) -> None:
        self.run.log(values, step=epoch)

    def close(self) -> None:
        self.run.finish()
