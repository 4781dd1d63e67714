"""Metrics of classifiers: top-1 and top-5 accuracy, a table by class and the confusion matrix.

Axes: N crops, C classes, T 5 best.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from detect.data.datasets.crops import Crops
from detect.evaluation.bootstrap import mean_known
from detect.types import Classification

BEST = 5
CONFUSED = 5  # pairs of classes that are printed
MATRIX = 20  # classes up to which the confusion matrix is printed


class Best(NamedTuple):
    """What ranks exchange: crop ids (N,) int64; labels (N, T) int64, best first, -1 where there are fewer; and scores.

    scores (N, T) float64: the probabilities, 0 where there are fewer.
    """

    ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class ClassEvaluator:
    """Compares predicted classes with the labels of crops; each crop comes once, over all ranks.

    Args:
        crops: the labelled crops.
        names: class names: those of the crops, then any that predictions may have besides, which are always wrong.
            Default: those of the crops.
    """

    def __init__(self, crops: Crops, names: Sequence[str] = ()) -> None:
        self.probabilities: np.ndarray | None = None  # (N, C) of all classes, in the order of `records`, where known
        self.crops, self.names = crops, list(names) or list(crops.names)
        self._labels = dict(zip(crops.ids.tolist(), crops.labels.tolist(), strict=True))
        self._seen: set[int] = set()
        self._parts: list[Best] = []

    def update(self, image_ids: Sequence[int], results: Sequence[Classification]) -> None:
        """Take the classes of some crops.

        Args:
            image_ids: ids of the crops.
            results: the classes of each, best first.

        Raises:
            ValueError: a crop is not known or came before.
        """
        if len(image_ids) != len(results):
            raise ValueError(f"{len(image_ids)} crops for {len(results)} results")
        labels, scores = np.full((len(results), BEST), -1, dtype=np.int64), np.zeros((len(results), BEST))
        for n, one in enumerate(results):
            labels[n, : len(one)], scores[n, : len(one)] = one.labels[:BEST].numpy(), one.scores[:BEST].numpy()
        self.extend(Best(np.array(image_ids, dtype=np.int64), labels, scores))

    def records(self) -> Best:
        """Everything taken so far, for another rank's `extend`."""
        none = Best(np.zeros(0, np.int64), np.zeros((0, BEST), np.int64), np.zeros((0, BEST)))
        self._parts = [Best(*(np.concatenate(column) for column in zip(none, *self._parts, strict=True)))]
        return self._parts[0]

    def extend(self, records: Best) -> None:
        """Take what another evaluator of the same crops has collected. Raises ValueError as `update` does."""
        for one in records.ids.tolist():
            if one not in self._labels or one in self._seen:
                raise ValueError(f"crop {one} {'was evaluated twice' if one in self._seen else 'is not known'}")
            self._seen.add(one)
        self._parts.append(records)

    def truth(self) -> np.ndarray:
        """The labels (N,) of the crops, in the order of `records`."""
        return np.array([self._labels[one] for one in self.records().ids.tolist()], dtype=np.int64)

    def right(self) -> np.ndarray:
        """Whether the most probable class of each crop is its own (N,) bool, in the order of `records`."""
        return self.records().labels[:, 0] == self.truth()

    def resampled(self, weights: np.ndarray, only: str = "") -> dict[str, Any]:
        """The numbers of `result` for images that count as often as `weights` (R, I) says, (R,) each."""
        ids, labels, _ = self.records()
        row, classes = {one: i for i, one in enumerate(self.crops.ids.tolist())}, len(self.names)
        rows = np.array([row[one] for one in ids.tolist()], np.int64)
        columns, truth = weights[:, self.crops.images[rows]], self.crops.labels[rows]
        hits = labels == truth[:, None]

        def counted(some: np.ndarray, at: np.ndarray) -> np.ndarray:  # (C, R)
            found = [np.bincount(some[at], weights=one[at], minlength=classes) for one in columns]
            return np.stack(found, axis=1)

        every = np.ones(len(truth), bool)
        count, predicted, right = counted(truth, every), counted(labels[:, 0], every), counted(truth, hits[:, 0])
        with np.errstate(invalid="ignore"):
            recall = right / count
            tops = (columns @ hits[:, 0] / columns.sum(1), columns @ hits.any(1) / columns.sum(1))
            f1 = 2 * right / (predicted + count)  # NaN, as precision, where the class neither occurs nor is predicted
        precision = np.where(predicted + count > 0, right / np.maximum(predicted, 1), np.nan)
        kinds = precision, recall, f1
        rows_of = zip(self.names, *kinds, strict=True)
        per_class = {name: {"precision": p, "recall": r, "f1": f} for name, p, r, f in rows_of}
        return {"top1": tops[0], "top5": tops[1], "balanced": mean_known(recall), "per_class": per_class}

    def result(self) -> dict[str, Any]:
        """The metrics.

        Returns:
            `top1`, `top5` and `balanced` (mean recall of the classes that occur), 0 to 1, -1 where nothing was
            evaluated; `per_class`: name -> count, precision, recall (None where the class does not occur) and f1
            (precision and f1 are None where it is not predicted either);
            `confusion`: names, and counts (C, C) with a row for each true and a column for each predicted class.
        """
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # late: it takes half a second

        ids, labels, _ = self.records()
        if not len(ids):
            return {"top1": -1.0, "top5": -1.0, "balanced": -1.0, "per_class": {}, "confusion": {}}
        true_labels = np.array([self._labels[one] for one in ids.tolist()])
        hits = labels == true_labels[:, None]
        every, predicted = np.arange(len(self.names)), np.bincount(labels[:, 0], minlength=len(self.names))
        columns = precision_recall_fscore_support(true_labels, labels[:, 0], labels=every, zero_division=0)
        rows = zip(self.names, *(column.tolist() for column in columns), strict=True)
        return {
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(axis=1).mean()),
            "balanced": float(columns[1][columns[3] > 0].mean()),
            "per_class": {
                name: {"count": count} | _known(count, predicted[label], precision=p, recall=r, f1=f)
                for label, (name, p, r, f, count) in enumerate(rows)
            },
            "confusion": {
                "names": self.names,
                "counts": confusion_matrix(true_labels, labels[:, 0], labels=every).tolist(),
            },
        }


