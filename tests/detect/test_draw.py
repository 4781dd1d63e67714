"""Boxes and labels on images: where they are, that they read, and that no script becomes question marks."""

import itertools
import logging

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.inference import text_rendering as text
from detect.inference.draw import draw
from detect.inference.label_placement import CROWDED, HIDDEN, free_corner, overlap, place
from detect.inference.palette import color_of, ink_on
from detect.inference.text_rendering import render
from detect.types import Classification, Detections

GREY = 100
FIRST = [(255, 45, 45), (0, 240, 0), (15, 90, 255)]  # red, green, blue, in every run


def grey(height: int = 200, width: int = 300) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def one(box: list[float], label: int = 0, **more) -> Detections:
    return Detections(torch.tensor([box]).float(), torch.tensor([0.87]), torch.tensor([label]), **more)


def where(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (image == color).all(axis=2)


def test_the_box_is_drawn_on_its_edges_and_the_source_stays() -> None:
    image = grey()
    drawn = draw(image, one([50, 80, 150, 160]), ["person"])
    assert (image == GREY).all() and drawn.shape == image.shape and drawn.dtype == np.uint8
    lines = where(drawn, color_of(0))
    assert lines[159, 50:150].all() and lines[80:160, 50].all() and lines[80:160, 149].all()
    assert (drawn[90:150, 60:140] == GREY).all(), "the inside stays free"
    assert (drawn[170:, :] == GREY).all() and (drawn[:, 200:] == GREY).all()


def test_nothing_found_changes_nothing() -> None:
    assert np.array_equal(draw(grey(), Detections.none(), []), grey())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.data())
def test_labels_stay_inside_the_image_of_any_size(height: int, width: int, data: st.DataObject) -> None:
    x = sorted(data.draw(st.lists(st.floats(0, width), min_size=2, max_size=2)))
    y = sorted(data.draw(st.lists(st.floats(0, height), min_size=2, max_size=2)))
    image = draw(grey(height, width), one([x[0], y[0], x[1], y[1]]), ["a long class name"])
    assert image.shape == (height, width, 3)
    assert (image != GREY).any()


@pytest.mark.parametrize("box", [[1250, 2, 1299, 60], [0, 0, 1300, 900], [1280, 890, 1300, 900]])
def test_a_label_at_the_edge_is_whole(box: list[int]) -> None:
    def ink(image: np.ndarray) -> int:
        return int(where(image, (ink_on(color_of(0)),) * 3).sum())

    free = draw(grey(900, 1300), one([600, 600, 601, 601]), ["person"])
    assert ink(draw(grey(900, 1300), one(box), ["person"])) == ink(free) > 100


def test_colours_are_stable_and_apart() -> None:
    assert [color_of(i) for i in range(3)] == [color_of(i + 128) for i in range(3)] == FIRST
    lab = cv2.cvtColor(np.array([[color_of(i) for i in range(20)]], np.float32) / 255, cv2.COLOR_RGB2Lab)[0]
    near = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))
    assert near > 30, "CIE76; 2.3 is the least that can be told"


@pytest.mark.parametrize("index", range(40))
def test_label_ink_reads_on_its_colour(index: int) -> None:
    def luminance(color: tuple[int, ...]) -> float:
        c = np.array(color) / 255
        return float(np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92) @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(color_of(index)), luminance((ink_on(color_of(index)),) * 3)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5, "WCAG 2, level AA"


def test_keypoints_and_limbs() -> None:
    points = torch.tensor([[[100.0, 100, 2], [200, 100, 1], [150, 180, 0]]])
    image = draw(grey(), one([50, 60, 250, 190], keypoints=points), ["p"], [(0, 1), (1, 2)])
    assert (image[100, 110:190] != GREY).any(axis=1).all(), "a limb between visible points"
    assert (image[180, 150] == GREY).all() and (image[140, 175] == GREY).all(), "none to one that is not"


