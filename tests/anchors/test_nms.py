from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms as compiled

from anchors.large_nms import _below, survivors
from anchors.nms import batched_nms, nms, soft_nms
from tests.reference import nms as naive
from tests.reference.box_scenes import crowded, half, scattered, sparse

small = st.integers(0, 6).map(float)
rows = st.lists(st.tuples(small, small, small, small, st.integers(0, 3), st.integers(0, 2)), max_size=25)


@settings(max_examples=200, deadline=None)
@given(rows, st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 0.6, 0.7, 1.0]))
def test_equals_naive_with_ties_and_empty_boxes(rows, iou):
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes, scores, labels = table[:, :4], table[:, 4] / 4, table[:, 5].long()
    assert nms(boxes, scores, iou).tolist() == naive.nms(boxes.numpy(), scores.numpy(), iou)
    expected = naive.batched_nms(boxes.numpy(), scores.numpy(), labels, iou)
    assert batched_nms(boxes, scores, labels, iou).tolist() == expected


def test_threshold_in_the_type_of_the_boxes():
    for iou in (0.2, 0.3, 0.5, 0.6, 0.7, 1 / 3):
        single = _below(iou, np.dtype(np.float32))
        assert float(single) <= iou < float(np.nextafter(single, np.float32(1)))
        assert _below(iou, np.dtype(np.float64)) == iou


@pytest.mark.parametrize(
    ("iou", "first", "second"),
    [
        (0.2, (0, 0, 4, 2), (0, 1, 2, 3)),
        (0.3, (0, 0, 10, 1), (0, 0, 3, 1)),
        (1 / 3, (0, 0, 2, 1), (1, 0, 3, 1)),
        (0.5, (0, 0, 10, 1), (0, 0, 5, 1)),
        (0.6, (0, 0, 5, 4), (0, 0, 3, 4)),
        (0.7, (0, 0, 10, 1), (0, 0, 7, 1)),
    ],
)
def test_many_boxes_decide_as_few_where_only_rounding_parts_iou_and_threshold(iou, first, second):
    """0.2, 0.3, 1/3 and 0.6 grow when they are rounded to single precision: such an IoU is above the threshold."""
    pair = torch.tensor([first, second]).float()
    apart = 20 * torch.arange(1, 2500)[:, None] + torch.tensor([0, 0, 1, 1]).float()
    boxes = torch.cat((apart, pair))
    kept = nms(boxes, -torch.arange(len(boxes)).float(), iou)
    assert kept[len(apart) :].tolist() == (len(apart) + nms(pair, torch.tensor([1.0, 0.5]), iou)).tolist()
    assert survivors(np.ascontiguousarray(boxes.numpy().T), iou) is not None


