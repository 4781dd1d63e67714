"""Checkpoint files: what torch.save writes, then a line with its CRC-32; and the checks when one is read.

Without that line a flipped bit would go unnoticed into the weights: torch does not compare the checksums in its files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import torch
from torch import Tensor

from detect.config.constraints import Length, Range, from_values
from detect.errors import UserError
from detect.models.legacy import current_record, current_rows, current_terms
from detect.models.weights import require_finite
from detect.utils.atomic_io import open_file, replace_file

FORMAT = 3
_LINE = b"\ngridhead crc32 %08x\n"
_LENGTH = len(_LINE % 1)
_CHUNK = 1 << 20  # bytes
_TENSORS = ("model", "ema", "teachers", "optimizer", "sums", "callbacks")

_Number = Annotated[int, Range(0, 2**53)]
Row = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """What a checkpoint holds besides tensors.

    Attributes:
        format: version of the file.
        record: the settings and facts of the run.
        changes: as `Run.changes`.
        history: as `Run.history`.
        counts: epoch, batch and step.
        terms: names of the loss terms.
        best: the best metric, and its epoch.
        scaler: the state of the gradient scaler; empty without one.
        threads: the threads that torch computed with.
    """

    format: Annotated[int, Range(FORMAT, FORMAT)]
    record: Row
    changes: list[Row]
    history: list[Row]
    counts: tuple[_Number, _Number, _Number]
    terms: Annotated[list[str], Length(0, 100)]
    best: list[Any]
    scaler: dict[str, float]
    threads: Annotated[int, Range(1, 1024)]


def write(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a checkpoint atomically.

    Args:
        path: the file.
        state: plain containers and tensors.
    """
    replace_file(path, lambda part: _write(part, dict(state)))


def _write(part: Path, state: dict[str, Any]) -> None:
    torch.save(state, part)
    with part.open("r+b") as file:
        crc = _crc(file, part.stat().st_size)
        file.write(_LINE % crc)


def sign(content: bytes) -> bytes:
    """What torch.save wrote, with the line that makes it a checkpoint."""
    return content + _LINE % zlib.crc32(content)


def _crc(file: BinaryIO, length: int) -> int:
    """The CRC-32 of the next `length` bytes."""
    crc = 0
    while length > 0 and (chunk := file.read(min(_CHUNK, length))):
        crc, length = zlib.crc32(chunk, crc), length - len(chunk)
    return crc


def read(path: Path, mmap: bool = False) -> tuple[dict[str, Any], Progress]:
    """Read and check a checkpoint.

    Args:
        path: the file.
        mmap: whether tensors are read only when they are used.

    Returns:
        All that it holds, and the part that is no tensor, each value checked.

    Raises:
        UserError: it is damaged, of another version, or no checkpoint.
    """
    with reading(path):
        with open_file(path) as file:
            crc = _crc(file, path.stat().st_size - _LENGTH)
            if file.read() != _LINE % crc:
                raise ValueError("its checksum is absent or wrong")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        texts = {name: json.loads(state[name]) for name in ("record", "changes", "history")}
        plain = from_values(Progress, {k: v for k, v in state.items() if k not in _TENSORS} | texts, "")
        if (record := current_record(plain.record)) != plain.record:
            terms, history = current_terms(plain.terms), current_rows(plain.history)
            plain = replace(plain, record=record, terms=terms, history=history)
        best, epoch = plain.best
        if math.isnan(best) or type(epoch) is not int or not -1 <= epoch < max(1, plain.counts[0]):
            raise ValueError(f"best is {plain.best}")
        numbered = all(row.get("epoch") == i for i, row in enumerate(plain.history))
        if len(plain.history) != plain.counts[0] or not numbered:
            raise ValueError(f"it is at epoch {plain.counts[0]}, with the numbers of {len(plain.history)}")
    return state, plain


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error while a checkpoint is read into a UserError that names the file and the remedy."""
    try:
        yield
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = (
            f"put a copy of it back, or start with another --out, from {path.with_name('best.safetensors')} if it is"
        )
        raise UserError(f"{path} is damaged or no checkpoint: {reason}; {remedy} there (--weights)") from error


def require_tensors(state: Mapping[str, Any], model: Mapping[str, Tensor], groups: list[dict[str, Any]]) -> None:
    """Check that the tensors of a checkpoint are those of the model and the optimizer.

    Args:
        state: what the checkpoint holds.
        model: the state of the model.
        groups: the parameter groups of the optimizer.

    Raises:
        ValueError: names, shapes or types differ.
        UserError: a tensor is not finite.
    """
    for part in ("model", "ema"):
        require_same_tensors(part, state[part], model)
    callbacks = state.get("callbacks", {})
    if not isinstance(callbacks, dict) or not all(isinstance(one, dict) for one in callbacks.values()):
        raise ValueError("the states of callbacks are no dictionaries")
    saved_groups, sums = state["optimizer"]["param_groups"], state["sums"]
    if [len(g["params"]) for g in saved_groups] != [len(g["params"]) for g in groups]:
        raise ValueError("the optimizer has other groups of parameters")
    if not all(isinstance(g["lr"], float) and 0 <= g["lr"] < math.inf for g in saved_groups):
        raise ValueError(f"its learning rates are {[g['lr'] for g in saved_groups][:3]}")
    if sums is not None and not (isinstance(sums, Tensor) and sums.shape == (len(state["terms"]),)):
        raise ValueError("sums are not one number for each loss term")
    own = dict(zip(chain(*(g["params"] for g in saved_groups)), chain(*(g["params"] for g in groups)), strict=True))
    for key, values in state["optimizer"]["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape != own[key].shape and value.numel() != 1:
                raise ValueError(f"{name} of the optimizer has shape {list(value.shape)}")


def require_same_tensors(part: str, found: Any, own: Mapping[str, Tensor]) -> None:
    """Check that a part of a checkpoint has the tensors of a module.

    Args:
        part: its name, for messages.
        found: what the checkpoint holds.
        own: the state of the module.

    Raises:
        ValueError: names, shapes or types differ.
        UserError: a tensor is not finite.
    """
    if not isinstance(found, dict) or found.keys() != own.keys():
        raise ValueError(f"{part} has other tensors than the model")
    for name, tensor in own.items():
        _require_like(found[name], tensor, f"{part}.{name}")
    require_finite(found, part)


def _require_like(found: Any, own: Tensor, name: str) -> None:
    what = (found.shape, found.dtype) if isinstance(found, Tensor) else type(found).__name__
    if what != (own.shape, own.dtype):
        raise ValueError(f"{name} is {what}, not {own.shape, own.dtype}")
