"""Pseudo-labels: the moving average of the student labels images for it (a mean teacher).

The teacher sees a weak view of an image without labels, the student learns what it found there from a strong view
(Unbiased Teacher, Liu et al., 2021, arXiv 2102.09480; Soft Teacher, Xu et al., 2021, arXiv 2106.09018). A prediction
whose score reaches the threshold of its class is a label. One with a lower score is neither: where it lies nothing is
learned, nor anywhere in an image without a label. By default thresholds follow the classes: each rises while its class
gets more labels in an image than the labelled images have objects of it, and falls while it gets fewer (as in
LabelMatch, Chen et al., 2022, arXiv 2206.06608, which sets quantiles to the same end).

Axes: C classes, U images without labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from detect.config.teacher import PseudoConfig
from detect.data.annotations import Annotations
from detect.data.boxes import objects
from detect.errors import unknown
from detect.training.bn_statistics import running_statistics_kept
from detect.training.dist import Ranks
from detect.training.teacher import Lesson, Teacher
from detect.types import Detections, LossTerm, Postprocess, Target

UNSURE = Postprocess(score=0.05, iou=0.6, limit=100)  # predictions below this score are background
START, HIGHEST = 0.5, 0.9  # of thresholds that follow the classes
STEP = 0.02  # of a threshold, in a training step, where the number of labels is wrong by all of it
LISTED = 20  # classes that have numbers of their own in metrics.jsonl


class PseudoLabels(Teacher):
    """The loss of a student on images without labels, with the labels that its moving average gives them.

    Args:
        config: weight and thresholds.
        training: the labelled images.
        ranks: this process among those of the run; all have the same thresholds.

    Attributes:
        thresholds: (C,) score from which a prediction is a label.
        labels: (C,) pseudo-labels of the epoch; `images`: the images that they are in.

    Raises:
        UserError: a threshold is given for a class that the data does not have.
    """

    thresholds: Tensor
    labels: Tensor
    images: Tensor
    wanted: Tensor
    follows: Tensor

    def __init__(self, config: PseudoConfig, training: Annotations, ranks: Ranks):
        super().__init__()
        self.config, self.names, self.ranks = config, list(training.names), ranks
        self.average: list[Any] = []  # in a list: its weights are not this module's
        count = len(self.names)
        start = START if config.threshold is None else config.threshold
        thresholds, follows = torch.full((count,), start), torch.full((count,), config.threshold is None)
        for name, value in config.class_thresholds.items():
            if name not in self.names:
                raise unknown("class in --pseudo.class-thresholds", name, self.names)
            thresholds[self.names.index(name)], follows[self.names.index(name)] = value, False
        wanted = np.bincount(training.labels[objects(training)], minlength=count) / len(training)
        self.register_buffer("thresholds", thresholds)
        self.register_buffer("labels", torch.zeros(count))
        self.register_buffer("images", torch.zeros(()))
        self.register_buffer("wanted", torch.from_numpy(wanted).float(), persistent=False)
        self.register_buffer("follows", follows, persistent=False)

    def begin(self, average: Any) -> None:
        """Take the moving average of the student."""
        self.average = [average]

    def forward(self, student: Any, lesson: Lesson) -> dict[str, LossTerm]:
        """The student's own loss terms, as `unlabelled_…`; zero where the batch has no images without labels."""
        if lesson.unlabelled is None:
            return {f"unlabelled_{name}": lesson.term(lesson.normalizer.new_zeros(())) for name in lesson.terms}
        weak, strong = lesson.unlabelled.unbind(1)
        targets = self._label(weak)
        with running_statistics_kept(student):  # it is evaluated on images as they are, not on strong views
            terms = student.loss(student(strong, targets), targets)
        # As many objects as in labelled images: where few reach their threshold, background must not weigh more.
        least = (lesson.normalizer * len(strong) / len(lesson.images)).clamp(min=1)
        means = {name: term.total / term.count.maximum(least) for name, term in terms.items()}
        return {f"unlabelled_{name}": lesson.term(self.config.weight * mean) for name, mean in means.items()}

    @torch.no_grad()
    def _label(self, images: Tensor) -> list[Target]:
        """The pseudo-labels of images (U, 3, H, W); thresholds and counts take note of them."""
        average = self.average[0]
        found = average.postprocess(average(images), UNSURE)
        thresholds, size = self.thresholds.cpu(), tuple(images.shape[-2:])
        targets = [target_of(one, thresholds, (size[0], size[1])) for one in found]
        sure = torch.cat([t.labels[~t.crowd] for t in targets])
        counts = torch.bincount(sure, minlength=len(self.names)).to(self.labels)
        numbers = self.ranks.sum(torch.cat([counts, counts.new_tensor([len(images)])]))
        self.labels += numbers[:-1]
        self.images += numbers[-1]
        error = (numbers[:-1] / numbers[-1] - self.wanted) / self.wanted.clamp(min=1e-3)
        moved = (self.thresholds + STEP * error.clamp(-1, 1)).clamp(min(self.config.lowest, HIGHEST), HIGHEST)
        self.thresholds.copy_(torch.where(self.follows, moved, self.thresholds))
        return targets

    def metrics(self) -> dict[str, float]:
        """`pseudo_labels`, their number in an image; for up to 20 classes the count and the threshold of each."""
        found = {"pseudo_labels": (self.labels.sum() / self.images.clamp(min=1)).item()}
        if len(self.names) <= LISTED:
            found |= {f"pseudo_labels_{n}": v for n, v in zip(self.names, self.labels.tolist(), strict=True)}
            found |= {f"pseudo_threshold_{n}": v for n, v in zip(self.names, self.thresholds.tolist(), strict=True)}
        self.labels.zero_()
        self.images.zero_()
        return found


def target_of(found: Detections, thresholds: Tensor, size: tuple[int, int]) -> Target:
    """The target that predictions stand for: those below the threshold of their class as crowd regions.

    Args:
        found: N predictions in pixels of the image.
        thresholds: (C,).
        size: height and width of the image; boxes are cut off there.
    """
    height, width = size
    boxes = found.boxes.float().clamp(min=0).minimum(found.boxes.new_tensor([width, height, width, height]))
    unsure = found.scores < thresholds[found.labels]
    if unsure.all():  # not even background: a teacher that finds nothing yet would teach that there is nothing
        return everywhere(size, found.oriented is not None)
    target = Target(boxes, found.labels, unsure, 0, size, oriented=found.oriented)
    return target[(boxes[:, 2:] - boxes[:, :2]).amin(1) >= 1]


def everywhere(size: tuple[int, int], oriented: bool) -> Target:
    """The target of an image of which nothing is learned: all of it is a crowd region.

    Args:
        size: height and width of the image.
        oriented: whether targets have oriented boxes.
    """
    height, width = size
    box, one = torch.tensor([[0.0, 0.0, width, height]]), torch.zeros(1, dtype=torch.int64)
    turned = torch.tensor([[width / 2, height / 2, width, height, 0.0]]) if oriented else None
    return Target(box, one, torch.ones(1, dtype=torch.bool), 0, size, oriented=turned)
