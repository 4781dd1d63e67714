import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors import boxes as B
from tests.reference import boxes as naive

KINDS = B.KINDS


def random_boxes(n, seed=0, d=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, 2, d, generator=g, dtype=dtype).mul(100).sort(1).values.reshape(n, 2 * d)


coordinates = st.integers(-4, 4).map(float)
any_box = st.tuples(coordinates, coordinates, coordinates, coordinates)


@pytest.mark.parametrize(("there", "back"), [(B.xyxy_to_xywh, B.xywh_to_xyxy), (B.xyxy_to_cxcywh, B.cxcywh_to_xyxy)])
def test_formats_undo_one_another(there, back):
    for d in (1, 2, 3):
        b = random_boxes(20, d=d)
        assert torch.allclose(back(there(b)), b)
        assert there(b[:0]).shape == (0, 2 * d)


def test_formats_by_hand():
    b = torch.tensor([10.0, 20.0, 14.0, 30.0])
    assert B.xyxy_to_xywh(b).tolist() == [10, 20, 4, 10]
    assert B.xyxy_to_cxcywh(b).tolist() == [12, 25, 4, 10]


def test_area_and_clip():
    b = torch.tensor([[-5.0, 2, 20, 8], [3, 3, 1, 9], [0, 0, 0, 4]])
    assert B.area(b).tolist() == [150, 0, 0]
    assert B.clip(b, (6, 10)).tolist() == [[0, 2, 10, 6], [3, 3, 1, 6], [0, 0, 0, 4]]
    assert B.area(torch.tensor([[0.0, 0, 0, 2, 3, 4]])).tolist() == [24]
    assert B.clip(torch.tensor([0.0, 0, 0, 9, 9, 9]), (5, 6, 7)).tolist() == [0, 0, 0, 7, 6, 5]


