"""Views of an image, and what a classifier says of them together, against naive twins."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.evaluation.multi_crop import class_scores
from detect.models.class_views import MOST, PART, canvas_side, views
from tests.reference import views as naive

SIDES, COUNTS = st.integers(2, 24), st.integers(1, MOST)


def drawn(seed, count, side):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8))


@settings(max_examples=40, deadline=None)
@given(side=SIDES, count=COUNTS, images=st.integers(0, 3), seed=st.integers(0, 999))
def test_views_are_those_of_the_naive_twin(side, count, images, seed):
    batch = drawn(seed, images, canvas_side(side, count))
    got = list(views(batch, side, count))
    assert len(got) == count
    assert all(v.shape == (images, 3, side, side) and v.dtype == torch.uint8 for v in got)
    for i in range(images):
        for channel in range(3):
            expected = naive.views(batch[i, channel].tolist(), side, count)
            for place, (ours, reference) in enumerate(zip(got, expected, strict=True)):
                off = np.abs(ours[i, channel].numpy() - np.array(reference))
                assert off.max() <= (0.5 + 1e-3 if place < 2 else 0)  # the whole is rounded


@given(side=st.integers(1, 4096), count=COUNTS)
def test_a_corner_shows_its_part_of_the_side(side, count):
    canvas = canvas_side(side, count)
    if count <= 2:
        assert canvas == side
    else:
        assert abs(canvas * PART - side) <= PART / 2


@given(side=SIDES, seed=st.integers(0, 99))
def test_a_symmetric_image_has_each_view_twice(side, seed):
    half = drawn(seed, 1, canvas_side(side, MOST))
    whole, mirror, *corners = views(torch.maximum(half, half.flip(3)), side, MOST)
    assert (whole.int() - mirror.int()).abs().max() <= 1  # a half may be rounded up or down
    for left, right in ((0, 5), (1, 4), (2, 7), (3, 6)):
        assert torch.equal(corners[left], corners[right])


class Weigher:
    """Scores of three classes: what fixed weights make of the pixels of the first channel, not linear in them."""

    def __call__(self, images):
        return images[:, 0].double() / 255

    def scores(self, raw):
        return torch.stack([score(raw) for score in (self.left, self.bright, self.ramp)], 1)

    @staticmethod
    def left(x):
        return x[..., : (x.shape[-1] + 1) // 2].square().mean((-2, -1))

    @staticmethod
    def bright(x):
        return x.amax((-2, -1))

    @staticmethod
    def ramp(x):
        return (x * torch.linspace(0, 1, x.shape[-1])).mean((-2, -1)).square()


def batch(images, first):
    targets = [SimpleNamespace(image_id=first + i) for i in range(len(images))]
    return SimpleNamespace(images=images, targets=targets)


@settings(max_examples=25, deadline=None)
@given(side=SIDES, count=COUNTS, lengths=st.lists(st.integers(0, 3), max_size=3), seed=st.integers(0, 999))
def test_scores_are_means_over_the_views_of_each_image(side, count, lengths, seed):
    model, canvas = Weigher(), canvas_side(side, count)
    batches = [batch(drawn(seed + i, n, canvas), 10 * i) for i, n in enumerate(lengths)]
    found = list(class_scores(model, batches, side, count, torch.device("cpu"), torch.float32))
    assert [ids for ids, _ in found] == [list(range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)]

    def scores(view):
        return model.scores(torch.tensor(view, dtype=torch.float64).round()[None] / 255)[0].tolist()

    for (_, got), given_batch in zip(found, batches, strict=True):
        assert got.shape == (len(given_batch.images), 3)
        for row, image in zip(got.tolist(), given_batch.images[:, 0].tolist(), strict=True):
            expected = naive.mean_scores(scores, image, side, count)
            assert row == pytest.approx(expected, abs=4e-3)  # a half may be rounded up or down
