"""Alignment: similarities, mean shapes, views of images, and looking again."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detect.cli.parser import parse
from detect.data.alignment import Pose, mean_shape, nearest
from detect.inference.landmark_refiner import LandmarkRefiner
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.keypoints import around, seen
from detect.models.weights import save_weights
from detect.types import Detections, Frame, Postprocess
from tests.reference.align import brought, turned
from tools import closer

TRIANGLE = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.8]])
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
places = arrays.arrays(np.float64, (5, 2), elements=st.floats(-50, 50, width=16))
angles, sizes = st.floats(-3, 3), st.floats(0.05, 20)
shifts = st.tuples(st.floats(-99, 99), st.floats(-99, 99))


def sure(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, np.ones(len(points))])


def apart(points: np.ndarray) -> bool:
    return points.std(0).max() > 1


@given(places, angles, sizes, shifts)
def test_a_similarity_is_found_again_whatever_is_hidden(points, angle, size, shift):
    assume(apart(points[:3]))
    found = sure(turned(points, angle, size, shift))
    found[3:] = [[1e4, -1e4, 0.1]] * 2  # not there: wherever they are said to be does not matter
    pose = Pose.of(found, points)
    got = [pose.turn * complex(x, y) + pose.shift for x, y, _ in found[:3]]
    assert np.allclose([[z.real, z.imag] for z in got], points[:3], atol=1e-6)


@settings(max_examples=25)
@given(places, places)
def test_the_nearest_is_that_of_the_naive_twin(points, shape):
    assume(apart(points) and apart(shape))
    z, m = points @ [1, 1j], shape @ [1, 1j]
    turn, shift = nearest(z[None], np.ones((1, 5), bool), m)
    got = turn * z + shift
    expected = brought(points, shape) @ [1, 1j]
    assert np.sum(np.abs(got - m) ** 2) <= np.sum(np.abs(expected - m) ** 2) + 1e-6
    assert np.std(got) == pytest.approx(np.std(m))


def test_the_mean_shape_of_copies_is_the_shape_of_mean_size_place_and_angle():
    rng = np.random.default_rng(0)
    turns = [(a, s, tuple(rng.uniform(-0.1, 0.1, 2))) for a, s in ((-0.4, 0.5), (0.4, 2.0), (0.1, 0.8), (-0.1, 1.25))]
    copies = np.stack([turned(TRIANGLE, *turn) for turn in turns])
    there = np.ones((4, 3), bool)
    got = mean_shape(copies, there)
    turn, _ = nearest(got[None] @ [1, 1j], there[:1], TRIANGLE @ [1, 1j])
    assert abs(turn[0]) == pytest.approx(1) and np.angle(turn[0]) == pytest.approx(0, abs=1e-6)
    assert np.allclose(got.mean(0), copies.mean((0, 1)), atol=0.05)
    there[0, 2] = False
    copies[0, 2] = 1e6
    again = mean_shape(copies, there)
    assert np.allclose(again, got, atol=0.1)


def test_without_two_points_there_is_no_shape():
    none = np.zeros((0, 2))
    assert np.array_equal(mean_shape(np.zeros((0, 3, 2)), np.zeros((0, 3), bool)), none)
    assert np.array_equal(mean_shape(np.ones((4, 3, 2)), np.ones((4, 3), bool)), none)
    assert np.array_equal(mean_shape(np.ones((4, 1, 2)), np.ones((4, 1), bool)), none)
    assert np.array_equal(mean_shape(TRIANGLE[None], np.array([[True, False, False]])), none)
    got = mean_shape(TRIANGLE[None], np.array([[True, True, False]]))
    assert np.allclose(got[:2], TRIANGLE[:2]) and np.allclose(got[2], TRIANGLE[:2].mean(0))


def test_a_view_has_the_points_where_the_shape_has_them():
    canvas = np.zeros((120, 160, 3), np.uint8)
    points = turned(TRIANGLE, 0.5, 60, (70, 10))
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(canvas, (round(x), round(y)), 3, colour, -1)
    pose = Pose.of(sure(points), TRIANGLE)
    side, view = pose.side(canvas), pose.view(canvas)
    assert side == 60 and view.shape == (60, 60, 3)
    assert np.allclose(centres(view), TRIANGLE * side, atol=1)
    assert np.allclose(pose.undo(sure(TRIANGLE * side), side)[:, :2], points)


def centres(image: np.ndarray) -> np.ndarray:
    """(3, 2) where the red, green and blue of an image are."""
    spots = [np.argwhere((image[..., i] > 128) & (image.sum(-1) < 400)) for i in range(3)]
    return np.stack([spot.mean(0)[::-1] + 0.5 for spot in spots])


def test_the_pose_that_changes_nothing_gives_the_image_itself():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    assert np.abs(Pose(1 / 20, 0).view(image).astype(int) - image).max() <= 1


def test_points_on_one_another_have_no_view():
    image = np.zeros((20, 30, 3), np.uint8)
    for points in (np.full((3, 3), 5.0), np.full((3, 3), np.nan), sure(TRIANGLE * 1e4)):
        assert Pose.of(points, TRIANGLE).side(image) == 0


def test_a_view_is_not_much_larger_than_its_image():
    def side(long: int, size: float) -> int:
        return Pose.of(sure(TRIANGLE * size), TRIANGLE).side(np.broadcast_to(np.uint8(0), (20, long, 3)))

    assert side(400, 390) == 390 and side(400, 1000) == 1000 and side(400, 1500) == 1024 and side(400, 1700) == 0
    assert side(5000, 7000) == 5000 and side(5000, 30) == 30 and side(40000, 30) == 0


def test_of_points_that_are_unlikely_all_count():
    assert seen(np.array([0.4, 0.5, 0.6])).tolist() == [False, True, True]
    assert seen(np.array([0.1, 0.2])).tolist() == [True, True] and seen(np.zeros(0)).shape == (0,)
    assert around(torch.tensor([[1.0, 2, 0.9], [5, 0, 0.8], [99, 99, 0.1]])).tolist() == [1, 0, 5, 2]


class Half:
    """Says that the points lie halfway between where they do and where they lie on average; first of all in places."""

    def __init__(self, *lost: int) -> None:
        self.lost, self.looks = lost, 0

    def __call__(self, frames):
        for frame in frames:
            self.looks += 1
            if self.looks - 1 in self.lost:
                yield frame, Detections.none()
                continue
            height, width = frame.image.shape[:2]
            points = (centres(frame.image) + TRIANGLE * [width, height]) / 2
            row = torch.from_numpy(sure(points)).float()
            yield frame, Detections(around(row)[None], torch.tensor([0.7]), torch.zeros(1).long(), row[None])


class Beyond:
    """Sees nothing but what lies to the right of every image."""

    def __call__(self, frames):
        for frame in frames:
            row = torch.from_numpy(sure(TRIANGLE * 40 + [1000, 10])).float()
            yield frame, Detections(around(row)[None], torch.tensor([0.7]), torch.zeros(1).long(), row[None])


@pytest.fixture
def spots():
    canvas = np.zeros((200, 200, 3), np.uint8)
    points = turned(TRIANGLE, 0.3, 120, (70, 30))
    for (x, y), colour in zip(points, COLOURS, strict=True):
        cv2.circle(canvas, (round(x), round(y)), 6, colour, -1)
    return Frame(canvas, "p"), points


def test_each_look_corrects_the_one_before(spots):
    frame, points = spots
    errors = []
    for count in (1, 2, 3):
        ((same, found),) = LandmarkRefiner(Half(), TRIANGLE, Postprocess(), count)([frame])
        assert same is frame
        errors.append(np.abs(found.keypoints[0, :, :2].numpy() - points).mean())
        assert torch.allclose(found.boxes[0], around(found.keypoints[0]), atol=1e-4)
    assert errors[1] < 0.7 * errors[0] and errors[2] < 0.7 * errors[1]


@pytest.mark.parametrize(("lost", "count"), [((0,), 0), ((1,), 1), ((2,), 1)])
def test_a_look_that_finds_nothing_leaves_what_was_found(spots, lost, count):
    ((_, found),) = LandmarkRefiner(Half(*lost), TRIANGLE, Postprocess())([spots[0]])
    assert len(found) == count


def test_what_leaves_the_image_is_not_found(spots):
    ((_, found),) = LandmarkRefiner(Beyond(), TRIANGLE, Postprocess())([spots[0]])
    assert len(found) == 0


def test_the_last_look_says_how_sure_it_is(spots):
    ((_, found),) = LandmarkRefiner(Half(), TRIANGLE, Postprocess(0.8))([spots[0]])
    assert len(found) == 0 and list(LandmarkRefiner(Half(), TRIANGLE, Postprocess())([])) == []


def test_the_tool_shows_a_window_whole_or_moved():
    plain = closer.pose((10, 20, 50, 100), None)
    assert plain.turn == pytest.approx(1 / 80) and plain.shift == pytest.approx(complex(0.125, -0.25))
    rng = np.random.default_rng(0)
    for _ in range(20):
        moved = closer.pose((10, 20, 50, 100), rng)
        middle = moved.turn * (30 + 60j) + moved.shift
        assert 0.6 / 80 <= abs(moved.turn) <= 1 / 80 and abs(np.angle(moved.turn)) <= np.deg2rad(25)
        assert max(abs(middle.real - 0.5), abs(middle.imag - 0.5)) <= 0.12


def test_the_tool_measures_each_number_of_looks(tmp_path, capsys):
    (tmp_path / "val").mkdir()
    frame = np.zeros((80, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "val" / "a.png"), frame)
    cv2.imwrite(str(tmp_path / "val" / "b.png"), frame)
    rows = ["file,x0,y0,x1,y1", "a.png,20,40,60,40", "b.png,10,40,50,44"]
    (tmp_path / "val.csv").write_text("\n".join(rows) + "\n")
    config = parse("train", ["--data", "toy", "--model", "landmarker", "--model.width", "16"]).model
    metadata = ModelMetadata(
        ["thing"], [1], size=64, keypoint_names=["point_0", "point_1"], shape=[[0.25, 0.5], [0.75, 0.5]]
    )
    save_weights(tmp_path / "w.safetensors", build(config, metadata))
    save_weights(
        tmp_path / "none.safetensors",
        build(config, ModelMetadata(["thing"], [1], size=64, keypoint_names=metadata.keypoint_names)),
    )
    asked = ["--weights", str(tmp_path / "w.safetensors"), "--data", str(tmp_path)]
    assert not closer.main(asked)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and [line.split(" | ")[0] for line in lines[2:]] == ["| 1", "| 2", "| 3", "| 4"]
    for wrong, said in (
        ([*asked, "--every", "0"], "--every 0"),
        (["--weights", str(tmp_path / "none.safetensors")], "is no landmarker"),
    ):
        assert closer.main([*wrong, *asked[2:]]) == 2
        assert said in capsys.readouterr().err
