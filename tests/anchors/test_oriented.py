import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors import oriented as O
from tests.reference import oriented as naive

coordinate = st.floats(-50, 50)
side = st.floats(0.01, 60)
angle = st.floats(-7, 7)
any_box = st.tuples(coordinate, coordinate, side, side, angle).map(list)


def random_boxes(n, seed=0, dtype=torch.float64, spread=30.0):
    g = torch.Generator().manual_seed(seed)
    rand = torch.rand(n, 5, generator=g, dtype=dtype)
    return rand * torch.tensor([spread, spread, 20, 20, 20], dtype=dtype) + torch.tensor([0, 0, 0.1, 0.1, -10])


def forms(boxes):
    """All ways to write the same boxes within two turns."""
    for k in (-2, -1, 0, 1, 2):
        yield boxes + boxes.new_tensor([0, 0, 0, 0, k * math.pi])
        yield boxes[..., [0, 1, 3, 2, 4]] + boxes.new_tensor([0, 0, 0, 0, (k + 0.5) * math.pi])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_form_of_a_box_gives_the_same_bits(dtype):
    boxes = O.canonical(random_boxes(500, dtype=dtype))
    boxes[:50, 3] = boxes[:50, 2]
    boxes = O.canonical(boxes)
    assert (boxes[:, 2] >= boxes[:, 3]).all()
    assert (boxes[:, 4] >= -math.pi / 2).all() and (boxes[:, 4] < math.pi / 2).all()
    assert boxes[:50, 4].abs().max() <= math.pi / 4 + 1e-6
    assert torch.equal(O.canonical(boxes), boxes)
    for form in forms(boxes):
        assert torch.equal(O.canonical(form), boxes)
        assert torch.equal(O.oriented_to_corners(form), O.oriented_to_corners(boxes))
        assert torch.equal(O.oriented_bounds(form), O.oriented_bounds(boxes))
        assert torch.equal(O.oriented_iou(form[:20], boxes[20:40]), O.oriented_iou(boxes[:20], boxes[20:40]))


@settings(max_examples=50, deadline=None)
@given(any_box)
def test_canonical_keeps_the_box(box):
    (same,) = O.canonical(torch.tensor([box], dtype=torch.float64)).tolist()
    for x, y in naive.corners(same):
        assert min(math.dist((x, y), other) for other in naive.corners(box)) < 1e-6


def test_by_hand():
    box = torch.tensor([10.0, 20, 4, 2, 0])
    assert O.oriented_to_corners(box).tolist() == [[8, 19], [12, 19], [12, 21], [8, 21]]
    assert O.oriented_bounds(box).tolist() == [8, 19, 12, 21]
    turned = torch.tensor([10.0, 20, 4, 2, math.pi / 2])  # the side w points down
    assert torch.allclose(O.oriented_bounds(turned), torch.tensor([9.0, 18, 11, 22]))
    cross = torch.stack((box, turned))
    assert torch.allclose(O.oriented_iou(cross, cross), torch.tensor([[1, 1 / 3], [1 / 3, 1]]))
    quarter = torch.tensor([0.0, 0, 2, 2, math.pi / 4])  # an octagon
    octagon = 8 * (math.sqrt(2) - 1)
    assert torch.allclose(
        O.oriented_iou_aligned(quarter, box.new_tensor([0, 0, 2, 2, 0])).double(),
        torch.tensor(octagon / (8 - octagon), dtype=torch.float64),
    )


@settings(max_examples=50, deadline=None)
@given(any_box)
def test_corners_in_any_order_give_the_box_back(box):
    boxes = O.canonical(torch.tensor([box], dtype=torch.float64))
    corners = O.oriented_to_corners(boxes)
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [3, 2, 1, 0], [0, 2, 1, 3]):
        again = O.corners_to_oriented(corners[:, order])
        assert torch.allclose(O.oriented_to_corners(again).sort(1).values, corners.sort(1).values, atol=1e-5)


def test_corners_that_make_no_rectangle():
    points = [[[0, 0], [10, 0], [12, 4], [2, 4]], [[0, 0], [3, 4], [6, 8], [9, 12]], [[5, 5]] * 4]
    skewed, line, dot = O.corners_to_oriented(torch.tensor(points, dtype=torch.float64))
    assert skewed.tolist() == pytest.approx([6, 2, 12, 4, 0])  # the smallest box around a parallelogram
    assert line.tolist() == pytest.approx([4.5, 6, 15, 0, math.atan2(4, 3)], abs=1e-9)
    assert dot.tolist() == [5, 5, 0, 0, 0]
    assert O.corners_to_oriented(torch.zeros(0, 4, 2)).shape == (0, 5)


@settings(max_examples=60, deadline=None)
@given(any_box, any_box)
def test_overlap_equals_naive(a, b):
    first, second = (torch.tensor([x], dtype=torch.float64) for x in (a, b))
    found = O.oriented_iou(first, second)
    assert found.item() == pytest.approx(naive.iou(a, b), abs=1e-9)
    assert O.oriented_iou(second, first).item() == pytest.approx(found.item(), abs=1e-12)
    assert O.oriented_iou_aligned(first, first).item() == pytest.approx(1, abs=1e-6)
    assert O.oriented_iou_aligned(first, second).item() == pytest.approx(found.item(), abs=1e-12)


