"""What is measured of tracks: speeds in pixels and metres, times in zones, points of boxes, heat maps."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detect.__main__ import main
from detect.config.tracking import MotionConfig
from detect.errors import UserError
from detect.inference.output_folder import OutputFolder, OutputPaths
from detect.tracking.annotate import draw_tracks
from detect.tracking.counting import Line, Zone
from detect.tracking.heatmap import HeatmapSink, heat_over
from detect.tracking.motion import SpeedMeter, homography, on_ground, points_of
from detect.tracking.video_tracker import VideoTracker
from detect.types import Detections, Frame

SQUARE = [[0, 0, 100, 0, 100, 100, 0, 100]]


def walker(tracker, frames, rate=10.0, step=4.0, timed=True):
    """The results of a box of 20 x 40 pixels that walks right from x = 0."""
    image, found = np.zeros((120, 400, 3), np.uint8), []
    for i in range(frames):
        box = torch.tensor([[step * i, 20, step * i + 20, 60]])
        detections = Detections(box, torch.tensor([0.9]), torch.tensor([0]))
        frame = Frame(image, "a.mp4", i, i / rate) if timed else Frame(image, f"x/{i}.png")
        found.append(tracker(frame, detections))
    return found


@pytest.mark.parametrize(
    ("point", "place"),
    [
        ("center", [15, 30]),
        ("bottom", [15, 40]),
        ("top", [15, 20]),
        ("left", [10, 30]),
        ("right", [20, 30]),
        ("bottom_left", [10, 40]),
        ("top_right", [20, 20]),
    ],
)
def test_points_of_a_box(point, place):
    assert points_of(np.array([[10.0, 20, 20, 40]]), point).tolist() == [place]


def test_speed_is_the_way_over_a_second_by_the_time():
    found = walker(VideoTracker(0.5, ["a"], motion=MotionConfig(speed=True)), 20)
    speeds = [one.speeds[0].item() for one in found]
    assert np.isnan(speeds[:2]).all() and speeds[2:] == pytest.approx([40] * 18, abs=1e-3)
    assert "speed" not in found[0].records()[0] and found[2].records()[0]["speed"] == pytest.approx(40, abs=1e-3)
    assert found[5].columns()["speed"].tolist() == pytest.approx([40], abs=1e-3)
    untimed = walker(VideoTracker(0.5, ["a"], motion=MotionConfig(speed=True)), 5, timed=False)
    assert np.isnan(untimed[-1].speeds[0].item())
    paced = walker(VideoTracker(0.5, ["a"], motion=MotionConfig(speed=True, fps=5)), 5, timed=False)
    assert paced[-1].speeds[0].item() == pytest.approx(20, abs=1e-3)


def test_speeds_remember_one_second_and_only_tracks_that_go_on():
    meter = SpeedMeter()
    for i in range(1000):
        speed = meter.update(1, (i, 0), i / 100)
    assert speed == pytest.approx(100) and len(meter.seen[1]) <= 102
    assert np.isnan(meter.update(1, (0, 0), 9.0))  # time that does not advance
    meter.keep({2})
    assert meter.seen == {}


@given(st.lists(st.floats(0.2, 2), min_size=9, max_size=9), st.floats(0, 500), st.floats(0, 500))
def test_a_homography_is_found_from_four_places(values, x, y):
    """A plane seen from above at a slant: what four of its places give is the same as the matrix itself."""
    a, b, c, d, e, f, g, h, _ = values
    matrix = np.array([[a + 3, b, c], [d, e + 3, f], [g / 1000, h / 1000, 1]])
    corners = np.array([[0.0, 0], [640, 0], [640, 480], [0, 480]])
    rows = np.hstack([corners, on_ground(corners, matrix)])
    found = homography(rows.tolist())
    assert on_ground(np.array([[x, y]]), found) == pytest.approx(on_ground(np.array([[x, y]]), matrix), abs=1e-4)


def test_metres_by_four_places_and_nothing_beyond_the_horizon():
    # A road of 4 m whose borders meet at y = 100.
    places = [[200, 500, 0, 0], [600, 500, 4, 0], [300, 300, 0, 10], [500, 300, 4, 10]]
    matrix = homography(places)
    assert on_ground(np.array([[400.0, 500]]), matrix) == pytest.approx(np.array([[2, 0]]), abs=1e-6)
    assert np.isnan(on_ground(np.array([[400.0, 50]]), matrix)).all()
    motion = MotionConfig("bottom", True, [[0.1, 0, 0], [0, 0.1, 0], [0, 0, 1]])
    tracker = VideoTracker(0.5, ["a"], motion=motion)
    assert walker(tracker, 15)[-1].speeds[0].item() == pytest.approx(4, abs=1e-3)
    assert list(tracker.notes.values()) == ["4.0 m/s"]


@pytest.mark.parametrize(
    "rows",
    [[[1, 2, 3]], [[0, 0, 0, 0]] * 4, [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [0, 1, 0, 1]], [[1, 2, 3]] * 3],
)
def test_a_homography_that_is_none_is_named(rows):
    with pytest.raises(UserError, match="--homography"):
        homography(rows)


def test_time_in_a_zone_is_summed_up_by_class():
    tracker = VideoTracker(0.5, ["a"], zones=SQUARE)
    found = walker(tracker, 40)  # its centre is inside until x = 100, in frame 22
    assert found[10].dwell.tolist() == [pytest.approx([1.0])] and found[-1].dwell[0, 0].item() == pytest.approx(2.2)
    assert found[10].records()[0]["dwell"] == [1.0]
    (zone,) = tracker.counts()["a.mp4"]
    assert zone["dwell"] == {"a": {"mean": 2.2, "longest": 2.2}} and zone["entered"] == {"a": 1}
    assert walker(VideoTracker(0.5, ["a"], zones=SQUARE), 3, timed=False)[-1].dwell is None


def test_a_zone_forgets_tracks_that_ended_but_not_their_times():
    zone, line = Zone([(0, 0), (10, 0), (10, 10), (0, 10)]), Line((5, 0), (5, 10))
    for track in range(1000):
        for seconds in (0, 1 + track % 2):
            zone.update(track, "a", (5, 5), track + seconds)
        line.update(track, "a", (1, 1))
        for place in (zone, line):
            place.keep({track})
    assert len(zone.stays) == len(line.last) == 1 and zone.entered == {"a": 1000}
    assert zone.counts()["dwell"] == {"a": {"mean": 1.5, "longest": 2}}
    zone.update(5000, "a", (5, 5), 0.0)
    zone.update(5000, "a", (50, 5), 1.0)
    assert zone.update(5000, "a", (5, 5), 2.0) == 0  # it was outside in between
    assert zone.update(5000, "a", (5, 5), 4.0) == 2


@pytest.mark.parametrize(("point", "crossed"), [("center", 0), ("bottom", 1)])
def test_lines_are_crossed_by_the_point_that_is_asked_for(point, crossed):
    tracker = VideoTracker(0.5, ["a"], lines=[[50, 50, 50, 70]], motion=MotionConfig(point))
    walker(tracker, 20)  # its centre is at y = 40, its feet at y = 60
    (line,) = tracker.counts()["a.mp4"]
    assert sum([*line["right"].values(), *line["left"].values()]) == crossed


def test_notes_of_tracks_that_meet_do_not_hide_one_another():
    notes = {(60.0, 50.0): "12 px/s", (62.0, 52.0): "13 px/s", (58.0, 51.0): "4.1 s", (1.0, 99.0): "0.3 s"}
    image, alone = np.full((100, 120, 3), 90, np.uint8), 0
    draw_tracks(image, {}, [], notes)
    for point, text in notes.items():
        one = np.full_like(image, 90)
        draw_tracks(one, {}, [], {point: text})
        alone += int((one != 90).all(axis=2).sum())
    assert int((image != 90).all(axis=2).sum()) == alone


def test_a_heat_map_is_hot_where_tracks_were(tmp_path):
    tracker, folder = VideoTracker(0.5, ["a"], motion=MotionConfig("bottom")), OutputFolder(tmp_path)
    sink = HeatmapSink(OutputPaths(folder), tracker)
    image = np.full((120, 400, 3), 90, np.uint8)
    for i in range(10):
        box = Detections(torch.tensor([[100.0, 20, 140, 60]]), torch.tensor([0.9]), torch.tensor([0]))
        frame = Frame(image, "a.mp4", i, i / 10)
        sink.write(frame, tracker(frame, box), image)
    sink.close()
    folder.close()
    shown = cv2.imread(str(tmp_path / "a-heatmap.png"))
    assert shown.shape == image.shape and shown[110, 390].tolist() == [90, 90, 90]
    assert shown[60, 120, 2] > shown[60, 120, 0] + 50  # red, in the order of OpenCV
    assert (heat_over(image, np.zeros((30, 100), np.float32)) == 90).all()


def test_the_command_measures_and_draws(served_weights, tmp_path, monkeypatch, capsys):
    for i in range(6):
        frame = np.zeros((96, 160, 3), np.uint8)
        cv2.rectangle(frame, (8 + 10 * i, 10), (28 + 10 * i, 30), (255, 255, 255), -1)
        cv2.imwrite(str(tmp_path / f"{i}.png"), frame)

    def square(self, frames):
        for frame in frames:
            x = 8.0 + 10 * frame.part
            yield frame, Detections(torch.tensor([[x, 10, x + 20, 30]]), torch.tensor([0.9]), torch.tensor([0]))

    monkeypatch.setattr("detect.inference.predictor.Predictor.__call__", square)
    out, places = tmp_path / "out", "[[0,0,0,0],[160,0,16,0],[160,96,16,9.6],[0,96,0,9.6]]"
    flags = [
        *f"--weights {served_weights} --device cpu --precision float32".split(),
        "--source",
        str(tmp_path),
        "--out",
        str(out),
    ]
    asked = ["--track", "--speed", "--fps", "10", "--heatmap", "--homography", places, "--zones", str(SQUARE)]
    assert main(["predict", *flags, *asked]) == 0
    records = json.loads((out / "detections.json").read_text())
    assert records[-1]["speed"] == pytest.approx(10, abs=0.01) and records[-1]["dwell"] == [0.5]
    assert json.loads((out / "counts.json").read_text())["."][0]["dwell"]["cat"]["mean"] == 0.5
    assert (out / "heatmap.png").is_file()
    for unread, why in ((["--speed"], "with --track alone"), (["--track", "--homography", places], "with --speed")):
        assert main(["predict", *flags, *unread]) == 2
        assert why in capsys.readouterr().err
