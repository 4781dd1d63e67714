"""Predictions for a whole dataset: the path of `detect predict`, with a loader instead of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from detect.data.annotations import Annotations
from detect.data.letterbox import in_source
from detect.types import Batch, Frame, Postprocess
from detect.utils.device import autocast


@torch.inference_mode()
def predict_batches(
    model: Any, batches: Iterable[Batch], postprocess: Postprocess, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[list[int], list[Any]]]:
    """Image ids and results, batch by batch; detections are in pixels of the source image.

    Args:
        model: a model made ready by `for_inference`, on `device`.
        batches: the batches of an evaluation loader.
        postprocess: how raw outputs become results.
        device: where the model is.
        dtype: floating-point type to compute in.
    """
    for batch in batches:
        with autocast(device, dtype):
            given = () if batch.proposals is None else (batch.proposals,)
            output = model(batch.images.to(device, non_blocking=True), *given)
        results = model.postprocess(output, postprocess)
        if batch.fits:
            results = [
                in_source(one, fit, postprocess.keep_empty) for one, fit in zip(results, batch.fits, strict=True)
            ]
        yield [t.image_id for t in batch.targets], results


def predict_images(predictor: Any, annotations: Annotations) -> Iterator[tuple[list[int], list[Any]]]:
    """The id and the result of each image, read whole and given to `predictor` as a frame."""
    ids = annotations.image_ids.tolist()
    frames = (Frame(annotations.read(i), str(ids[i]), i) for i in range(len(annotations)))
    for frame, results in predictor(frames):
        yield [ids[frame.index]], [results]
