"""The types that the parts of gridhead exchange.

Axes: B batch, A predictions (priors), C classes, N objects of an image, M objects padded over a batch, K points.
A network returns a NamedTuple of tensors; everything else is a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from detect.config.constraints import Choice, Count, Positive, Range, Share, checked_values
from detect.limits import LimitHits
from detect.results import BoxResult, ClassResult, Result, optional

if TYPE_CHECKING:
    from anchors.grid import Priors
    from detect.data.letterbox import Letterbox
    from detect.data.outlines import Outlines
    from detect.masks import Masks


ROWS = ("boxes", "labels", "crowd", "scores", "keypoints", "oriented", "masks", "tracks", "speeds", "dwell")


class _Rows:
    """Base of targets and detections: every field of `ROWS` that is given has a row for each of `boxes` (N, 4)."""

    boxes: Tensor

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"{kind}.boxes must be (N, 4), not {tuple(self.boxes.shape)}")
        for name in ROWS:
            value = getattr(self, name, None)
            if value is not None and len(value) != len(self.boxes):
                raise ValueError(f"{kind}.{name} has {len(value)} rows, boxes have {len(self.boxes)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice) -> Self:
        """The rows of a mask, index or slice; the other fields stay."""
        rows = {name: getattr(self, name, None) for name in ROWS}
        return replace(self, **{name: row[index] for name, row in rows.items() if row is not None})  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Target(_Rows):
    """The ground truth of one image, in pixels of the image that it comes with.

    boxes (N, 4) float32 xyxy; labels (N,) int64 in 0..C-1; crowd (N,) bool; keypoints (N, K, 3) x, y, visibility;
    size (height, width); proposals (P, 4) xyxy of regions that may be objects. `outlines` go along while the image is
    augmented; a task gets what it learns from, made of them: masks (N, S, S) uint8, the share, up to 255, of each cell
    of the box's S x S grid that the object covers; oriented (N, 5) float32 boxes (see `anchors.oriented`), which may
    reach out of the image; label_map (height, width) uint8, the class of each pixel, 255 where it is to be ignored.

    Of federated datasets (see `detect.data.federation`): complete (R, C) bool, the classes of which every object in
    each region `complete_in` (R, 4) xyxy is annotated; several where several images make one. None: all classes, and
    so it is beyond the regions.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    image_id: int
    size: tuple[int, int]
    keypoints: Tensor | None = None
    proposals: Tensor | None = None
    outlines: Outlines | None = None
    masks: Tensor | None = None
    oriented: Tensor | None = None
    label_map: Tensor | None = None
    complete: Tensor | None = None
    complete_in: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of images (B, 3, H, W) uint8, or signals (B, C, ...), with a target for each.

    `fits` are the letterboxes of letterboxed images; `unlabelled` (U, 2, 3, H, W) are two views, weak and strong, of
    images without labels.
    """

    images: Tensor
    targets: list[Target]
    fits: list[Letterbox] = field(default_factory=list)
    unlabelled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def proposals(self) -> list[Tensor] | None:
        """The proposals (P, 4) of each image; None if they have none."""
        return [t.proposals for t in self.targets if t.proposals is not None] or None


@dataclass(frozen=True, eq=False)
class Detections(_Rows, BoxResult):
    """The objects detected in one image, by descending score.

    boxes (N, 4) float32 xyxy in pixels of the source image; scores (N,) float32 in 0..1; labels (N,) int64 in 0..C-1;
    keypoints (N, K, 3) x, y, visibility; tracks (N,) int64 numbers of tracks, whose speeds (N,) float32 are in pixels
    or metres a second, NaN where unknown, and dwell (N, Z) float32 the seconds in each zone so far; oriented (N, 5)
    float32 oriented boxes (see `anchors.oriented`), which `boxes` enclose; masks of the N objects in the model's own
    form or, in pixels of the source image, `RleMasks`. See `BoxResult` for the others.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    keypoints: Tensor | None = None
    tracks: Tensor | None = None
    oriented: Tensor | None = None
    masks: Masks | None = None
    speeds: Tensor | None = None
    dwell: Tensor | None = None
    names: Sequence[str] = field(default=(), repr=False)
    category_ids: Sequence[int] = field(default=(), repr=False)
    skeleton: Sequence[tuple[int, int]] = field(default=(), repr=False)

    @staticmethod
    def none() -> Detections:
        """An empty result."""
        return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


@dataclass(frozen=True, eq=False)
class Classification(ClassResult):
    """The most probable classes of one image: scores (N,) descending probabilities, labels (N,) int64 in 0..C-1."""

    scores: Tensor
    labels: Tensor
    names: Sequence[str] = field(default=(), repr=False)
    category_ids: Sequence[int] = field(default=(), repr=False)

    def counted(self) -> list[str]:
        """The name of the most probable class."""
        return super().counted()[:1]

    def to_supervision(self) -> Any:
        """A `supervision.Classifications`.

        Raises:
            UserError: supervision is not installed.
        """
        library, arrays = optional("supervision", "to_supervision"), self.numpy()
        return library.Classifications(class_id=arrays["labels"], confidence=arrays["scores"])


