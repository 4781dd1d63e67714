"""From signals or volumes to their classes: the predictor of networks that look at one or three dimensions."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from itertools import groupby, islice
from typing import Any

import numpy as np
import torch

from detect.errors import UserError
from detect.types import Frame, Postprocess
from detect.utils.device import autocast


class SignalPredictor:
    """Says the class of records with a lean model on `device`, at most `batch` of one shape together, in order."""

    def __init__(self, model: Any, keep: Postprocess, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.model, self.keep, self.batch = model, keep, batch
        self.device, self.precision = device, autocast(device, dtype)

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Any], None, None]:
        """Each frame with its answer on the CPU. Raises UserError for a record that the network cannot look at."""
        for _, alike in groupby(frames, lambda frame: frame.image.shape):
            while some := list(islice(alike, self.batch)):
                yield from zip(some, self._answers(some), strict=True)

    @torch.inference_mode()
    def _answers(self, frames: list[Frame]) -> list[Any]:
        shape = frames[0].image.shape
        if len(shape) != self.model.dims + 1 or shape[0] != self.model.config.in_channels:
            form = " x ".join([str(self.model.config.in_channels), *"DHW"[-self.model.dims :]]).replace("W", "L")
            what = "is a picture" if frames[0].image.dtype == np.uint8 and len(shape) == 3 else f"has shape {shape}"
            raise UserError(f"{frames[0].name} {what}, and the weights look at records {form}")
        values = torch.from_numpy(np.stack([frame.image for frame in frames])).to(self.device)
        with self.precision:
            raw = self.model(values)
        return self.model.decode(raw, self.keep)
