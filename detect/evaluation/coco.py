"""Collects detections image by image and measures them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect.data.annotations import Annotations
from detect.evaluation.coco_protocol import NUMBERS, Records, Summary, summarize
from detect.types import Detections
from detect.utils.atomic_io import replace_file


class CocoEvaluator:
    """Detections against the truth of a store, by the COCO protocol; each image is given once, over all ranks."""

    def __init__(self, store: Annotations) -> None:
        self.store = store
        self._known = frozenset(store.image_ids.tolist())
        self._seen: set[int] = set()
        self._parts: list[Records] = []

    def update(self, image_ids: Sequence[int], found: Sequence[Detections]) -> None:
        """Take the detections of these images, xyxy in pixels of the source image, on any device.

        Raises ValueError for an image that is not in the store or came before, and for numbers that are not finite.
        """
        if len(image_ids) != len(found):
            raise ValueError(f"{len(image_ids)} image ids for {len(found)} records of detections")
        if not found:
            return
        boxes, scores, labels = (
            torch.cat([getattr(one, name) for one in found]).detach().to("cpu", dtype).numpy()
            for name, dtype in (("boxes", torch.float64), ("scores", torch.float64), ("labels", torch.int64))
        )
        boxes[:, 2:] -= boxes[:, :2]  # exact to one rounding in float64: what is measured is what is written
        counts = np.array([len(one) for one in found], dtype=np.int64)
        self.extend(Records(np.array(image_ids, dtype=np.int64), counts, boxes, scores, labels))

    def records(self) -> Records:
        """All that was collected, for another rank's `extend`."""
        self._parts = [Records.join(self._parts)]
        return self._parts[0]

    def extend(self, records: Records) -> None:
        """Take what another evaluator of the same store collected. Raises ValueError as `update` does."""
        images = records.image_ids.tolist()
        if unknown := set(images) - self._known:
            raise ValueError(f"image id {min(unknown)} is not in {self.store.path}")
        if len(set(images)) < len(images) or not self._seen.isdisjoint(images):
            twice = next(i for n, i in enumerate(images) if i in self._seen or i in images[:n])
            raise ValueError(f"image id {twice} was evaluated twice")
        owner = np.repeat(records.image_ids, records.counts)
        bad = ~(np.isfinite(records.boxes).all(axis=1) & np.isfinite(records.scores))
        if bad.any():
            raise ValueError(f"detections of image id {owner[bad][0]} are not finite")
        odd = (records.labels < 0) | (records.labels >= len(self.store.names))
        if odd.any():
            raise ValueError(f"image id {owner[odd][0]}: label {records.labels[odd][0]} is none of the store's classes")
        self._seen.update(images)
        self._parts.append(records)
        self.__dict__.pop("summary", None)

    def reset(self) -> None:
        """Forget all detections, for the next epoch."""
        self._seen, self._parts = set(), []
        self.__dict__.pop("summary", None)

    @cached_property
    def summary(self) -> Summary:
        """All that is measured: see `Summary`."""
        return summarize(self.store, self.records())

    def result(self) -> dict[str, Any]:
        """The twelve COCO numbers, AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl, -1 where undefined.

        Besides them `per_class`: AP by class name, None for a class without truth.
        """
        return {**self.summary.numbers, "per_class": dict(self.summary.per_class)}

    def detections(self) -> list[dict]:
        """All detections as COCO results, in the order they came."""
        return list(self._results())

    def write(self, path: Path) -> None:
        """Write the COCO results file, one detection a line; evaluating it again gives the same bits."""
        replace_file(path, self._write)

    def _write(self, part: Path) -> None:
        with part.open("w", encoding="utf-8") as file:
            file.write("[")
            for number, record in enumerate(self._results()):
                file.write((",\n" if number else "\n") + json.dumps(record))
            file.write("\n]\n")

    def _results(self) -> Iterator[dict]:
        found = self.records()
        images = np.repeat(found.image_ids, found.counts).tolist()
        categories = self.store.category_ids[found.labels]
        for image, category, box, score in zip(images, categories, found.boxes, found.scores, strict=True):
            yield {"image_id": image, "category_id": int(category), "bbox": box.tolist(), "score": float(score)}


def coco_lines(result: dict[str, Any]) -> Iterator[str]:
    """What `CocoEvaluator.result` says, line by line."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in NUMBERS)
    for name, value in result["per_class"].items():
        yield f"  {name:<24} AP {'  -  ' if value is None else f'{value:.3f}'}"