@dataclass(frozen=True, eq=False)
class Distance:
    """The distance of embeddings: Euclidean, or, with a weight, `weight` (D,) . |a - b| - `bias`."""

    weight: np.ndarray | None = None
    bias: float = 0.0

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The distances (...) of embeddings (..., D), which broadcast."""
        if self.weight is None:
            euclidean: np.ndarray = np.sqrt(np.square(a - b).sum(-1))
            return euclidean
        weighted: np.ndarray = np.abs(a - b) @ self.weight - self.bias
        return weighted


@dataclass(frozen=True, eq=False)
class Embedding(Result):
    """The embedding of one image: `values` (D,) float32, near those of the same identity by `distance`."""

    values: np.ndarray
    distance: Distance

    def records(self) -> list[dict[str, Any]]:
        """One record with the `embedding`."""
        return [{"embedding": self.values.tolist()}]

    def columns(self) -> dict[str, Any]:
        """A column `v_0`, `v_1`… for each of the D values."""
        return {f"v_{i}": [float(value)] for i, value in enumerate(self.values)}


class HeadOutput(NamedTuple):
    """The raw output of a dense head.

    logits (B, A, C); regression (B, A, R), coded boxes; objectness (B, A); keypoints (B, A, K, 3); priors; aux, the
    outputs of auxiliary heads in training; coefficients (B, A, K) of prototypes (B, K, h, w), whose sum is a mask.
    """

    logits: Tensor
    regression: Tensor
    priors: Priors
    objectness: Tensor | None = None
    keypoints: Tensor | None = None
    aux: tuple[HeadOutput, ...] | None = None
    coefficients: Tensor | None = None
    prototypes: Tensor | None = None

    def at(self, place: tuple[Tensor, ...]) -> HeadOutput:
        """P predictions, by their indices (image, prior): the axis P replaces (B, A) in every field that has it."""
        centers, strides, boxes = self.priors
        boxes = None if boxes is None else boxes[place[1]]
        priors = self.priors._replace(centers=centers[place[1]], strides=strides[place[1]], boxes=boxes)
        rows = {name: getattr(self, name) for name in ("objectness", "keypoints", "coefficients")}
        some = {name: row[place] for name, row in rows.items() if row is not None}
        return HeadOutput(self.logits[place], self.regression[place], priors, prototypes=self.prototypes, **some)


class LossTerm(NamedTuple):
    """A loss term before normalization: its sum over the batch, and the count to divide it by."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which is not needed


class NamedRows(NamedTuple):
    """Which outputs of a prediction layer, rows of its weight and bias, belong to which class or keypoint.

    The outputs are `groups` equal parts, one for each anchor. A part has `before` outputs without a name, then `each`
    outputs for each name, then the others: background, objectness, box. `of` is the field of the metadata with the
    names.
    """

    of: str = "names"
    each: int = 1
    before: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Postprocess:
    """Which predictions are kept: confidence threshold, non-maximum suppression (NMS), and limits."""

    score: Share = 0.25
    """Confidence threshold: only higher scores are kept."""

    iou: Share = 0.7
    """IoU threshold of NMS: of two boxes of a class that overlap more, the one with the lower score is dropped."""

    limit: Count = 300
    """Most detections of an image."""

    agnostic: bool = False
    """Whether boxes of different classes suppress one another, too."""

    soft: bool = False
    """Whether overlapping boxes lose score instead of being dropped (Soft-NMS). Oriented boxes are always dropped."""

    classes: tuple[int, ...] | None = None
    """Labels to keep; None: all."""

    class_scores: tuple[Share, ...] | None = None
    """Confidence threshold of each class, by label, the least of which is `score`; None: `score` for all."""

    keep_empty: bool = False
    """Whether boxes without area inside the image are kept."""

    limit_hits: LimitHits = field(default_factory=LimitHits, compare=False, repr=False)
    """Counts the images that lost detections to the limits."""

    def __post_init__(self) -> None:
        checked_values(self, "Postprocess.")


@dataclass(frozen=True)
class ConfidenceThresholds:
    """Confidence thresholds chosen on a split, stored with the weights: what `detect predict` uses without `--conf`.

    `classes` has one for each class, by label, `overall` one for all of them together; `basis` tells messages what they
    were chosen for and where, such as "precision 0.95 on val.json".
    """

    overall: Share
    classes: list[Share]
    basis: str = ""


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of images, stored with the weights: value = (pixel * scale - mean) / std, channels in `order`.

    `pad` is the pixel value of the canvas around the image; `alignment`, "center" or "topleft", its place on the
    canvas; `stretch` ignores the aspect ratio. The longer side gets the image size; with a `long_side` above 1 the
    shorter one does, unless the longer one would get more than that many times the size.
    """

    order: Annotated[str, Choice("RGB", "BGR")] = "RGB"
    scale: Positive = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[Positive, ...] = (1.0, 1.0, 1.0)
    pad: Annotated[int, Range(0, 255)] = 114
    alignment: Annotated[str, Choice("center", "topleft")] = "center"
    stretch: bool = False
    long_side: Annotated[float, Range(1, 16)] = 1.0


@dataclass(frozen=True, eq=False)
class Frame:
    """An image, or a frame of a video, that is being predicted.

    image (H, W, 3) uint8 RGB; name, that of its file; index, its number in a video or in a file of several pages; time,
    in seconds, of a frame of a video, None for other images; pages, the number of pages of its file; part, the number
    of its file in the source, from 0.
    """

    image: np.ndarray
    name: str
    index: int = 0
    time: float | None = None
    pages: int = 1
    part: int = 0