@pytest.mark.parametrize("kind", KINDS)
def test_pairwise_equals_naive(kind):
    a, b = random_boxes(12, 1), random_boxes(9, 2)
    expected = torch.tensor([[naive.overlap(x, y, kind) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert torch.allclose(B.iou(a, b, kind), expected, atol=1e-12)
    assert torch.allclose(B.iou(a.float(), b.float(), kind), expected.float(), atol=1e-5)
    assert torch.allclose(B.iou_aligned(a[:9], b, kind), expected[:9].diagonal())
    batched = B.iou(a.reshape(3, 4, 4), b, kind)
    assert torch.allclose(batched.reshape(12, 9), expected)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
@pytest.mark.parametrize("d", [1, 3])
def test_other_dimensions(kind, d):
    a, b = random_boxes(6, 3, d), random_boxes(5, 4, d)
    expected = torch.tensor([[naive.overlap(x, y, kind) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    assert torch.allclose(B.iou(a, b, kind), expected)


@settings(max_examples=150, deadline=None)
@given(any_box, any_box, st.sampled_from(KINDS), st.sampled_from([torch.float32, torch.float64]))
def test_values_and_gradients_are_finite_even_for_empty_boxes(a, b, kind, dtype):
    a, b = (torch.tensor(x, dtype=dtype, requires_grad=True) for x in (a, b))
    value = B.iou_aligned(a, b, kind)
    value.backward()
    assert value.isfinite() and a.grad.isfinite().all() and b.grad.isfinite().all()
    assert a.grad.abs().max() < 100 and b.grad.abs().max() < 100
    assert value <= 1 + 1e-6
    if all((x[2:] >= x[:2]).all() for x in (a, b)):
        assert value >= {"iou": 0, "giou": -1, "diou": -1, "ciou": -2}[kind] - 1e-6


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(KINDS))
def test_symmetric_and_one_for_itself(seed, kind):
    a, b = random_boxes(4, seed), random_boxes(4, seed + 1)
    assert torch.allclose(B.iou(a, b, kind), B.iou(b, a, kind).T)
    assert torch.allclose(B.iou_aligned(a, a, kind), torch.ones(4, dtype=a.dtype))


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradient_is_that_of_differences(kind):
    a, b = random_boxes(8, 5).requires_grad_(), random_boxes(8, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: B.iou_aligned(x, y, kind), (a, b), eps=1e-6, atol=1e-5)


def test_ciou_pulls_a_distant_box_of_wrong_shape_nearer():
    target = torch.tensor([50.0, 50, 70, 60])
    box = torch.tensor([0.0, 0, 10, 20], requires_grad=True)
    optimizer = torch.optim.Adam([box], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        (1 - B.iou_aligned(box, target, "ciou")).backward()
        optimizer.step()
    assert B.iou_aligned(box, target) > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_none(kind):
    assert B.iou(torch.zeros(0, 4), torch.zeros(3, 4), kind).shape == (0, 3)
    assert B.iou(torch.zeros(2, 3, 4), torch.zeros(2, 0, 4), kind).shape == (2, 3, 0)
    assert B.iou_aligned(torch.zeros(0, 4), torch.zeros(0, 4), kind).shape == (0,)


def test_half_precision_does_not_overflow():
    b = torch.tensor([[0.0, 0, 600, 600]], dtype=torch.float16)
    assert B.iou(b, b).item() == 1


def test_unknown_kind():
    with pytest.raises(ValueError, match="siou"):
        B.iou(torch.zeros(1, 4), torch.zeros(1, 4), "siou")


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["iou", "giou", "diou"]), st.permutations(range(3)))
def test_axes_may_change_places(seed, kind, axes):
    a, b = random_boxes(5, seed, 3), random_boxes(4, seed + 1, 3)
    a[0, 3:] = a[0, :3] - 1  # an empty one
    turned = [torch.cat((x[:, axes], x[:, [3 + i for i in axes]]), 1) for x in (a, b)]
    assert torch.allclose(B.iou(*turned, kind), B.iou(a, b, kind), atol=1e-12)
    assert torch.allclose(B.area(turned[0]), B.area(a))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 2))
def test_a_box_of_unit_depth_has_the_overlap_of_its_face(seed, axis):
    """Of the generalized overlap too: the hull is as deep as the boxes. And a box as high as one is an interval."""
    for d in (1, 2):
        a, b = random_boxes(6, seed, d), random_boxes(5, seed + 1, d)
        place = min(axis, d)
        deep = []
        for x in (a, b):
            low, high = x.chunk(2, 1)
            sides = [
                torch.cat((half[:, :place], torch.full((len(x), 1), float(end)), half[:, place:]), 1)
                for end, half in enumerate((low, high))
            ]
            deep.append(torch.cat(sides, 1))
        for kind in ("iou", "giou"):
            assert torch.allclose(B.iou(*deep, kind), B.iou(a, b, kind))


@pytest.mark.parametrize("d", [1, 3])
def test_none_of_other_dimensions(d):
    for kind in ("iou", "giou", "diou"):
        assert B.iou(torch.zeros(0, 2 * d), torch.zeros(3, 2 * d), kind).shape == (0, 3)
        assert B.iou_aligned(torch.zeros(0, 2 * d), torch.zeros(0, 2 * d), kind).shape == (0,)
    assert B.area(torch.zeros(0, 2 * d)).shape == (0,)
    assert B.clip(torch.zeros(0, 2 * d), [4] * d).shape == (0, 2 * d)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: B.iou(torch.zeros(2, 5), torch.zeros(2, 5)), r"one d"),
        (lambda: B.iou(torch.zeros(2, 6), torch.zeros(2, 4)), r"one d"),
        (lambda: B.iou_aligned(torch.zeros(2, 0), torch.zeros(2, 0)), r"one d"),
        (lambda: B.iou(torch.zeros(2, 6), torch.zeros(2, 6), "ciou"), r"boxes of 3 axes have not: use diou"),
        (lambda: B.iou_aligned(torch.zeros(2), torch.zeros(2), "ciou"), r"boxes of 1 axes"),
        (lambda: B.area(torch.zeros(3)), r"as many maxima as minima"),
        (lambda: B.xyxy_to_xywh(torch.zeros(2, 5)), r"\(2, 5\) must be"),
        (lambda: B.cxcywh_to_xyxy(torch.zeros(2, 1)), r"\(2, 1\) must be"),
        (lambda: B.clip(torch.zeros(2, 6), (3, 4)), r"have 3 axes, the size has 2"),
        (lambda: B.area(torch.tensor(1.0)), r"as many maxima"),
    ],
)
def test_what_is_refused(what, said):
    with pytest.raises(ValueError, match=said):
        what()
