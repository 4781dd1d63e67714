"""RleMasks against dense arrays and pycocotools, and masks as a field of detections."""

import numpy as np
import pytest
import torch
from pycocotools import mask as reference

from detect.data.letterbox import Letterbox, in_source
from detect.masks import Field, Masks, RleMasks
from detect.types import Detections


def random_masks(seed=0, count=12, size=(17, 13)):
    """Blobs, noise, one empty, one full, one that fills whole columns, and the four corners alone."""
    rng = np.random.default_rng(seed)
    dense = rng.random((count, *size)) < rng.random((count, 1, 1))
    dense[:4] = False
    dense[1] = True
    dense[2, :, 3:5] = True
    dense[3, [0, 0, -1, -1], [0, -1, 0, -1]] = True
    dense[4, 5:9] = True
    return dense


def area_of(polygon):
    x, y = polygon.T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


@pytest.mark.parametrize("size", [(17, 13), (1, 9), (9, 1), (300, 200)])
def test_masks_are_packed_as_pycocotools_packs_them(size):
    dense = random_masks(size=size) if min(size) > 9 else random_masks()[:, : size[0], : size[1]]
    masks = RleMasks.of(dense)
    assert masks.size == size
    for i, mask in enumerate(dense):
        assert masks.counts[i] == reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert (masks.decode(i) == mask).all()
    assert masks.areas.tolist() == dense.sum((1, 2)).tolist()


