"""Augmentations that change a training image and its target together: crop, placing, mosaic, mirror, colour.

Rotation, shear and warp are in warp.py. Images are scaled straight onto the training canvas. Every function draws
from the generator that it is given; none keeps state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from detect.config.augment import AugmentConfig
from detect.data.augment.complete_regions import joined_regions, moved_regions, placed_regions, spread_regions
from detect.data.augment.mirror_pairs import mirror_swap
from detect.data.augment.outlines import place_outlines
from detect.data.augment.pipeline import transforms
from detect.data.augment.warp import SETTINGS, Warp, random_warp
from detect.data.images import resize
from detect.data.letterbox import Letterbox
from detect.data.outlines import Outlines
from detect.types import Preprocess, Target

MIN_SIDE = 2.0  # pixels: a box thinner than this shows nothing that could be learned


class ImageTarget(NamedTuple):
    """An image (h, w, 3) uint8, perhaps scaled down, and the target of the original image in its pixels."""

    image: np.ndarray
    target: Target


class Placement(NamedTuple):
    """How one image was placed on a canvas: x' = x * scale + offset, seen inside `view` (x0, y0, x1, y1) only.

    With a `warp`, which all images of a canvas share, x' is in the scene, and warp.forward(x') on the canvas.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    view: tuple[float, float, float, float]
    warp: Warp | None = None


def single(
    tile: ImageTarget, size: int, config: AugmentConfig, rng: np.random.Generator, pad: int
) -> tuple[np.ndarray, Target]:
    """Place one image around the middle of a size x size canvas, its long side `size` times a random zoom."""
    zoom, (x, y), warp = _view(size, config, rng)
    if config.crop and rng.random() < config.crop:
        tile = random_crop(tile, config, rng)
    canvas = np.full((size, size, 3), pad, np.uint8)
    height, width = tile.image.shape[:2]
    zoom *= size / max(height, width)
    move = paste(canvas, tile, (x - width * zoom / 2, y - height * zoom / 2), zoom, warp)
    return canvas, place([tile.target], [move], config.visibility, (size, size))


def mosaic(
    tiles: Sequence[ImageTarget], size: int, config: AugmentConfig, rng: np.random.Generator, pad: int
) -> tuple[np.ndarray, Target]:
    """Place four images that meet in a random point, with random zoom and shift (mosaic; YOLOv4, 2004.10934).

    It is the usual mosaic of twice the side, cut and scaled to size x size, without ever making the larger image.
    """
    zoom, middle, warp = _view(size, config, rng)
    x, y = (round(v) for v in middle + rng.uniform(-0.5, 0.5, 2) * size * zoom)
    canvas = np.full((size, size, 3), pad, np.uint8)
    shown, moves = [], []
    for k, tile in enumerate(tiles):
        if config.crop and rng.random() < config.crop:
            tile = random_crop(tile, config, rng)
        height, width = tile.image.shape[:2]
        ratio = zoom * size / max(height, width)
        corner = x - (k % 2 == 0) * width * ratio, y - (k < 2) * height * ratio
        moves.append(paste(canvas, tile, corner, ratio, warp))
        shown.append(tile.target)
    return canvas, place(shown, moves, config.visibility, (size, size))


def _view(size: int, config: AugmentConfig, rng: np.random.Generator) -> tuple[float, np.ndarray, Warp | None]:
    """Draw the zoom, the canvas point (x, y) that the middle moves to, and the warp, if any is on."""
    zoom = max(0.05, rng.uniform(1 - config.scale, 1 + config.scale))
    middle = size / 2 + rng.uniform(-config.translate, config.translate, 2) * size
    return zoom, middle, random_warp(size, config, rng) if any(SETTINGS(config)) else None


