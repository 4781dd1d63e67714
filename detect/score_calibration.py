"""Calibrated confidences: strictly increasing maps, one for each class, from the scores of a network to frequencies.

Being increasing, they keep the order of the detections of a class, and with it every AP. They are fitted on a
validation set by `detect evaluate --save-calibration`, and stored with the weights as plain numbers.

Axes: N predictions, C classes, P knots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch

from detect.config.constraints import Choice, Positive, Share
from detect.types import Detections

EDGE = 1e-15  # distance from 0 and 1 of the scores of which a logit is taken


@dataclass(frozen=True)
class ScoreCalibration:
    """A map for each class, by label, and a last one of all classes together.

    Attributes:
        method: "isotonic" (piecewise linear) or "temperature" (the logit of the score, divided by a number).
        temperatures: the divisors (C + 1,); empty for isotonic.
        scores: knots (C + 1, P) of isotonic maps: scores of the network, rising from 0 to 1.
        confidences: the calibrated confidences (C + 1, P) of these, rising.
        basis: what they were fitted on, such as "val of cells".
        of_logits: whether the one temperature divides the logits of a classifier, before the softmax.
    """

    method: Annotated[str, Choice("isotonic", "temperature")]
    temperatures: list[Positive] = field(default_factory=list)
    scores: list[list[Share]] = field(default_factory=list)
    confidences: list[list[Share]] = field(default_factory=list)
    basis: str = ""
    of_logits: bool = False

    @property
    def maps_scores(self) -> bool:
        """Whether detections are mapped, class by class; a classifier divides its logits instead."""
        return not self.of_logits

    def wrong(self, classes: int) -> str:
        """What is wrong with the values for a model of so many classes; empty where nothing is."""
        if self.of_logits:
            return "" if len(self.temperatures) == 1 else "calibration of logits needs one temperature"
        rows = [self.temperatures] if self.method == "temperature" else [self.scores, self.confidences]
        if any(len(one) != classes + 1 for one in rows):
            return f"calibration has {len(rows[0])} maps for {classes} classes and all of them together"
        for x, y in zip(self.scores, self.confidences, strict=False):
            rising = len(x) == len(y) >= 2 and (np.diff(x) > 0).all() and (np.diff(y) > 0).all()
            if not rising or (x[0], x[-1]) != (0, 1):
                return "calibration has a map that does not rise from score 0 to score 1"
        return ""

    def calibrated(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The confidences (N,) float64 of scores (N,) with these labels (N,); -1 is the map of all classes."""
        found = scores.astype(np.float64)
        for label in np.unique(labels).tolist():
            rows = labels == label
            if self.method == "temperature":
                found[rows] = tempered(found[rows], self.temperatures[label])
            else:
                found[rows] = np.interp(found[rows], self.scores[label], self.confidences[label])
        return found

    def raw(self, confidence: float, label: int = -1) -> float:
        """The score of the network that has this confidence."""
        if self.method == "temperature":
            return float(tempered(np.array([confidence]), 1 / self.temperatures[label])[0])
        return float(np.interp(confidence, self.confidences[label], self.scores[label]))

    def raw_thresholds(self, confidences: Iterable[float]) -> tuple[float, ...]:
        """The scores that stand for the confidence threshold of each class."""
        return tuple(self.raw(one, label) for label, one in enumerate(confidences))

    def apply(self, result: Any, dtype: torch.dtype = torch.float32) -> Any:
        """A result with confidences in place of scores, again by descending confidence; all but Detections as it is."""
        if not isinstance(result, Detections) or self.of_logits:
            return result
        values = self.calibrated(result.scores.float().cpu().numpy(), result.labels.cpu().numpy())
        scores = torch.from_numpy(values).to(result.scores.device, dtype)
        return replace(result, scores=scores)[scores.argsort(descending=True, stable=True)]

    def after(self, predictor: Any) -> Any:
        """The function from frames to pairs of frame and result, with calibrated results."""
        return partial(_applied, self.apply, predictor)


def _applied(apply: Callable[[Any], Any], predictor: Any, frames: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    pairs = predictor(frames)
    try:
        for frame, result in pairs:
            yield frame, apply(result)
    finally:
        if hasattr(pairs, "close"):
            pairs.close()


def tempered(scores: np.ndarray, temperature: float) -> np.ndarray:
    """The scores (N,) float64 with their logits divided by `temperature`; 0 and 1 stay.

    >>> tempered(np.array([0.0, 0.5, 0.9, 1.0]), 2.0).round(2).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    inner = np.clip(scores, EDGE, 1 - EDGE)
    found = 1 / (1 + np.exp(-(np.log(inner) - np.log1p(-inner)) / temperature))
    return np.where((scores <= 0) | (scores >= 1), scores, found)
