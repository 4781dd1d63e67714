import colorsys

import numpy as np
import pytest
import torch

from detect.config.augment import AugmentConfig
from detect.data.augment.mirror_pairs import mirror_swap
from detect.data.augment.transforms import (
    ImageTarget,
    Placement,
    jitter,
    merge,
    mirror,
    mosaic,
    paste,
    place,
    single,
)
from detect.errors import UserError
from detect.types import Target
from tests.reference.scenes import Store, ink

PLAIN = AugmentConfig(hue=0, saturation=0, value=0, visibility=0)


def make_target(boxes, points=None, size=(100, 100)):
    n = len(boxes)
    return Target(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(n),
        crowd=torch.zeros(n, dtype=torch.bool),
        image_id=5,
        size=size,
        keypoints=None if points is None else torch.tensor(points, dtype=torch.float32),
    )


def drawn_boxes(image, labels):
    """The extents of the ink of each class, found in the pixels."""
    found = {}
    for label in labels:
        rows, columns = np.nonzero(ink(image, label))
        if len(rows):
            found[label] = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return found


def check_against_pixels(image, target):
    """Each class occurs once: its box must be where its ink is, to 1.5 pixels (a resized edge is soft)."""
    drawn = drawn_boxes(image, target.labels.tolist())
    for label, box in zip(target.labels.tolist(), target.boxes.numpy(), strict=True):
        assert label in drawn
        assert np.abs(box - drawn[label]).max() <= 1.5
    return len(drawn)


def test_a_single_image_takes_its_boxes_along():
    annotations, checked = Store(20), 0
    config = AugmentConfig(scale=0.5, translate=0.3, visibility=0)
    for i in range(len(annotations)):
        rng = np.random.default_rng(i)
        image, target = single(ImageTarget(annotations.read(i), annotations.target(i)), 160, config, rng, 114)
        assert image.shape == (160, 160, 3) and target.size == (160, 160)
        checked += check_against_pixels(image, target)
    assert checked > 20


def test_every_tile_of_a_mosaic_takes_its_boxes_along():
    """Three of the four tiles are empty in turn, so that each class occurs once."""
    annotations, checked = Store(30), 0
    for i in range(len(annotations)):
        for spot in range(4):
            chosen = [0, 5, 10, 15]  # images without objects
            chosen[spot] = i
            tiles = [ImageTarget(annotations.read(k), annotations.target(k)) for k in chosen]
            config = AugmentConfig(scale=0.5, visibility=0)
            image, target = mosaic(tiles, 128, config, np.random.default_rng([i, spot]), 114)
            assert target.image_id == annotations.image_ids[chosen[0]]
            checked += check_against_pixels(image, target)
    assert checked > 60


def test_a_shrunk_image_stands_for_its_source():
    """Boxes are in pixels of the source, of which the tile may be a smaller copy."""
    canvas = np.zeros((100, 100, 3), np.uint8)
    target = make_target([[200, 100, 400, 200]], size=(200, 400))
    move = paste(canvas, ImageTarget(np.zeros((50, 100, 3), np.uint8), target), (0, 0), 1.0)
    assert place([target], [move], 0, (100, 100)).boxes.tolist() == [[50, 25, 100, 50]]


def test_paste_outside_the_canvas_draws_and_keeps_nothing():
    target = make_target([[0, 0, 10, 10]], size=(10, 10))
    for corner in [(200.0, 0.0), (-50.0, -50.0), (0.0, 100.0)]:
        canvas = np.zeros((100, 100, 3), np.uint8)
        move = paste(canvas, ImageTarget(np.full((10, 10, 3), 255, np.uint8), target), corner, 1.3)
        assert canvas.max() == 0
        assert len(place([target], [move], 0.0, (100, 100))) == 0


def naive_place(boxes, move, visibility):
    kept = []
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        (sx, sy), (ox, oy), (left, top, right, bottom), _ = move
        a, b, c, d = x0 * sx + ox, y0 * sy + oy, x1 * sx + ox, y1 * sy + oy
        e, f = min(max(a, left), right), min(max(b, top), bottom)
        g, h = min(max(c, left), right), min(max(d, top), bottom)
        if (g - e) * (h - f) >= visibility * (c - a) * (d - b) and g - e >= 2 and h - f >= 2:
            kept.append((i, [e, f, g, h]))
    return kept