def test_overlap_equals_shapely():
    geometry = pytest.importorskip("shapely.geometry")
    a, b = random_boxes(40, 1), random_boxes(30, 2)
    first, second = ([geometry.Polygon(p) for p in O.oriented_to_corners(x).tolist()] for x in (a, b))
    expected = [[p.intersection(q).area / p.union(q).area for q in second] for p in first]
    assert torch.allclose(O.oriented_iou(a, b), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 2, 2, 0.3], [0, 0, 2, 2, 0.3 + math.pi / 2], 1),
        ([0, 0, 4, 2, 0.3], [4 * math.cos(0.3), 4 * math.sin(0.3), 4, 2, 0.3], 0),  # they share a side
        ([0, 0, 4, 2, 0.3], [2 * math.cos(0.3), 2 * math.sin(0.3), 4, 2, 0.3], 1 / 3),  # on the same lines
        ([5, 5, 8, 6, 0.3], [5, 5, 4, 3, 0.3], 1 / 4),  # one inside the other
        ([5, 5, 1e6, 1e6, 0.3], [5, 5, 1, 1, 1.3], 1e-12),
        ([1e5, 1e5, 1e-3, 1e-3, 0.3], [1e5, 1e5, 1e-3, 1e-3, 0.3], 1),
        ([0, 0, 1e4, 1e-2, 0.0], [0, 0, 1e4, 1e-2, math.pi / 2], 5e-7),
        ([0, 0, 4, 0, 0.3], [0, 0, 4, 0, 0.3], 0),  # no area
        ([0, 0, 4, -2, 0.3], [0, 0, 4, 2, 0.3], 0),
        ([0, 0, 4, 2, math.nan], [0, 0, 4, 2, 0.3], math.nan),
    ],
)
def test_overlap_in_special_places(a, b, expected):
    first, second = (torch.tensor([x], dtype=torch.float64) for x in (a, b))
    for found in (O.oriented_iou(first, second), O.oriented_iou(second, first), O.oriented_iou_aligned(first, second)):
        assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-12, nan_ok=True)


def test_empty_inputs_and_wrong_shapes():
    none, some = torch.zeros(0, 5), random_boxes(3, dtype=torch.float32)
    assert O.oriented_iou(none, some).shape == (0, 3) and O.oriented_iou(some, none).shape == (3, 0)
    assert O.oriented_iou_aligned(none, none).shape == O.prob_iou_aligned(none, none).shape == (0,)
    assert O.oriented_to_corners(none).shape == (0, 4, 2) and O.oriented_bounds(none).shape == (0, 4)
    assert O.oriented_iou(some.half(), some.half()).dtype is torch.float32
    with pytest.raises(ValueError, match="cx, cy, w, h, angle"):
        O.canonical(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="four points"):
        O.corners_to_oriented(torch.zeros(2, 8))


@settings(max_examples=60, deadline=None)
@given(any_box, any_box)
def test_probabilistic_overlap_equals_the_paper(a, b):
    first, second = (torch.tensor([x], dtype=torch.float64) for x in (a, b))
    found = O.prob_iou_aligned(first, second).item()
    assert found == pytest.approx(naive.prob_iou(a, b), abs=1.1e-3)
    assert 0 <= found <= 1
    for form in forms(first):
        assert O.prob_iou_aligned(form, second).item() == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "iou", "prob_iou"),
    [
        ([0, 0, 0, 0, math.radians(15)], 0.594, 0.684),
        ([0, 0, 0, 0, math.radians(90)], 0.143, 0.273),
        ([0, 5, 0, 0, 0], 0.333, 0.442),
        ([0, 20, 0, 0, 0], 0, 0.002),
        ([0, 0, 0, 10, 0], 0.5, 0.676),
    ],
)
def test_both_overlaps_of_a_box_that_changes(change, iou, prob_iou):
    box = torch.tensor([0.0, 0, 40, 10, 0], dtype=torch.float64)
    other = box + torch.tensor(change)
    assert O.oriented_iou_aligned(box, other).item() == pytest.approx(iou, abs=6e-4)
    assert O.prob_iou_aligned(box, other).item() == pytest.approx(prob_iou, abs=6e-4)


@settings(max_examples=60, deadline=None)
@given(any_box, any_box, st.sampled_from(["other", "same", "square", "empty"]))
def test_probabilistic_overlap_has_finite_gradients(a, b, kind):
    if kind == "square":
        a[3] = a[2]
    if kind == "empty":
        a[2], b[3] = 0.0, -1.0
    b = a if kind in ("same", "square") else b
    first, second = (torch.tensor(x, requires_grad=True) for x in (a, b))
    value = O.prob_iou_aligned(first, second)
    value.backward()
    assert value.isfinite() and first.grad.isfinite().all() and second.grad.isfinite().all()
    if kind in ("same", "square"):
        assert value.item() == pytest.approx(1, abs=1e-6)


def test_following_the_probabilistic_overlap_finds_the_box():
    target = torch.tensor([[50.0, 40, 30, 10, 1.2], [50.0, 40, 20, 20, 0.5]])
    box = torch.tensor([[44.0, 43, 20, 14, 0.6], [44.0, 43, 12, 24, 0.1]], requires_grad=True)
    optimizer = torch.optim.Adam([box], lr=0.15)
    for _ in range(200):
        optimizer.zero_grad()
        (1 - O.prob_iou_aligned(box, target)).sum().backward()
        optimizer.step()
    assert (O.oriented_iou_aligned(box, target)[0] > 0.9) and O.prob_iou_aligned(box, target).min() > 0.9
