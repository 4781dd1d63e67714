"""The list of the most frequent confusions of two classes, which a matrix of many classes hides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detect.report.html import Page

MOST = 20  # pairs of classes that are listed


def add_confusions(page: Page, names: Sequence[str], counts: np.ndarray, header: tuple[str, str, str]) -> None:
    """Add the pairs of classes that are confused most often; nothing where none is.

    Args:
        page: the page.
        names: the C class names.
        counts: (C or more, C or more) true classes by predicted ones; what is beyond C is of no class.
        header: what the two classes and the counts are called.
    """
    classes = len(names)
    wrong = counts[:classes, :classes] * (1 - np.eye(classes, dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST]
    total = np.maximum(counts.sum(1), 1)
    rows = [
        (names[a], names[b], int(wrong[a, b]), float(wrong[a, b] / total[a]))
        for a, b in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[a, b]
    ]
    if rows:
        page.heading("Most frequent confusions", 3)
        page.table((*header, "share of the class"), rows)
