"""YOLO's text files: images/{split}, labels/{split} and data.yaml.

A row is `class cx cy w h`, or the polygon of an outline or the corners of an oriented box; with keypoints all rows are
those of poses. Coordinates are relative to the image, with eight digits. Points beyond the image are moved to its edge:
programs that train on such files refuse others than 0 to 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detect.errors import UserError
from detect.inference.yolo_rows import joined
from detect.labelling.labels import LabelObject, Labels, in_files
from detect.labelling.writer import LabelFormat
from detect.utils.atomic_io import replace_text
from detect.utils.yaml_files import dump_yaml


class YoloLabels(LabelFormat):
    """A label file for each image, and data.yaml."""

    beside = True

    def write(self, sets: Mapping[str, Labels], out: Path) -> list[str]:
        """See `LabelFormat.write`."""
        first = next(iter(sets.values())).annotations
        content: dict[str, Any] = {split: f"images/{split}" for split in sets}
        content["names"] = dict(enumerate(first.names))
        if first.keypoints is not None:
            content |= {"kpt_shape": [len(first.keypoint_names), 3], "kpt_names": list(first.keypoint_names)}
            pairs = {k: p for a, b in first.flip_pairs or [] for k, p in ((a, b), (b, a))}
            content["flip_idx"] = [pairs.get(k, k) for k in range(len(first.keypoint_names))]
        if self.scores and first.keypoints is not None:
            raise UserError("YOLO's rows of keypoints have no room for scores: leave --scores out")
        for split, labels in sets.items():
            (out / f"labels/{split}").mkdir(parents=True, exist_ok=True)
            for image, name, _, size in in_files(labels):
                side, keypoints = np.array([size[1], size[0]], np.float64), len(labels.annotations.keypoint_names)
                rows = "".join(self._row(one, _numbers(one, side, keypoints)) for one in labels.objects(image))
                replace_text(out / f"labels/{split}" / f"{os.path.splitext(name)[0]}.txt", rows, durable=False)
        replace_text(out / "data.yaml", dump_yaml(content))
        return [f"{out / 'data.yaml'}: use it as --data"]

    def _row(self, one: LabelObject, values: np.ndarray) -> str:
        numbers = " ".join(f"{value:.8g}" for value in values.tolist())
        score = f" {1 if one.score is None else one.score:.5f}" if self.scores else ""
        return f"{one.label} {numbers}{score}\n"


def _numbers(one: LabelObject, side: np.ndarray, keypoints: int) -> np.ndarray:
    """The numbers of a row after its class, relative to an image of `side` (w, h)."""
    corner, extent = np.split(np.array(one.box), 2)
    box = np.concatenate([(corner + extent / 2) / side, extent / side])
    if keypoints:
        points = np.zeros((keypoints, 3)) if one.keypoints is None else one.keypoints.copy()
        points[:, :2] = (points[:, :2] / side).clip(0, 1)
        return np.concatenate([box, points.ravel()])
    points = one.corners if one.corners is not None else joined(one.rings[0])
    return (points / side).clip(0, 1).ravel() if len(points) > 2 else box
