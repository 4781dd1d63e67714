"""What all models share: the metadata saved with the weights, preprocessing, and the fused copy for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detect.config.constraints import Length, Range
from detect.models.backbones.base import Staged
from detect.models.backbones.blocks import Fused
from detect.models.configs.base import ModelConfig
from detect.score_calibration import ScoreCalibration
from detect.types import ConfidenceThresholds, LossTerm, NamedRows, Postprocess, Preprocess, Target
from detect.utils.precision import use_fused

DEFAULT_CONF = 0.25  # confidence threshold of predictions
_Pair = Annotated[list[int], Length(2, 2)]  # of indices from 0 into the keypoints


@dataclass(frozen=True)
class ModelMetadata:
    """What is needed to use a network: its classes, its image size and its preprocessing. It is saved with the weights.

    Attributes:
        names: class names, by label.
        category_ids: category id of each class in the dataset; results are written with these.
        size: image size in pixels that the model was trained at.
        preprocess: how images become the numbers that the network reads.
        keypoint_names: names of the keypoints, in their order.
        skeleton: pairs of keypoint indices that are drawn as lines.
        flip_pairs: pairs of keypoint indices that a mirror image swaps. None: unknown.
        shape: mean position of each keypoint of a landmarker in a view of side 1. Empty: unknown.
        folded: whether batch normalization was folded into the convolutions, so that it holds no statistics.
        thresholds: distances up to which an embedder takes two images for one identity, by name: see `Model.calibrate`.
        confidence: confidence thresholds for prediction, by `detect evaluate --save-thresholds`. None: 0.25 for all.
        calibration: maps from scores to calibrated confidences, by `detect evaluate --save-calibration`. None: scores
            are confidences. Thresholds are of calibrated confidences.
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
    confidence: ConfidenceThresholds | None = None
    calibration: ScoreCalibration | None = None

    def thresholds_of(self, conf: float | None = None) -> list[float]:
        """The confidence threshold of each class: `conf`, else those of `confidence`, else 0.25."""
        if conf is None and self.confidence is not None:
            return list(self.confidence.classes)
        return [DEFAULT_CONF if conf is None else conf] * len(self.names)

    def postprocess(self, conf: float | None = None, iou: float = 0.7, limit: int = 300, **options: Any) -> Postprocess:
        """The postprocessing of predictions.

        Args:
            conf: confidence threshold. None: those of `confidence`, or 0.25.
            iou, limit, options: other fields of `Postprocess`.

        Returns:
            The postprocessing of raw scores: thresholds are those that stand for calibrated ones.
        """
        keep = Postprocess(DEFAULT_CONF if conf is None else conf, iou, limit, **options)
        if conf is None and self.confidence is not None:
            each = tuple(self.confidence.classes)
            keep = replace(keep, score=min(each, default=DEFAULT_CONF), class_scores=each)
        return self.of_scores(keep)

    def of_scores(self, keep: Postprocess) -> Postprocess:
        """The postprocessing of raw scores that keeps what `keep` keeps of calibrated ones."""
        if self.calibration is None or not self.calibration.maps_scores:
            return keep
        scores = self.calibration.raw_thresholds(keep.class_scores or [keep.score] * len(self.names))
        return replace(keep, score=min(scores, default=keep.score), class_scores=scores)


