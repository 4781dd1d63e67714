"""K-means clustering of box sizes into anchors with the distance 1 - IoU, and measures of how well anchors fit.

Sizes are (N, d), the extents of boxes: width and height for d = 2. The IoU of two sizes is that of boxes with the same
centre. Axes: N sizes, k anchors.

Reference:
    Redmon and Farhadi, YOLO9000, 2017.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import mul

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

_STARTS = 8  # k-means++ initializations, in addition to the Euclidean solution
_EXACT = 5_000  # sizes; more are refined as a histogram
_BINS = 128  # histogram bins along the logarithm of each side
_LARGE = 50_000  # sizes; for more, the Euclidean solution also uses the histogram
_CHUNK = 16_384  # sizes compared at a time, so that their IoU table fits in the CPU cache


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch and scikit-learn to one thread.

    The steps are so short that waiting for a second thread costs more than it saves: seconds, on a busy machine. With
    several threads, scikit-learn also sums in varying order, so that anchors would differ from run to run.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="openmp"):
            yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def kmeans(sizes: Tensor, k: int, seed: int = 0) -> Tensor:
    """Cluster box sizes into k anchors that maximize the mean highest IoU.

    Up to 50,000 sizes the mean IoU is never below that of scikit-learn's KMeans(n_init=10), which is one of the
    initializations; for more sizes, that initialization is computed on a histogram.

    Args:
        sizes: box extents (N, d).
        k: number of anchors.
        seed: seed of the random initializations.

    Returns:
        Anchors (k, d) float32, by ascending area.

    Raises:
        ValueError: a size is not finite and positive, or there are fewer than k distinct sizes.
    """
    sizes = torch.as_tensor(sizes, dtype=torch.float32)
    _check(sizes, k)
    points, weight = _histogram(sizes) if len(sizes) > _EXACT else (sizes, torch.ones(len(sizes)))
    rng = np.random.default_rng(seed)
    starts = [_seeds(points, weight, k, rng) for _ in range(_STARTS)]
    solver = KMeans(k, n_init=10, random_state=seed)
    solver = solver.fit(sizes) if len(sizes) <= _LARGE else solver.fit(points, sample_weight=weight)
    euclidean = torch.as_tensor(solver.cluster_centers_, dtype=torch.float32)
    refined = [_refine(points, weight, anchors) for anchors in (*starts, euclidean)]
    best = max(refined, key=lambda anchors: float(_nearest(points, anchors)[0] @ weight))
    best = max(best, euclidean, key=lambda anchors: mean_iou(sizes, anchors))
    return best[best.prod(1).argsort()]


def mean_iou(sizes: Tensor, anchors: Tensor) -> float:
    """Return the mean over the sizes of the highest IoU with any of the anchors.

    Args:
        sizes: widths and heights (N, d).
        anchors: anchors (k, d).
    """
    return float(_nearest(sizes, anchors)[0].double().mean())


def recall(sizes: Tensor, anchors: Tensor, ratio: float = 4.0) -> float:
    """Return the best possible recall: the share of sizes that match at least one of the anchors.

    Args:
        sizes: widths and heights (N, d).
        anchors: anchors (k, d).
        ratio: a size matches an anchor if every extent differs by less than this factor, as is usual for YOLO's
            anchors.
    """
    near = torch.zeros(len(sizes), dtype=torch.bool)
    for anchor in anchors:
        quotient = sizes / anchor
        near |= torch.maximum(quotient, 1 / quotient).amax(1) < ratio
    return float(near.double().mean())


def _check(sizes: Tensor, k: int) -> None:
    if sizes.ndim != 2 or not 1 <= sizes.shape[1] <= 3 or not ((sizes > 0) & sizes.isfinite()).all():
        raise ValueError("sizes must be (N, d), d at most 3, finite and above zero: remove the others first")
    if not len(sizes):
        raise ValueError("no sizes to find anchors for: annotate boxes, or give the anchors")
    row = torch.zeros(len(sizes), dtype=torch.int64)  # index of the distinct size in each row
    for side in sizes.T:
        values, place = side.unique(return_inverse=True)
        row = (row * len(values) + place).unique(return_inverse=True)[1]
    distinct = int(row.max()) + 1
    if not 1 <= k <= distinct:
        raise ValueError(f"{k} anchors for {distinct} different sizes: ask for at least 1, at most {distinct}")


def _overlap(sizes: Tensor, anchors: Tensor) -> Tensor:
    """Return the IoU of sizes (d, ...) and anchors (d, ...); d is the first axis to keep the others contiguous."""
    inter: Tensor = reduce(mul, map(torch.minimum, sizes, anchors))
    union: Tensor = reduce(mul, sizes) + reduce(mul, anchors) - inter
    return inter / union


def _nearest(sizes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest IoU (N,) of each size with an anchor, and the index (N,) of that anchor."""
    chunks = torch.split(sizes.T.contiguous(), _CHUNK, 1)
    best = [_overlap(chunk, anchors.T[..., None]).max(0) for chunk in chunks]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


