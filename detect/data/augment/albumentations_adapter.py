"""Transforms of albumentations that the configuration names; the one file that imports albumentations."""

from __future__ import annotations

import inspect
import random
import warnings
from dataclasses import replace
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.augmentations.geometric.distortion import BaseDistortion
from albumentations.augmentations.geometric.resize import MaxSizeTransform
from scipy.spatial import cKDTree

from detect.data.augment.outlines import SHORT
from detect.data.augment.transforms import Placement, place
from detect.data.outline_clipping import subdivided
from detect.errors import UserError, unknown
from detect.types import Target

COMPOSITIONS = {name: getattr(A, name) for name in ("OneOf", "SomeOf", "RandomOrder", "Sequential")}
_BASES = {"BasicTransform", "ImageOnlyTransform", "DualTransform", "Transform3D", "NoOp", "Lambda"}
TRANSFORMS = {
    name: value
    for name, value in vars(A).items()
    if inspect.isclass(value) and issubclass(value, A.BasicTransform) and name not in _BASES
}
TEARS = {
    "Morphological",
    "RandomGridShuffle",
    "ThinPlateSpline",
}  # an object grows, or ends in pieces or beside its box
STRAYS = {"GridElasticDeform"}  # keypoints end up to two pixels beside their place
MIRRORS = {"HorizontalFlip", "VerticalFlip", "Transpose", "D4", "SquareSymmetry", "TimeReverse"}
MANY, FLAT = 64, 1e-3  # points; area that a pixel reads, of a pixel
REFLECTING = (cv2.BORDER_REFLECT, cv2.BORDER_REFLECT_101)  # border modes that show mirror images of objects


