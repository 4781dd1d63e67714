"""Anchor sizes by k-means with the distance 1 - IoU (Redmon and Farhadi 2017, YOLO9000), and how well they fit.

Sizes are (N, 2) width and height; two are compared as boxes of one centre. Axes: N sizes, k anchors.
"""

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

_STARTS = 8  # from seeds; refined on
_SAMPLE = 5_000  # sizes, the best of them and the Euclidean solution on
_LARGE = 50_000  # sizes, the better of these on all
_CHUNK = 16_384  # sizes; their table of IoUs stays in the cache


def kmeans(sizes: Tensor, k: int, seed: int = 0) -> Tensor:
    """k anchors (k, 2) float32, by ascending area, for which the mean highest IoU over sizes (N, 2) is large.

    Up to 50,000 sizes it is never below that of scikit-learn's KMeans(n_init=10), which is one of the starts; above, a
    seeded sample chooses between starts. Raises ValueError where a size is not finite and positive, or less than k
    sizes differ.
    """
    sizes = torch.as_tensor(sizes, dtype=torch.float32)
    _check(sizes, k)
    shuffled = sizes[torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))]
    sample, large = shuffled[:_SAMPLE], shuffled[:_LARGE]
    rng = np.random.default_rng(seed)
    best = _fittest(sample, [_refine(sample, _seeds(sample, k, rng), 0.2) for _ in range(_STARTS)])
    euclidean = KMeans(k, n_init=10, random_state=seed).fit(large.numpy()).cluster_centers_
    starts = [best, torch.as_tensor(euclidean, dtype=torch.float32)]
    best = _fittest(large, [*starts, *(_refine(large, start, 0.05) for start in starts)])
    if len(sizes) > _LARGE:
        best = _fittest(sizes, [best, _refine(sizes, best, 0.02)])
    return best[best.prod(1).argsort()]


def mean_iou(sizes: Tensor, anchors: Tensor) -> float:
    """The mean over sizes (N, 2) of the highest IoU with an anchor (k, 2)."""
    return float(_nearest(sizes, anchors)[0].double().mean())


def recall(sizes: Tensor, anchors: Tensor, ratio: float = 4.0) -> float:
    """Best possible recall: the share of sizes (N, 2) that some anchor (k, 2) is near enough to be trained on.

    Near enough means, as is usual for YOLO's anchors, that width and height both differ by less than a factor `ratio`.
    """
    near = torch.zeros(len(sizes), dtype=torch.bool)
    for anchor in anchors:
        quotient = sizes / anchor
        near |= torch.maximum(quotient, 1 / quotient).amax(1) < ratio
    return float(near.double().mean())


def _check(sizes: Tensor, k: int) -> None:
    if sizes.ndim != 2 or sizes.shape[1] != 2 or not ((sizes > 0) & sizes.isfinite()).all():
        raise ValueError("sizes must be (N, 2), finite and above zero: remove the others first")
    distinct = len(sizes.contiguous().view(torch.int64).unique())  # the two floats of a row as one number
    if not 1 <= k <= distinct:
        raise ValueError(f"{k} anchors for {distinct} different sizes: ask for at least 1 and at most {distinct}")


def _overlap(sizes: Tensor, anchors: Tensor) -> Tensor:
    """IoU of sizes (2, ...) and anchors (2, ...): the sides come first, so that the rest is contiguous."""
    inter = torch.minimum(sizes[0], anchors[0]) * torch.minimum(sizes[1], anchors[1])
    return inter / (sizes[0] * sizes[1] + anchors[0] * anchors[1] - inter)


def _nearest(sizes: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """The highest IoU (N,) of each size, and the anchor (N,) that has it."""
    chunks = sizes.T.contiguous().split(_CHUNK, 1)
    best = [_overlap(chunk, anchors.T[..., None]).max(0) for chunk in chunks]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


def _fittest(sizes: Tensor, runs: list[Tensor]) -> Tensor:
    return max(runs, key=lambda anchors: mean_iou(sizes, anchors))


def _seeds(sizes: Tensor, k: int, rng: np.random.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007): each next seed is drawn by the squared distance to those chosen."""
    anchors = sizes[rng.integers(len(sizes), size=1)]
    while len(anchors) < k:
        weight = (1 - _nearest(sizes, anchors)[0].double()).square().numpy() + 1e-12
        anchors = torch.cat((anchors, sizes[rng.choice(len(sizes), size=1, p=weight / weight.sum())]))
    return anchors


def _refine(sizes: Tensor, anchors: Tensor, step: float) -> Tensor:
    """Lloyd's algorithm for the mean IoU, which has no closed centre.

    Each anchor moves to the best of: itself, its members' mean, one side longer or shorter by `step`, which is halved
    when none moves. So the mean IoU never falls.
    """
    columns = sizes.T.contiguous()
    while step > 0.002:
        _, owner = _nearest(sizes, anchors)
        longer = 1 + step * torch.eye(2)
        options = torch.stack(
            [anchors, _means(columns, owner, anchors), *(anchors * f for f in (*longer, *1 / longer))]
        )
        total = torch.stack([_sums(_overlap(columns, option.T[:, owner]), owner, len(anchors)) for option in options])
        choice = total.max(0).indices
        if (choice == 0).all():
            step /= 2
        anchors = options[choice, torch.arange(len(anchors))]
    return anchors


def _means(columns: Tensor, owner: Tensor, anchors: Tensor) -> Tensor:
    """The mean size of each anchor's members; without any, the anchor."""
    count = torch.bincount(owner, minlength=len(anchors))[:, None]
    total = torch.stack([_sums(column, owner, len(anchors)) for column in columns], 1)
    return torch.where(count > 0, total / count.clamp_min(1), anchors).to(anchors.dtype)


def _sums(value: Tensor, owner: Tensor, k: int) -> Tensor:
    return torch.bincount(owner, value.double(), minlength=k)