def test_the_window_of_a_mask_is_its_bounding_box():
    dense = random_masks()
    for mask, (x, y, inside) in zip(dense, RleMasks.of(dense).windows(), strict=True):
        rebuilt = np.zeros_like(mask)
        rebuilt[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
        assert (rebuilt == mask).all()
        assert inside.size == 0 or (inside.any(0)[[0, -1]].all() and inside.any(1)[[0, -1]].all())


@pytest.mark.parametrize("runs", [[6, 0, 6], [0, 0, 5, 0, 7], [12], [0, 12], [3, 0, 2, 4, 3], [3, 2, 0, 4, 3]])
def test_runs_of_length_zero_are_read(runs):
    packed = reference.frPyObjects({"size": [3, 4], "counts": runs}, 3, 4)
    masks = RleMasks((3, 4), [packed["counts"]])
    x, y, inside = masks.window(0)
    dense = masks.decode(0)
    assert (dense[y : y + inside.shape[0], x : x + inside.shape[1]] == inside).all()
    assert inside.sum() == dense.sum() == masks.areas[0]


def test_masks_move_as_dense_arrays_do():
    dense = random_masks()
    masks = RleMasks.of(dense)
    mirrored = masks.mirrored()
    shifted = masks.shifted(-3, 4, (15, 20))
    canvas = np.zeros((len(dense), 15, 20), bool)
    canvas[:, 4:, :10] = dense[:, :11, 3:]
    union = masks.union([[5, 7, 2], [], [6]])
    for i, mask in enumerate(dense):
        assert (mirrored.decode(i) == mask[:, ::-1]).all()
        assert (shifted.decode(i) == canvas[i]).all()
    assert (union.decode(0) == dense[[5, 7, 2]].any(0)).all()
    assert union.areas.tolist()[1:] == [0, dense[6].sum()]


def test_iou_is_that_of_dense_arrays():
    one, two = random_masks(1), random_masks(2)[:5]
    both = (one[:, None] & two).sum((2, 3))
    either = (one[:, None] | two).sum((2, 3))
    assert RleMasks.of(one).iou(RleMasks.of(two)) == pytest.approx(both / np.maximum(either, 1))
    assert RleMasks.of(one).iou(RleMasks.of(two[:0])).shape == (len(one), 0)
    with pytest.raises(ValueError, match="cannot be compared"):
        RleMasks.of(one).iou(RleMasks.of(two[:, 1:]))


def test_polygons_follow_the_edges_of_pixels():
    mask = np.zeros((8, 9), bool)
    mask[1:4, 2:5] = True
    mask[3, 4:7] = True
    mask[6, 8] = True
    polygons = sorted(RleMasks.of(mask[None]).polygons(0), key=len)
    assert sorted(map(tuple, polygons[0].tolist())) == [(8, 6), (8, 7), (9, 6), (9, 7)]
    assert sorted(map(tuple, polygons[1].tolist())) == [(2, 1), (2, 4), (5, 1), (5, 3), (7, 3), (7, 4)]
    for seed in range(3):  # whatever the shape, the areas of the parts add up, but for the holes that they enclose
        noise = np.cumsum(np.random.default_rng(seed).random((12, 10)) < 0.3, 0) > 1
        assert sum(abs(area_of(p)) for p in RleMasks.of(noise[None]).polygons(0)) >= noise.sum()
    assert RleMasks.of(mask[None] & False).polygons(0) == []


def test_masks_are_chosen_by_index_mask_or_slice():
    masks = RleMasks.of(random_masks())
    kept = torch.arange(len(masks)) % 3 == 0
    assert masks[kept].counts == masks[kept.numpy()].counts == masks[::3].counts == masks[[0, 3, 6, 9]].counts
    assert masks[torch.tensor([2, 1])].counts == [masks.counts[2], masks.counts[1]]
    assert len(masks[torch.tensor([], dtype=torch.int64)]) == 0


@pytest.mark.parametrize("seed", range(6))
def test_masks_of_fields_are_the_pixels_above_zero_of_the_interpolated_logits(seed):
    rng = np.random.default_rng(seed)
    fields, dense = [], []
    for shape in [(1, 1), (1, 4), (5, 1), (6, 7), (9, 4)]:
        logits = rng.normal(size=shape).astype(np.float32)
        origin, step = rng.uniform(-6, 12, 2), rng.uniform(0.3, 7, 2)
        left, top = rng.integers(0, 20, 2)
        window = (left, top, left + rng.integers(0, 20), top + rng.integers(0, 12))
        fields.append(Field(logits, tuple(origin), tuple(step), window))
        y, x = ((np.arange(n) + 0.5 - o) / s for n, o, s in zip((32, 40), origin[::-1], step[::-1], strict=True))
        rows = np.stack([np.interp(x, np.arange(shape[1]), row) for row in logits])
        values = np.stack([np.interp(y, np.arange(shape[0]), column) for column in rows.T], 1)
        dense.append(np.zeros((32, 40), bool))
        dense[-1][top : window[3], left : window[2]] = values[top : window[3], left : window[2]] > 0
    assert RleMasks.of_fields((32, 40), fields).counts == RleMasks.of(np.stack(dense)).counts


class Everywhere(Masks):
    """The whole of each box."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Everywhere(len(range(self.count)[index]) if isinstance(index, slice) else int(index.sum()))

    def in_source(self, fit, boxes):
        windows = [(x, y, np.ones((y2 - y, x2 - x), bool)) for x, y, x2, y2 in boxes.round().int().tolist()]
        return RleMasks.of_windows(fit.source, windows)


def test_masks_of_detections_go_to_the_source_with_their_boxes():
    fit = Letterbox.fit((50, 100), 64)
    boxes = torch.tensor([[10.0, 20, 40, 30], [-50, 20, -10, 30], [0, 0, 200, 50]])
    found = Detections(fit.forward(boxes), torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3).long(), masks=Everywhere(3))
    moved = in_source(found, fit)
    assert isinstance(moved.masks, RleMasks)
    assert moved.masks.size == (50, 100)
    assert moved.masks.areas.tolist() == [300, 5000]
    assert moved[1:].masks.areas.tolist() == [5000]
    assert moved[torch.tensor([True, False])].masks.areas.tolist() == [300]


def test_a_mask_too_few_is_refused():
    with pytest.raises(ValueError, match="masks has 1 rows, boxes have 2"):
        Detections(torch.zeros(2, 4), torch.zeros(2), torch.zeros(2).long(), masks=Everywhere(1))
