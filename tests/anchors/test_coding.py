import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors import coding as C
from anchors.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from anchors.grid import Priors

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def start(seed, n=30):
    """Cells, anchors, and boxes whose centre lies in the cell and whose sides are 1/3 to 3 times the anchor's."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    strides = 8 * 2 ** torch.randint(3, (n,), generator=g).double()
    centers, anchors = rand(n, 2) * 600, rand(n, 2) * 200 + 4
    middle = centers + (rand(n, 2) - 0.5) * 0.99 * strides[:, None]
    size = anchors * torch.exp((rand(n, 2) * 2 - 1) * 1.0986)
    return cxcywh_to_xyxy(torch.cat((middle, size), -1)), centers, strides, anchors


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_decoding_undoes_encoding(seed):
    boxes, centers, strides, anchors = start(seed)
    reference = cxcywh_to_xyxy(torch.cat((centers, anchors), -1))
    assert torch.allclose(C.decode_deltas(C.encode_deltas(boxes, reference), reference), boxes)
    assert torch.allclose(C.decode_deltas(C.encode_deltas(boxes, reference, WEIGHTS), reference, WEIGHTS), boxes)
    cell = (centers, strides, anchors)
    assert torch.allclose(C.decode_offsets(C.encode_offsets(boxes, *cell), *cell), boxes)
    assert torch.allclose(C.decode_bounded(C.encode_bounded(boxes, *cell), *cell), boxes)
    priors = Priors(centers, strides)
    around = torch.cat((centers - anchors, centers + anchors / 2), -1)
    assert torch.allclose(priors.decode_distances(priors.encode_distances(around)), around)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), st.floats(-60, 60))
def test_any_box_and_any_code_stay_finite(row, code):
    box, codes = torch.tensor(row), torch.full((4,), code)
    center, stride, anchor = torch.tensor([4.0, 4.0]), torch.tensor(8.0), torch.tensor([10.0, 0.0])
    reference = torch.tensor([0.0, 0, 10, 0])
    for value in (
        C.encode_deltas(box, reference),
        C.encode_offsets(box, center, stride, anchor),
        C.encode_bounded(box, center, stride, anchor),
        Priors(center, stride).encode_distances(box),
        C.decode_deltas(codes, reference),
        C.decode_offsets(codes, center, stride, anchor),
        C.decode_bounded(codes, center, stride, anchor),
        Priors(center, stride).decode_distances(codes),
    ):
        assert value.isfinite().all()


def test_by_hand():
    center, stride, anchor = torch.tensor([12.0, 20.0]), torch.tensor(8.0), torch.tensor([10.0, 30.0])
    for decode in (C.decode_offsets, C.decode_bounded):
        decoded = xyxy_to_cxcywh(decode(torch.zeros(4), center, stride, anchor))
        assert decoded.tolist() == pytest.approx([12, 20, 10, 30])
    extreme = xyxy_to_cxcywh(C.decode_bounded(torch.full((4,), 100.0), center, stride, anchor))
    assert extreme.tolist() == pytest.approx([20, 28, 40, 120])
    codes = C.encode_deltas(torch.tensor([10.0, 0, 30, 10]), torch.tensor([0.0, 0, 10, 10]))
    assert codes.tolist() == pytest.approx([1.5, 0, 0.693147, 0])
    assert Priors(center, stride).encode_distances(torch.tensor([4.0, 4, 28, 60]), limit=3).tolist() == [1, 2, 2, 3]


def test_none_and_broadcast():
    none = torch.zeros(0, 4)
    assert C.encode_deltas(none, none).shape == C.decode_deltas(none, none).shape == (0, 4)
    boxes, centers, strides, anchors = start(1)
    batch = torch.stack([boxes, boxes])
    for encode in (C.encode_offsets, C.encode_bounded):
        assert torch.allclose(encode(batch, centers, strides, anchors)[1], encode(boxes, centers, strides, anchors))
    assert Priors(centers, strides).encode_distances(batch).shape == batch.shape
