"""Fills our networks with published convolutions, which come in the order they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detect.models.base import Model

NORM = ("weight", "bias", "running_mean", "running_var")
Part = dict[str, Tensor]  # weight, and bias or the tensors of batch normalization; axis 0 is the outputs
Take = Callable[[Iterator[Part]], Part]  # takes one convolution or several off the file, and makes one of ours


@torch.no_grad()
def fill(model: Model, parts: Iterator[Part], takes: Mapping[nn.Module, Take], side: int) -> None:
    """Store published convolutions in those of a model, in the order they run.

    Args:
        model: changed in place.
        parts: the convolutions of the file.
        takes: for each of our convolutions that is not simply the next one of the file, the function that makes it.
        side: of an image in pixels that the network can read.

    Raises:
        RuntimeError, LookupError, TypeError, StopIteration: the file is of another network.
    """
    norms = {block[0]: block[1] for block in modules(model, nn.Sequential) if _normed(block)}
    for conv in in_order(model, side):
        _put(conv, norms.get(conv), takes.get(conv, next)(parts))


def in_order(model: Model, side: int) -> list[nn.Conv2d]:
    """The convolutions of a model in the order they run on an image of `side` pixels."""
    order: list[nn.Conv2d] = []
    hooks = [m.register_forward_pre_hook(lambda m, _: order.append(m)) for m in modules(model, nn.Conv2d)]
    model(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return order


def modules(model: nn.Module, kind: type) -> list[Any]:
    """The submodules of a kind."""
    return [m for m in model.modules() if isinstance(m, kind)]


def _normed(block: nn.Sequential) -> bool:
    return len(block) > 1 and isinstance(block[0], nn.Conv2d) and isinstance(block[1], nn.BatchNorm2d)


def join(parts: Iterator[Part]) -> Part:
    """Two convolutions of one input, joined."""
    first, second = next(parts), next(parts)
    return {key: torch.cat([value, second[key]]) for key, value in first.items()}


def join_reversed(parts: Iterator[Part]) -> Part:
    """Two convolutions of one input, joined, the second first."""
    return {key: torch.cat(value.chunk(2)[::-1]) for key, value in join(parts).items()}


def swap_inputs(parts: Iterator[Part]) -> Part:
    """A convolution whose input has its two halves the other way round."""
    part = next(parts)
    return part | {"weight": torch.cat(part["weight"].chunk(2, 1)[::-1], 1)}


def _put(conv: nn.Conv2d, norm: nn.Module | None, part: Part) -> None:
    """Store a part in a convolution. For a folded one, the normalization is set to only add the bias."""
    _copy(conv.weight, part["weight"])
    if norm is None:
        _copy(conv.bias, part["bias"])
        return
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None and norm.num_batches_tracked is not None
    if "bias" in part:
        norm.reset_running_stats()
        norm.running_var.fill_(1 - norm.eps)
        nn.init.ones_(norm.weight)
        _copy(norm.bias, part["bias"])
        return
    for name in NORM:
        _copy(getattr(norm, name), part[f"norm.{name}"])
    norm.num_batches_tracked.fill_(1)


def _copy(mine: Tensor | None, theirs: Tensor) -> None:
    if mine is None or mine.shape != theirs.shape:
        raise RuntimeError("shapes differ")
    mine.copy_(theirs)
