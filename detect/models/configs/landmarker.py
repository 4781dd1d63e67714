"""Options of the landmarker: the K keypoints of the one object that an image shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from detect.config.constraints import Range, Registered
from detect.models.configs.base import Hidden, Levels, LossConfig, LossWeight, NeckName
from detect.models.configs.yolo import PyramidConfig
from detect.registry import register

if TYPE_CHECKING:
    from detect.models.base import Model, ModelMetadata


@dataclass(frozen=True)
class LandmarkerLossConfig(LossConfig):
    """The loss of the landmarker, a sum of weighted terms."""

    keypoints: LossWeight = 1.0
    """Weight of the loss on the positions of keypoints, 0 or more."""
    keypoint_kind: Annotated[str, Registered("loss.keypoint")] = "wing"
    """Loss on the positions, in hundredths of the image's side: wing or smooth L1."""
    regression: LossWeight = 1.5
    """Weight of the loss on the shape of heatmaps, 0 or more; read by the heatmap head."""
    objectness: LossWeight = 1.0
    """Weight of the loss on whether each keypoint is there, 0 or more."""


@register("model", "landmarker")
@dataclass(frozen=True)
class LandmarkerConfig(PyramidConfig):
    """Keypoints as coordinates from dense layers, or as the expectation of heatmaps."""

    task: ClassVar[str] = "landmarks"
    suppresses: ClassVar[bool] = False

    kind: str = "landmarker"
    neck: NeckName = "straight"
    levels: Levels = field(default_factory=lambda: [4])
    """Feature maps of the neck, as exponents of their strides: 4 is stride 16. 1 to 7. Coordinates and presence come
    from the coarsest, heatmaps from the finest."""
    head: Annotated[str, Registered("head.landmarks")] = "coordinates"
    """Head: coordinates from dense layers (coordinates), or heatmaps (heatmap)."""
    head_convs: Annotated[int, Range(0, 100)] = 1
    """3x3 convolutions before the heatmaps, 0 to 100; read by the heatmap head."""
    hidden: Hidden = field(default_factory=lambda: [256])
    """Widths of the dense layers over the coarsest feature map."""
    loss: LandmarkerLossConfig = field(default_factory=LandmarkerLossConfig)

    def build(self, metadata: ModelMetadata) -> Model:
        """See `ModelConfig.build`."""
        from detect.models.landmarker import build_landmarker

        return build_landmarker(self, metadata)

    def unread(self) -> dict[str, str]:
        """Convolutions of the head and a loss on heatmaps are for heatmaps."""
        if self.head != "coordinates":
            return {}
        return dict.fromkeys(("head_convs", "loss.regression"), "--model.head heatmap")
