"""Measures, once, whether several threads compute one small image faster than one thread does.

A layer of a small image takes some tens of microseconds, after which all threads wait for the last one. On two
hardware threads of one core, or where other programs and other virtual machines take turns on the cores, they save
little or nothing, and take the processor while they wait.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch

from detect.utils.precision import SIZE, cpu_key, fastest, least_seconds, recall, remember, stack_of, use_fused, watched

STRIDE = 16  # pixels to a cell of the stack's input
WORTH = 1.2  # times as fast that several threads must be: what they take from other work is then repaid


def threads_for(pixels: int) -> int:
    """How many threads an image of so many pixels is computed by: torch's, or one where they are hardly faster."""
    threads = torch.get_num_threads()
    return threads if threads == 1 or gain(pixels, threads) >= WORTH else 1


def gain(pixels: int, threads: int) -> float:
    """How many times as fast so many threads are as one, in the measured size nearest to that of the images."""
    measured = gains(threads)
    return measured[min(measured, key=lambda size: abs(math.log(size / max(pixels, 1))))]


@cache
def gains(threads: int) -> dict[int, float]:
    """`gain` by number of pixels, from the user's cache folder, or measured and stored there."""
    key = f"{cpu_key(threads)}, one image"
    try:
        found = {size: float(recall(key)[str(size)]) for size in map(_pixels, _sizes())}
        if all(0 < one < float("inf") for one in found.values()):
            return found
    except (KeyError, TypeError, ValueError):
        pass
    found, undisturbed = watched(lambda: measure_gains(threads))
    if undisturbed:
        remember(key, {str(size): round(one, 3) for size, one in found.items()})
    return found


def measure_gains(threads: int) -> dict[int, float]:
    """Time convolutions like a detector's with one thread and with several, by turns, on images of two sizes."""
    before, dtype = torch.get_num_threads(), fastest()
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            run = stack_of(dtype, use_fused(dtype))
            least = least_seconds({(size, many): _with(many, run, size) for size in _sizes() for many in (1, threads)})
    finally:
        torch.set_num_threads(before)
    return {_pixels(size): least[size, 1] / least[size, threads] for size in _sizes()}


def _with(threads: int, run: Callable[[tuple[int, int]], None], size: tuple[int, int]) -> Callable[[], None]:
    def limited() -> None:
        torch.set_num_threads(threads)
        run(size)

    return limited


def _sizes() -> tuple[tuple[int, int], ...]:
    """Of the stack's input: those of an image of 640 x 512 pixels, and of half its sides."""
    return (SIZE[0] // 2, SIZE[1] // 2), SIZE


def _pixels(size: tuple[int, int]) -> int:
    return math.prod(size) * STRIDE**2
