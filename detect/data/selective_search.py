"""Selective search (Uijlings et al., 2013): regions that may be objects, by joining alike neighbours, step by step.

Axes: n regions of the first segmentation, which grow to 2 n - 1; P proposals.
"""

from __future__ import annotations

import heapq
import math

import cv2
import numpy as np

from detect.data.images import resize
from detect.errors import UserError

LONGEST = 400  # pixels: larger images are searched at that size
STARTS = ((cv2.COLOR_RGB2HSV_FULL, 50), (cv2.COLOR_RGB2LAB, 100))  # colour space, and scale of the first segmentation
SIGMA = 0.8  # of the blur before it
MOST = 300  # proposals of an image
LEAST = 4  # pixels, at the size that is searched: a box with a shorter side is no proposal
COLOURS, DIRECTIONS, STEEPNESSES = 25, 8, 10  # bins of the histograms, those of texture in each direction


def selective_search(image: np.ndarray) -> np.ndarray:
    """Return proposals (P, 4) float32 xyxy px of an image (H, W, 3) uint8 RGB, MOST at most, likely ones first.

    A function of the image alone. Raises UserError where scikit-image is missing.
    """
    height, width = image.shape[:2]
    ratio = min(1.0, LONGEST / max(height, width))
    sides = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = resize(image, *sides) if ratio < 1 else image
    runs = []
    for space, scale in STARTS:
        pixels = np.ascontiguousarray(cv2.cvtColor(small, space))
        runs.append(hierarchy(pixels, segments(pixels, scale))[::-1])  # the largest come first
    boxes = ranked(runs)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= LEAST][:MOST]
    return (boxes * np.array([width / sides[0], height / sides[1]] * 2)).astype(np.float32)


def segments(pixels: np.ndarray, scale: int) -> np.ndarray:
    """The first regions (H, W), numbered from 0: the graph segmentation of Felzenszwalb and Huttenlocher (2004)."""
    try:
        from skimage.segmentation import felzenszwalb  # late: an extra
    except ImportError:
        raise UserError("selective search needs scikit-image: pip install 'gridhead[proposals]'") from None
    return felzenszwalb(pixels, scale=scale, sigma=SIGMA, min_size=scale, channel_axis=2)


def ranked(runs: list[np.ndarray]) -> np.ndarray:
    """The boxes of several hierarchies (each from the top) in one order, each box once.

    A box that is high in its hierarchy comes early, but not always: its place is multiplied by a drawn number, lest
    the large win every time (section 4.2 of the paper).
    """
    boxes = np.concatenate(runs)
    place = np.concatenate([np.arange(1, len(run) + 1) for run in runs])
    order = (place * np.random.default_rng(0).random(len(boxes))).argsort(kind="stable")
    _, first = np.unique(boxes[order], axis=0, return_index=True)
    return boxes[order][np.sort(first)]