def _histogram(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean size (P, d) and the number of sizes (P,) of each non-empty histogram bin."""
    place = sizes.log()
    place = place - place.amin(0)
    cell = (place / place.amax(0).clamp_min(1e-6) * (_BINS - 1)).round().long()
    cell = reduce(lambda one, other: one * _BINS + other, cell.T)
    _, index, count = cell.unique(return_inverse=True, return_counts=True)
    total = [torch.bincount(index, side.double()) for side in sizes.T]
    return (torch.stack(total, 1) / count[:, None]).float(), count.float()


def _seeds(points: Tensor, weight: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """Choose initial anchors (k, d) by k-means++ (Arthur and Vassilvitskii 2007).

    Each further anchor is drawn with probability proportional to the squared distance to the nearest one chosen.
    """
    distance, anchors = torch.ones(len(points)), points[:0]
    while len(anchors) < k:
        chance = (distance.double().square() * weight).numpy() + 1e-12
        anchors = torch.cat((anchors, points[rng.choice(len(points), size=1, p=chance / chance.sum())]))
        distance = 1 - _nearest(points, anchors)[0]
    return anchors


def _refine(points: Tensor, weight: Tensor, anchors: Tensor, step: float = 0.2, least: float = 0.004) -> Tensor:
    """Refine anchors by Lloyd's algorithm for the mean IoU, whose optimal centre has no closed form.

    Each anchor moves to the best of these candidates: itself, the mean of its members, and itself with one side longer
    or shorter by `step`. When no anchor moves, `step` is halved, until it is not above `least`. The mean IoU therefore
    never decreases.
    """
    sides, k = points.T.contiguous(), len(anchors)
    longer = torch.eye(len(sides))[:, None]
    while step > least:
        _, owner = _nearest(points, anchors)
        stretched = anchors * torch.cat((1 + step * longer, 1 / (1 + step * longer)))
        options = torch.cat((anchors[None], _means(sides, weight, owner, anchors)[None], stretched))
        overlap = _overlap(sides[:, None], options.movedim(-1, 0)[..., owner])
        slot = owner + k * torch.arange(len(options))[:, None]
        total = torch.bincount(slot.flatten(), (overlap * weight).double().flatten(), minlength=len(options) * k)
        choice = total.view(-1, k).max(0).indices
        if (choice == 0).all():
            step /= 2
        anchors = options[choice, torch.arange(k)]
    return anchors


def _means(sides: Tensor, weight: Tensor, owner: Tensor, anchors: Tensor) -> Tensor:
    """Return the mean size (k, d) of each anchor's members; an anchor without members stays unchanged."""
    count, *total = (torch.bincount(owner, w.double(), minlength=len(anchors)) for w in (weight, *(sides * weight)))
    mean = torch.stack(total, 1) / count.clamp_min(1)[:, None]
    return torch.where(count[:, None] > 0, mean, anchors).to(anchors.dtype)
