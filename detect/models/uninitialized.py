"""Networks without initial weights: to learn the shapes of a configuration, or because a file has the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.base import ModelConfig
from detect.utils.operators import explain_torchvision_errors

_MADE = {torch.empty, torch.zeros, torch.ones, torch.full}
_RANDOM = {"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_"}


class Unfilled(TorchFunctionMode):
    """While entered, no random numbers are drawn for new weights, which takes most of the time of building a network.

    With `shapes` weights are on the meta device and take no memory, whatever their size. `torch.device("meta")` would
    put small constants there too, and computing with them imports half of torch, which takes seconds.
    """

    def __init__(self, shapes: bool = False) -> None:
        super().__init__()
        self.shapes = shapes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.shapes and func in _MADE:
            return func(*args, **{**kwargs, "device": "meta"})
        if getattr(func, "__name__", "") in _RANDOM:
            return (*args, *kwargs.values())[0]
        return func(*args, **kwargs)


def shapes(config: ModelConfig, metadata: ModelMetadata) -> dict[str, Tensor]:
    """The tensors of the model that `config` describes, by name, without memory. Raises as `build` does."""
    with explain_torchvision_errors():
        import torchvision  # noqa: F401  (not below: what it computes as it is imported needs numbers, with torch 2.6)
    with Unfilled(shapes=True):
        return build(config, metadata).state_dict()
