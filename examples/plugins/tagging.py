"""A task of its own: tagging says which classes are in an image, wherever they are. Any detection dataset will do.

detect train --plugin ./tagging.py --data toy --model tagger --model.dropout 0.3
detect predict --plugin ./tagging.py --weights runs/train/best.safetensors --source IMAGE --conf 0.5

Axes: B batch, C classes, F channels of the last feature map.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from detect.config.constraints import Share
from detect.data.annotations import Annotations
from detect.data.validate import require_objects
from detect.models.backbones import build_backbone
from detect.models.base import Model, ModelMetadata
from detect.models.configs.base import BackboneName, ModelConfig
from detect.registry import register
from detect.tasks import Task
from detect.types import Classification, LossTerm, NamedRows, Postprocess, Target


@register("model", "tagger")
@dataclass(frozen=True)
class TaggerConfig(ModelConfig):
    """The options of the model: `detect train --model tagger --help` shows them, with these sentences."""

    task: ClassVar[str] = "tag"
    suppresses: ClassVar[bool] = False

    kind: str = "tagger"
    backbone: BackboneName = "csp_n"
    """Backbone: a registered name, or timm:NAME."""
    dropout: Share = 0.2
    """Share of the features that are dropped in training, 0 to 1."""

    def build(self, metadata: ModelMetadata) -> Model:
        """The network with fresh weights."""
        return Tagger(self, metadata)


class Tagger(Model):
    """images (B, 3, S, S) uint8 -> logits (B, C): a backbone, its mean over the image, a dense layer."""

    square = True
    config: TaggerConfig

    def __init__(self, config: TaggerConfig, metadata: ModelMetadata) -> None:
        super().__init__(config, metadata)
        self.backbone = build_backbone(config.backbone, config.in_channels, [5])
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.backbone.channels[-1], len(metadata.names))

    def forward(self, images: Tensor, given: Any = None) -> Tensor:
        """Logits (B, C); `given`, the targets of a training step, is not needed."""
        return self.forward_head(self.features(images))

    def features(self, images: Tensor, given: Any = None) -> list[Tensor]:
        """The mean of the last feature map: (B, F)."""
        return [self.backbone(self.preprocess(images))[-1].mean((2, 3))]

    def forward_head(self, features: list[Tensor], given: Any = None) -> Tensor:
        """Logits from features."""
        return self.head(self.dropout(features[0]))

    def backbone_stages(self) -> list[str]:
        """What `--freeze` and `--optim.layer-decay` count."""
        return [f"backbone.stages.{i}" for i in range(len(self.backbone.stages))]

    def named_rows(self) -> Iterable[tuple[nn.Module, NamedRows]]:
        """The layer with one output for each class, which fine-tuning moves by class names."""
        return [(self.head, NamedRows())]

    def loss(self, raw: Tensor, targets: Sequence[Target]) -> dict[str, LossTerm]:
        """Binary cross-entropy of each class, averaged over the images of a step."""
        present = torch.zeros(raw.shape, device=raw.device)
        for i, target in enumerate(targets):
            present[i, target.labels.to(raw.device)] = 1
        total = binary_cross_entropy_with_logits(raw.float(), present, reduction="sum")
        return {"tags": LossTerm(total, torch.tensor(float(len(targets)), device=raw.device))}

    def postprocess(self, raw: Tensor, keep: Postprocess) -> list[Classification]:
        """The classes of each image that score above `keep.score`, best first."""
        results = []
        for scores in raw.detach().float().sigmoid().cpu():
            order = scores.argsort(descending=True)
            wanted = scores[order] > keep.score
            if keep.classes is not None:
                wanted &= torch.isin(order, torch.tensor(keep.classes))
            order = order[wanted][: keep.limit]
            results.append(Classification(scores[order], order))
        return results


class TagEvaluator:
    """The average precision of each class over all images, and their mean."""

    def __init__(self, annotations: Annotations) -> None:
        self.annotations, self.scores = annotations, dict[int, list[float]]()

    def update(self, image_ids: Sequence[int], predictions: Sequence[Classification]) -> None:
        """Take the results of some images."""
        for image_id, result in zip(image_ids, predictions, strict=True):
            scores = torch.zeros(len(self.annotations.names))
            self.scores[image_id] = scores.index_copy(0, result.labels, result.scores).tolist()

    def records(self) -> dict[int, list[float]]:
        """What other processes need of this one."""
        return self.scores

    def extend(self, records: dict[int, list[float]]) -> None:
        """Take what another process has collected."""
        self.scores |= records

    def result(self) -> dict[str, Any]:
        """The metrics; `mAP` chooses the best epoch."""
        ids, count = self.annotations.image_ids.tolist(), len(self.annotations.names)
        scores, present = np.array([self.scores[i] for i in ids]), np.zeros((len(ids), count), bool)
        for i in range(len(ids)):
            present[i, self.annotations.target(i).labels.numpy()] = True
        per_class = {
            name: float(average_precision_score(present[:, c], scores[:, c]))
            for c, name in enumerate(self.annotations.names)
            if present[:, c].any()
        }
        return {"mAP": float(np.mean([*per_class.values()] or [0.0])), "per_class": per_class}


TASK = Task(
    name="tag",
    noun="tagger",
    metric="mAP",
    evaluator=TagEvaluator,
    defaults={"model": "tagger", "imgsz": "128"},
    check_data=require_objects,
    progress_metrics=("mAP",),
    results_file="tags.json",
    prints_results=True,
)
register("task", TASK.name)(TASK)
