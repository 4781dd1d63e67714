"""U-Net (Ronneberger et al., 2015): the class of each pixel.

Axes: B batch, K classes with the background, which is the last, H and W sides of the canvas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detect.models.backbones import build_backbone
from detect.models.backbones.blocks import Conv, Predict
from detect.models.base import Model, ModelMetadata
from detect.models.configs.unet import UnetConfig
from detect.models.losses.pixels import dice_loss, pixel_cross_entropy
from detect.semantic import CanvasScores
from detect.types import LossTerm, NamedRows, Postprocess, Target


class PixelOutput(NamedTuple):
    """The output for each pixel of the canvas: logits (B, K, H, W)."""

    logits: Tensor


class Expand(nn.Module):
    """One step of the expanding path: a transposed convolution, the map of the contracting path beside it, two 3x3.

    Args:
        inputs: channels of the coarse map.
        skip: channels of the fine map.
        outputs: channels of the result.
        factor: stride of the coarse map over that of the fine one, and side of the filters.

    Shape:
        (B, inputs, H / factor, W / factor), (B, skip, H, W) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, skip: int, outputs: int, factor: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, factor, factor)
        self.merge = nn.Sequential(Conv(outputs + skip, outputs), Conv(outputs, outputs))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        up = self.up(coarse)[..., : fine.shape[-2], : fine.shape[-1]]  # the sides of coarse maps are rounded up
        return self.merge(torch.cat([up, fine], 1))


class Unet(Model):
    """images (B, 3, H, W) uint8 -> PixelOutput with logits (B, K, H, W).

    The image itself is the map of stride 1 where the backbone has none.
    """

    config: UnetConfig

    def __init__(self, config: UnetConfig, metadata: ModelMetadata, backbone: Any):
        super().__init__(config, metadata)
        self.backbone = backbone
        channels, strides = list(backbone.channels), list(backbone.strides)
        self.from_image = strides[0] > 1
        widths = [config.width * 2**i for i in range(len(strides))]
        if self.from_image:
            channels, strides = [config.in_channels, *channels], [1, *strides]
            widths = [max(1, config.width // 2), *widths]
        inputs = [*widths[1:-1], channels[-1]]
        factors = [coarse // fine for fine, coarse in pairwise(strides)]
        steps = zip(inputs, channels, widths, factors, strict=False)
        self.expand = nn.ModuleList(Expand(*step) for step in steps)
        self.classify = Predict(widths[0] if len(strides) > 1 else channels[0], len(metadata.names) + 1, 1)
        weights = torch.tensor([*(config.class_weights or [1.0] * len(metadata.names)), 1.0])
        self.register_buffer("class_weights", weights, persistent=False)

    def backbone_stages(self) -> list[str]:
        """The stages of the contracting path."""
        return [f"backbone.stages.{i}" for i in range(len(self.backbone.stages))]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The last layer: one output for each class, then the background."""
        return [(self.classify, NamedRows())]

    def forward(self, images: Tensor, given: Sequence[Target] | None = None) -> PixelOutput:
        """Logits (B, K, H, W) for images (B, 3, H, W) uint8; `given` is not used."""
        return self.forward_head(self.features(images))

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The feature maps of the contracting path, finest first."""
        numbers = self.preprocess(images)
        return [*([numbers] if self.from_image else []), *self.backbone(numbers)]

    def forward_head(self, features: list[Tensor], given: Any = None) -> PixelOutput:
        """Logits from the feature maps."""
        *fine, x = features
        for expand, skip in zip(reversed(self.expand), reversed(fine), strict=True):
            x = expand(x, skip)
        return PixelOutput(self.classify(x))

    def loss(self, raw: PixelOutput, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Cross-entropy, the mean over the pixels of each image, and Dice loss of the classes in the batch.

        Args:
            raw: what `forward` returned.
            targets: the target of each image, with its `label_map`.
        """
        labels = torch.stack([t.label_map for t in targets if t.label_map is not None])
        labels = labels.to(raw.logits.device, non_blocking=True).long()
        weights, logits, loss = self.get_buffer("class_weights"), raw.logits.float(), self.config.loss
        count = torch.tensor(float(len(targets)), device=raw.logits.device)
        terms = {"classes": LossTerm(loss.classes * pixel_cross_entropy(logits, labels, weights).sum(), count)}
        if loss.dice:
            terms["dice"] = LossTerm(loss.dice * dice_loss(logits, labels) * count, count)
        return terms

    def postprocess(self, raw: PixelOutput, keep: Postprocess) -> list[CanvasScores]:
        """The scores of each image, which `in_source` makes a class map of; of `keep` the classes are read."""
        return [CanvasScores(one, keep.classes) for one in raw.logits.detach()]


def build_unet(config: UnetConfig, metadata: ModelMetadata) -> Unet:
    """U-Net over the backbone that `config` names.

    Raises:
        UserError: an unknown name, or a level that the backbone lacks.
    """
    return Unet(config, metadata, build_backbone(config.backbone, config.in_channels, config.levels))
