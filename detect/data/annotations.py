"""The annotations of a dataset: a COCO file as flat arrays, which forked workers share without copying.

Axes: I images, N objects, C classes, K keypoints. Objects are kept grouped by image, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detect.data.federation import Federation
from detect.data.images import read_header, read_image
from detect.data.outlines import Outlines, gather
from detect.storage.fetch import ahead
from detect.types import Preprocess, Target
from detect.utils.atomic_io import TREES

if TYPE_CHECKING:
    from detect.config.augment import AugmentConfig
    from detect.data.datasets.crops import CropDataset
    from detect.data.datasets.signals import SignalDataset


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotations of a set of images. Treat the arrays as read-only; `select` makes a subset.

    Attributes:
        path: the annotation file, for messages.
        root: the image folder.
        image_ids: (I,) int64.
        sizes: (I, 2) int32 annotated height and width; 0 where the file does not say.
        starts: (I + 1,) int64; the objects of image i are rows starts[i]:starts[i + 1] of the columns below.
        boxes: (N, 4) float64 x, y, width, height in pixels, as in the file (not clipped).
        labels: (N,) int64 in 0..C-1, the rank of the category id.
        crowd: (N,) bool.
        areas: (N,) float64, the file's own; width * height where it has none.
        ids: (N,) int64 annotation ids, generated where missing.
        keypoints: (N, K, 3) float64 x, y, visibility (all 0 for an object without any); None without keypoints.
        category_ids: (C,) int64 ascending.
        names: the C class names.
        name_bytes, name_starts: the file names, see `encode_names`.
        keypoint_names: the K keypoints; `skeleton` and `flip_pairs` are pairs of indices into them (COCO files count
            from 1).
        flip_pairs: the keypoints that swap in a mirror, by names such as left_eye and right_eye; None where there are
            none, or one lacks its partner.
        left_out: one line for each bad record that was left out with --skip-bad.
        notes: (kind, line) of what a user should know about the files; the kinds are those of `detect check`.
        proposals: (P, 4) float32 xyxy px, those of image i in rows proposal_starts[i]:proposal_starts[i + 1]; or None.
        outlines: the outlines of the N objects, as in the file (not clipped); None where no object has one.
        difficult: (N,) bool, objects that DOTA's evaluation does not count; None where the file names none. They are
            ordinary ones otherwise.
        bad_outlines: what is wrong with the outlines that cannot be used, or of which a part is left out, by annotation
            id. Only tasks that use outlines look at it.
        federation: the classes that each image was checked for; None where that is all of them, as in most datasets.
        measured_as: whose protocol the dataset has: "coco"; "lvis" in its place; or COCO's, and "open_images" or
            "wider_face" beside it.
    """

    path: Path
    root: Path
    image_ids: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    ids: np.ndarray
    keypoints: np.ndarray | None
    category_ids: np.ndarray
    names: list[str]
    name_bytes: np.ndarray  # all file names as UTF-8, end to end: a list of str would be copied page by page in workers
    name_starts: np.ndarray
    keypoint_names: list[str] = field(default_factory=list)
    skeleton: list[list[int]] = field(default_factory=list)
    flip_pairs: list[list[int]] | None = None
    left_out: list[str] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)
    proposals: np.ndarray | None = None
    proposal_starts: np.ndarray | None = None
    outlines: Outlines | None = None
    difficult: np.ndarray | None = None
    bad_outlines: dict[int, str] = field(default_factory=dict)
    federation: Federation | None = None
    measured_as: str = "coco"

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def dims(self) -> int:
        """The axes of a sample without its channels: 2 for images."""
        return 2

    @property
    def channels(self) -> int | None:
        """The channels of a sample. None for images: a model takes them in colour or in grey."""
        return None

    @property
    def side(self) -> int | None:
        """The longest side of a sample. None for images, which are letterboxed to any size."""
        return None

    def preprocess(self) -> Preprocess | None:
        """The preprocessing that fits these samples. None for images, whose values have one range."""
        return None

    def class_dataset(
        self,
        size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        preprocess: Preprocess = Preprocess(),  # noqa: B008 (frozen)
        cache_gb: float = 0.0,
        balanced: bool = False,
    ) -> CropDataset | SignalDataset:
        """The samples of a classifier or embedder: a crop for each box. See `CropDataset` for the arguments."""
        from detect.data.datasets.crops import CropDataset, Crops  # late: it imports this file

        return CropDataset(Crops.of(self), size, augment, seed, preprocess, cache_gb, balanced)

    def file_name(self, index: int) -> str:
        """Return the file name of image `index` as the annotation file has it, relative to `root`."""
        letters = self.name_bytes[self.name_starts[index] : self.name_starts[index + 1]]
        return letters.tobytes().decode("utf-8", "surrogatepass")

    def image_path(self, index: int) -> Path:
        """Return the path of image `index`."""
        return self.root / self.file_name(index)

    def size(self, index: int) -> tuple[int, int] | None:
        """Return the annotated (h, w) of image `index`, or None where the file does not say."""
        height, width = self.sizes[index].tolist()
        return (height, width) if height and width else None

    def read(self, index: int) -> np.ndarray:
        """Return image `index` as (H, W, 3) uint8 RGB, turned as it was annotated. Raises UserError as `read_image`."""
        height, width = self.sizes[index].tolist()  # `size`, written out: images pass here on their way to training
        return read_image(self.root / self.file_name(index), (height, width) if height and width else None)

    def fetch_ahead(self, indices: Iterable[int]) -> None:
        """Begin to fetch images that will be read soon, where they lie in an object store."""
        if TREES in str(self.root):
            ahead(self.image_path(index) for index in indices)

    def target(self, index: int) -> Target:
        """Return the target of image `index`: float32 xyxy in pixels as annotated, crowd regions included."""
        rows = slice(int(self.starts[index]), int(self.starts[index + 1]))
        boxes = self.boxes[rows].copy()
        boxes[:, 2:] += boxes[:, :2]
        height, width = self.sizes[index].tolist()
        proposals = None
        if self.proposals is not None and self.proposal_starts is not None:
            start, end = self.proposal_starts[index : index + 2].tolist()
            proposals = torch.from_numpy(self.proposals[start:end].copy())
        return Target(
            boxes=torch.from_numpy(boxes).float(),
            labels=torch.from_numpy(self.labels[rows].copy()),
            crowd=torch.from_numpy(self.crowd[rows].copy()),
            image_id=int(self.image_ids[index]),
            size=(height, width),
            keypoints=None if self.keypoints is None else torch.from_numpy(self.keypoints[rows]).float(),
            proposals=proposals,
            **({} if self.federation is None else self.complete(index, (height, width))),
        )

    def complete(self, index: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return `Target.complete` and its region, the canvas of `size` (h, w), of image `index`, if federated."""
        if self.federation is None:
            return {}
        complete = torch.from_numpy(self.federation.complete(index, len(self.names)))[None]
        return {"complete": complete, "complete_in": torch.tensor([[0.0, 0.0, *size[::-1]]])}

    def select(self, indices: Sequence[int] | np.ndarray, left_out: list[str] | None = None) -> Annotations:
        """Return the annotations of these images, in this order; the classes stay.

        Args:
            indices: (M,) of images.
            left_out: replaces `left_out`; default: keep it.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        rows, starts = gather(self.starts, index)
        letters, name_starts = gather(self.name_starts, index)
        proposals, proposal_starts = self.proposals, self.proposal_starts
        if proposals is not None and proposal_starts is not None:
            kept, proposal_starts = gather(proposal_starts, index)
            proposals = proposals[kept]
        return replace(
            self,
            image_ids=self.image_ids[index],
            sizes=self.sizes[index],
            starts=starts,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
            ids=self.ids[rows],
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            name_bytes=self.name_bytes[letters],
            name_starts=name_starts,
            left_out=self.left_out if left_out is None else left_out,
            proposals=proposals,
            proposal_starts=proposal_starts,
            outlines=None if self.outlines is None else self.outlines[rows],
            difficult=None if self.difficult is None else self.difficult[rows],
            federation=self.federation and self.federation.select(index),
        )

    def without(self, rows: np.ndarray, lines: list[str]) -> Annotations:
        """Return the annotations without the objects in `rows` (N,) bool; `lines` are added to `left_out`."""
        keep = ~rows
        columns: dict[str, Any] = {
            key: getattr(self, key)[keep] for key in ("boxes", "labels", "crowd", "areas", "ids")
        }
        starts = np.concatenate([[0], np.cumsum(keep)])[self.starts]
        columns["keypoints"] = None if self.keypoints is None else self.keypoints[keep]
        columns["outlines"] = None if self.outlines is None else self.outlines[keep]
        columns["difficult"] = None if self.difficult is None else self.difficult[keep]
        return replace(self, **columns, starts=starts, left_out=[*self.left_out, *lines])

    def to_coco(self) -> dict:
        """Return a COCO dictionary of plain Python values; RLEs are compressed."""
        images = []
        for index, (image_id, (height, width)) in enumerate(
            zip(self.image_ids.tolist(), self.sizes.tolist(), strict=True)
        ):
            size = {"width": width, "height": height} if height and width else {}
            images.append({"id": image_id, "file_name": self.file_name(index), **size})
        owner = np.repeat(self.image_ids, np.diff(self.starts))
        category = self.category_ids[self.labels]
        columns = (self.ids, owner, category, self.boxes, self.areas, self.crowd.astype(int))
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        rows = zip(*(column.tolist() for column in columns), strict=True)
        annotations = [dict(zip(keys, row, strict=True)) for row in rows]
        categories: list[dict] = [
            {"id": i, "name": n} for i, n in zip(self.category_ids.tolist(), self.names, strict=True)
        ]
        if self.outlines is not None:
            for row, annotation in enumerate(annotations):
                annotation["segmentation"] = self.outlines.segmentation(row)
                if self.outlines.frames is not None and np.isfinite(self.outlines.frames[row]).all():
                    annotation["corners"] = self.outlines.frames[row].tolist()
        if self.difficult is not None:
            for row in np.flatnonzero(self.difficult).tolist():
                annotations[row]["difficult"] = 1
        if self.keypoints is not None:
            for annotation, points in zip(annotations, self.keypoints, strict=True):
                annotation["keypoints"] = points.ravel().tolist()
                annotation["num_keypoints"] = int((points[:, 2] > 0).sum())
            pairs = [[a + 1, b + 1] for a, b in self.skeleton]
            for category_ in categories:
                category_ |= {"keypoints": self.keypoint_names, "skeleton": pairs}
        coco = {"images": images, "annotations": annotations, "categories": categories}
        if self.federation is not None:
            self.federation.describe(coco, self.category_ids, self.starts, self.labels)
        return coco


def known_sizes(annotations: Annotations) -> np.ndarray:
    """Return (I, 2) height and width of every image, read from its header where the annotations do not say."""
    sizes = np.array(annotations.sizes, dtype=np.int64)
    for i in np.flatnonzero((sizes == 0).any(axis=1)).tolist():
        sizes[i] = read_header(annotations.image_path(i)).shown
    return sizes


def with_known_sizes(annotations: Annotations) -> Annotations:
    """Return the annotations with the size of every image, read from the file where they do not say it."""
    sizes = known_sizes(annotations)
    return annotations if (sizes == annotations.sizes).all() else replace(annotations, sizes=sizes.astype(np.int32))


def encode_names(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return all names as one array of UTF-8 bytes, and where each starts (one more than there are names)."""
    encoded = [name.encode("utf-8", "surrogatepass") for name in names]
    starts = np.zeros(len(names) + 1, dtype=np.int64)
    np.cumsum([len(name) for name in encoded], out=starts[1:])
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), starts


def names_of(letters: np.ndarray, starts: np.ndarray) -> list[str]:
    """Return the names that `encode_names` has encoded."""
    text, places = letters.tobytes().decode("utf-8", "surrogatepass"), starts.tolist()
    if len(text) == len(letters):  # a byte each
        return [text[start:end] for start, end in pairwise(places)]
    return [letters[start:end].tobytes().decode("utf-8", "surrogatepass") for start, end in pairwise(places)]
