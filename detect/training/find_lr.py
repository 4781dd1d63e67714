"""`detect train --find-lr`: the learning-rate range test (Smith, 2017, arXiv 1506.01186).

The learning rate rises exponentially from step to step. As long as it is too low, the loss hardly falls; where it is
too high, the loss rises again. A rate in the middle of the fall is a good one to train with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any

import numpy as np

from detect.config.optim import optimizer_defaults
from detect.errors import UserError
from detect.report.charts import line_spec, svg
from detect.training.loop import Trainer
from detect.types import Batch
from detect.utils.atomic_io import replace_text
from detect.utils.names import say
from detect.utils.progress import track

STEPS = 100
BELOW, ABOVE = 1e-3, 1e2  # the first and the last learning rate, as multiples of the optimizer's default
DIVERGED = 4.0  # multiples of the least loss so far at which the test ends
SHORTEST = 15  # steps that say something
WIDTH = 3.0  # steps: standard deviation of the Gaussian that smooths the losses


class RangeTest(Trainer):
    """A trainer that takes `STEPS` steps with rising learning rates, and leaves a curve in place of weights."""

    def _lr(self) -> float:
        return self._low * (ABOVE / BELOW) ** (self.run.step / (STEPS - 1))

    def train(self) -> None:
        """Take the steps; write `lr.jsonl` and `lr.svg`, and print the suggested rate with its flag.

        Raises:
            UserError: the loss falls at none of the rates; the curve is there all the same.
        """
        default = optimizer_defaults(self.config.optim.name).lr
        self._low, rows = default * BELOW, list[dict[str, Any]]()
        for batches in track(islice(self._steps(), STEPS), STEPS, "find the learning rate"):
            lr, self.run.sums = self._lr(), None
            self._step(batches)
            assert self.run.sums is not None  # the losses of the step
            terms = dict(zip(self.run.terms, self.run.sums.tolist(), strict=True))
            loss = sum(terms.values())
            if not math.isfinite(loss):
                break
            rows.append({"lr": lr, "loss": loss, **terms})
            if _diverges([row["loss"] for row in rows]):
                break
        if self.ranks.main:
            self._report(rows, default)

    def _steps(self) -> Iterator[list[Batch]]:
        """The batches of each step, epoch after epoch; what is left over at the end of an epoch is a step as well."""
        for epoch in count():
            batches = iter(self.loader.epoch(epoch, 0))
            while step := list(islice(batches, self.config.optim.accumulate)):
                yield step

    def _report(self, rows: Sequence[dict[str, Any]], default: float) -> None:
        """Write the curve, and print the suggestion."""
        curve, rates, losses = self.run.out / "lr.svg", [row["lr"] for row in rows], [row["loss"] for row in rows]
        replace_text(self.run.out / "lr.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        found = suggest(rates, losses)
        replace_text(curve, _chart(rates, losses, found))
        tried = f"{len(rows)} steps" + f" from {rates[0]:.2g} to {rates[-1]:.2g}" * bool(rows)
        if found is None:
            raise UserError(f"the loss falls at no learning rate ({tried}, see {curve}): do labels and classes fit?")
        of = f"the default of {self.config.optim.name} is {default:g}"
        say(f"learning rate: --optim.lr {found:.2g} ({of}; {tried}; curve: {curve})")


def suggest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """The learning rate at which the loss has fallen half of the way from where it starts to its minimum.

    That is close to where it falls fastest, and noise moves it less than it moves the steepest step.

    Args:
        rates: learning rates, rising.
        losses: the loss at each.

    Returns:
        One of the rates; None: the losses are few, or fall by no more than their noise.
    """
    if len(losses) < SHORTEST:
        return None
    smooth = smoothed(losses)
    least = int(smooth.argmin())
    start, noise = float(smooth[: len(smooth) // 5].mean()), float(np.median(np.abs(smooth - losses)))
    if least < len(smooth) // 5 or start - smooth[least] < max(noise, 1e-3 * abs(start)):
        return None
    above = np.flatnonzero(smooth[:least] > (start + smooth[least]) / 2)
    return float(rates[int(above.max(initial=0))])


def smoothed(losses: Sequence[float]) -> np.ndarray:
    """The mean of each loss and those before and after it, with Gaussian weights."""
    steps = np.arange(len(losses))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / WIDTH) ** 2)
    mean: np.ndarray = weights @ np.asarray(losses) / weights.sum(1)
    return mean


def _diverges(losses: Sequence[float]) -> bool:
    """Whether the mean of the latest five losses is `DIVERGED` times the least mean of five so far."""
    if len(losses) < SHORTEST:
        return False
    means = np.convolve(losses, np.ones(5) / 5, "valid")
    return bool(means[-1] > DIVERGED * means.min())


def _chart(rates: Sequence[float], losses: Sequence[float], found: float | None) -> str:
    """The losses over the rates as SVG, cut off where they rise far above the first ones."""
    top = 1.5 * max(losses[:SHORTEST], default=1.0)
    shown = {"loss": losses, "smoothed": smoothed(losses).tolist()}
    lines = {name: [(a, min(b, top)) for a, b in zip(rates, line, strict=True)] for name, line in shown.items()}
    if found is not None:
        lines[f"--optim.lr {found:.2g}"] = [(found, min(losses)), (found, min(top, max(losses)))]
    return svg(line_spec(lines, "learning rate", "loss", log_x=True))