def random_crop(tile: ImageTarget, config: AugmentConfig, rng: np.random.Generator) -> ImageTarget:
    """Cut a random part out of an image, its width and height at least `crop_min` of the image's.

    The target is then in pixels of the part, and boxes may reach out of it: `place` cuts them off, or drops them
    by the rule of visibility.
    """
    whole = np.array(tile.image.shape[1::-1])
    sides = np.rint(whole * rng.uniform(config.crop_min, 1.0, 2)).astype(int).clip(1)
    left, top = corner = rng.integers(whole - sides + 1)
    scale = whole / tile.target.size[::-1]
    target, (width, height) = tile.target, sides.tolist()
    shift, stretch = (torch.from_numpy(np.tile(pair, 2)).float() for pair in (corner, scale))
    boxes, proposals, points = target.boxes * stretch - shift, target.proposals, target.keypoints
    outlines = target.outlines and target.outlines.moved(lambda places: places * scale - corner)
    if proposals is not None:
        proposals = proposals * stretch - shift
    if points is not None:
        points = torch.cat([points[..., :2] * stretch[:2] - shift[:2], points[..., 2:]], dim=-1)
    moved = replace(target, boxes=boxes, keypoints=points, proposals=proposals, outlines=outlines, size=(height, width))
    moved = replace(moved, **moved_regions(moved, lambda regions: regions * stretch - shift))
    return ImageTarget(tile.image[top : top + height, left : left + width], moved)


def paste(
    canvas: np.ndarray, tile: ImageTarget, corner: tuple[float, float], zoom: float, warp: Warp | None = None
) -> Placement:
    """Draw an image, enlarged `zoom` times, with its top left corner at (x, y); return how its source pixels moved.

    Only the part that the canvas shows is resized, a whole number of source pixels onto a whole number of canvas
    pixels. The move is that very map (each axis's scale is the quotient of the two numbers), so it is exact. With a
    `warp` the tile is sampled where it comes to lie, to a fraction of a pixel.
    """
    if warp is not None:
        warp.draw(canvas, tile.image, zoom, corner)
        (height, width), (h, w), (x, y) = tile.image.shape[:2], tile.target.size, corner
        return Placement(
            (zoom * width / w, zoom * height / h), corner, (x, y, x + zoom * width, y + zoom * height), warp
        )
    shown, read = [], []
    for start, source, room in zip(corner, tile.image.shape[1::-1], canvas.shape[1::-1], strict=True):
        low, high = max(0, round(start)), min(room, round(start + source * zoom))
        first = min(max(0, round((low - start) / zoom)), source - 1)
        last = min(max(first + 1, round((high - start) / zoom)), source)
        shown.append((low, max(low, high)))
        read.append((first, last))
    (x0, x1), (y0, y1) = shown
    (u0, u1), (v0, v1) = read
    if x1 > x0 and y1 > y0:
        resize(tile.image[v0:v1, u0:u1], x1 - x0, y1 - y0, canvas[y0:y1, x0:x1])
    x_scale, y_scale = (x1 - x0) / (u1 - u0), (y1 - y0) / (v1 - v0)
    height, width = tile.target.size
    scale = x_scale * tile.image.shape[1] / width, y_scale * tile.image.shape[0] / height
    return Placement(scale, (x0 - u0 * x_scale, y0 - v0 * y_scale), (x0, y0, x1, y1))