def test_a_track_number_is_in_the_label_and_chooses_the_colour() -> None:
    with_track = draw(grey(), one([50, 80, 150, 160], tracks=torch.tensor([7])), ["p"])
    assert where(with_track, color_of(7)).sum() > where(draw(grey(), one([50, 80, 150, 160]), ["p"]), color_of(0)).sum()


def test_a_label_beyond_the_names_is_its_number() -> None:
    assert (draw(grey(), one([50, 80, 150, 160], label=9), ["p"]) != GREY).any()


def many(count: int, side: int, room: int, labels: int = 1, **more) -> Detections:
    """Boxes of `side` px in random places of an image of `room` px."""
    corners = torch.from_numpy(np.random.default_rng(0).integers(0, room - side, (count, 2))).float()
    scores, classes = torch.linspace(0.9, 0.3, count), torch.arange(count) % labels
    return Detections(torch.cat([corners, corners + side], 1), scores, classes, **more)


@given(st.lists(st.tuples(st.integers(0, 280), st.integers(0, 180)), min_size=1, max_size=12), st.data())
@settings(max_examples=60)
def test_placed_labels_are_inside_and_hide_little_of_one_another(corners: list, data: st.DataObject) -> None:
    boxes = [(x, y, x + 20, y + 20) for x, y in corners]
    sizes = [data.draw(st.tuples(st.integers(1, 60), st.integers(1, 20))) for _ in boxes]
    found = place(boxes, sizes, (300, 200), 2)
    if found is None:
        return
    for (left, top, right, bottom), (w, h) in zip(found, sizes, strict=True):
        assert min(left, top) >= 0 and right <= 300 and bottom <= 200 and (right - left, bottom - top) == (w, h)
    hidden = sum(overlap(a, b) for a, b in itertools.combinations(found, 2))
    assert hidden <= HIDDEN * sum(w * h for w, h in sizes) and sum(w * h for w, h in sizes) <= CROWDED * 60000


def test_a_label_is_above_its_box_and_gives_way_to_a_better_one() -> None:
    box, size = (100, 100, 200, 150), (60, 20)
    assert place([box], [size], (400, 300), 2) == [(99, 79, 159, 99)]
    first, second = place([box, box], [size, size], (400, 300), 2) or [box, box]
    assert first == (99, 79, 159, 99) and overlap(first, second) == 0
    assert place([box] * 9, [size] * 9, (400, 300), 2) is None, "nine labels of one box"
    assert place([box], [(200, 100)], (400, 300), 2) is None, "a label that covers a sixth of the image"


def test_overlaps_of_rectangles() -> None:
    assert overlap((0, 0, 10, 10), (5, 8, 20, 20)) == 10 == overlap((5, 8, 20, 20), (0, 0, 10, 10))
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0 == overlap((0, 0, 10, 10), (0, 30, 20, 40))


def test_a_legend_goes_where_it_hides_fewest_boxes() -> None:
    assert free_corner([], (50, 20), (300, 200)) == (250, 0)
    right, left = [(200, 0, 300, 100)], [(0, 0, 80, 80)]
    assert free_corner(right, (50, 20), (300, 200)) == (0, 0)
    assert free_corner(right + left, (50, 20), (300, 200)) == (250, 180)


def test_some_boxes_have_full_labels_more_have_small_ones_a_crowd_has_a_legend() -> None:
    def colored(count: int, room: int, labels: int) -> np.ndarray:
        side = 20 if count > 1 else 80
        return draw(grey(room, room), many(count, side, room, labels), ["apple", "pear"])

    letters = {int(color[0]) for color in np.unique(colored(1, 300, 1).reshape(-1, 3), axis=0)}
    assert {255, GREY} <= letters, "full labels are opaque"
    crowd = colored(300, 300, 2)
    boxes = draw(grey(300, 300), many(300, 20, 300, 2), ["apple", "pear"], hide_labels=True)
    changed = (crowd != boxes).any(2)
    assert 0.02 < changed.mean() < 0.5, "numbers, and a legend in a corner"
    whole = colored(300, 300, 1) != draw(grey(300, 300), many(300, 20, 300), ["apple"], hide_labels=True)
    rows, columns = np.nonzero(whole.any(2))
    assert np.ptp(rows) < 40 and np.ptp(columns) < 120, "one class needs no numbers, only the legend"
    assert {0, 299} & {rows.min(), rows.max()} and {0, 299} & {columns.min(), columns.max()}, "in a corner"