@settings(max_examples=100, deadline=None)
@given(rows, st.sampled_from([0.2, 1 / 3, 0.5, 0.6, 0.7, 0.9]), st.sampled_from([30, 90, 4000]), st.integers(0, 9))
def test_many_equal_naive(rows, iou, canvas, seed):
    """With blocks of four boxes, so that few boxes are many: crowds end in blocks, the rest in a sweep."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes = torch.cat((table[:, :4], scattered(60, seed, canvas=canvas)[0]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_BLOCK": 4, "_FEW": 8, "_BITE": 64, "_MOST": 1}.items():
            patch.setattr(f"anchors.large_nms.{name}", value)
        patch.setattr(import_module("anchors.nms"), "_ROUNDS", 1)
        found = survivors(np.ascontiguousarray(boxes.numpy().T), iou)
    ranks = -torch.arange(len(boxes), dtype=torch.float32)
    assert found is not None and found.tolist() == naive.nms(boxes.numpy(), ranks.numpy(), iou)


SCENES = {
    "sparse": sparse,
    "half survive": half,
    "crowded": crowded,
    "one size": lambda n, seed: scattered(n, seed, canvas=400, least=30, most=30),
    "sizes of 1:100": lambda n, seed: scattered(n, seed, canvas=1500, most=400),
    "squares of 1:100": lambda n, seed: scattered(n, seed, canvas=1500, most=400, square=True),
    "some in clusters": lambda n, seed: scattered(n, seed, clusters=700),
    "coordinates of 0 to 1": lambda n, seed: scattered(n, seed, canvas=1, least=0.01, most=0.1),
    "large coordinates": lambda n, seed: scattered(n, seed, canvas=1e6, least=1e4, most=1e5),
}


@pytest.mark.parametrize("iou", [0.3, 0.45, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_compiled_operator(name, iou, dtype):
    boxes, scores = (x.to(dtype) for x in SCENES[name](3000, 1))
    scores = (scores * 500).round() / 500  # many ties
    assert torch.equal(nms(boxes, scores, iou), compiled(boxes, scores, iou))


def test_thirty_thousand():
    boxes, scores = sparse(30_000)
    found = nms(boxes, scores, 0.5)
    assert len(found) > 15_000
    best = torch.arange(1000) * 30  # every thirtieth box against all: none kept falls, none fallen is free
    table = _table(boxes[best], boxes) > 0.5
    kept = torch.zeros(30_000, dtype=torch.bool).index_fill(0, found, True)
    higher = scores > scores[best, None]
    assert torch.equal(kept[best], ~(table & higher & kept).any(1))


def _table(a, b):
    low, high = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    inter = (high - low).clamp_min(0).prod(-1)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return inter / (areas[0][:, None] + areas[1] - inter)


def adversarial():
    one = torch.tensor([[10.0, 10, 50, 50]])
    chain = torch.arange(2500.0)[:, None] * 3 + torch.tensor([0.0, 0, 10, 10])  # each box overlaps the next by 0.32
    grid = torch.cartesian_prod(torch.arange(50.0), torch.arange(50.0))
    return {
        "all the same": one.expand(2500, 4),
        "chain": chain,
        "exactly at the threshold": torch.cat(
            (torch.cat((grid * 2, grid * 2 + 2), 1), torch.cat((grid * 2, grid * 2 + 1.0), 1))
        ),
        "one giant": torch.cat((torch.tensor([[0.0, 0, 1e5, 1e5]]), scattered(2500)[0])),
        "lines": torch.cat((scattered(2000)[0], scattered(500)[0][:, [0, 1, 0, 3]])),
        "inverted": torch.cat((scattered(2000)[0], scattered(500)[0][:, [2, 3, 0, 1]])),
        "thin": torch.cat([scattered(1250)[0] * torch.tensor(s) for s in ([0.01, 1, 0.01, 1], [1, 0.01, 1, 0.01])]),
        "tiny areas": scattered(2500)[0] * 1e-21,
        "huge areas": scattered(2500)[0] * 1e18,
        "infinite": torch.cat((scattered(2499)[0], torch.tensor([[0.0, 0, torch.inf, 5]]))),
    }


@pytest.mark.parametrize("name", adversarial())
@pytest.mark.parametrize("iou", [0.25, 0.3, 0.6])
def test_adversarial(name, iou):
    boxes = adversarial()[name].contiguous()
    scores = torch.rand(len(boxes), generator=torch.Generator().manual_seed(1))
    for s in (scores, torch.zeros(len(boxes)), (scores * 4).round()):
        assert torch.equal(nms(boxes, s, iou), compiled(boxes, s, iou))


@pytest.mark.parametrize("classes", [1, 3, 80, 2000])
def test_per_class_is_nms_of_each_class(classes):
    boxes, scores = scattered(2500, most=200)
    labels = torch.randint(classes, (2500,), generator=torch.Generator().manual_seed(3))
    found = batched_nms(boxes, scores, labels, 0.5)
    for c in labels.unique():
        own = (labels == c).nonzero()[:, 0]
        assert torch.equal(found[labels[found] == c], own[compiled(boxes[own], scores[own], 0.5)])
    assert (scores[found].diff() <= 0).all()


def test_per_class_does_not_depend_on_where_boxes_lie():
    boxes = torch.tensor([[0.0, 0, 3, 1], [0, 0, 2, 1]])  # IoU is 2/3 in float32, which an offset would round
    labels, scores = torch.tensor([70, 70]), torch.tensor([0.9, 0.8])
    threshold = float(torch.tensor(2.0) / 3)
    assert batched_nms(boxes, scores, labels, threshold).tolist() == [0, 1]
    assert batched_nms(boxes, scores, labels, threshold - 1e-7).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(rows, st.sampled_from([0.1, 0.5, 2.0]))
def test_soft_equals_naive(rows, sigma):
    table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    jitter = torch.rand(len(table), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes, scores, labels = table[:, :4], (table[:, 4] + jitter) / 5, table[:, 5].long()
    for groups in (labels, None):
        index, lowered = soft_nms(boxes, scores, groups, sigma, 0.05)
        names = [0] * len(table) if groups is None else labels.tolist()
        expected = naive.soft_nms(boxes.numpy(), scores, names, sigma, 0.05)
        assert index.tolist() == [i for i, _ in expected]
        assert lowered.tolist() == pytest.approx([s for _, s in expected])
        assert soft_nms(boxes, scores, groups, sigma, 0.05, limit=3)[0].tolist() == index.tolist()[:3]


def test_none_and_one():
    boxes, scores, labels = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert nms(boxes, scores, 0.5).shape == batched_nms(boxes, scores, labels, 0.5).shape == (0,)
    assert [x.shape for x in soft_nms(boxes, scores)] == [(0,), (0,)]
    boxes, scores, labels = torch.ones(1, 4), torch.ones(1), torch.zeros(1, dtype=torch.int64)
    assert nms(boxes, scores, 0.5).tolist() == batched_nms(boxes, scores, labels, 0.5).tolist() == [0]
    assert soft_nms(boxes, scores)[0].tolist() == [0]


@pytest.mark.parametrize("count", [40, 2500])
def test_gradients_and_types(count):
    boxes, scores = scattered(count)
    labels, expected = torch.arange(count) % 7, compiled(boxes, scores, 0.5)
    learning = boxes.clone().requires_grad_(), scores.clone().requires_grad_()
    assert torch.equal(nms(*learning, 0.5), expected)
    assert torch.equal(batched_nms(*learning, labels, 0.5), batched_nms(boxes, scores, labels, 0.5))
    assert torch.equal(soft_nms(*learning)[0], soft_nms(boxes, scores)[0])
    whole = boxes.round().long()
    assert torch.equal(nms(whole, scores.double(), 0.5), compiled(whole.float(), scores, 0.5))
    assert torch.equal(nms(whole.half(), scores, 0.5), compiled(whole.half().float(), scores, 0.5))


@pytest.mark.parametrize("f", [lambda b, s: nms(b, s, 0.5), lambda b, s: batched_nms(b, s, s, 0.5), soft_nms])
def test_what_is_refused(f):
    boxes, scores = scattered(4)
    for bad in (scores.index_fill(0, torch.tensor([2]), torch.nan), scores[:3]):
        with pytest.raises(ValueError, match=r"NaN|must be"):
            f(boxes, bad)
    with pytest.raises(ValueError, match="NaN"):
        f(boxes.index_fill(0, torch.tensor([1]), torch.nan), scores)
    with pytest.raises(ValueError, match="must be"):
        f(boxes[:, :3], scores)


wide_rows = st.lists(st.tuples(*[small] * 6, st.integers(0, 3), st.integers(0, 2)), max_size=25)


@settings(max_examples=150, deadline=None)
@given(wide_rows, st.sampled_from([1, 3]), st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]))
def test_other_dimensions_equal_naive(rows, d, iou):
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 8)
    boxes, scores, labels = table[:, : 2 * d], table[:, 6] / 4, table[:, 7].long()
    assert nms(boxes, scores, iou).tolist() == naive.nms(boxes.numpy(), scores.numpy(), iou)
    expected = naive.batched_nms(boxes.numpy(), scores.numpy(), labels, iou)
    assert batched_nms(boxes, scores, labels, iou).tolist() == expected
    boxes, jitter = (
        boxes.double(),
        torch.rand(len(table), generator=torch.Generator().manual_seed(0), dtype=torch.float64),
    )
    scores = (table[:, 6] + jitter) / 5  # equal ones would be told apart by how the exponential is rounded
    found, lowered = soft_nms(boxes, scores, labels, 0.5, 0.1)
    softened = naive.soft_nms(boxes.numpy(), scores, labels.tolist(), 0.5, 0.1)
    assert found.tolist() == [i for i, _ in softened]
    assert lowered.tolist() == pytest.approx([score for _, score in softened])


@pytest.mark.parametrize("scene", [sparse, crowded, half])
def test_many_boxes_of_unit_depth_are_their_faces(scene):
    """Through the path of volumes and through those of images; intervals are images one pixel high."""
    boxes, scores = scene(2500, 3)
    lines = torch.cat((torch.zeros(len(boxes), 1), boxes[:, :2], torch.ones(len(boxes), 1), boxes[:, 2:]), 1)
    assert torch.equal(nms(lines, scores, 0.5), nms(boxes, scores, 0.5))
    labels = torch.arange(len(boxes)) % 3
    assert torch.equal(batched_nms(lines, scores, labels, 0.5), batched_nms(boxes, scores, labels, 0.5))
    flat = boxes[:, [0, 2]]
    high = torch.stack((flat[:, 0], torch.zeros(len(flat)), flat[:, 1], torch.ones(len(flat))), 1)
    assert torch.equal(nms(flat, scores, 0.5), nms(high, scores, 0.5))


@pytest.mark.parametrize("d", [1, 3])
def test_none_and_one_of_other_dimensions(d):
    none, one = torch.zeros(0, 2 * d), torch.tensor([[0.0] * d + [1.0] * d])
    assert nms(none, torch.zeros(0), 0.5).tolist() == [] and nms(one, torch.ones(1), 0.5).tolist() == [0]
    assert batched_nms(none, torch.zeros(0), torch.zeros(0), 0.5).tolist() == []
    assert soft_nms(none, torch.zeros(0))[0].tolist() == []
    for wrong in (torch.zeros(1, 5), torch.zeros(1, 0), torch.zeros(2, 2 * d), torch.full((1, 2 * d), torch.nan)):
        with pytest.raises(ValueError, match=r"NaN|2d"):
            nms(wrong, torch.ones(1), 0.5)
