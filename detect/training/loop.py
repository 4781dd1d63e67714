"""The training loop, top to bottom: epochs of steps, each epoch ended by a validation and a checkpoint."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detect.config.train import TrainConfig
from detect.data.annotations import Annotations
from detect.data.loader import TrainLoader
from detect.errors import UserError
from detect.evaluation.coco_protocol import LVIS_LIMIT
from detect.evaluation.dataset_pass import predict_batches
from detect.models.base import Model
from detect.tasks.base import EvalBatches, Task
from detect.training.cached_features import FeatureLoader
from detect.training.dist import Ranks
from detect.training.finite import FiniteCheck
from detect.training.image_check import ImageCheck
from detect.training.losses import Losses
from detect.training.notes import Notes
from detect.training.run_record import FORM
from detect.training.schedules import lr_factor
from detect.training.state import Run, best_of, goodness, seed_all
from detect.training.transfer import freeze, frozen_parts
from detect.types import Batch
from detect.utils.device import autocast
from detect.utils.interrupt import Interrupt
from detect.utils.names import say
from detect.utils.progress import track

CHECK_EVERY = 20  # steps between checks that the loss is finite


@dataclass
class Trainer:
    """Everything that a run needs to go from its present state to its end.

    Attributes:
        config: the settings.
        run: the state: model, optimizer, counts, history.
        loader: the batches of the training set.
        validation: the batches of the validation set.
        task: the task of the model.
        annotations: those of the validation set.
        device: where the model is.
        dtype: what it computes in.
        ranks: this process among those of the run.
        view: from the model to what of it runs on the batches: all of it, or its head on cached features.
        notes: what the run says of itself; None on all but the main rank.
        check: the check of the images that goes on in the first epoch; None where there is none.
        stop: whether the run ends after the current epoch; a callback may set it.
    """

    config: TrainConfig
    run: Run
    loader: TrainLoader | FeatureLoader
    validation: EvalBatches
    task: Task
    annotations: Annotations
    device: torch.device
    dtype: torch.dtype
    ranks: Ranks
    view: Callable[[Model], Any] = lambda model: model
    notes: Notes | None = None
    check: ImageCheck | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        for teacher in self.run.taught_by():
            teacher.begin(self.run.ema.module)
        self._wrap(frozen_parts(self.config, self.run.model, self.run.epoch))
        self.finite = FiniteCheck(self.run.optimizer.defaults["lr"])
        self.last_save = time.monotonic()
        accumulate = self.config.optim.accumulate
        self.steps_per_epoch = math.ceil(len(self.loader) / accumulate)
        self.total_steps = self.steps_per_epoch * self.config.epochs
        self.warmup_steps = min(round(self.config.optim.warmup * self.steps_per_epoch), self.total_steps // 3)

    def _wrap(self, frozen: tuple[str, ...]) -> None:
        """Freeze these parts and no others. DistributedDataParallel must know which parameters will have gradients."""
        freeze(self.run.model, frozen)
        self.losses: nn.Module = Losses(self.view(self.run.model), self.run.taught_by())
        self.no_sync: Callable[[], AbstractContextManager] = nullcontext
        if self.ranks.world > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.losses = parallel = DistributedDataParallel(self.losses, devices)
            self.no_sync = parallel.no_sync
            self._fix_buckets()

    def _fix_buckets(self) -> None:
        """Make DistributedDataParallel choose now which gradients it sums together; it does so after its first pass.

        The order in which three or more ranks add up depends on that choice, and a resumed run must add up as a run
        does that was never stopped.
        """
        self.run.model.eval()
        with autocast(self.device, self.dtype):
            image = self.run.model.dummy_input(self.run.model.metadata.size)
            _, totals, _ = self.losses(image, [self.annotations.target(0)])
        totals.sum().backward()
        self.run.optimizer.zero_grad(set_to_none=True)

    def train(self) -> None:
        """Train from the present state to the last epoch, or until patience or a callback ends the run.

        Raises:
            UserError: the loss is not finite, or data cannot be read.
            KeyboardInterrupt: an end was asked for; the run is saved.
        """
        self.interrupt = Interrupt()
        try:
            self._call("on_fit_start")
            while self.run.epoch < self.config.epochs and not self._out_of_patience() and not self.stop:
                self._epoch()
            if self.notes:
                self.notes.end()
            self._call("on_fit_end")
        except BaseException as error:
            self._call("on_exception", error)
            raise
        finally:
            self.interrupt.close()
            if self.check:
                self.check.close()

    def _call(self, hook: str, *values: Any) -> None:
        """Call a method of every callback, in the order in which they were named."""
        for callback in self.run.callbacks.values():
            getattr(callback, hook)(self, *values)

    def _out_of_patience(self) -> bool:
        """Whether the best epoch lies more than `patience` epochs back."""
        patience, run = self.config.patience, self.run
        return bool(patience) and run.best_epoch >= 0 and run.epoch - 1 - run.best_epoch >= patience

    def _epoch(self) -> None:
        """Train the rest of an epoch, validate, and save."""
        run, started, images = self.run, time.monotonic(), 0
        frozen = frozen_parts(self.config, run.model, run.epoch)
        if frozen != run.model.frozen:
            self._wrap(frozen)
        if not run.batch:
            self._call("on_epoch_start")
        pending: list[Batch] = []
        title = f"epoch {run.epoch + 1}/{self.config.epochs}"
        batches = self.loader.epoch(run.epoch, run.batch)
        with closing(track(batches, len(self.loader) - run.batch, title)) as tracked:
            for batch in tracked:
                pending.append(batch)
                images += len(batch)
                if len(pending) == self.config.optim.accumulate or run.batch + len(pending) == len(self.loader):
                    self._step(pending)
                    run.batch += len(pending)
                    pending = []
                    self._between_steps()
        seconds = time.monotonic() - started
        self.finite.require(self.run.terms, self.run.checkpoint)
        self._await_check()
        row: dict[str, Any] = {"epoch": run.epoch, "step": run.step}
        if images:  # none where a run was resumed between the last step of an epoch and its validation
            row["images_per_second"] = round(images * self.ranks.world / max(1e-9, seconds), 2)
        row["lr"] = run.optimizer.param_groups[0]["lr"]
        assert run.sums is not None  # an epoch has a step at least
        row |= dict(zip(run.terms, (run.sums / self.steps_per_epoch).tolist(), strict=True))
        metrics = self._evaluate()
        row |= {name: value for name, value in metrics.items() if isinstance(value, float)}
        for teacher in run.taught_by():
            row |= teacher.metrics()
        run.ema.module.calibrate(metrics)
        row["seconds"] = round(time.monotonic() - started, 2)
        self._call("on_epoch_end", row)
        self._finish(row)

    def _step(self, batches: Sequence[Batch]) -> None:
        """Take one optimizer step; its gradient is normalized over these batches and over all ranks."""
        run = self.run
        seed_all(self.config.seed, run.step, self.ranks.rank)
        lr = self._lr()
        for group in run.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        run.model.train()
        self._call("on_train_batch_start", batches)
        means = self._backward(batches)
        run.scaler.unscale_(run.optimizer)
        self._call("on_before_optimizer_step")
        limit = self.config.optim.clip or float("inf")
        norm = nn.utils.clip_grad_norm_(run.parameters(), limit)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad(set_to_none=True)
        run.ema.update(run.model, run.step)
        # The scaler skips a step whose gradient overflows: then the losses alone have to be finite.
        checked = means if run.scaler.is_enabled() else torch.cat([means, norm[None]])
        self.finite.add(run.step, [t.image_id for batch in batches for t in batch.targets], checked)
        run.sums = means if run.sums is None else run.sums + means
        if run.callbacks:
            self._call("on_train_batch_end", batches, dict(zip(run.terms, means, strict=True)))
        run.step += 1

    def _lr(self) -> float:
        """The learning rate of the next step."""
        factor = lr_factor(self.config.optim, self.run.step, self.warmup_steps, self.total_steps, self.steps_per_epoch)
        return self.run.optimizer.defaults["lr"] * factor

    def print_lr_change(self, changed: Sequence[str]) -> None:
        """Print how the learning rate jumps where a run is resumed with other settings.

        Args:
            changed: names of the settings that changed.
        """
        if self.run.epoch < self.config.epochs and any(n == "epochs" or n.startswith("optim.") for n in changed):
            last, lr = self.run.optimizer.param_groups[0]["lr"], self._lr()
            planned = f"as planned for {self.config.epochs} epochs"
            say(f"learning rate: {last:.3g} at the last step, {lr:.3g} at the next, {planned}", file=sys.stderr)

    def _backward(self, batches: Sequence[Batch]) -> Tensor:
        """Compute the gradients of the mean loss terms, total over count, in place; return the means (T,)."""
        run, several, world = self.run, len(batches) > 1, self.ranks.world
        totals, counts = [], []
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with nullcontext() if last else self.no_sync():
                with autocast(self.device, self.dtype):
                    images = batch.images.to(self.device, non_blocking=True)
                    views = [] if batch.unlabelled is None else [batch.unlabelled.to(self.device, non_blocking=True)]
                    run.terms, total, count = self.losses(images, batch.targets, *views)
                count = self.ranks.sum(count)
                if several and not torch.equal(count, count[:1].expand_as(count)):
                    raise UserError("the loss terms of this model have several normalizers: use --optim.accumulate 1")
                # Averaging over ranks is undone; the common normalizer of several batches is known only after them.
                scale = world if several else world / count.clamp(min=1)
                run.scaler.scale((total * scale).sum()).backward()
            totals.append(total.detach())
            counts.append(count)
        count = torch.stack(counts).sum(0).clamp(min=1)
        if several:
            for p in run.parameters():
                if p.grad is not None:
                    p.grad /= count[0]
        return self.ranks.sum(torch.stack(totals).sum(0)) / count

    def _between_steps(self) -> None:
        """Check the losses, write a checkpoint and end the run, each where it is time to."""
        run, config = self.run, self.config
        if len(self.finite) >= CHECK_EVERY:
            self.finite.require(self.run.terms, self.run.checkpoint)
        if self.notes:
            self.notes.step()
        if self.check:
            self.check.pending()
        by_step = config.save_steps > 0 and run.step % config.save_steps == 0
        by_time = config.save_seconds > 0 and time.monotonic() - self.last_save >= config.save_seconds
        if by_step or by_time:
            self._save()
        if self.ranks.world == 1 or run.step % CHECK_EVERY == 0:
            self._stop_if_asked()

    def _await_check(self) -> None:
        """Wait until all images are known to be in order, all ranks together: they give up on one that comes late."""
        told = False
        while self.check and float(self.ranks.sum(torch.tensor(float(self.check.pending()), device=self.device))):
            if self.notes and not told:
                said = f"{self.check.done:,} of {self.check.total:,} images are decoded"
                say(f"the epoch waits for the check of images: {said}", file=sys.stderr, flush=True)
                told = True
            self._stop_if_asked()
            time.sleep(0.2)
        self.check = None

    def _stop_if_asked(self) -> None:
        """Save and stop if any rank was asked to end; all ranks stop at the same step."""
        asked = self.interrupt.asked
        if self.ranks.world > 1:
            asked = bool(self.ranks.sum(torch.tensor(float(asked), device=self.device)))
        if asked:
            self._save()
            self.ranks.wait()  # torchrun ends the others as soon as one has ended
            raise KeyboardInterrupt(*self._how_to_resume())

    def _how_to_resume(self) -> list[str]:
        """One line on where the run was saved and which command resumes it; nothing but on the main rank."""
        command = f"detect train --resume {shlex.quote(str(self.run.out))}"
        if self.ranks.world > 1:
            command = f"the same torchrun and -m {command}"
        at = f"epoch {self.run.epoch + 1}, step {self.run.step}"
        return [f"saved at {at} in {self.run.checkpoint}; resume with: {command}"] if self.ranks.main else []

    def _save(self) -> None:
        """Write a checkpoint, unless the losses are not finite."""
        self.finite.require(self.run.terms, self.run.checkpoint)
        if self.ranks.main:
            self.run.save()
            self._call("on_checkpoint", self.run.checkpoint)
        self.last_save = time.monotonic()

    def _evaluate(self) -> dict[str, Any]:
        """Evaluate the moving average on the validation set, each rank its part; return the metrics of all."""
        self._call("on_validation_start")
        own, everyone = self.task.evaluator(self.annotations), self.task.evaluator(self.annotations)
        form = self.device, self.dtype, self.run.record[FORM]
        fused, keep = self.view(self.run.ema.module.for_inference(*form)), self.task.postprocess(None)
        if getattr(self.annotations, "measured_as", "") == "lvis":  # which counts more detections than COCO's
            keep = dataclasses.replace(keep, limit=LVIS_LIMIT)
        for image_ids, predictions in predict_batches(fused, self.validation, keep, self.device, self.dtype):
            own.update(image_ids, predictions)
            self._call("on_validation_batch_end", image_ids, predictions)
            if self.ranks.world == 1:
                self._stop_if_asked()
        for records in self.ranks.gather(own.records()):  # in one order: all ranks must agree on which epoch is best
            everyone.extend(records)
        metrics = everyone.result()
        self._call("on_validation_end", metrics)
        return metrics

    def _finish(self, row: dict[str, Any]) -> None:
        """Write the metrics of an epoch, its weights if they are the best, and a checkpoint; print one line."""
        better = self.run.finish_epoch(row, self.task.metric, write=self.ranks.main)
        self._save()
        if not self.ranks.main:
            return
        numbers = [f"{name} {row[name]:.3f}" for name in (*self.run.terms, *self.task.progress_metrics)]
        if "images_per_second" in row:
            numbers.append(f"{row['images_per_second']:.1f} images/s")
        numbers.append(f"{row['seconds']:.1f} s")
        if not best_of(self.run.history, self.task.metric)[1]:
            numbers.append("nothing detected yet")
        elif better:
            shown = abs(goodness(row, self.task.metric)) >= 0.0005  # with three decimals
            numbers.append("best" if shown or self.task.metric[0] == "-" else "almost nothing detected yet")
        say(f"epoch {row['epoch'] + 1:>3}/{self.config.epochs}  {'  '.join(numbers)}", flush=True)
        if self.notes:
            self.notes.epoch(row)
