"""The types that cross from one part to another.

Axes: B batch, A predictions (priors), C classes, N objects of an image, M objects padded over a batch, K points.
What a network returns is a NamedTuple of tensors; what people hold is a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detect.config.constraints import Choice, Count, Positive, Range, Share, checked_values
from detect.results import ClassResult, Result, optional

if TYPE_CHECKING:
    from anchors.grid import Priors
    from detect.data.letterbox import Letterbox


# How many boxes of an image, the best by score, take part in suppression: the greater of a number and so many for each
# detection that is wanted.
CANDIDATES, PER_DETECTION = 4096, 10


class _Rows:
    """Records of one length: what is given has a row for each of `boxes` (N, 4)."""

    boxes: Tensor

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"{kind}.boxes must be (N, 4), not {tuple(self.boxes.shape)}")
        for name in ("labels", "crowd", "scores", "keypoints", "tracks"):
            value = getattr(self, name, None)
            if value is not None and len(value) != len(self.boxes):
                raise ValueError(f"{kind}.{name} has {len(value)} rows, boxes have {len(self.boxes)}")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class Target(_Rows):
    """The truth of one image, in pixels of the image it travels with.

    boxes (N, 4) float32 xyxy; labels (N,) int64 in 0..C-1; crowd (N,) bool; keypoints (N, K, 3) x, y, visibility;
    size (height, width); proposals (P, 4) xyxy of regions that may be objects.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    image_id: int
    size: tuple[int, int]
    keypoints: Tensor | None = None
    proposals: Tensor | None = None

    def __getitem__(self, index: Tensor) -> Target:
        """The objects chosen by a mask or index; the image's own fields stay."""
        boxes, labels, crowd = self.boxes[index], self.labels[index], self.crowd[index]
        keypoints = None if self.keypoints is None else self.keypoints[index]
        return replace(self, boxes=boxes, labels=labels, crowd=crowd, keypoints=keypoints)


@dataclass(frozen=True, eq=False)
class Batch:
    """images (B, 3, H, W) uint8, or signals (B, C, ...); one target each; letterboxed images have their `fits`."""

    images: Tensor
    targets: list[Target]
    fits: list[Letterbox] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def proposals(self) -> list[Tensor] | None:
        """The proposals (P, 4) of each image; None where they have none."""
        return [t.proposals for t in self.targets if t.proposals is not None] or None


@dataclass(frozen=True, eq=False)
class Detections(_Rows, ClassResult):
    """The objects detected in one image, by descending score.

    boxes (N, 4) float32 xyxy in pixels of the source image; scores (N,) float32 in 0..1; labels (N,) int64 in 0..C-1;
    keypoints (N, K, 3) x, y, visibility; tracks (N,) int64 numbers of tracks. See `ClassResult` for the others.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    keypoints: Tensor | None = None
    tracks: Tensor | None = None
    names: Sequence[str] = field(default=(), repr=False)
    category_ids: Sequence[int] = field(default=(), repr=False)
    skeleton: Sequence[tuple[int, int]] = field(default=(), repr=False)

    def __getitem__(self, index: Tensor | slice) -> Detections:
        """The detections chosen by a mask, index or slice."""
        rows = {name: getattr(self, name) for name in ("boxes", "scores", "labels", "keypoints", "tracks")}
        return replace(self, **{name: row[index] for name, row in rows.items() if row is not None})

    def records(self) -> list[dict[str, Any]]:
        """COCO records without an image id: category, `bbox` (x, y, width, height), score, `keypoints`, `track_id`."""
        records = []
        rows = zip(self.categories(), self.boxes.tolist(), self.scores.tolist(), strict=True)
        for i, (category, (left, top, right, bottom), score) in enumerate(rows):
            box = [round(value, 3) for value in (left, top, right - left, bottom - top)]
            records.append(category | {"bbox": box, "score": round(score, 5)})
            if self.keypoints is not None:
                records[-1]["keypoints"] = [round(value, 3) for value in self.keypoints[i].flatten().tolist()]
            if self.tracks is not None:
                records[-1]["track_id"] = int(self.tracks[i])
        return records

    def columns(self) -> dict[str, Any]:
        """Columns `x1`, `y1`, `x2`, `y2`, `score`, `label`, and `name`, `track` and `x_0`, `y_0`, `visibility_0`…"""
        columns: dict[str, Any] = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.numpy().T, strict=True))
        columns |= super().columns()
        if self.tracks is not None:
            columns["track"] = self.tracks.numpy()
        for k, point in enumerate([] if self.keypoints is None else self.keypoints.unbind(1)):
            columns |= dict(zip((f"x_{k}", f"y_{k}", f"visibility_{k}"), point.numpy().T, strict=True))
        return columns

    def to_supervision(self) -> Any:
        """A `supervision.Detections`, with class names in `data["class_name"]`; keypoints are left out.

        Raises:
            UserError: supervision is not installed.
        """
        arrays, columns = self.numpy(), super().columns()
        return optional("supervision", "to_supervision").Detections(
            xyxy=arrays["boxes"],
            confidence=arrays["scores"],
            class_id=arrays["labels"],
            tracker_id=arrays.get("tracks"),
            data={"class_name": np.array(columns["name"])} if "name" in columns else {},
        )

    @staticmethod
    def none() -> Detections:
        """No detection at all."""
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
    """How far apart vectors are: Euclidean, or `weight` (D,) . |a - b| - `bias` where there is a weight."""

    weight: np.ndarray | None = None
    bias: float = 0.0

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The distances (...) of vectors (..., D), which broadcast."""
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
    """What a dense head says before decoding: logits (B, A, C), regression (B, A, R), objectness (B, A)."""

    logits: Tensor
    regression: Tensor
    priors: Priors
    objectness: Tensor | None = None
    keypoints: Tensor | None = None
    aux: tuple[HeadOutput, ...] | None = None

    def at(self, place: tuple[Tensor, ...]) -> HeadOutput:
        """The predictions at (image, prior), P of each: fields with the axis P in place of (B, A)."""
        objectness, keypoints = (None if x is None else x[place] for x in (self.objectness, self.keypoints))
        centers, strides, boxes = self.priors
        boxes = None if boxes is None else boxes[place[1]]
        priors = self.priors._replace(centers=centers[place[1]], strides=strides[place[1]], boxes=boxes)
        return HeadOutput(self.logits[place], self.regression[place], priors, objectness, keypoints)


