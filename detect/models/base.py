"""What models share: the metadata that travels with the weights, preprocessing, and the fused copy for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detect.config.constraints import Length, Range
from detect.models.backbones.blocks import Fused
from detect.models.configs.base import ModelConfig
from detect.types import LossTerm, NamedRows, Postprocess, Preprocess, Target
from detect.utils.precision import use_fused

_Pair = Annotated[list[int], Length(2, 2)]  # of indices from 0 into the keypoints


@dataclass(frozen=True)
class ModelMetadata:
    """What must be known to use a network: its classes, its image size and how images become numbers.

    `shape` is where the keypoints of a landmarker lie on average, in a view of side 1 (none: nowhere in particular).
    `folded` says that its batch normalizations hold no statistics, for they were folded into its convolutions.
    `thresholds` are the distances up to which an embedder takes two pictures for one person: see `calibrate`.
    """

    names: list[str]
    category_ids: list[Annotated[int, Range(-(2**63), 2**63 - 1)]]
    size: Annotated[int, Range(1, 1 << 28)] = 640
    preprocess: Preprocess = field(default_factory=Preprocess)
    keypoint_names: list[str] = field(default_factory=list)
    skeleton: list[_Pair] = field(default_factory=list)
    flip_pairs: list[_Pair] | None = None
    shape: list[Annotated[list[float], Length(2, 2)]] = field(default_factory=list)
    folded: bool = False
    thresholds: dict[str, float] = field(default_factory=dict)


class Model(nn.Module):
    """Base of every model: `forward` makes raw numbers, `loss` judges them, `postprocess` gives the answer."""

    square = False  # whether an image must fill a square canvas, padded
    fixed_graph = True  # whether every image runs the same operators, as an export needs
    size_in_graph = False  # whether which operators run depends on the image size
    frozen: tuple[str, ...] = ()  # parts that keep their weights and batch statistics, in every mode
    config: ModelConfig
    gain: Tensor
    offset: Tensor

    def __init__(self, config: ModelConfig, metadata: ModelMetadata):
        super().__init__()
        self.config, self.metadata, self.task = config, metadata, config.task
        self.needs_proposals, self.dims = config.needs_proposals, config.dims
        pixels = metadata.preprocess
        self.plain = not any(pixels.mean) and all(v == 1 for v in pixels.std)
        mean, std = (torch.tensor(v).view(1, -1, *[1] * config.dims) for v in (pixels.mean, pixels.std))
        self.register_buffer("gain", pixels.scale / std, persistent=False)
        self.register_buffer("offset", -mean / std, persistent=False)

    def backbone_stages(self) -> list[str]:
        """Names of the modules that run one after the other, from the pixels on; what is in none of them is the head.

        Together they are `features`, of which `answer` makes what `forward` returns; both take what it is given.
        """
        raise NotImplementedError

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """What the trunk makes of images (B, 3, H, W) uint8."""
        raise NotImplementedError

    def forward_head(self, features: list[Tensor], given: Any = None) -> Any:
        """What `forward` returns, from what the trunk made."""
        raise NotImplementedError

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes or keypoints of the metadata, and how they are laid out.

        Fine-tuning takes these outputs by name, so that the same classes in another order, or some of them, keep what
        was learned of them. A layer that is not here is taken whole or not at all.
        """
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the frozen parts, which stay in that of evaluation."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def loss(self, raw: Any, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """The loss terms, weighted, each to be divided by its count over all images of a step."""
        raise NotImplementedError

    def candidates(self, raw: Any) -> tuple[Tensor, Tensor]:
        """Every prediction as boxes (B, A, 4) in canvas pixels and scores (B, A, C)."""
        raise NotImplementedError

    def postprocess(self, raw: Any, keep: Postprocess) -> list[Any]:
        """The answer for each image (Detections in canvas pixels, a Classification ...), by descending score."""
        raise NotImplementedError

    def calibrate(self, result: dict[str, Any]) -> None:
        """Remember what an evaluation on held-out data says that an answer needs; most models need nothing."""

    @property
    def layout(self) -> torch.memory_format:
        """How its weights lie in memory: channels last is for pictures."""
        return torch.channels_last if self.dims == 2 else torch.contiguous_format

    def dummy_input(self, side: int) -> Tensor:
        """A batch of one image of zeros, or of one signal or volume, `side` long."""
        if self.dims == 2:
            return torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.gain.device)
        return torch.zeros(1, self.config.in_channels, *[side] * self.dims, device=self.gain.device)

    def preprocess(self, images: Tensor) -> Tensor:
        """uint8 RGB images (B, 3, H, W) as the numbers the network takes, in the type of its weights.

        Signals (B, C, L) and volumes (B, C, D, H, W) of any real type too, for a model of that many dimensions.
        """
        dtype = self.gain.dtype
        kind = images.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
        if self.dims != 2:  # in float32: half precision would lose what lies beside a large mean
            return (images.to(self.gain.dtype) * self.gain + self.offset).to(dtype)
        x = images.to(dtype=dtype, memory_format=torch.channels_last)
        if self.metadata.preprocess.order == "BGR":
            x = x.flip(1)
        if self.config.in_channels == 1:
            x = x.mean(1, keepdim=True)
        if self.plain:  # one number scales all: many times faster than a broadcast over channels-last memory
            return x * self.metadata.preprocess.scale
        return x * self.gain.to(dtype) + self.offset.to(dtype)

    def fused(self) -> Self:
        """A copy for inference: evaluation mode, no gradients, batch normalization folded into the convolutions."""
        fused = copy.deepcopy(self).eval().requires_grad_(False)
        fold(fused)
        return fused.to(memory_format=self.layout)

    def require_side(self, side: int) -> None:
        """Raises UserError where images of `side` pixels are too small for the network."""

    def for_inference(self, device: torch.device, dtype: torch.dtype) -> Self:
        """The lean copy on `device`, to be run in `dtype`; on a CPU convolution and activation fused, if faster."""
        fused = self.fused().to(device)
        if device.type == "cpu" and fused.gain.dtype == torch.float32 and use_fused(dtype):
            fuse(fused)
        return fused


def fold(module: nn.Module) -> None:
    """Fold every batch normalization that directly follows a convolution into it, in place."""
    children = list(module.named_children())
    for (name, child), (next_name, following) in pairwise(children):
        if isinstance(child, _ConvNd) and isinstance(following, _BatchNorm):
            setattr(module, name, fuse_conv_bn_eval(child, following))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        fold(child)


def fuse(module: nn.Module) -> None:
    """Join every sequence of a convolution, a folded normalization and an activation, in place."""
    for name, child in module.named_children():
        layers = [layer for layer in child.children() if not isinstance(layer, nn.Identity)]
        conv, act = [*layers, nn.Identity(), nn.Identity()][:2]
        known = isinstance(child, nn.Sequential) and len(layers) <= 2 and type(act) in Fused.NAMES
        if known and type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            setattr(module, name, Fused(conv, act))
        else:
            fuse(child)
