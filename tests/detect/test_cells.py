"""The worked page of the classic grid: the target taken apart in plain Python, a prediction decoded by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.types import Postprocess, Target
from tools.cells import cells, grid_model, main, page

NAMES = ["a", "b", "c"]


def make_target(boxes, labels):
    count = len(boxes)
    crowd = torch.zeros(count, dtype=torch.bool)
    return Target(torch.tensor(boxes).float().view(count, 4), torch.tensor(labels).long(), crowd, 1, (96, 96))


def by_hand(boxes, labels, size, stride):
    """cell -> x, y, w, h, label, where every cell holds one centre at most."""
    found = {}
    for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        column, row = math.floor(x / stride), math.floor(y / stride)
        found[row, column] = [x / stride - column, y / stride - row, (x2 - x1) / stride, (y2 - y1) / stride, label]
    return found


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=6, unique=True),
    st.integers(0, 2**31),
)
@settings(max_examples=20, deadline=None)
def test_the_target_is_that_of_plain_python(places, seed):
    rng = np.random.default_rng(seed)
    boxes, labels = [], []
    for row, column in places:  # one centre a cell, not on its border
        x, y = (column + rng.uniform(0.05, 0.95)) * 16, (row + rng.uniform(0.05, 0.95)) * 16
        w, h = rng.uniform(4, 60, 2)
        boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        labels.append(int(rng.integers(3)))
    found, expected = cells(grid_model(NAMES, 96), make_target(boxes, labels), 96), by_hand(boxes, labels, 96, 16)
    assert found.p.shape == (6, 6) and found.p.sum() == len(expected)
    for (row, column), (*box, label) in expected.items():
        assert found.box[row, column].tolist() == pytest.approx(box, abs=1e-3)
        assert found.label[row, column] == label


def test_a_prediction_decoded_by_hand():
    """One cell speaks: row 2, column 3; the numbers are small enough to follow with a pencil."""
    model = grid_model(NAMES, 96).eval()
    raw = model(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))
    cell = 2 * 6 + 3
    raw.objectness[:], raw.logits[:], raw.regression[:] = -20.0, -20.0, 0.0
    raw.objectness[0, cell] = math.log(9)  # p = 0.9
    raw.logits[0, cell, 1] = math.log(4)  # of b 0.8
    raw.regression[0, cell] = torch.tensor([math.log(3), 0.0, math.log(2), math.log(1.5)])
    (found,) = model.postprocess(raw, Postprocess(score=0.1))
    assert len(found) == 1 and found.labels.tolist() == [1]
    assert found.scores[0] == pytest.approx(0.9 * 0.8)
    x, y = (3 + 0.75) * 16, (2 + 0.5) * 16  # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2
    w, h = 2 * 16, 1.5 * 16
    assert found.boxes[0].tolist() == pytest.approx([x - w / 2, y - h / 2, x + w / 2, y + h / 2], abs=1e-3)
    assert found.boxes[0].tolist() == pytest.approx([44, 28, 76, 52], abs=1e-3)


def test_the_page_and_its_image(tmp_path):
    assert main(["--out", str(tmp_path), "--imgsz", "96"]) == 0
    text = (tmp_path / "explanations" / "yolo_grid.md").read_text()
    assert "6 x 6 x (5 + 10) = 540" in text and (tmp_path / "assets" / "yolo_grid.png").stat().st_size > 1000


def test_a_page_says_where_an_object_is():
    target = make_target([[17.0, 2, 41, 38]], [2])
    text = page(target, cells(grid_model(NAMES, 96), target, 96), NAMES, 16)
    assert "| (1, 1) | 1 | 0.8125 | 0.2500 | 1.5000 | 2.2500 | 0 0 1 |" in text
    assert "its borders are 17.00, 2.00, 41.00 and 38.00" in text
