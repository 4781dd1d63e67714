import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import nms as compiled

from anchors.nms import batched_nms, nms, soft_nms, sweep
from tests.reference import nms as naive


def scattered(n, seed=0, canvas=640.0, side=60.0, clusters=0):
    g = torch.Generator().manual_seed(seed)
    center, size = torch.rand(n, 2, generator=g) * canvas, torch.rand(n, 2, generator=g) ** 2 * side + 2
    if clusters:
        home = torch.randint(clusters, (n,), generator=g)
        center = center[home] + torch.randn(n, 2, generator=g) * 2
        size = size[home] * (1 + 0.05 * torch.randn(n, 2, generator=g))
    return torch.cat((center - size / 2, center + size / 2), -1), torch.rand(n, generator=g)


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


@settings(max_examples=100, deadline=None)
@given(rows, st.sampled_from([0.2, 1 / 3, 0.5, 0.6, 0.7, 0.9]))
def test_sweep_equals_naive_where_it_answers(rows, iou):
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    boxes = torch.cat((table[:, :4], scattered(60, canvas=4000)[0]))
    alive = sweep(boxes.numpy(), iou)
    assert alive is not None or len(rows) > 5
    if alive is not None:
        ranks = -torch.arange(len(boxes), dtype=torch.float32)
        assert np.flatnonzero(alive).tolist() == naive.nms(boxes.numpy(), ranks.numpy(), iou)


@pytest.mark.parametrize("iou", [0.3, 0.45, 0.5, 0.7, 0.95])
@pytest.mark.parametrize(
    "kind",
    [
        {"side": 30.0},
        {"side": 300.0},
        {"side": 40.0, "clusters": 60},
        {"canvas": 1.0, "side": 0.1},
        {"canvas": 1e6, "side": 1e5},
    ],
    ids=str,
)
def test_equals_the_compiled_operator(kind, iou):
    boxes, scores = scattered(3000, **kind)
    scores = (scores * 500).round() / 500  # many ties
    assert torch.equal(nms(boxes, scores, iou), compiled(boxes, scores, iou))


def test_thirty_thousand():
    boxes, scores = scattered(30_000, canvas=4000.0, side=90.0)
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
    boxes, scores = scattered(2500, side=200.0)
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
