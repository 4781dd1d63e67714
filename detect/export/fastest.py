"""In which precision this machine runs an exported file fastest, with the results of float32; measured once a file.

Neither the instructions of the processor nor another file tell it: in bfloat16 some networks are twice as fast, and
others no faster than in float32.
"""

from __future__ import annotations

import importlib.metadata
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from detect.errors import UserError
from detect.utils.precision import MARGIN, least_seconds, processor, recall, remember, watched

if TYPE_CHECKING:
    from detect.export.runtime import Exported


def fastest(
    opened: Callable[[str], Exported], precisions: Sequence[str], runtime: str, files: Iterable[Path]
) -> tuple[Exported, str, float]:
    """Open a file in the precision that is fastest here.

    Args:
        opened: opens the file in a precision.
        precisions: names to choose from; the first is the exact one.
        runtime: name of the package that runs the file.
        files: the file and its companions.

    Returns:
        The opened file, its precision, and how many times as fast as in the exact one it is.
    """
    crc = 0
    for file in files:
        crc = zlib.crc32(file.read_bytes(), crc)
    version = importlib.metadata.version(runtime)
    key = f"{processor()}, {torch.get_num_threads()} threads, {runtime} {version}, file {crc:08x}"
    exact, *others = precisions
    speeds = recall(key)
    if not isinstance(speeds, dict) or not all(isinstance(speeds.get(name), int | float) for name in others):
        candidates = {exact: opened(exact)}
        for name in others:
            with suppress(UserError):  # this processor's way to compute in it fails with some networks
                candidates[name] = opened(name)
        speeds, undisturbed = watched(partial(measure, candidates))
        speeds = dict.fromkeys(others, 0.0) | speeds
        if undisturbed:
            remember(key, speeds)
    best = max(others, key=speeds.__getitem__)
    best, speed = (best, float(speeds[best])) if speeds[best] > MARGIN else (exact, 1.0)
    return opened(best), best, speed


@torch.inference_mode()
def measure(files: Mapping[str, Exported]) -> dict[str, float]:
    """The speed of a file in each precision but the first in which it runs, as a multiple of its speed in that.

    It is 0 where the results are others than those of the first.
    """
    from detect.export.comparison import agree, canvases, photographs

    exact, *others = files
    images = list(canvases(photographs(), files[exact].about))
    outputs: dict[str, Any] = {exact: [files[exact](x) for x in images]}
    for name in others:
        with suppress(UserError):
            outputs[name] = [files[name](x) for x in images]
    least = least_seconds({name: partial(files[name], images[0]) for name in outputs})
    return {
        name: round(least[exact] / least[name], 3) if agree(files[exact], outputs[exact], outputs[name]) else 0.0
        for name in others
        if name in outputs
    }
