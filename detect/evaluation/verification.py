"""How well distances separate pairs of one identity from pairs of two: the ROC curve and metrics on it.

Axes: N images, D dimensions of an embedding, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.data.datasets.crops import Crops
from detect.evaluation.resampled_pairs import SHARES, equal_error, folds_of, resampled_measure
from detect.types import Distance, Embedding

MOST = 200_000  # pairs; where there are more, some are drawn
POINTS = 200  # of the ROC curve in the result


class Pairs(NamedTuple):
    """Pairs of images: rows (P,) of the first and the second, and whether both show one identity (P,)."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray


class Vectors(NamedTuple):
    """What ranks exchange: crop ids (N,) int64, embeddings (N, D) float32, and the distance between two of them."""

    ids: np.ndarray
    values: np.ndarray
    distance: Distance


class PairEvaluator:
    """Compares distances of embeddings with the identities of crops; each crop comes once, over all ranks.

    Args:
        crops: the crops, whose labels are identities.
        pairs: pairs of rows of the crops. Default: `all_pairs`.
    """

    def __init__(self, crops: Crops, pairs: Pairs | None = None) -> None:
        self.crops, self.pairs = crops, pairs
        self._row = {one: i for i, one in enumerate(crops.ids.tolist())}
        self._found: dict[int, np.ndarray] = {}
        self._distance = Distance()

    def update(self, image_ids: Sequence[int], embeddings: Sequence[Embedding]) -> None:
        """Take the embeddings of some crops.

        Args:
            image_ids: ids of the crops.
            embeddings: the embedding of each.

        Raises:
            ValueError: a crop is not known or came before.
        """
        if len(image_ids) != len(embeddings):
            raise ValueError(f"{len(image_ids)} crops for {len(embeddings)} embeddings")
        if embeddings:
            values = np.stack([one.values for one in embeddings])
            self.extend(Vectors(np.array(image_ids, dtype=np.int64), values, embeddings[0].distance))

    def records(self) -> Vectors:
        """Everything taken so far, for another rank's `extend`."""
        ids = np.array(list(self._found), dtype=np.int64)
        return Vectors(ids, np.array(list(self._found.values()), dtype=np.float32), self._distance)

    def extend(self, records: Vectors) -> None:
        """Take what another evaluator of the same crops has collected. Raises ValueError as `update` does."""
        for one, values in zip(records.ids.tolist(), records.values, strict=True):
            if one not in self._row or one in self._found:
                raise ValueError(f"crop {one} {'was evaluated twice' if one in self._found else 'is not known'}")
            self._found[one] = values
        if len(records.ids):
            self._distance = records.distance

    def result(self) -> dict[str, Any]:
        """`auc`, `eer`, `tar_1pct`, `tar_01pct` and `accuracy`: see `measure`; -1 where nothing was evaluated."""
        _, distances, same = self._measured()
        return measure(distances, same)

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each.

        A pair counts as often as both of its images together: the product of their weights.
        """
        pairs, distances, same = self._measured()
        return resampled_measure(distances, same, weights, *(self.crops.images[one] for one in pairs[:2]))

    def _measured(self) -> tuple[Pairs, np.ndarray, np.ndarray]:
        """The evaluated pairs, their distances (P,), and whether both show one identity (P,)."""
        if not self._found:
            none = np.zeros(0, np.int64)
            return Pairs(none, none, none > 0), np.zeros(0), none > 0
        rows = np.array([self._row[one] for one in self._found])
        place = np.full(len(self.crops), -1)
        place[rows] = np.arange(len(rows))
        first, second, same = self.pairs or all_pairs(self.crops.labels)
        evaluated = (place[first] >= 0) & (place[second] >= 0)
        values = np.stack(list(self._found.values()))
        distances = pair_distances(values, place[first[evaluated]], place[second[evaluated]], self._distance)
        return Pairs(first[evaluated], second[evaluated], same[evaluated]), distances, same[evaluated]


def all_pairs(labels: np.ndarray, most: int = MOST, seed: int = 0) -> Pairs:
    """Every pair of images once, or a random part of them.

    Args:
        labels: (N,) identity of each image.
        most: limit of pairs. Where there are more, pairs of one identity are drawn up to half of it, the rest are of
            two.
        seed: seed of that draw.
    """
    rng = np.random.default_rng(seed)
    n = len(labels)
    if n * (n - 1) // 2 <= most:
        first, second = np.triu_indices(n, 1)
        return Pairs(first, second, labels[first] == labels[second])
    ones = _same_pairs(labels, most // 2, rng)
    others = rng.integers(n, size=(2 * (most - len(ones)), 2))
    others = others[labels[others[:, 0]] != labels[others[:, 1]]][: most - len(ones)]
    both = np.concatenate([ones, others])
    return Pairs(both[:, 0], both[:, 1], np.arange(len(both)) < len(ones))


def _same_pairs(labels: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Pairs (P, 2) of images with one label: all of them, or `most` drawn at random, without listing all in memory.

    Pairs are numbered identity by identity; within one, pair j * (j - 1) / 2 + i is (i, j), i < j.
    """
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    total = int(ends[-1])
    chosen = np.arange(total) if total <= most else rng.choice(total, most, replace=False)
    person = np.searchsorted(ends, chosen, side="right")
    number = chosen - np.concatenate([[0], ends])[person]
    j = ((1 + np.sqrt(1 + 8 * number)) / 2).astype(np.int64)
    j -= j * (j - 1) // 2 > number  # where the root was rounded up
    return order[starts[person][:, None] + np.stack([number - j * (j - 1) // 2, j], 1)]


def pair_distances(values: np.ndarray, first: np.ndarray, second: np.ndarray, distance: Distance) -> np.ndarray:
    """The distances (P,) of pairs of embeddings (N, D), a part at a time to spare memory."""
    parts = [slice(i, i + 4096) for i in range(0, len(first), 4096)]
    return np.concatenate([np.zeros(0), *(distance(values[first[p]], values[second[p]]) for p in parts)])


def measure(distances: np.ndarray, same: np.ndarray) -> dict[str, Any]:
    """Metrics of verification, 0 to 1, -1 where undefined.

    auc       area under the ROC curve: how often a pair of one identity is nearer than a pair of two
    eer       equal error rate: where false accept and false reject rates are equal
    tar_...   true accept rate at a false accept rate of at most 1 % (0.1 %)
    accuracy  mean of true accept and true reject rate, by cross-validation: see `cross_validated`

    Args:
        distances: (P,) distance of each pair.
        same: (P,) whether a pair is of one identity.

    Returns:
        The metrics, and `same` and `different`, the pairs of each sort; `thresholds`: "accuracy", the distance with the
        best accuracy over all pairs, and "far_1pct", the largest with at most 1 % false accepts; `roc`: [false, true
        accept rate] along the curve.
    """
    result: dict[str, Any] = {"auc": -1.0, "eer": -1.0, **dict.fromkeys(SHARES, -1.0), "accuracy": -1.0}
    result |= {"same": int(same.sum()), "different": int((~same).sum()), "thresholds": {}, "roc": []}
    if not result["same"] or not result["different"]:
        return result
    from sklearn.metrics import roc_auc_score, roc_curve  # late: it takes half a second

    false, true, _ = roc_curve(same, -distances, drop_intermediate=False)
    result["auc"] = float(roc_auc_score(same, -distances))
    result["eer"] = equal_error(false, true)
    result |= {name: float(true[false <= share].max()) for name, share in SHARES.items()}
    result["accuracy"] = cross_validated(distances, same)
    result["thresholds"] = {"accuracy": threshold(distances, same), "far_1pct": threshold(distances, same, 0.01)}
    shown = np.unique(np.linspace(0, len(false) - 1, POINTS).round().astype(int))
    result["roc"] = np.stack([false[shown], true[shown]], 1).round(5).tolist()
    return result


def threshold(distances: np.ndarray, same: np.ndarray, accepts: float | None = None) -> float:
    """The distance up to which pairs are accepted; it lies midway between two distances that occur.

    Args:
        distances: (P,) distance of each pair.
        same: (P,) whether a pair is of one identity.
        accepts: largest false accept rate. Default: the best mean of true accept and true reject rate is chosen.
    """
    from sklearn.metrics import roc_curve

    false, true, scores = roc_curve(same, -distances, drop_intermediate=False)
    best = int(np.argmax(true - false) if accepts is None else np.flatnonzero(false <= accepts)[-1])
    if best == 0:  # whose score is infinite: nothing is accepted
        return float(distances.min()) - 1e-6
    after = scores[min(best + 1, len(scores) - 1)]
    return float(-(scores[best] + after) / 2)


def cross_validated(distances: np.ndarray, same: np.ndarray) -> float:
    """Ten-fold cross-validated accuracy: that of each part of the pairs at the threshold best for the others.

    Accuracy is the mean of true accept and true reject rate, so that it does not depend on how many pairs are of each
    sort.
    """
    found = []
    for rest, part in folds_of(same):
        accepted = distances[part] <= threshold(distances[rest], same[rest])
        found.append((accepted[same[part]].mean() + (~accepted[~same[part]]).mean()) / 2)
    return float(np.mean(found)) if found else -1.0


def pair_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `measure`."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in ("auc", "eer", *SHARES, "accuracy"))
    yield f"  of {result['same']} pairs of one identity and {result['different']} of two"
    if result["thresholds"]:
        best, strict = (result["thresholds"][name] for name in ("accuracy", "far_1pct"))
        yield f"  best threshold: distance {best:.3f}; at {strict:.3f}, 1 % of pairs of two identities are accepted"
