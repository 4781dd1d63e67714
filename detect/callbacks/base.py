"""What a callback may do and when, and how callbacks are made from their names."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from detect.errors import UserError
from detect.registry import REGISTRIES

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from detect.training.loop import Trainer
    from detect.types import Batch, Frame


class Callback:
    """Code that runs at fixed points of training, validation and prediction. Override the methods you need.

    `trainer` is `detect.training.loop.Trainer`: `trainer.run` holds model, ema, optimizer, epoch, step, history and the
    folder `out`; `trainer.config` the settings, `trainer.device` the device, `trainer.ranks` this process among its
    peers. Setting `trainer.stop = True` ends the run after the current epoch.

    With torchrun every process has callbacks of its own: write files and print where `trainer.ranks.main` is true, and
    change the model alike in all. A run is resumed exactly if a callback keeps all that it remembers in `state_dict`,
    and draws random numbers only in hooks of a training batch, where torch, numpy and random are seeded by the step.
    """

    passive = False
    """Whether it only watches. A passive callback may be added or left out when a run is resumed."""

    def state_dict(self) -> dict[str, Any]:
        """What to save in every checkpoint: plain containers, text, numbers and tensors.

        A run that is resumed with changed settings is saved before `on_fit_start`, too.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave; called before `on_fit_start` of a resumed run. With torchrun: of process 0."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first step, with everything set up and a resumed run loaded."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before the first batch of an epoch; not again where a run is resumed within it."""

    def on_train_batch_start(self, trainer: Trainer, batches: Sequence[Batch]) -> None:
        """Before the forward pass of a step; the learning rates are set.

        May change images and targets in place, and the learning rates of `trainer.run.optimizer.param_groups`.

        Args:
            batches: the batches of the step, `--optim.accumulate` of them; images (B, 3, H, W) uint8 on the CPU.
        """

    def on_before_optimizer_step(self, trainer: Trainer) -> None:
        """After the backward pass, before clipping; may change the gradients, which are averaged and unscaled."""

    def on_train_batch_end(self, trainer: Trainer, batches: Sequence[Batch], losses: Mapping[str, Tensor]) -> None:
        """After the step of the optimizer and of the moving average; may change the weights of both.

        Args:
            batches: as in `on_train_batch_start`.
            losses: the mean of each loss term, on the device: reading a value waits for the device.
        """

    def on_validation_start(self, trainer: Trainer) -> None:
        """Before the validation that ends an epoch. A run that is stopped in a validation begins it again."""

    def on_validation_batch_end(self, trainer: Trainer, image_ids: Sequence[int], predictions: Sequence[Any]) -> None:
        """After the predictions for a batch of validation images: one result an image, such as `Detections`."""

    def on_validation_end(self, trainer: Trainer, metrics: dict[str, Any]) -> None:
        """After a validation; may add numbers to `metrics`, which then are in metrics.jsonl."""

    def on_epoch_end(self, trainer: Trainer, row: dict[str, Any]) -> None:
        """Before an epoch's row is written to metrics.jsonl, the best weights are chosen and the checkpoint is written.

        May add numbers to `row`.
        """

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint was written, in the process that wrote it. What changes here is not in that checkpoint."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch."""

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """Instead of `on_fit_end`, where a run ends by an error or is interrupted."""

    def on_predict_start(self, model: Any) -> None:
        """Before the first image of `detect predict` or of the Python API's `predict`."""

    def on_predict_image_end(self, model: Any, frame: Frame, predictions: Any) -> Any:
        """After the result for an image or a frame of a video.

        Returns:
            The result to go on with: `predictions`, or what takes its place.
        """
        return predictions

    def on_predict_end(self, model: Any) -> None:
        """After the last image, also where reading or predicting one failed."""


def make_callbacks(names: Iterable[str]) -> dict[str, Callback]:
    """The callbacks that are registered under these names, one object of each.

    Raises:
        UserError: a name is unknown, a package that a callback needs is not installed, or it is no `Callback`.
    """
    made = {}
    for name in names:
        try:
            callback = REGISTRIES["callback"][name]()
        except ImportError as error:
            raise UserError(f"callback {name}: {error}") from error
        if not isinstance(callback, Callback):
            kind = type(callback).__name__
            raise UserError(f"callback {name} is of type {kind}: derive its class from detect.callbacks.Callback")
        made[name.lower()] = callback
    return made


def watched(predictor: Any, callbacks: Iterable[Callback], model: Any) -> Any:
    """A predictor whose results the callbacks see, and may replace, in their order.

    Args:
        predictor: a function from frames to a generator of pairs, a frame and its result.
        callbacks: their order is that of the calls; if empty, `predictor` itself is returned.
        model: what is passed on to the callbacks.
    """
    chosen = list(callbacks)

    def predict(frames: Iterable[Frame]) -> Generator[tuple[Frame, Any], None, None]:
        with closing(predictor(frames)) as results:
            for callback in chosen:
                callback.on_predict_start(model)
            try:
                for frame, predictions in results:
                    for callback in chosen:
                        predictions = callback.on_predict_image_end(model, frame, predictions)
                    yield frame, predictions
            finally:
                for callback in chosen:
                    callback.on_predict_end(model)

    return predict if chosen else predictor


def require_plain(name: str, state: Any) -> None:
    """Check that the state of a callback can be read from a checkpoint again.

    Raises:
        UserError: it holds other than plain containers, text, numbers and tensors.
    """
    from torch import Tensor

    waiting = [state]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            waiting += [*value.keys(), *value.values()]
        elif type(value) in (list, tuple):
            waiting += value
        elif value is not None and not isinstance(value, Tensor) and type(value) not in (bool, int, float, str):
            raise UserError(
                f"callback {name}: its state_dict() holds a {type(value).__name__}; "
                "a checkpoint takes dict, list, tuple, text, numbers and tensors"
            )
