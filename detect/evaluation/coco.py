"""Average precision of boxes by the COCO protocol, collected image by image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect.data.annotations import Annotations
from detect.evaluation.bootstrap import mean_known
from detect.evaluation.coco_protocol import Records, Summary, number_names, summarize
from detect.evaluation.own_protocols import OWN, own_matches, own_numbers, resampled_own
from detect.evaluation.protocol import COCO, Protocol
from detect.evaluation.resampled_ap import ClassMatches, match, resampled_numbers
from detect.evaluation.tide import ErrorAnalysis, analyze_errors
from detect.types import Detections
from detect.utils.atomic_io import replace_file


class CocoEvaluator:
    """Compares detections with annotations by the COCO protocol; each image comes once, over all ranks.

    Args:
        annotations: the ground truth: boxes, classes, areas and crowd regions.
    """

    prefix = ""
    """What `result` puts before the names of the numbers of `summary`."""

    protocol: Protocol = COCO
    """Set before the first result."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations = annotations
        self._known = frozenset(annotations.image_ids.tolist())
        self._seen: set[int] = set()
        self._parts: list[Records] = []

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Take the detections of some images.

        Args:
            image_ids: ids of the images, as in the annotations.
            detections: the detections of each, boxes xyxy in pixels of the source image, on any device.

        Raises:
            ValueError: an image is not annotated or came before, or a number is not finite.
        """
        if len(image_ids) != len(detections):
            raise ValueError(f"{len(image_ids)} image ids for {len(detections)} records of detections")
        if detections:
            self.extend(self._collected(image_ids, detections))

    def _collected(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> Records:
        boxes, scores, labels = (
            torch.cat([getattr(one, name) for one in detections]).detach().to("cpu", dtype).numpy()
            for name, dtype in (("boxes", torch.float64), ("scores", torch.float64), ("labels", torch.int64))
        )
        boxes[:, 2:] -= boxes[:, :2]  # exact to one rounding in float64: what is measured is what is written
        counts = np.array([len(one) for one in detections], dtype=np.int64)
        return Records(np.array(image_ids, dtype=np.int64), counts, boxes, scores, labels)

    def records(self) -> Records:
        """Everything taken so far, for another rank's `extend`."""
        self._parts = [Records.join(self._parts)]
        return self._parts[0]

    def extend(self, records: Records) -> None:
        """Take what another evaluator of the same annotations has collected. Raises ValueError as `update` does."""
        images = records.image_ids.tolist()
        if unknown := set(images) - self._known:
            raise ValueError(f"image id {min(unknown)} is not in {self.annotations.path}")
        if len(set(images)) < len(images) or not self._seen.isdisjoint(images):
            twice = next(i for n, i in enumerate(images) if i in self._seen or i in images[:n])
            raise ValueError(f"image id {twice} was evaluated twice")
        owner = np.repeat(records.image_ids, records.counts)
        bad = ~(np.isfinite(records.boxes).all(axis=1) & np.isfinite(records.scores))
        if bad.any():
            raise ValueError(f"detections of image id {owner[bad][0]} are not finite")
        odd = (records.labels < 0) | (records.labels >= len(self.annotations.names))
        if odd.any():
            raise ValueError(
                f"image id {owner[odd][0]}: label {records.labels[odd][0]} is none of the annotated classes"
            )
        self._seen.update(images)
        self._parts.append(records)
        self._forget_results()

    def reset(self) -> None:
        """Forget all detections."""
        self._seen, self._parts = set(), []
        self._forget_results()

    def _forget_results(self) -> None:
        for name in ("summary", "errors", "matches", "own", "own_matches"):
            self.__dict__.pop(name, None)

    @property
    def boxes(self) -> CocoEvaluator:
        """The evaluator whose `summary` and `errors` are analysed: this one. That of keypoints has one of boxes."""
        return self

    @cached_property
    def summary(self) -> Summary:
        """All metrics: see `Summary`."""
        return summarize(self.annotations, self.records(), self.protocol)

    @cached_property
    def errors(self) -> ErrorAnalysis:
        """What is right and wrong about every detection: see `analyze_errors`."""
        return analyze_errors(self.annotations, self.records())

    def result(self) -> dict[str, Any]:
        """The metrics.

        Returns:
            The twelve COCO numbers AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm and ARl, or those of
            LVIS for its annotations, -1 where undefined; those of the dataset's own protocol beside them (see
            `own_numbers`); and `per_class`: AP by class name, None for a class without objects.
        """
        return {**self.summary.numbers, **self.own, "per_class": dict(self.summary.per_class)}

    @cached_property
    def own(self) -> dict[str, Any]:
        """See `own_numbers`."""
        return own_numbers(self.annotations, self.own_matches)

    @cached_property
    def own_matches(self) -> list[ClassMatches]:
        """See `detect.evaluation.own_protocols.own_matches`."""
        return own_matches(self.annotations, self.records())

    @cached_property
    def matches(self) -> list[list[ClassMatches]]:
        """What the detections of each size and class match: see `match`."""
        return match(self.annotations, self.records(), self.protocol)

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        own = resampled_own(self.annotations, self.own_matches, weights) if not only or only in OWN else {}
        return {**self._numbers(self.matches[:1] if only else self.matches, weights), **own}

    def _numbers(self, matches: Sequence[Sequence[ClassMatches]], weights: np.ndarray) -> dict[str, Any]:
        federation, names = self.annotations.federation, self.annotations.names
        numbers, limits = self.protocol.numbers(), self.protocol.limits
        if federation is None or self.annotations.measured_as != "lvis":
            return resampled_numbers(matches, weights, names, numbers, limits)
        numbers["AR300"] = ("recall", slice(None), 0, 0)
        found = resampled_numbers(matches, weights, names, numbers, (300,) * len(limits))
        each = np.stack(list(found["per_class"].values()))
        for letter in "rcf" if federation.frequency else "":
            found[f"AP{letter}"] = mean_known(each[[one == letter for one in federation.frequency or ()]])
        return found

    def detections(self) -> list[dict]:
        """All detections as COCO results, in the order in which they came."""
        return list(self._results())

    def write(self, path: Path) -> None:
        """Write a COCO results file, one detection a line; evaluating that file gives the same numbers to the bit."""
        replace_file(path, self._write)

    def _write(self, part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.write("[")
            for number, record in enumerate(self._results()):
                file.write((",\n" if number else "\n") + json.dumps(record))
            file.write("\n]\n")

    def _results(self) -> Iterator[dict]:
        detections = self.records()
        images = np.repeat(detections.image_ids, detections.counts).tolist()
        categories = self.annotations.category_ids[detections.labels]
        for image, category, box, score in zip(images, categories, detections.boxes, detections.scores, strict=True):
            yield {"image_id": image, "category_id": int(category), "bbox": box.tolist(), "score": float(score)}


def coco_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `CocoEvaluator.result`."""
    own = [name for name in OWN if name in result]
    yield "  ".join(f"{name} {result[name]:.3f}" for name in (*number_names(result), *own))
    for name, value in result["per_class"].items():
        yield f"  {name:<24} AP {'  -  ' if value is None else f'{value:.3f}'}"
