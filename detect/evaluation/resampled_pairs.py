"""Metrics of verification for resamples of the images: the ROC curve of pairs that count several times.

Axes: I images, P pairs, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from detect.evaluation.bootstrap import mean_known

SHARES = {"tar_1pct": 0.01, "tar_01pct": 0.001}  # metric -> false accept rate at which true accepts are counted
FOLDS = 10
BLOCK = 4_000_000  # pairs times resamples that are computed together, which bounds the memory


def resampled_measure(
    distances: np.ndarray, same: np.ndarray, weights: np.ndarray, first: np.ndarray, second: np.ndarray
) -> dict[str, np.ndarray]:
    """`verification.measure` of resamples.

    The folds of the accuracy are those of all pairs, so that no pair is on both sides of one.

    Args:
        distances: (P,) distance of each pair.
        same: (P,) whether a pair is of one identity.
        weights: (R, I) how often each image counts.
        first, second: (P,) the images of each pair.

    Returns:
        auc, eer, tar_... and accuracy, (R,) each, NaN where a resample lacks pairs of one kind.
    """
    order = np.argsort(distances, kind="stable")
    folds = np.zeros(len(same), np.int64)
    for k, (_, part) in enumerate(folds_of(same)):
        folds[part] = k
    distances, same, first, second, folds = (one[order] for one in (distances, same, first, second, folds))
    step = max(1, BLOCK // max(len(same), 1))
    rows = [np.full((2 + len(SHARES) + 1, len(weights)), np.nan)]
    for start in range(0, len(weights) if same.any() and not same.all() else 0, step):
        columns = weights[start : start + step].T.astype(np.int64)
        rows[0][:, start : start + step] = _block(distances, same, columns[first] * columns[second], folds)
    return dict(zip(("auc", "eer", *SHARES, "accuracy"), rows[0], strict=True))


def _block(distances: np.ndarray, same: np.ndarray, columns: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """The five metrics (5, R) of pairs by rising distance that count as often as `columns` (P, R) says."""
    last = np.flatnonzero(np.diff(distances, append=np.inf))  # a threshold takes all pairs of one distance or none
    false, true = (_curve(columns * kind[:, None], last) for kind in (~same, same))
    with np.errstate(invalid="ignore", divide="ignore"):
        false, true = false / false[-1], true / true[-1]
    auc = (np.diff(false, axis=0) * (true[1:] + true[:-1])).sum(0) / 2
    known = ~np.isnan(auc)
    eer = np.array([equal_error(*pair) if ok else np.nan for *pair, ok in zip(false.T, true.T, known, strict=True)])
    tars = [np.where(known, np.where(false <= share, true, 0).max(0), np.nan) for share in SHARES.values()]
    return np.stack([auc, eer, *tars, _accuracy(distances, same, columns, folds, last)])


def _curve(columns: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The sums (K + 1, R) of pairs up to each distance, from none."""
    sums: np.ndarray = np.pad(columns.cumsum(0)[last], ((1, 0), (0, 0)))
    return sums


def _accuracy(
    distances: np.ndarray, same: np.ndarray, columns: np.ndarray, folds: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """See `verification.cross_validated`."""
    found = []
    for k in range(int(folds.max()) + 1 if folds.any() else 0):
        part = folds == k
        false, true = (_curve(columns * (kind & ~part)[:, None], last) for kind in (~same, same))
        with np.errstate(invalid="ignore", divide="ignore"):
            best = (true / true[-1] - false / false[-1]).argmax(0)
        occurs = np.diff(true + false, axis=0) > 0  # (K, R) distances that the other folds have
        following = np.where(occurs, np.arange(len(last))[:, None], len(last) - 1)
        following = np.minimum.accumulate(following[::-1], axis=0)[::-1]
        values = distances[last]
        upper = values[following[np.minimum(best, len(last) - 1), np.arange(columns.shape[1])]]
        lower = np.where(best > 0, values[np.maximum(best - 1, 0)], -np.inf)
        limit = np.where(best < len(last), (lower + upper) / 2, lower)
        accepted, own = distances[part][:, None] <= limit, columns[part]
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = [
                (own * ok)[kind].sum(0) / own[kind].sum(0)
                for ok, kind in ((accepted, same[part]), (~accepted, ~same[part]))
            ]
        found.append((rates[0] + rates[1]) / 2)
    return mean_known(np.array(found)) if found else np.full(columns.shape[1], np.nan)


def folds_of(same: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ten folds of pairs (P,), each with pairs of both kinds: indices of the rest and of the fold; fewer or none where
    there are few pairs."""
    from sklearn.model_selection import StratifiedKFold  # late: it takes half a second

    folds = min(FOLDS, int(same.sum()), int((~same).sum()))
    if folds >= 2:
        yield from StratifiedKFold(folds, shuffle=True, random_state=0).split(same, same)


def equal_error(false: np.ndarray, true: np.ndarray) -> float:
    """Where the straight lines between the points of the curve have equal false accept and false reject rates."""
    gap = false - (1 - true)  # from -1 up to 1
    i = int(np.argmax(gap >= 0))
    if i == 0 or gap[i] == 0:
        return float(false[i])
    share = -gap[i - 1] / (gap[i] - gap[i - 1])
    return float(false[i - 1] + share * (false[i] - false[i - 1]))
