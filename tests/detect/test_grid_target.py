"""The target of a grid detector as a table, against plain Python."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from detect.explain.grid_target import grid_target


def naive(boxes, labels, size, cells, classes, anchors):
    """Each object to its cell and its most similar anchor; the more similar of two wins, the earlier among equals."""
    target = torch.zeros(cells, cells, max(len(anchors), 1), 5 + classes)
    best = {}
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        x, y, w, h = ((v * cells / size) for v in ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top))
        column, row = int(x), int(y)
        if not (0 <= column < cells and 0 <= row < cells):
            continue
        overlaps = []
        for a, b in [(u * cells / size, v * cells / size) for u, v in anchors] or [(4, 4)]:
            shared = min(a, w) * min(b, h)
            overlaps.append(shared / (a * b + w * h - shared))
        k = max(range(len(overlaps)), key=lambda i: overlaps[i])
        if overlaps[k] > best.get((row, column, k), -1) + 1e-6:
            best[row, column, k] = overlaps[k]
            target[row, column, k] = 0
            target[row, column, k, :5] = torch.tensor([1, x - column, y - row, w, h])
            target[row, column, k, 5 + label] = 1
    return target


def test_the_worked_page_and_two_anchors():
    boxes = torch.tensor([[17.0, 2.0, 41.0, 38.0], [20.0, 12.0, 38.0, 28.0]])  # one cell holds both centres
    one = grid_target(boxes, torch.tensor([2, 5]), 96, 6, 10)
    assert one.shape == (6, 6, 1, 15) and one[..., 0].sum() == 1
    two = grid_target(boxes, torch.tensor([2, 5]), 96, 6, 10, [[24.0, 36.0], [18.0, 16.0]])
    assert two[1, 1, 0].tolist() == [1, 0.8125, 0.25, 1.5, 2.25, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert two[1, 1, 1, [0, 10]].tolist() == [1, 1] and two[..., 0].sum() == 2


def test_no_object_gives_zeros():
    assert not grid_target(torch.zeros(0, 4), torch.zeros(0), 32, 4, 2, [[8.0, 8.0], [4.0, 9.0]]).any()


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(2, 40)] * 2, st.integers(0, 2)), max_size=6))
def test_it_is_the_naive_one(objects):
    boxes = [[x, y, x + 2 * w, y + 2 * h] for x, y, w, h, _ in objects]
    labels = [label for *_, label in objects]
    anchors = [[10.0, 24.0], [31.0, 17.0], [50.0, 53.0]]
    found = grid_target(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), 128, 8, 3, anchors)
    torch.testing.assert_close(found, naive(boxes, labels, 128, 8, 3, anchors))