def hierarchy(pixels: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """The boxes (2 n - 1, 4) xyxy of regions (H, W) of pixels (H, W, 3), and of what the most alike neighbours become.

    Regions are alike in colour and texture, small, and fill the box of both (section 3.2 of the paper).
    """
    n = int(regions.max()) + 1
    sizes, boxes, looks = (np.concatenate((x, np.zeros((n - 1, *x.shape[1:])))) for x in _first(pixels, regions, n))
    near, area = _neighbours(regions, n), regions.size

    def unlike(one: int, others: list[int]) -> np.ndarray:
        both, joined = sizes[one] + sizes[others], _hull(boxes[one], boxes[others])
        fill = 1 - ((joined[:, 2:] - joined[:, :2]).prod(axis=1) - both) / area
        alike = np.minimum(looks[one], looks[others]).sum(axis=1) + 1 - both / area + fill
        return -alike.round(9)  # equal pairs are equal on every processor, in whatever order it adds

    queue = [(cost, one, other) for one in range(n) for other, cost in _later(one, near, unlike)]
    heapq.heapify(queue)
    new = n
    while queue:
        _, one, other = heapq.heappop(queue)
        if one not in near or other not in near:
            continue
        around = (near.pop(one) | near.pop(other)) - {one, other}
        sizes[new] = sizes[one] + sizes[other]
        boxes[new] = _hull(boxes[one], boxes[other])
        looks[new] = (sizes[one] * looks[one] + sizes[other] * looks[other]) / sizes[new]
        near[new] = around
        for region in around:
            near[region] = (near[region] - {one, other}) | {new}
        others = sorted(around)
        for region, cost in zip(others, unlike(new, others).tolist(), strict=True):
            heapq.heappush(queue, (cost, region, new))  # of equal pairs the one of lowest numbers
        new += 1
    return boxes[:new]


def _later(one: int, near: dict[int, set[int]], unlike) -> list[tuple[int, float]]:
    """The neighbours of a region with higher numbers, and how unlike they are."""
    others = sorted(other for other in near[one] if other > one)
    return list(zip(others, unlike(one, others).tolist(), strict=True))


def _hull(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate((np.minimum(a[..., :2], b[..., :2]), np.maximum(a[..., 2:], b[..., 2:])), axis=-1)


def _neighbours(regions: np.ndarray, n: int) -> dict[int, set[int]]:
    """Which regions touch which, by a side or a corner of pixels."""
    near: dict[int, set[int]] = {i: set() for i in range(n)}
    pieces = regions[:, :-1], regions[:, 1:], regions[:-1], regions[1:]
    slanted = regions[:-1, :-1], regions[1:, 1:], regions[:-1, 1:], regions[1:, :-1]
    for a, b in ((x, y) for four in (pieces, slanted) for x, y in (four[:2], four[2:])):
        for one, other in np.unique(np.stack((a[a != b], b[a != b])), axis=1).T.tolist():
            near[one].add(other)
            near[other].add(one)
    return near


def _first(pixels: np.ndarray, regions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes (n,), boxes (n, 4) and histograms (n, D) of colour and of texture, each of which sums to 1."""
    flat = regions.ravel()
    sizes = np.bincount(flat, minlength=n).astype(np.float64)
    y, x = (v.ravel() for v in np.indices(regions.shape))
    boxes = np.zeros((n, 4))
    boxes[:, :2] = regions.size
    for axis, at in enumerate((x, y)):
        np.minimum.at(boxes[:, axis], flat, at)
        np.maximum.at(boxes[:, 2 + axis], flat, at + 1)
    colours = _histogram(flat, pixels.reshape(-1, 3).astype(np.int64) * COLOURS // 256, COLOURS, n)
    return sizes, boxes, np.concatenate((colours, _histogram(flat, _steepness(pixels), STEEPNESSES, n)), axis=1)


def _steepness(pixels: np.ndarray) -> np.ndarray:
    """(H * W, 3 * DIRECTIONS) bins of how steeply each channel rises, after a blur of 1 pixel, each way around."""
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.0)
    right, down = cv2.Sobel(smooth, -1, 1, 0, ksize=1), cv2.Sobel(smooth, -1, 0, 1, ksize=1)
    turns = [2 * math.pi * k / DIRECTIONS for k in range(DIRECTIONS)]
    rise = np.concatenate([math.cos(t) * right + math.sin(t) * down for t in turns], axis=2).clip(0)
    bins = rise * (STEEPNESSES / max(float(rise.max()), 1e-9))
    return bins.reshape(-1, rise.shape[2]).astype(np.int64).clip(max=STEEPNESSES - 1)


def _histogram(flat: np.ndarray, bins: np.ndarray, count: int, n: int) -> np.ndarray:
    """(n, K * count), each row of sum 1, of bins (pixels, K) below `count` over the regions of the pixels."""
    columns = bins.shape[1]
    place = (flat[:, None] * columns + np.arange(columns)) * count + bins
    table = np.bincount(place.ravel(), minlength=n * columns * count).reshape(n, -1).astype(np.float64)
    return table / table.sum(axis=1, keepdims=True)
