"""Large images in tiles: what is planted is found as in the whole image, each thing once."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.inference.predictor import Predictor
from detect.inference.tiles import OVERLAP, TiledPredictor, merge_tiles, tile_places
from detect.types import Detections, Frame, Postprocess
from tests.reference.planted import MAGENTA, ThingFinder

SIDE = 160


def tiled() -> TiledPredictor:
    return TiledPredictor(Predictor(ThingFinder(), SIDE, batch=4), SIDE, Postprocess())


def scene(height: int, width: int, boxes: list[tuple[int, int, int, int]]) -> Frame:
    image = np.full((height, width, 3), 90, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2] = MAGENTA
    return Frame(image, "x")


def rows(found: Detections) -> list[list[float]]:
    return sorted(found.boxes.tolist())


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int, int]]]:
    """An image larger than a tile and things in it, 24 pixels apart at least: they stay apart in the small whole."""
    height, width = draw(st.integers(100, 500)), draw(st.integers(SIDE + 1, 640))
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(draw(st.integers(0, 12))):
        longest = draw(st.sampled_from([40, 90, 300, 640]))
        w, h = (draw(st.integers(12, min(n, longest) - 1)) for n in (width, height))
        x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
        if all(x - 24 >= b[2] or b[0] >= x + w + 24 or y - 24 >= b[3] or b[1] >= y + h + 24 for b in boxes):
            boxes.append((x, y, x + w, y + h))
    return height, width, boxes


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_tiles_find_what_the_whole_image_shows(planted: tuple[int, int, list[tuple[int, int, int, int]]]) -> None:
    height, width, boxes = planted
    frame = scene(height, width, boxes)
    ((back, found),) = tiled()([frame])
    ((_, whole),) = Predictor(ThingFinder(), max(height, width))([frame])
    assert back is frame and rows(found) == rows(whole) == sorted([float(v) for v in box] for box in boxes)
    assert found.scores.tolist() == pytest.approx([0.9] * len(boxes)) and found.labels.eq(1).all()


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 640))
def test_tiles_cover_the_image_and_overlap(height: int, width: int, side: int) -> None:
    whole, *parts = tile_places(height, width, side).tolist()
    assert whole == [0, 0, width, height]
    assert bool(parts) == (max(height, width) > side)
    for low, length in ((0, width), (1, height)) if parts else ():
        spans = sorted({(part[low], part[low + 2]) for part in parts})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(b - a == min(side, length) for a, b in spans)
        assert all(before[1] - after[0] >= OVERLAP * side for before, after in itertools.pairwise(spans))


def test_a_small_image_goes_through_as_it_is() -> None:
    frame = scene(100, 150, [(10, 10, 40, 60)])
    ((_, one),), ((_, other),) = (p([frame]) for p in (tiled(), Predictor(ThingFinder(), SIDE)))
    assert torch.equal(one.boxes, other.boxes) and len(one) == 1


def test_no_frames_and_nothing_found() -> None:
    assert list(tiled()([])) == []
    ((_, found),) = tiled()([scene(300, 300, [])])
    assert len(found) == 0 and found.boxes.shape == (0, 4)


def test_sides_are_those_of_the_surest_view_that_shows_them() -> None:
    places = np.array([[0, 0, 300, 100], [0, 0, 160, 100], [140, 0, 300, 100]])
    left, right = torch.tensor([[50.0, 20, 160, 80]]), torch.tensor([[140.0, 22, 250, 81]])
    none, label = Detections.none(), torch.zeros(1).long()
    parts = [none, Detections(left, torch.tensor([0.6]), label), Detections(right, torch.tensor([0.8]), label)]
    found = merge_tiles(parts, places, 1.0)
    assert found.boxes.tolist() == [[50, 22, 250, 81]]
    assert found.scores.tolist() == pytest.approx([0.8])


def test_neighbours_of_one_view_and_things_of_two_classes_stay_apart() -> None:
    places = np.array([[0, 0, 300, 100], [0, 0, 160, 100], [100, 0, 300, 100]])
    near = torch.tensor([[105.0, 20, 145, 60], [110, 22, 150, 62]])
    score, label = torch.tensor([0.9, 0.8]), torch.zeros(2).long()
    twice = [Detections.none(), *[Detections(near, score, label)] * 2]
    assert rows(merge_tiles(twice, places, 1.0)) == near.tolist()
    other = [twice[0], twice[1], Detections(near, score, label + 1)]
    assert len(merge_tiles(other, places, 1.0)) == 4
