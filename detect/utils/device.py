"""Which device computes, in which type, and with how many threads."""

from __future__ import annotations

import ctypes
import os

import torch

from detect.errors import UserError
from detect.utils.precision import bfloat16_speed, fastest


def pick_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda, cuda:N, N or mps. Raises UserError when it is not there."""
    name = spelled(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cpu":
        _keep_freed_memory()
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: {torch.cuda.device_count()} CUDA devices are there; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: there is none; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: use auto, cpu, cuda, cuda:N or mps")
    return device


def spelled(name: str) -> str:
    """The name of a device as torch spells it: N alone is a CUDA device. Raises UserError for several."""
    if "," in name:
        raise UserError(f"--device {name}: a process uses one; torchrun --nproc_per_node N trains on several")
    return f"cuda:{name}" if name.isdecimal() else name.lower()


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors free for the next ones, at the same peak.

    By default it returns large blocks to the kernel, which hands them back page by page, cleared: 25,000 page faults
    and a tenth of the time of a training step.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-4, 0)  # M_MMAP_MAX
    except (OSError, TypeError, AttributeError):  # not glibc
        pass


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of autocast for --precision `name`.

    `auto` on CUDA: bfloat16 where the hardware has it, else float16. On the CPU: bfloat16 where it was measured to be
    faster than float32 (see `detect.utils.precision`), else float32.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return fastest() if device.type == "cpu" else torch.float32


def computed_in(device: torch.device, dtype: torch.dtype) -> str:
    """What every command says of where and in which type of numbers it computes."""
    return f"computed in {str(dtype).removeprefix('torch.')} on {device}"


def trained_in(device: torch.device, dtype: torch.dtype) -> str:
    """The line that says so of training, with what decided it on the CPU."""
    said = f"training is {computed_in(device, dtype)}"
    if device.type != "cpu":
        return said
    ratio, threads = bfloat16_speed(), torch.get_num_threads()
    measured = f" (bfloat16 was measured {ratio:.2f} times as fast as float32 here)" if ratio else ""
    return f"{said}, {threads} {'thread' if threads == 1 else 'threads'}{measured}"


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which networks run on `device` in `dtype`; without effect for float32."""
    return torch.autocast(device.type, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32)


def pick_workers(count: int) -> int:
    """Loader processes: `count`, or for -1 half of the cores this process may use, between one and eight."""
    if count >= 0:
        return count
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
