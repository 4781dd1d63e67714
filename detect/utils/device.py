"""Chooses the device, the floating-point type, and the number of loader processes."""

from __future__ import annotations

import ctypes
import os

import torch

from detect.errors import UserError
from detect.utils.precision import bfloat16_speed, fastest


def pick_device(name: str) -> torch.device:
    """The device called auto, cpu, cuda, cuda:N, N or mps.

    Raises:
        UserError: there is no such device.
    """
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
        raise UserError(f"--device {name}: {torch.cuda.device_count()} CUDA devices are available; use --device cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: it is not available; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: use auto, cpu, cuda, cuda:N or mps")
    return device


def spelled(name: str) -> str:
    """The name of a device as torch spells it; N alone is a CUDA device.

    Raises:
        UserError: it names several devices.
    """
    if "," in name:
        raise UserError(
            f"--device {name}: a process uses one device; train on several with torchrun --nproc_per_node N"
        )
    return f"cuda:{name}" if name.isdecimal() else name.lower()


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next ones; the peak is the same.

    By default it returns large blocks to the kernel, which hands them back cleared, page by page: 25,000 page faults
    and a tenth of the time of a training step.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        libc.mallopt(-4, 0)  # M_MMAP_MAX
    except (OSError, TypeError, AttributeError):  # not glibc
        pass


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The autocast type for --precision `name`.

    `auto` on CUDA is bfloat16 if the hardware supports it, else float16. On the CPU it is bfloat16 if it was measured
    to be faster than float32 (see `detect.utils.precision`), else float32.
    """
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return fastest() if device.type == "cpu" else torch.float32


def computed_in(device: torch.device, dtype: torch.dtype) -> str:
    """The words by which every command tells the device and type it computes with."""
    return f"computed in {str(dtype).removeprefix('torch.')} on {device}"


def why_dtype(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """The type that training computes in, and why: --precision `name` and what `pick_dtype` made of it."""
    said = str(dtype).removeprefix("torch.")
    if name != "auto":
        return f"{said} (--precision)"
    if device.type == "cuda":
        return said if dtype == torch.bfloat16 else f"{said} (this GPU has no bfloat16)"
    ratio = bfloat16_speed() if device.type == "cpu" else 0.0
    return f"{said} (bfloat16 was measured {ratio:.2f} times as fast as float32 here)" if ratio else said


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """The context in which networks run on `device` in `dtype`; it does nothing for float32."""
    return torch.autocast(device.type, dtype if dtype != torch.float32 else None, enabled=dtype != torch.float32)


def pick_workers(count: int) -> int:
    """The number of loader processes: `count`, or for -1 half of the cores this process may use, from 1 to 8."""
    if count >= 0:
        return count
    return max(1, min(8, usable_cores() // 2 // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