def _known(count: int, predicted: int, **values: float) -> dict[str, float | None]:
    """precision, recall and f1 of a class, None where there is nothing to divide by."""
    known = {"precision": count + predicted, "recall": count, "f1": count + predicted}
    return {name: value if known[name] else None for name, value in values.items()}


def class_lines(result: dict[str, Any]) -> Iterator[str]:
    """The lines that `detect evaluate` prints of `ClassEvaluator.result`."""
    yield "  ".join(f"{name} {result[name]:.3f}" for name in ("top1", "top5", "balanced"))
    for name, row in result["per_class"].items():
        if row["count"]:
            numbers = f"precision {row['precision']:.3f}  recall {row['recall']:.3f}  f1 {row['f1']:.3f}"
            yield f"  {name:<24} {numbers}  of {row['count']}"
    names, counts = result["confusion"]["names"], result["confusion"]["counts"]
    wrong = [(n, a, b) for a, row in enumerate(counts) for b, n in enumerate(row) if n and a != b]
    for n, a, b in sorted(wrong, key=lambda one: -one[0])[:CONFUSED]:
        yield f"  {names[a]} taken for {names[b]}: {n} of {result['per_class'][names[a]]['count']}"
    if len(names) <= MATRIX:
        yield "confusion matrix (a row for each true class, a column for each predicted one):"
        for name, row in zip(names, counts, strict=True):
            yield f"  {name:<16} " + " ".join(f"{n:>4}" for n in row)