def test_small_boxes_have_thin_lines_unless_a_width_is_given() -> None:
    dots, given = draw(grey(), many(5, 8, 200), ["p"], hide_labels=True), {"line_width": 3, "hide_labels": True}
    assert 0 < (dots != GREY).any(2).sum() < (draw(grey(), many(5, 8, 200), ["p"], **given) != GREY).any(2).sum()


def test_labels_and_scores_can_be_hidden() -> None:
    box = one([50, 80, 150, 160])
    full, names, boxes = (draw(grey(), box, ["p"], **how) for how in ({}, {"hide_conf": True}, {"hide_labels": True}))
    bars = [int(where(picture, color_of(0)).sum()) for picture in (full, names, boxes)]
    assert bars[0] > bars[1] > bars[2] and (boxes[:78] == GREY).all()
    assert np.array_equal(box.plot(grey(), hide_labels=True), boxes)
    classes = Classification(torch.tensor([0.9]), torch.tensor([0]), names=["p"])
    assert (classes.plot(grey()) != classes.plot(grey(), hide_conf=True)).any()
    assert (classes.plot(grey(), hide_labels=True) == GREY).all()


@pytest.mark.parametrize("side", [1, 16, 64])
def test_tiny_images_keep_most_of_their_pixels(side: int) -> None:
    picture = draw(
        grey(side, side), many(1, side // 2, side, names=["elephant"]) if side > 1 else one([0, 0, 1, 1]), []
    )
    assert picture.shape == (side, side, 3)
    assert side < 64 or (picture == GREY).all(2).mean() > 0.6


SCRIPTS = [
    "person",
    "žluťoučký kůň",
    "사람",
    "行人",
    "カタカナ",
    "سيارة",
    "עברית",
    "व्यक्ति",
    "คน",
    "Ελληνικά",
    "x̂",
    "😀",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_is_drawn_as_question_marks(name: str, caplog: pytest.LogCaptureFixture) -> None:
    render.cache_clear()
    text._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        mask = render(name, 24)
    letters = len(name)
    assert mask.max() == 255 and mask.shape[0] == render("a", 24).shape[0]
    assert not any(np.array_equal(mask, render("?" * n, 24)) for n in range(1, letters + 1))
    if caplog.records:  # no font here has it: then its codes are shown, and it is said
        assert name in caplog.text and mask.shape[1] > letters * 24


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has no font for Hangul of its own")
@pytest.mark.parametrize("name", ["사람", "行人汽车", "žluťoučký", "Ελληνικά", "Русский"])
def test_opencv_5_needs_no_font_of_the_system(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text._font_for.cache_clear()
    monkeypatch.setattr(text, "_system_fonts", list)
    assert all(font is text._default() for font, _ in text._fonts(name))


def test_without_any_font_accents_are_dropped_and_the_rest_is_spelt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on OpenCV 4 in a bare container: Pillow's own font has ASCII only."""
    latin = text._Pillow(None)
    monkeypatch.setattr(text, "_system_fonts", list)
    monkeypatch.setattr(text, "_default", lambda: latin)
    caches = (text._font_for, text._plain, text._warn, render)
    for cache in caches:
        cache.cache_clear()
    try:
        assert "".join(part for _, part in text._fonts("aű 사")) == "au \\uc0ac"
        assert render("aű 사", 20).any()
    finally:
        for cache in caches:
            cache.cache_clear()


def test_no_text_and_control_characters() -> None:
    assert render("", 20).shape == (26, 0)
    assert np.array_equal(render("a\nb", 20), render(r"a\nb", 20))