@pytest.mark.parametrize("visibility", [0.0, 0.1, 0.5, 1.0])
def test_place_is_its_naive_twin(visibility):
    rng = np.random.default_rng(0)
    low = rng.uniform(-20, 100, (60, 2))
    boxes = np.concatenate([low, low + rng.uniform(0, 60, (60, 2))], axis=1).astype(np.float32)
    moves = [
        Placement((0.7, 1.3), (5.0, -8.0), (5, 0, 60, 90)),
        Placement((1.0, 1.0), (40.0, 20.0), (60, 20, 100, 100)),
    ]
    parts = [make_target(boxes[:25].tolist()), make_target(boxes[25:].tolist())]
    found = place(parts, moves, visibility, (100, 100))
    expected = [
        (i, box)
        for part, move in zip(parts, moves, strict=True)
        for i, box in naive_place(part.boxes.tolist(), move, visibility)
    ]
    assert 0 < len(expected) < 60
    assert found.labels.tolist() == [i for i, _ in expected]
    assert np.allclose(found.boxes.numpy(), [box for _, box in expected], atol=1e-4)
    assert found.size == (100, 100) and found.image_id == 5


def test_keypoints_outside_are_unlabelled():
    target = make_target([[0, 0, 50, 50]], [[[10, 10, 2], [45, 10, 1], [0, 0, 0]]])
    moved = place([target], [Placement((1.0, 1.0), (-20.0, 0.0), (0, 0, 100, 100))], 0.1, (100, 100))
    assert moved.keypoints.tolist() == [[[0, 0, 0], [25, 10, 1], [0, 0, 0]]]


def test_no_objects_anywhere():
    empty = make_target([], np.zeros((0, 3, 3)))
    move = Placement((1.0, 1.0), (0.0, 0.0), (0, 0, 100, 100))
    moved = place([empty, empty], [move, move], 0.1, (100, 100))
    assert len(moved) == 0 and moved.keypoints.shape == (0, 3, 3)
    assert len(mirror(moved, None)) == 0
    assert len(merge([empty, make_target([[0, 0, 9, 9]], np.zeros((1, 3, 3)))], (100, 100))) == 1


def test_mirror_swaps_sides_and_is_its_own_inverse():
    swap = mirror_swap(["nose", "left_eye", "right_eye"], [[1, 2]])
    target = make_target([[10, 5, 30, 25]], [[[20, 10, 2], [15, 9, 2], [0, 0, 0]]])
    turned = mirror(target, swap)
    assert turned.boxes.tolist() == [[70, 5, 90, 25]]
    assert turned.keypoints.tolist() == [[[80, 10, 2], [0, 0, 0], [85, 9, 2]]]
    back = mirror(turned, swap)
    assert torch.equal(back.boxes, target.boxes) and torch.equal(back.keypoints, target.keypoints)


def test_mirror_needs_to_know_the_sides():
    assert mirror_swap([], None) is None
    assert mirror_swap(["a", "b"], []).tolist() == [0, 1]
    with pytest.raises(UserError, match="flip_pairs"):
        mirror_swap(["a", "b"], None)
    with pytest.raises(UserError, match="at most once"):
        mirror_swap(["a", "b", "c"], [[0, 1], [1, 2]])
    with pytest.raises(UserError, match="keypoint 2"):
        mirror_swap(["a", "b"], [[0, 2]])


def test_jitter_turns_hue_and_scales_the_rest():
    image = np.array([[[120, 60, 60], [90, 90, 90]]], np.uint8)
    before = image.copy()
    jitter(image, PLAIN, np.random.default_rng(0))
    assert np.array_equal(image, before)

    class Fixed:
        def __init__(self, *values):
            self.values = np.array(values)

        def uniform(self, *_):
            return self.values

    turned = before.copy()
    jitter(turned, AugmentConfig(hue=1 / 3, saturation=0, value=0), Fixed(1, 0, 0))
    assert turned.tolist() == [[[60, 120, 60], [90, 90, 90]]]  # red to green, grey stays
    brighter = before.copy()
    jitter(brighter, AugmentConfig(hue=0, saturation=0, value=0.5), Fixed(0, 0, 1))
    assert brighter.tolist() == [[[180, 90, 90], [135, 135, 135]]]
    greyer = before.copy()
    jitter(greyer, AugmentConfig(hue=0, saturation=1, value=0), Fixed(0, -1, 0))
    assert greyer.tolist() == [[[80, 80, 80], [90, 90, 90]]]


def test_jitter_turns_the_hue_that_colorsys_measures():
    rng = np.random.default_rng(3)
    image = rng.integers(80, 160, (16, 16, 3)).astype(np.uint8)
    before = image.copy()

    class Fixed:
        def uniform(self, *_):
            return np.array([1.0, 0, 0])

    jitter(image, AugmentConfig(hue=0.05, saturation=0, value=0), Fixed())
    turns = []
    for old, new in zip(before.reshape(-1, 3), image.reshape(-1, 3), strict=True):
        a, saturation, _ = colorsys.rgb_to_hsv(*old / 255)
        b, *_ = colorsys.rgb_to_hsv(*new / 255)
        if saturation > 0.3:
            turns.append((b - a + 0.5) % 1 - 0.5)
    assert len(turns) > 50 and abs(np.mean(turns) - 0.05) < 0.005
