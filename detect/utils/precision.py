"""Measures, once, in which floating-point type this processor computes convolutions fastest.

Instructions do not tell the speed: with AVX512-BF16 but no AMX, bfloat16 takes 1.4 times as long as float32 on some
processors, and half as long on others.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detect.errors import UserError
from detect.models.backbones.blocks import Conv, Fused
from detect.utils.atomic_io import cache_folder, replace_text

Key = TypeVar("Key")
Result = TypeVar("Result")

ROUNDS = 8  # the fastest one counts
TOO_SLOW = 2  # times the fastest: no further round can change the order
SIZE = (32, 40)  # cells of the stack's input: those of stride 16 in an image of 640 x 512
FIRST_SIZE = (16, 20)  # weights are laid out for the first input, as those of a detector are for its first image
KEPT = 200  # measurements in the cache: there is one for each exported file
FREE = 0.7  # processor time as a share of the time that passed: less means that others had the processor, too
SLACK = 0.01  # seconds, by which clocks may differ
MARGIN = 1.1  # how many times faster another type or form must be: near ties would change from run to run


class Timing(NamedTuple):
    """Seconds of one forward pass: layer by layer, and with convolution and activation fused."""

    separate: float
    fused: float

    @property
    def use_fused(self) -> bool:
        """Whether the fused form is worth using."""
        return self.fused * MARGIN < self.separate

    @property
    def best(self) -> float:
        """Seconds in the form that is used."""
        return self.fused if self.use_fused else self.separate


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 that oneDNN may use; without them it is emulated."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def bfloat16_speed() -> float:
    """The speed of bfloat16 on this CPU, as a multiple of that of float32; 0 without instructions for it."""
    if not has_bfloat16():
        return 0.0
    found = timings(torch.get_num_threads())
    return found["float32"].best / found["bfloat16"].best


def fastest() -> torch.dtype:
    """float32 or bfloat16, in whichever the CPU computes convolutions faster."""
    return torch.bfloat16 if bfloat16_speed() > MARGIN else torch.float32


def use_fused(dtype: torch.dtype) -> bool:
    """Whether networks run in `dtype` on the CPU are faster with convolution and activation as one oneDNN primitive."""
    name = str(dtype).removeprefix("torch.")
    return name in _types() and timings(torch.get_num_threads())[name].use_fused


@cache
def timings(threads: int) -> dict[str, Timing]:
    """The timings of each type by name, from the user's cache folder, or measured and stored there.

    They hold for one processor, number of threads and version of torch, and for what the environment lets these use.
    """
    key = cpu_key(threads)
    try:
        remembered = recall(key)
        found = {name: Timing(*map(float, remembered[name])) for name in _types()}
        if all(0 < seconds < float("inf") for timing in found.values() for seconds in timing):
            return found
        raise ValueError("it holds no times")
    except (KeyError, TypeError, ValueError):
        found, undisturbed = watched(measure)
    if undisturbed:
        remember(key, found)
    return found


def cpu_key(threads: int) -> str:
    """What a measurement holds for: the processor, what the environment lets torch use of it, threads and version."""
    key = f"{processor()}, {torch.backends.cpu.get_cpu_capability()}, bfloat16 {has_bfloat16()}, "
    return key + f"{threads} threads, torch {torch.__version__}"


def watched(run: Callable[[], Result]) -> tuple[Result, bool]:
    """The result of a measurement, and whether the processor was free for it: only such a one is worth keeping."""
    wall, own = time.perf_counter(), time.process_time()
    result = run()
    wall, own = time.perf_counter() - wall, time.process_time() - own
    return result, own >= FREE * wall - SLACK


def recall(key: str) -> Any:
    """What `remember` stored under a key in the user's cache folder; None where there is nothing."""
    with suppress(OSError):
        return _read(cache_folder() / "precision.json").get(key)
    return None


def remember(key: str, value: Any) -> None:
    """Store a measurement, as JSON. Where the cache cannot be written the next process measures again."""
    with suppress(OSError, UserError):
        file = cache_folder() / "precision.json"
        latest = [*(_read(file) | {key: value}).items()][-KEPT:]
        replace_text(file, json.dumps(dict(latest), indent=1) + "\n")


def measure() -> dict[str, Timing]:
    """Time a stack of convolutions like a detector's in each type and form, by turns.

    One thread does it: the order is that of several threads, whose waiting for one another on a busy machine would
    hide it.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            forms = {
                (name, fused): stack_of(getattr(torch, name), fused) for name in _types() for fused in (False, True)
            }
            least = least_seconds(forms)
    finally:
        torch.set_num_threads(threads)
    return {name: Timing(least[name, False], least[name, True]) for name in _types()}


def least_seconds(runs: Mapping[Key, Callable[[], Any]]) -> dict[Key, float]:
    """The least time of each function, in seconds, of several rounds by turns; those that are far slower stop early."""
    least = dict.fromkeys(runs, float("inf"))
    for turn in range(ROUNDS):
        for name, run in runs.items():
            if turn > 2 and least[name] > TOO_SLOW * min(least.values()):
                continue
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def stack_of(dtype: torch.dtype, fused: bool) -> Callable[..., None]:
    """A pass through convolutions like a detector's in a type and form, of an input of (h, w) cells or SIZE.

    A pass at another size is made first, which lays out the weights.
    """
    blocks = Conv(64, 64), Conv(64, 128, 3, 2), Conv(128, 128), Conv(128, 64, 1), Conv(64, 128, 3, 2)
    network = nn.Sequential()
    for block in nn.Sequential(*blocks).eval().to(memory_format=torch.channels_last):
        convolution, normalization, activation = block.children()
        assert isinstance(convolution, nn.Conv2d) and isinstance(normalization, nn.BatchNorm2d)
        folded = fuse_conv_bn_eval(convolution, normalization)
        network.append(Fused(folded, activation) if fused else nn.Sequential(folded, activation))

    def run(size: tuple[int, int] = SIZE) -> None:
        maps = torch.zeros(1, 64, *size, dtype=dtype).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            network(maps)

    run(FIRST_SIZE)
    run()
    return run


def _types() -> tuple[str, ...]:
    """The types that oneDNN computes in, by name."""
    if not torch.backends.mkldnn.is_available():
        return ()
    return ("float32", "bfloat16") if has_bfloat16() else ("float32",)


def processor() -> str:
    """The name of the processor, as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
