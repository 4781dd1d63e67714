"""Which convolutions become int8: all of them, or all but some, judged by the task's metric on a split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.api import Detector
from detect.commands.evaluate import EvaluateConfig
from detect.commands.export import ExportConfig
from detect.errors import UserError
from detect.evaluation.evaluate import evaluated, open_split
from detect.export.comparison import BOUNDS, canvases, matched_share, sample_images
from detect.export.metadata import About
from detect.export.quantize import Quantizer
from detect.export.runtime import open_exported
from detect.export.writers import write_onnx
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.types import Postprocess
from detect.utils.atomic_io import temporary_folder
from detect.utils.names import say

CALIBRATION_IMAGES = 128
SENSITIVITY_IMAGES = 4  # each layer is quantized alone and run on them
EVALUATION_IMAGES = 500
ALLOWED_LOSS = 0.01  # of the task's metric
AUTO = "auto"
NAMED = 8  # layers in a line
MOST_EXCLUDED = 0.75  # of all convolutions: beyond it little is left that int8 could speed up


def to_int8(config: ExportConfig, about: About, graph: Any) -> Any:
    """The ONNX model, without NMS, in int8; prints the task's metric before and after.

    Args:
        config: the options of `detect export`; `int8_exclude` names what stays in float32, or is "auto".
        about: how the file is used.
        graph: the model in float32.

    Raises:
        UserError: the metric falls by more than `ALLOWED_LOSS`, or `--int8-exclude` names no layer.
    """
    with temporary_folder() as folder:
        images = sample_images(config, "train", about.task, CALIBRATION_IMAGES)
        kind = REGISTRIES["export"][config.format]
        quantizer = Quantizer(graph, canvases(images, about), folder, kind.int8_outputs, kind.unsigned_weights)
        if auto := config.int8_exclude == [AUTO]:
            attempts = _attempts(quantizer, list(canvases(images, about)))
        else:
            attempts = iter([quantizer.matching(config.int8_exclude)])
        metric, measure = get_task(about.task).metric.lstrip("-"), _measure(config, about, folder)
        before, share = measure(graph), _share(config, about, folder, graph) if auto else None
        for exclude in attempts:
            quantized = quantizer(exclude)
            after = measure(quantized)
            say(f"{metric} {abs(before):.3f} in float32, {abs(after):.3f} in int8{_how(exclude, quantizer)}")
            kept = after >= before - ALLOWED_LOSS
            if kept and (share is None or share(quantized) >= BOUNDS["int8"][1]):
                return quantized
    if kept:
        return quantized  # the check of the file says what is wrong with it
    remedy = "more images in --data" if auto else "--int8-exclude auto"
    verb = "rises" if get_task(about.task).metric.startswith("-") else "falls"
    raise UserError(
        f"export rejected: {metric} {verb} by {abs(after - before):.3f}; up to {ALLOWED_LOSS:g} is accepted: "
        f"try {remedy}, or --half"
    )


def _attempts(quantizer: Quantizer, images: Sequence[Tensor]) -> Iterator[list[str]]:
    """What to leave in float32: nothing, then, with averaged ranges, more and more of the most sensitive layers."""
    yield []
    quantizer.calibrate(images, averaged=True)
    yield []
    every = max(1, len(images) // SENSITIVITY_IMAGES)
    ranked, count = quantizer.by_sensitivity(images[::every][:SENSITIVITY_IMAGES]), 1
    while count <= MOST_EXCLUDED * len(ranked):
        yield ranked[:count]
        count += (count + 1) // 2


def _how(exclude: Sequence[str], quantizer: Quantizer) -> str:
    """Which layers stay in float32, and how ranges were measured, in words."""
    ranges = " with averaged ranges" if quantizer.averaged else ""
    if not exclude:
        return ranges
    names = ", ".join(exclude[:NAMED]) + (" ..." if len(exclude) > NAMED else "")
    link = " and" if ranges else " with"
    return f"{ranges}{link} {len(exclude)} of {len(quantizer.layers)} convolutions in float32 ({names})"


def _share(config: ExportConfig, about: About, folder: Path, graph: Any) -> Callable[[Any], float]:
    """The function from an int8 model to the share of its results that are those of `graph`, as the check counts it."""
    path, postprocess = folder / "compared.onnx", Postprocess(about.conf, about.iou, about.max_det)
    images = list(canvases(sample_images(config, config.split, about.task), about))

    def results(graph: Any) -> list[Any]:
        write_onnx(graph, replace(about, suppressed=False), path)
        opened = open_exported(path, "cpu")
        return [opened.postprocess(opened(image), postprocess)[0] for image in images]

    expected = results(graph)

    def share(quantized: Any) -> float:
        matched, total = matched_share(about, expected, results(quantized))
        if total and matched < BOUNDS["int8"][1]:
            say(f"  but only {matched:.0%} of its results are those of float32")
        return matched if total else 1.0  # nothing can be compared, which the check of the file says

    return share


def _measure(config: ExportConfig, about: About, folder: Path) -> Callable[[Any], float]:
    """The function from an ONNX model to the task's metric on up to `EVALUATION_IMAGES` images; the more the better."""
    task, path = get_task(about.task), folder / "measured.onnx"
    evaluation = EvaluateConfig(
        [config.weights], config.data, config.split, workers=0, allow_outside=config.allow_outside
    )
    annotations = open_split(evaluation, task)
    some = np.linspace(0, len(annotations) - 1, min(EVALUATION_IMAGES, len(annotations))).astype(int)
    annotations = annotations.select(np.unique(some))

    def measure(graph: Any) -> float:
        write_onnx(graph, replace(about, suppressed=False), path)
        detector = Detector(open_exported(path, "cpu"), torch.device("cpu"), torch.float32)
        result = evaluated(evaluation, detector, annotations, task.postprocess(evaluation)).result()
        value: float = result[task.metric.lstrip("-")]
        return -value if task.metric.startswith("-") else value

    return measure
