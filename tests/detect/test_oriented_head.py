"""The head and the losses of oriented boxes: continuous at every angle, indifferent for squares, and trainable."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anchors.grid import priors
from anchors.oriented import canonical, oriented_iou_aligned
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs.yolo import YoloOrientedConfig
from detect.models.heads.oriented import OrientedHead
from detect.models.losses.oriented import angle_loss
from detect.types import HeadOutput, Postprocess, Target

BOXES = st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(4, 60), st.floats(4, 60), st.floats(-7, 7))


def head() -> OrientedHead:
    return OrientedHead([8], [8], classes=1, depth=0)


def perfect(box: torch.Tensor) -> HeadOutput:
    """The output (1, 1, R) of one prior that says `box` (5,) exactly."""
    p = priors([(1, 1)], [8])
    target = canonical(box)
    values = torch.cat(((target[:2] - p.centers[0]) / 8 + 7.5, target[2:4] / 16))
    low, share = values.long(), values - values.long()
    bins = torch.full((4, 16), -40.0)
    bins[torch.arange(4), low] = (1 - share).clamp_min(1e-9).log()
    bins[torch.arange(4), low + 1] = share.clamp_min(1e-9).log()
    double = torch.stack((torch.cos(2 * target[4]), torch.sin(2 * target[4])))
    return HeadOutput(torch.zeros(1, 1, 1), torch.cat((bins.flatten(), double))[None, None], p)


@given(BOXES)
def test_what_is_encoded_is_decoded_and_has_the_least_loss(box):
    raw, target = perfect(torch.tensor(box)), torch.tensor(box)[None]
    assert oriented_iou_aligned(head().boxes(raw)[0], target).item() > 0.999
    flat = HeadOutput(raw.logits[0], raw.regression[0].clone().requires_grad_(), raw.priors)
    head().regression_loss(flat, target).sum().backward()
    assert flat.regression.grad.abs().max() < 1e-3


@given(BOXES)
def test_outputs_do_not_jump_where_the_angle_does(box):
    """A box a little further round has nearly the same outputs, at the period too, as has the box half a turn on."""
    *place, w, h, angle = box
    near = torch.tensor([*place, w + 20, min(w, h), angle])
    moved, turned = near.clone(), near.clone()
    moved[4] += 1e-3
    turned[4] += math.pi
    before, after, same = (head().boxes(perfect(one))[0, 0] for one in (near, moved, turned))
    assert oriented_iou_aligned(before, after).item() > 0.99 and oriented_iou_aligned(before, same).item() > 0.999
    vectors = [perfect(one).regression[0, 0, -2:] for one in (near, moved, turned)]
    assert (vectors[0] - vectors[1]).norm() < 3e-3 and (vectors[0] - vectors[2]).norm() < 1e-4


@given(st.floats(-4, 4), st.floats(1, 1.02))
def test_a_square_takes_either_angle_and_a_long_box_only_its_own(angle, ratio):
    square = canonical(torch.tensor([[0.0, 0, 10 * ratio, 10, angle]]))
    long = canonical(torch.tensor([[0.0, 0, 20, 10, angle]]))
    right = torch.stack((torch.cos(2 * square[:, 4]), torch.sin(2 * square[:, 4])), -1)
    assert angle_loss(right, square).item() < 1e-6 and angle_loss(-right, square).item() < 0.4
    assert angle_loss(-right if ratio == 1 else right, square).item() < 1e-6
    right = torch.stack((torch.cos(2 * long[:, 4]), torch.sin(2 * long[:, 4])), -1)
    assert angle_loss(right, long).item() < 1e-6 and angle_loss(-right, long).item() == pytest.approx(4, abs=1e-4)


@pytest.mark.slow
def test_predictions_turn_onto_the_objects():
    torch.manual_seed(0)
    model = build(YoloOrientedConfig(width=16), ModelMetadata(["a", "b"], [1, 2], size=96)).train()
    truth = torch.tensor([[40.0, 40, 36, 12, 0.5], [70, 60, 14, 14, 1.0], [30, 70, 12, 30, 0.0]])
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    some = Target(torch.zeros(3, 4), torch.tensor([0, 1, 0]), torch.zeros(3).bool(), 0, (96, 96), oriented=truth)
    none = replace(some[:0], oriented=torch.zeros(0, 5))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        terms = model.loss(model(images), [some, none])
        loss = sum(t.total / t.count.clamp(min=1) for t in terms.values())
        loss.backward()
        optimizer.step()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []
    found, nothing = model.postprocess(model(images), Postprocess(score=0.3))
    assert len(found) == 3 and len(nothing) == 0 and found.boxes.shape == (3, 4)
    best = [oriented_iou_aligned(found.oriented, box).max().item() for box in truth]
    assert min(best) > 0.75 and sorted(found.labels.tolist()) == [0, 0, 1]
