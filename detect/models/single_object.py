"""What models with one result for each image share: backbone, neck and head on a square canvas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detect.models.backbones.base import Staged
from detect.models.base import Model, ModelMetadata
from detect.models.configs.base import ModelConfig
from detect.types import NamedRows, Target


class SingleObjectModel(Model):
    """images (B, 3, S, S) uint8 -> the output of the head on the feature maps of the neck."""

    square = True

    def __init__(self, config: ModelConfig, metadata: ModelMetadata, backbone: Staged, neck: nn.Module, head: Any):
        super().__init__(config, metadata)
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, images: Tensor, given: Sequence[Target] | None = None) -> Any:
        """The output of the head for images (B, 3, S, S) uint8; `given` is not used."""
        return self.forward_head(self.features(images))

    def backbone_stages(self) -> list[str]:
        """The stages of the backbone, then the neck."""
        return [*(f"backbone.stages.{i}" for i in range(len(self.backbone.stages))), "neck"]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """Those of the head."""
        return self.head.named_rows()

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The feature maps of the neck."""
        return self.neck(self.backbone(self.preprocess(images)))

    def forward_head(self, features: list[Tensor], given: Any = None) -> Any:
        """The output of the head on the feature maps of the neck."""
        return self.head(features)


def canvas_sizes(targets: Sequence[Target], device: torch.device) -> Tensor:
    """Width and height (B, 2) of the canvas of each target."""
    return torch.tensor([t.size[::-1] for t in targets], dtype=torch.float32).to(device, non_blocking=True)
