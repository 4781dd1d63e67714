import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors import oriented_nms
from tests.anchors.test_oriented import forms, random_boxes
from tests.reference import oriented as naive


def crowd(n, seed, groups=3, spread=60.0):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 20, (n,), generator=g) / 20  # many ties
    return random_boxes(n, seed, spread=spread), scores, torch.randint(0, groups, (n,), generator=g)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.0, 0.1, 0.45, 0.7, 1.0]))
def test_equals_naive(seed, n, iou):
    boxes, scores, groups = crowd(n, seed)
    expected = naive.nms(boxes.tolist(), scores.tolist(), groups.tolist(), iou)
    assert oriented_nms(boxes, scores, groups, iou).tolist() == expected


def test_all_forms_of_boxes_give_the_same():
    boxes, scores, groups = crowd(300, 1)
    expected = oriented_nms(boxes, scores, groups, 0.3).tolist()
    for form in forms(boxes):
        assert oriented_nms(form, scores, groups, 0.3).tolist() == expected


def test_special_boxes():
    none = torch.zeros(0)
    assert oriented_nms(torch.zeros(0, 5), none, none, 0.5).tolist() == []
    empty = torch.tensor([[5.0, 5, 0, 4, 0.3]] * 3 + [[5.0, 5, 4, 4, 0.3]] * 2)
    assert oriented_nms(empty, torch.ones(5), None, 0.5).tolist() == [0, 1, 2, 3]
    assert oriented_nms(empty, torch.arange(5), torch.arange(5), 0.5).tolist() == [4, 3, 2, 1, 0]
    with pytest.raises(ValueError, match="not finite"):
        oriented_nms(empty / 0, torch.ones(5), None, 0.5)
    with pytest.raises(ValueError, match="4 groups for 5 boxes"):
        oriented_nms(empty, torch.ones(5), torch.ones(4), 0.5)
    with pytest.raises(ValueError, match=r"\(N, 5\)"):
        oriented_nms(empty[:, :4], torch.ones(5), None, 0.5)