class LossTerm(NamedTuple):
    """One loss term before normalization: the sum over the batch, and what to divide it by."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class NamedRows(NamedTuple):
    """How a prediction layer's outputs, the rows of its weight and bias, are laid out over classes or keypoints.

    The outputs are `groups` equal parts, one an anchor. Each part has `before` outputs that belong to no name, `each`
    a name, and then whatever is left: background, objectness, box. `of` is the list of the metadata that has the names.
    """

    of: str = "names"
    each: int = 1
    before: int = 0
    groups: int = 1


@dataclass
class LimitHits:
    """How many images lost something to the limits of decoding.

    limited: images with more detections than `Postprocess.limit`; crowded: images with more boxes above
    `Postprocess.score` than go into suppression.
    """

    limited: int = 0
    crowded: int = 0
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, limited: bool = False, crowded: bool = False) -> None:
        """Count an image; from any thread."""
        with self.lock:
            self.limited += limited
            self.crowded += crowded

    @contextmanager
    def one_image(self) -> Iterator[None]:
        """Count several views of an image as one image."""
        limited, crowded = self.limited, self.crowded
        yield
        self.limited = min(self.limited, limited + 1)
        self.crowded = min(self.crowded, crowded + 1)

    def lines(self, keep: Postprocess) -> list[str]:
        """What to tell the user of it."""
        most, said = max(CANDIDATES, PER_DETECTION * keep.limit), []
        if self.limited:
            said.append(
                f"images with more detections than --max-det {keep.limit}: {self.limited}; the least certain were cut, "
                "raise --max-det to keep them"
            )
        if self.crowded:
            said.append(
                f"images with more than {most:,} boxes above --conf {keep.score:g}: {self.crowded}; only the best "
                f"{most:,} took part in suppression, raise --conf, or --max-det above {most // PER_DETECTION}"
            )
        return said


@dataclass(frozen=True)
class Postprocess:
    """How decoding chooses: the least score, the IoU above which a box is a duplicate, and how many an image.

    `agnostic` lets boxes of different classes suppress one another; `soft` decays scores instead (Soft-NMS); `classes`
    are the labels that are looked for, None for all. `keep_empty` keeps boxes that have no area within their image.
    `limit_hits` counts what the limits leave out.
    """

    score: Share = 0.25
    iou: Share = 0.7
    limit: Count = 300
    agnostic: bool = False
    soft: bool = False
    classes: tuple[int, ...] | None = None
    keep_empty: bool = False
    limit_hits: LimitHits = field(default_factory=LimitHits, compare=False, repr=False)

    def __post_init__(self) -> None:
        checked_values(self, "Postprocess.")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes numbers; kept with the weights. value = (pixel * scale - mean) / std, channels in `order`.

    `pad` fills what the image does not cover; `alignment` is "center" or "topleft"; `stretch` ignores the aspect ratio.
    """

    order: Annotated[str, Choice("RGB", "BGR")] = "RGB"
    scale: Positive = 1 / 255
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[Positive, ...] = (1.0, 1.0, 1.0)
    pad: Annotated[int, Range(0, 255)] = 114
    alignment: Annotated[str, Choice("center", "topleft")] = "center"
    stretch: bool = False


@dataclass(frozen=True, eq=False)
class Frame:
    """One image on its way through prediction.

    image (H, W, 3) uint8 RGB; name, that of its file; index, its number in a video or a file of several pages; time in
    seconds of a frame of a video, None for other images; pages, how many its file has.
    """

    image: np.ndarray
    name: str
    index: int = 0
    time: float | None = None
    pages: int = 1