class Model(nn.Module):
    """Base of every model: `forward` gives raw outputs, `loss` compares them with targets, `postprocess` makes results.

    None of them depends on `training`; what `forward` returns has the same type in every mode.

    Attributes:
        square: whether images are padded to a square canvas.
        frozen: names of submodules that keep their weights and batch statistics.
    """

    square = False
    fixed_graph = True  # whether every image runs the same operators, as an export needs
    size_in_graph = False  # whether which operators run depends on the image size
    frozen: tuple[str, ...] = ()
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
        """Names of the submodules that make the features, in the order they run; all others are the head.

        `--freeze` and `--optim.layer-decay` count them. Together they are `features`; `forward_head` does the rest.
        """
        raise NotImplementedError

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The features that the head reads.

        Args:
            images: (B, 3, H, W) uint8, or signals and volumes of any real type.
            given: targets or proposals, as for `forward`.

        Returns:
            The feature maps or vectors.
        """
        raise NotImplementedError

    def forward_head(self, features: list[Tensor], given: Any = None) -> Any:
        """What `forward` returns, from `features`."""
        raise NotImplementedError

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The layers whose outputs belong to classes or keypoints of the metadata, and how these outputs are laid out.

        Fine-tuning copies such outputs by name, so that classes in another order, or a part of them, keep what they
        learned.
        Other layers are copied as a whole or not at all.
        """
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        """Set the mode of everything but the frozen submodules, which stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def loss(self, raw: Any, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """The weighted terms of the loss.

        Args:
            raw: what `forward` returned.
            targets: the target of each image.

        Returns:
            Terms by name; each is divided by its count over all images of a step.
        """
        raise NotImplementedError

    def candidates(self, raw: Any) -> tuple[Tensor, Tensor]:
        """Every prediction before NMS: boxes (B, A, 4) in canvas pixels and scores (B, A, C)."""
        raise NotImplementedError

    def postprocess(self, raw: Any, keep: Postprocess) -> list[Any]:
        """The result for each image: Detections in canvas pixels, a Classification or an Embedding.

        Args:
            raw: what `forward` returned.
            keep: confidence threshold, NMS and the number of detections.
        """
        raise NotImplementedError

    def calibrate(self, result: dict[str, Any]) -> None:
        """Take from the metrics of a validation set what postprocessing needs; most models need nothing."""

    @property
    def layout(self) -> torch.memory_format:
        """Memory format of the weights: channels last for images."""
        return torch.channels_last if self.dims == 2 else torch.contiguous_format

    def dummy_input(self, side: int) -> Tensor:
        """A batch of one image, signal or volume of zeros whose sides are `side` long."""
        if self.dims == 2:
            return torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.gain.device)
        return torch.zeros(1, self.config.in_channels, *[side] * self.dims, device=self.gain.device)

    def preprocess(self, images: Tensor) -> Tensor:
        """Images as the numbers that the network reads, in the type of its weights.

        Args:
            images: (B, 3, H, W) uint8 in RGB order; signals (B, C, L) or volumes (B, C, D, H, W) of any real type for a
                model of that many dimensions.
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
        """Check that images of `side` pixels are large enough for the network.

        Raises:
            UserError: they are too small.
        """

    def for_inference(self, device: torch.device, dtype: torch.dtype, activations_fused: bool | None = None) -> Self:
        """The fused copy on `device`, to be run in `dtype`; on a CPU with fused activations if that is faster.

        Args:
            device: where it runs.
            dtype: what it computes in.
            activations_fused: whether to fuse activations on a CPU, which changes how sums are rounded; None: measure.
        """
        fused = self.fused().to(device)
        wanted = use_fused(dtype) if activations_fused is None and device.type == "cpu" else activations_fused
        if wanted and device.type == "cpu" and fused.gain.dtype == torch.float32:
            fuse(fused)
        return fused


class PyramidModel(Model):
    """Base of models of three parts, one after the other: `backbone`, `neck` and `head`."""

    def __init__(self, config: ModelConfig, metadata: ModelMetadata, backbone: Staged, neck: nn.Module, head: Any):
        super().__init__(config, metadata)
        self.backbone, self.neck, self.head = backbone, neck, head

    def forward(self, images: Tensor, given: Sequence[Target] | None = None) -> Any:
        """The output of the head for images (B, 3, H, W) uint8; `given` is not used."""
        return self.head(self.neck(self.backbone(self.preprocess(images))))

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
    """Replace every sequence of a convolution, a folded normalization and an activation by one layer, in place."""
    for name, child in module.named_children():
        layers = [layer for layer in child.children() if not isinstance(layer, nn.Identity)]
        conv, act = [*layers, nn.Identity(), nn.Identity()][:2]
        known = isinstance(child, nn.Sequential) and len(layers) <= 2 and type(act) in Fused.NAMES
        if known and type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            setattr(module, name, Fused(conv, act))
        else:
            fuse(child)
