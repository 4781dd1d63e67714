"""The predictor of classifiers of signals (one dimension) and volumes (three)."""

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
    """Predicts the classes of signals or volumes, in order, at most `batch` of one shape together.

    Args:
        model: prepared by `for_inference`, on `device`.
        keep: which classes are kept.
        batch: how many go through the network together.
        device: where the network runs.
        dtype: its floating-point type.
    """

    def __init__(self, model: Any, keep: Postprocess, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.model, self.keep, self.batch = model, keep, batch
        self.device, self.precision = device, autocast(device, dtype)

    def __call__(self, frames: Iterable[Frame]) -> Generator[tuple[Frame, Any], None, None]:
        """Each frame with its Classification, on the CPU.

        Raises:
            UserError: an array has a shape that the network does not take.
        """
        for _, same_shape in groupby(frames, lambda frame: frame.image.shape):
            while batch := list(islice(same_shape, self.batch)):
                yield from zip(batch, self._predict(batch), strict=True)

    @torch.inference_mode()
    def _predict(self, frames: list[Frame]) -> list[Any]:
        shape = frames[0].image.shape
        if len(shape) != self.model.dims + 1 or shape[0] != self.model.config.in_channels:
            form = " x ".join([str(self.model.config.in_channels), *"DHW"[-self.model.dims :]]).replace("W", "L")
            what = "is an image" if frames[0].image.dtype == np.uint8 and len(shape) == 3 else f"has shape {shape}"
            raise UserError(f"{frames[0].name} {what}, and the model takes arrays {form}")
        values = torch.from_numpy(np.stack([frame.image for frame in frames])).to(self.device)
        with self.precision:
            raw = self.model(values)
        return self.model.postprocess(raw, self.keep)