def place(targets: Sequence[Target], moves: Sequence[Placement], visibility: float, size: tuple[int, int]) -> Target:
    """Return the target of images placed on one canvas of `size` (h, w); the image id is the first one's.

    The rule of visibility, for crowd regions and proposals too: a box is dropped when less than `visibility` of its
    area is left inside the view, or when what is left is thinner than 2 pixels. A keypoint outside the view becomes
    (0, 0, 0). Of an object with an outline both areas are those of its outline: of a long object that lies at a slant,
    a box can be half seen of which nothing is. Its box is that of what is seen of its outline.
    """
    rows = np.array([(*m.scale, *m.scale, *m.offset, *m.offset, *m.view[:2] * 2, *m.view[2:] * 2) for m in moves])
    proposals = [t.proposals for t in targets if t.proposals is not None]
    both = [*(t.boxes for t in targets), *proposals]  # proposals follow, of all images or of none
    rows = np.tile(rows, (len(both) // len(targets), 1)).repeat([len(b) for b in both], axis=0)
    scale, offset, low, high = rows[:, :4], rows[:, 4:8], rows[:, 8:12], rows[:, 12:]
    whole = np.concatenate([b.numpy() for b in both]) * scale + offset
    enough = visibility * (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    boxes = np.minimum(np.maximum(whole, low), high)
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides[:, 0] * sides[:, 1]
    seen = (area >= enough) & (sides.min(axis=1) >= MIN_SIDE)
    if (warp := moves[0].warp) is not None:  # seen in the tile and then on the canvas: the two shares are multiplied
        share = enough / np.maximum(area, MIN_SIDE**2)
        boxes, there = _warped(warp, (whole, low[:, :2], high[:, :2]), share, size)
        seen &= there
    outlines = None
    if targets[0].outlines is not None:
        outlines = _outlined(targets, rows, warp, size, visibility, boxes, seen)
    kept = np.flatnonzero(seen)
    keep, rest = np.split(kept, kept.searchsorted([sum(len(t.boxes) for t in targets)]))
    points = None
    if targets[0].keypoints is not None:
        points = np.concatenate([t.keypoints.numpy() for t in targets if t.keypoints is not None])[keep]
        edges = [edge[keep, None, :2] for edge in (scale, offset, low, high)]
        points[..., :2] = points[..., :2] * edges[0] + edges[1]
        inside = (points[..., :2] >= edges[2]) & (points[..., :2] <= edges[3])
        if warp is not None:
            points[..., :2] = warp.forward(points[..., :2].astype(np.float64))
            inside &= (points[..., :2] >= 0) & (points[..., :2] <= size[::-1])
        points[~(inside.all(axis=-1) & (points[..., 2] > 0))] = 0
    return Target(
        boxes=torch.from_numpy(boxes[keep].astype(np.float32)),
        labels=torch.from_numpy(np.concatenate([t.labels.numpy() for t in targets])[keep]),
        crowd=torch.from_numpy(np.concatenate([t.crowd.numpy() for t in targets])[keep]),
        image_id=targets[0].image_id,
        size=size,
        keypoints=None if points is None else torch.from_numpy(points),
        proposals=torch.from_numpy(boxes[rest].astype(np.float32)) if proposals else None,
        outlines=None if outlines is None else outlines[keep],
        **({} if targets[0].complete is None else placed_regions(targets, moves, size)),
    )


def _outlined(
    targets: Sequence[Target],
    rows: np.ndarray,
    warp: Warp | None,
    size: tuple[int, int],
    visibility: float,
    boxes: np.ndarray,
    seen: np.ndarray,
) -> Outlines:
    """The placed outlines of all objects; those that have one get its box in `boxes`, and in `seen` whether it counts.

    `rows` are those of `place`.
    """
    joined = Outlines.join([t.outlines for t in targets if t.outlines is not None])
    chosen = np.flatnonzero(joined.present)
    placed, found, share = place_outlines(joined, rows[: len(joined)], warp, size)
    boxes[chosen] = found[chosen]
    seen[chosen] = ((share >= visibility) & ((found[:, 2:] - found[:, :2]).min(axis=1) >= MIN_SIDE))[chosen]
    return placed


def _warped(
    warp: Warp, ellipses: tuple[np.ndarray, np.ndarray, np.ndarray], share: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) boxes on a canvas of `size` (h, w) of ellipses, as Warp.boxes takes them, and which are to be kept.

    Those are seen to at least `share` (N,) of their area, and thick enough.
    """
    whole = warp.boxes(*ellipses)
    boxes = np.clip(whole, 0.0, size[::-1] * 2)
    sides = boxes[:, 2:] - boxes[:, :2]
    enough = share * (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    return boxes, (sides[:, 0] * sides[:, 1] >= enough) & (sides.min(axis=1) >= MIN_SIDE)


def merge(targets: Sequence[Target], size: tuple[int, int]) -> Target:
    """Return the objects of several targets on one canvas of `size`; the image id is the first one's."""
    points = [t.keypoints for t in targets if t.keypoints is not None]
    proposals = [t.proposals for t in targets if t.proposals is not None]
    outlines = [t.outlines for t in targets if t.outlines is not None]
    return replace(
        targets[0],
        boxes=torch.cat([t.boxes for t in targets]),
        labels=torch.cat([t.labels for t in targets]),
        crowd=torch.cat([t.crowd for t in targets]),
        keypoints=torch.cat(points) if points else None,
        proposals=torch.cat(proposals) if proposals else None,
        outlines=Outlines.join(outlines) if outlines else None,
        size=size,
        **joined_regions(targets),
    )


class Augmenter:
    """The last augmentations of a sample, when it lies on its canvas: named transforms, colour, mirroring.

    Args:
        config: what to apply.
        preprocess: says how a transform's result of another size is letterboxed.
        keypoint_names: the dataset's keypoints, for targets that have them.
        flip_pairs: the dataset's pairs of keypoints that swap in a mirror; `config.flip_pairs` come first.

    Raises:
        UserError: a transform that does not exist; mirroring of keypoints whose pairs are not known.
    """

    def __init__(
        self,
        config: AugmentConfig,
        preprocess: Preprocess,
        keypoint_names: Sequence[str] = (),
        flip_pairs: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.config, self.preprocess = config, preprocess
        self.transforms = transforms(config, bool(keypoint_names), preprocess.pad)
        self.swap = mirror_swap(keypoint_names, config.flip_pairs or flip_pairs) if config.flip > 0 else None

    def __call__(
        self, image: np.ndarray, target: Target, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, Target]:
        """Return the augmented image (side, side, 3), which may be the same array, and its target."""
        for transform in self.transforms:
            image, target = transform(image, target, rng)
            target = replace(target, **spread_regions(target))
        if target.size != (side, side):  # a transform may have cropped it
            image, target = letterboxed(ImageTarget(image, target), side, self.preprocess)
        jitter(image, self.config, rng)
        if rng.random() < self.config.flip:
            cv2.flip(image, 1, dst=image)
            target = mirror(target, self.swap)
        return image, target


def letterboxed(tile: ImageTarget, side: int, pixels: Preprocess) -> tuple[np.ndarray, Target]:
    """Letterbox an image and its target on a square canvas."""
    fit = Letterbox.fit(tile.image.shape[:2], side, pixels, square=True)
    (height, width), (h, w) = tile.target.size, fit.source
    scale = fit.scale[0] * w / width, fit.scale[1] * h / height
    view = (fit.left, fit.top, fit.left + fit.inner[1], fit.top + fit.inner[0])
    move = Placement(scale, (fit.left, fit.top), view)
    return fit.apply(tile.image), place([tile.target], [move], 0.0, fit.canvas)


def mirror(target: Target, swap: Tensor | None) -> Target:
    """Return the target of the image mirrored left to right; `swap` (K,) is which keypoint each one becomes."""
    width = target.size[1]
    sign, shift = torch.tensor([[-1.0, 1, -1, 1], [width, 0, width, 0]])
    boxes, proposals = target.boxes[:, [2, 1, 0, 3]] * sign + shift, target.proposals
    if proposals is not None:
        proposals = proposals[:, [2, 1, 0, 3]] * sign + shift
    points = target.keypoints
    if points is not None:
        x, y, seen = points.unbind(dim=-1)
        points = torch.stack([torch.where(seen > 0, width - x, x), y, seen], dim=-1)
        points = points if swap is None else points[:, swap]
    outlines = target.outlines and target.outlines.moved(lambda places: places * [-1, 1] + [width, 0])
    regions = None if target.complete_in is None else target.complete_in[:, [2, 1, 0, 3]] * sign + shift
    moved = replace(target, boxes=boxes, keypoints=points, proposals=proposals, outlines=outlines)
    return replace(moved, complete_in=regions)


def jitter(image: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> None:
    """Change hue, saturation and brightness of (H, W, 3) uint8 RGB in place.

    One 3 x 3 matrix around the grey axis does all three: hue turns by up to `hue` of a full circle, saturation (the
    distance from the axis) and value are multiplied by 1 ± their gains. It is the linear twin of a jitter in HSV, and
    at 640 px takes 0.2 ms where going to HSV and back through tables takes 2.3 ms (one thread).
    """
    hue, saturation, value = rng.uniform(-1.0, 1.0, 3) * (config.hue, config.saturation, config.value)
    if hue == saturation == value == 0.0:
        return
    cos, sin = math.cos(math.tau * hue), math.sin(math.tau * hue)
    grey = np.full((3, 3), 1 / 3)
    around = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = cos * np.eye(3) + sin * around + (1 - cos) * grey  # Rodrigues' rotation about (1, 1, 1)
    matrix = (1 + value) * (grey + (1 + saturation) * (turn - grey))
    cv2.transform(image, matrix.astype(np.float32), dst=image)
