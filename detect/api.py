"""What people hold in Python: a detector loaded from its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detect.device import pick_device, pick_dtype
from detect.errors import UserError
from detect.export.runtime import Exported, is_exported, open_exported
from detect.infer.closer import Closer
from detect.infer.predict import Predictor
from detect.infer.records import RecordPredictor
from detect.infer.source import open_source
from detect.infer.tiles import Tiles
from detect.infer.views import SCALES, VIEWS, Views
from detect.models.base import Card, Model
from detect.models.weights import load_weights
from detect.names import distinct
from detect.types import Frame, Keep


class Detector:
    """A model ready to answer: `for frame, found in detector.predict("clip.mp4"): ...`."""

    def __init__(self, model: Model | Exported, device: torch.device, dtype: torch.dtype):
        self.model: Any = model.ready(device, dtype)
        self.device, self.dtype = device, dtype

    @staticmethod
    def load(weights: str | Path, device: str = "auto", precision: str = "auto") -> Detector:
        """The detector in a weights file, or an exported one. Raises UserError for what cannot be used."""
        if is_exported(weights):  # which sees to its device and precision itself
            return Detector(open_exported(weights, device, precision), torch.device("cpu"), torch.float32)
        where = pick_device(device)
        return Detector(load_weights(weights), where, pick_dtype(precision, where))

    @property
    def card(self) -> Card:
        return self.model.card

    @property
    def dims(self) -> int:
        """2, or 1 and 3 for what looks at signals and volumes."""
        return getattr(self.model, "dims", 2)  # exported files are of pictures

    @property
    def channels(self) -> int:
        """Those of the signals or volumes that it takes; 3 for pictures."""
        return self.model.config.in_channels if self.dims != 2 else 3

    @cached_property
    def names(self) -> list[str]:
        """Class names by label; those of equal classes, which weights from elsewhere may have, with their ids."""
        return distinct(self.card.names, self.card.category_ids)

    def predictor(self, keep: Keep, size: int = 0, batch: int = 1, tta: bool = False, tile: bool = False) -> Any:
        """Frames to detections, with these settings; `size` 0 is the size of training.

        `tta` averages over sizes and mirrors, `tile` looks at pictures larger than `size` in tiles of it. A landmarker
        looks again where it found its points: see `Closer`.
        """
        if self.dims != 2:
            if size or tta or tile:
                raise UserError("--imgsz, --tta and --tile are for pictures: leave them out")
            return RecordPredictor(self.model, keep, batch, self.device, self.dtype)
        if (tta or tile) and self.model.task != "detect":
            raise UserError("--tta and --tile are for detectors: leave them out")
        side = self.side(size)

        def of(side: int, keep: Keep) -> Predictor:
            return Predictor(self.model, side, keep, batch, self.device, self.dtype)

        if self.card.shape:
            return Closer(of(side, replace(keep, score=0.0)), np.array(self.card.shape), keep)
        predictor: Any = of(side, keep)
        if tta:
            every = replace(keep, score=keep.score / VIEWS)  # what is sure in one view counts where it is less so
            predictor = Views([of(self.side(round(side * scale)), every) for scale in SCALES], keep)
        return Tiles(predictor, side, keep) if tile else predictor

    def side(self, imgsz: int) -> int:
        """`imgsz`, or the size of training where that is 0. Raises UserError for one that the model does not take."""
        if imgsz and imgsz != self.card.size:
            self.model.require_side(imgsz)
        return imgsz or self.card.size

    def predict(
        self,
        source: Any,
        *,
        conf: float = 0.25,
        iou: float = 0.7,
        max_det: int = 300,
        agnostic: bool = False,
        classes: Sequence[int] | None = None,
        imgsz: int = 0,
        batch: int = 1,
        vid_stride: int = 1,
        tta: bool = False,
        tile: bool = False,
    ) -> Iterator[tuple[Frame, Any]]:
        """Each frame of `source` with its Detections, boxes in pixels of the frame; of a classifier with its Classes.

        `source` is what `detect predict` takes, or an array (H, W, 3) uint8 in RGB order, a PIL image, a tensor
        (3, H, W) in RGB order (uint8, or floating in 0..1), or a list of these.
        """
        keep = Keep(conf, iou, max_det, agnostic, classes=None if classes is None else tuple(classes))
        with open_source(source, vid_stride) as frames:
            yield from self.predictor(keep, imgsz, batch, tta, tile)(frames)