class Pipeline:
    """The albumentations transforms of `spec`, a list of {name: arguments}; OneOf and the like have `transforms`.

    Boxes and keypoints follow, and outlines, whose points move as keypoints do. Where a transform can turn a box, the
    box is that of the ellipse inside the old one, which hugs most objects, not of the old corners; of an object with an
    outline it is that of what is seen of it. Borders that come in are filled with `pad`.
    UserError: a name, argument or value that does not exist; a transform that boxes or keypoints cannot follow.
    """

    def __init__(self, spec: list[dict[str, dict]], visibility: float, keypoints: bool, pad: int = 114) -> None:
        self.visibility, self.keypoints, self.pad = visibility, keypoints, pad
        self.bends, self.astray = False, ""
        self.compose = self._composed(spec, visibility)
        self.compose_outlined = self._composed(spec, 0.0)  # `place` decides by the outline

    def __call__(self, image: np.ndarray, target: Target, rng: np.random.Generator) -> tuple[np.ndarray, Target]:
        """Return the changed image, which may have another size, and its target by the rule of visibility."""
        compose = self.compose if target.outlines is None else self.compose_outlined
        compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        target = self._with_rings(target)
        spots = _spots(target)
        boxes = target.boxes if target.proposals is None else torch.cat([target.boxes, target.proposals])
        data: dict[str, Any] = {"image": image, "bboxes": boxes.numpy(), "rows": np.arange(len(boxes))}
        data |= {"keypoints": spots, "spots": np.arange(len(spots))}
        try:
            data = compose(**data)
        except Exception as error:  # transforms raise what they like when their values do not fit the image
            message = " ".join(str(error).split())
            raise UserError(
                f"augment.albumentations: {message} (image of {image.shape[1]} x {image.shape[0]})"
            ) from None
        image = data["image"]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"augment.albumentations: the pipeline made {image.dtype} {tuple(image.shape)} of a uint8 RGB image; "
                "leave normalization and conversion out of it"
            )
        size = image.shape[:2]
        still = Placement((1.0, 1.0), (0.0, 0.0), (0, 0, size[1], size[0]))
        return np.ascontiguousarray(image), place([_moved(target, data)], [still], self.visibility, size)

    def _composed(self, spec: list[dict[str, dict]], visibility: float) -> Any:
        boxes = A.BboxParams(
            "pascal_voc", label_fields=["rows"], min_visibility=visibility, clip=True, filter_invalid_bboxes=True
        )
        points = A.KeypointParams("xy", label_fields=["spots"], remove_invisible=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice, and complaints about pipelines that move nothing
            return A.Compose(self._build(spec), bbox_params=boxes, keypoint_params=points)

    def _with_rings(self, target: Target) -> Target:
        """The target with outlines whose points a pipeline can move, as many as it takes where that bends lines."""
        if target.outlines is None:
            return target
        if self.astray:
            raise UserError(f"augment.albumentations: outlines cannot follow {self.astray} to the pixel; remove it")
        rings = target.outlines.as_rings()
        if self.bends and not rings.whole:
            rings = subdivided(rings, max(target.size) * SHORT)
        return replace(target, outlines=rings)

    def _build(self, spec: Any) -> list[Any]:
        if not isinstance(spec, list):
            raise UserError(f"augment.albumentations: expected a list of {{transform: arguments}}, not {spec!r}")
        return [self._one(item) for item in spec]

    def _one(self, item: Any) -> Any:
        if not isinstance(item, dict) or len(item) != 1:
            raise UserError(f"augment.albumentations: expected {{transform: arguments}}, not {item!r}")
        (name, given), *_ = item.items()
        made = COMPOSITIONS.get(name) or TRANSFORMS.get(name)
        if made is None:
            raise unknown("transform in augment.albumentations", name, [*COMPOSITIONS, *TRANSFORMS])
        arguments = {} if given is None else given
        if not isinstance(arguments, dict):
            raise UserError(f"augment.albumentations: {name} takes named arguments, not {given!r}")
        self._refuse(name, made, arguments)
        taken = [key for key in inspect.signature(made.__init__).parameters if key != "self"]
        for key in arguments:
            if key not in taken:
                raise unknown(f"argument of {name} in augment.albumentations", key, taken)
        if name in COMPOSITIONS:
            arguments = {**arguments, "transforms": self._build(arguments.get("transforms"))}
        elif "border_mode" in taken:
            arguments = {"fill": [self.pad] * 3, **arguments}
        if "rotate_method" in taken:
            arguments = {"rotate_method": "ellipse", **arguments}
        try:
            transform = made(**arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"augment.albumentations: {name}: {' '.join(str(error).split())}") from None
        missing = set(getattr(transform, "targets_as_params", ())) - {"image", "bboxes", "keypoints"}
        if missing:
            raise UserError(f"augment.albumentations: {name} needs {', '.join(sorted(missing))}, which detection lacks")
        if isinstance(transform, A.DualTransform):
            _keep_on_pixels(transform)
            self.bends |= isinstance(transform, BaseDistortion)
            if name in STRAYS or "Keypoints" not in {str(target.value) for target in _targets(made)}:
                self.astray = name
        return transform

    def _refuse(self, name: str, made: type, arguments: dict[str, Any]) -> None:
        targets = {str(target.value) for target in _targets(made)}
        if name in TEARS or (issubclass(made, A.DualTransform) and "BBoxes" not in targets):
            raise UserError(f"augment.albumentations: boxes cannot follow {name}; remove it")
        if name in MIRRORS and self.keypoints:
            raise UserError(
                f"augment.albumentations: {name} would not swap left and right keypoints; use augment.flip instead"
            )
        if self.keypoints and arguments.get("border_mode") in REFLECTING:
            raise UserError(
                f"augment.albumentations: {name} with border_mode {arguments['border_mode']} shows mirror images, "
                "whose keypoints are lost; use border_mode 0"
            )
        if self.keypoints and name in STRAYS:
            raise UserError(f"augment.albumentations: keypoints cannot follow {name} to the pixel; remove it")


def _keep_on_pixels(transform: Any) -> None:
    """Have `transform` move keypoints exactly as it moves pixels.

    Our coordinates are continuous, with the centre of the first pixel at 0.5. albumentations applies the matrix of an
    image, which maps indices of pixels, to keypoints; it looks up the inverse of a distortion in rounded form, and
    scales by what was asked, not by the quotient of the two sizes, which are whole numbers.
    """
    move = transform._key2func.get("keypoints")

    def indexed(points: np.ndarray, **params: Any) -> np.ndarray:
        return _shifted(move(_shifted(points, -0.5), **params), 0.5)

    def distorted(points: np.ndarray, map_x: np.ndarray, map_y: np.ndarray, **params: Any) -> np.ndarray:
        return np.hstack([sources(points[:, :2], map_x, map_y), points[:, 2:]])

    def scaled(points: np.ndarray, scale: float, **params: Any) -> np.ndarray:
        size = np.array(params["shape"][1::-1])
        whole = np.floor if isinstance(transform, A.RandomScale) else np.round
        return np.hstack([points[:, :2] * whole(size * scale) / size, points[:, 2:]])

    kinds = {
        (A.Affine, A.Perspective, A.RandomRotate90, A.Rotate, A.SafeRotate): indexed,
        tuple(TRANSFORMS[name] for name in MIRRORS if name in TRANSFORMS): indexed,
        (BaseDistortion,): distorted,
        (A.RandomScale, MaxSizeTransform): scaled,
    }
    for made, follow in kinds.items():
        if isinstance(transform, made):
            transform._key2func["keypoints"] = follow


def _shifted(points: np.ndarray, by: float) -> np.ndarray:
    return np.hstack([points[:, :2] + by, points[:, 2:]])


def sources(points: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """Return where points (N, 2) of an image are after cv2.remap by maps (H, W) of the indices that pixels read.

    From the pixel that reads nearest to a point, one step along the slopes of the maps.
    """
    if len(points) > MANY:
        return _sources_of_many(points, map_x, map_y)
    slopes = np.array([np.gradient(m.astype(np.float64))[::-1] for m in (map_x, map_y)])  # along x, along y
    moved = []
    for point in points - 0.5:
        row, column = np.unravel_index(((map_x - point[0]) ** 2 + (map_y - point[1]) ** 2).argmin(), map_x.shape)
        left = point - (map_x[row, column], map_y[row, column])
        moved.append(np.linalg.lstsq(slopes[:, :, row, column], left)[0] + (column, row))
    return np.array(moved).reshape(-1, 2) + 0.5


def _sources_of_many(points: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """`sources` of so many points that a search tree is faster than to look at all pixels for each."""
    tree = cKDTree(np.stack([map_x.ravel(), map_y.ravel()], axis=1))
    _, nearest = tree.query(points - 0.5)
    row, column = np.unravel_index(nearest, map_x.shape)
    slopes = np.array([np.gradient(m.astype(np.float64))[::-1] for m in (map_x, map_y)])[:, :, row, column]
    (a, b), (c, d) = slopes
    left = (points - 0.5 - np.stack([map_x[row, column], map_y[row, column]], axis=1)).T
    area = a * d - b * c
    area[np.abs(area) < FLAT] = np.inf  # no step where the maps are flat, as beyond their border
    step = np.stack([d * left[0] - b * left[1], a * left[1] - c * left[0]]) / area
    return step.T + np.stack([column, row], axis=1) + 0.5


def _moved(target: Target, data: dict[str, Any]) -> Target:
    """The target that came out of a pipeline: `rows` and `spots` say which boxes and keypoints are left."""
    rows = torch.from_numpy(np.asarray(data["rows"], dtype=np.int64))
    points, outlines = target.keypoints, target.outlines
    flat = np.zeros((len(_spots(target)), 2))
    spots = np.asarray(data["spots"], dtype=np.int64)
    flat[spots] = np.asarray(data["keypoints"], dtype=np.float64).reshape(-1, 2)
    count = 0 if points is None else points.shape[0] * points.shape[1]
    if points is not None:
        there = torch.zeros(count, dtype=torch.bool)
        there[spots[spots < count]] = True
        places = torch.from_numpy(flat[:count].astype(np.float32))
        points = torch.cat([places, points.reshape(-1, 3)[:, 2:] * there[:, None]], dim=1).reshape(points.shape)
    if outlines is not None:
        outlines = replace(outlines, points=flat[count:])[rows[rows < len(target)].numpy()]
    boxes = torch.from_numpy(np.asarray(data["bboxes"], dtype=np.float32).reshape(-1, 4))
    own = rows < len(target)  # the boxes after those of objects are proposals
    proposals, boxes, rows = None if target.proposals is None else boxes[~own], boxes[own], rows[own]
    points = None if points is None else points[rows]
    return replace(target[rows], boxes=boxes, keypoints=points, proposals=proposals, outlines=outlines)


def _spots(target: Target) -> np.ndarray:
    """(P, 2) what moves as points: keypoints, then the points of outlines."""
    parts = [np.zeros((0, 2), np.float32)]
    if target.keypoints is not None:
        parts.append(target.keypoints[..., :2].reshape(-1, 2).numpy())
    if target.outlines is not None:
        parts.append(target.outlines.points)
    return np.concatenate(parts)


def _targets(made: type) -> tuple[Any, ...]:
    value = getattr(made, "_targets", ())
    return value if isinstance(value, tuple) else (value,)
