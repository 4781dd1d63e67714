"""Tracks: the filter, ByteTrack's matching, trails, lines and zones, the command."""

import dataclasses
import json
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch

from detect.__main__ import main
from detect.api import Detector
from detect.config.constraints import check
from detect.config.tracking import MotionConfig, TrackConfig
from detect.errors import UserError
from detect.inference.box_embedder import BoxEmbedder
from detect.inference.predictor import Predictor
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.models.configs.embedder import EmbedderConfig
from detect.models.weights import save_weights
from detect.registry import REGISTRIES, Registry, register
from detect.tracking.bytetrack import ByteTrack
from detect.tracking.counting import Line, Zone
from detect.tracking.video_tracker import VideoTracker
from detect.types import Detections, Frame


def found(*rows, labels=None):
    """Detections from rows x, y, w, h, score."""
    values = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    boxes = torch.cat([values[:, :2], values[:, :2] + values[:, 2:4]], dim=1)
    return Detections(boxes, values[:, 4], torch.tensor(labels or [0] * len(rows), dtype=torch.int64))


def numbers(detections):
    """Left edge of each box -> its track."""
    return {
        round(box[0]): track for box, track in zip(detections.boxes.tolist(), detections.tracks.tolist(), strict=True)
    }


def test_two_who_cross_keep_their_numbers():
    tracker = ByteTrack(0.5)
    for t in range(40):
        answer = tracker.update(found((10 + 5 * t, 50, 30, 60, 0.9), (210 - 5 * t, 80, 30, 60, 0.8)))
        assert answer.tracks.tolist() == [1, 2]  # best first, as they began
    assert tracker.count == 2


@pytest.mark.parametrize("kind", REGISTRIES["tracker"])
def test_a_video_with_frames_left_out_keeps_its_tracks_and_speeds(kind):
    """As a camera of which only the latest frames are predicted: numbers and times of frames tell what was left out."""
    motion, image = MotionConfig(speed=True), np.zeros((120, 700, 3), np.uint8)
    tracker = VideoTracker(0.5, ["a"], TrackConfig(kind=kind), motion=motion)
    for i in [*range(10), 13, 14, 19, 24, 27, 33, 38]:
        frame = Frame(image, "a.mp4", i, i / 10)
        tracked = tracker(frame, found((10 + 10 * i, 20, 30, 60, 0.9)))
        assert tracked.tracks.tolist() == [1] and (i < 2 or tracked.speeds.tolist() == [pytest.approx(100, abs=1e-3)])
    again = tracker(Frame(image, "a.mp4", 0, 0.0), found((10, 20, 20, 60, 0.9)))  # the video begins anew
    assert again.tracks.tolist() == [1] and tracker.tracker.frame == 1
    tracker(Frame(image, "b.mp4", 40, 4.0), found())  # another video, whose first frames are damaged
    assert tracker.tracker.frame == 1


def test_unsure_detections_carry_on_a_track_and_begin_none():
    tracker = ByteTrack(0.5)
    for score in (0.9, 0.9, 0.2, 0.15, 0.3):
        answer = tracker.update(found((10, 10, 40, 40, score), (200, 10, 40, 40, 0.3)))
        assert numbers(answer) == {10: 1}
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.05)))) == {}


def test_what_is_seen_only_once_is_no_track():
    tracker = ByteTrack(0.5)
    tracker.update(found((10, 10, 40, 40, 0.9)))  # in the first frame nothing needs confirming
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.9), (300, 10, 40, 40, 0.9)))) == {10: 1}
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.9)))) == {10: 1}
    tracker.update(found((10, 10, 40, 40, 0.9), (500, 10, 40, 40, 0.9)))
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.9), (500, 10, 40, 40, 0.9)))) == {10: 1, 500: 2}
    tracker.update(found((10, 10, 40, 40, 0.9), (700, 10, 40, 40, 0.55)))
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.9), (700, 10, 40, 40, 0.55)))) == {10: 1}


def test_embeddings_decide_between_tracks_that_are_equally_near():
    """Two who meet and turn back: by motion alone they seem to pass one another, and change numbers."""
    red, blue = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    for dimensions, numbers_after in ((0, [2, 1]), (2, [1, 2])):
        tracker = ByteTrack(0.5, dimensions=dimensions)
        for t in range(40):
            x = 10 + 4 * min(t, 38 - t)
            boxes = found((x, 50, 60, 60, 0.9), (174 - x, 50, 60, 60, 0.8))
            answer = tracker.update(boxes, np.stack([red, blue]) if dimensions else None)
        assert answer.tracks.tolist() == numbers_after


def test_embeddings_of_a_track_are_a_moving_average_of_length_one():
    tracker, boxes = ByteTrack(0.5, dimensions=2), found((10, 10, 40, 40, 0.9))
    tracker.update(boxes, np.array([[1.0, 0.0]]))
    tracker.update(boxes, np.array([[0.0, 1.0]]))
    expected = np.array([0.9, 0.1]) / np.hypot(0.9, 0.1)
    assert np.allclose(tracker.tracks["embeddings"], expected)
    tracker.update(found((10, 10, 40, 40, 0.2)), np.zeros((1, 2)))  # unsure, and not looked at
    assert np.allclose(tracker.tracks["embeddings"], expected)
    tracker.update(found(), np.zeros((0, 2)))
    assert tracker.tracks["embeddings"].shape == (1, 2)


@pytest.mark.parametrize(("away", "same"), [(3, True), (5, True), (6, False)])
def test_a_track_out_of_sight_is_looked_for_for_a_while(away, same):
    tracker = ByteTrack(0.5, TrackConfig(memory=5))
    for t in range(10):
        tracker.update(found((10 + 2 * t, 10, 40, 40, 0.9)))
    for _ in range(away):
        assert len(tracker.update(found())) == 0
    back = found((10 + 2 * (10 + away), 10, 40, 40, 0.9))
    tracker.update(back)
    assert tracker.update(back).tracks.tolist() == [1 if same else 2]


def test_classes_are_followed_apart():
    tracker = ByteTrack(0.5)
    tracker.update(found((10, 10, 40, 40, 0.9), labels=[0]))
    assert len(tracker.update(found((10, 10, 40, 40, 0.9), labels=[1]))) == 0
    assert tracker.update(found((10, 10, 40, 40, 0.9), labels=[1])).tracks.tolist() == [2]


def test_points_stay_with_their_boxes_and_inputs_as_they_were():
    one = found((200, 10, 40, 40, 0.7), (10, 10, 40, 40, 0.9))
    one = Detections(one.boxes, one.scores, one.labels, torch.arange(6.0).reshape(2, 1, 3))
    answer = ByteTrack(0.5).update(one)
    assert answer.tracks.tolist() == [2, 1]
    assert answer.keypoints[0].tolist() == [[3, 4, 5]] and one.tracks is None


def test_a_line_counts_who_crosses_between_its_ends():
    line = Line((100, 0), (100, 100))  # down the image: its right side is the left half of the image
    for x in (80, 100, 120):
        line.update(1, "car", (x, 50))
    assert line.counts() == {"line": [100, 0, 100, 100], "right": {}, "left": {"car": 1}}
    line.update(1, "car", (90, 60))
    for x in (80, 120):
        line.update(2, "bus", (x, 150))  # past its end
    assert (dict(line.right), dict(line.left)) == ({"car": 1}, {"car": 1})


def test_a_zone_counts_who_was_in_it():
    tracker = VideoTracker(0.5, ["car", "bus"], zones=[[0, 0, 100, 0, 100, 100, 0, 100]])
    for rows, labels in (
        ([(10, 10, 20, 20, 0.9), (60, 60, 20, 20, 0.9)], [0, 0]),
        ([(12, 10, 20, 20, 0.9), (60, 62, 20, 20, 0.9), (300, 0, 20, 20, 0.9)], [0, 0, 1]),
        ([(300, 0, 20, 20, 0.9)], [1]),
    ):
        tracker(Frame(np.zeros((400, 400, 3), np.uint8), "a.mp4", 1, 0.1), found(*rows, labels=labels))
    (zone,) = tracker.counts()["a.mp4"]
    assert zone["entered"] == {"car": 2} and zone["most_at_once"] == {"car": 2}
    assert tracker.objects == {"car": 2, "bus": 1} and isinstance(tracker.places[0], Zone)


def test_every_film_has_tracks_of_its_own():
    tracker, box = VideoTracker(0.5, ["a"]), found((10, 10, 40, 40, 0.9))
    image = np.zeros((90, 90, 3), np.uint8)
    frames = [Frame(image, "x/1.png"), Frame(image, "x/2.png"), Frame(image, "y/1.png")]
    frames += [Frame(image, "z.mp4", i, i / 10) for i in (0, 1)] + [Frame(image, "z.mp4", 0, 0.0)]
    assert [tracker(frame, box).tracks.tolist() for frame in frames] == [[1]] * 6
    assert tracker.objects == {"a": 4} and tracker.counts() == {"x": [], "y": [], "z.mp4": []}
    tracker.draw(image)


@pytest.mark.parametrize(
    "options", [{"lines": [[1, 2, 3]]}, {"lines": [[1, 2, 1, 2]]}, {"zones": [[1, 2, 3, 4, 1, 2]]}]
)
def test_a_line_that_is_none_is_named(options):
    with pytest.raises(UserError, match="in pixels"):
        VideoTracker(0.5, ["a"], **options)


def test_a_registered_tracker_is_a_value_of_the_option(monkeypatch):
    class Constant:
        active: ClassVar = {7}

        def __init__(self, confidence, config, dimensions):
            assert (confidence, config.kind, dimensions) == (0.5, "constant", 0)

        def update(self, detections, embeddings):
            return dataclasses.replace(detections, tracks=torch.full((len(detections),), 7))

    with pytest.raises(UserError, match="unknown value of kind 'constant': known: botsort, bytetrack, ocsort"):
        check(TrackConfig(kind="constant"), "")
    monkeypatch.setitem(REGISTRIES, "tracker", Registry("tracker", {"bytetrack": "detect.tracking.bytetrack"}))
    register("tracker", "constant")(Constant)
    tracker = VideoTracker(0.5, ["a"], check(TrackConfig(kind="constant"), ""))
    frame = Frame(np.zeros((90, 90, 3), np.uint8), "a.mp4", 0, 0.0)
    assert tracker(frame, found((10, 10, 40, 40, 0.9))).tracks.tolist() == [7] and 7 in tracker.trails


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Frames of two bright squares that walk towards one another and past."""
    folder = tmp_path_factory.mktemp("walk")
    for t in range(12):
        image = np.zeros((96, 160, 3), np.uint8)
        for x, y in ((8 + 10 * t, 10), (130 - 10 * t, 60)):
            cv2.rectangle(image, (x, y), (x + 20, y + 20), (255, 255, 255), -1)
        cv2.imwrite(str(folder / f"{t:02d}.png"), image)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A detector that has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_weights(path, build(model_config("yolo_n"), ModelMetadata(["square"], [1], size=64)))
    return path


def squares(frame):
    """What a perfect detector says of a frame of `walk`."""
    gray = frame.image[..., 0] > 127
    count, _, stats, _ = cv2.connectedComponentsWithStats(gray.astype(np.uint8))
    return found(*[(*stats[i, :4].tolist(), 0.9) for i in range(1, count)])


def test_the_command_tracks_counts_and_draws(walk, weights, tmp_path, monkeypatch, capsys):
    answers = lambda self, frames: ((frame, squares(frame)) for frame in frames)  # noqa: E731
    monkeypatch.setattr("detect.inference.predictor.Predictor.__call__", answers)
    out = tmp_path / "out"
    line, zone = "[[80, 0, 80, 96]]", "[[0, 50, 40, 50, 40, 96, 0, 96]]"
    given_ = ["predict", "--weights", str(weights), "--source", str(walk), "--out", str(out), "--track"]
    assert main([*given_, "--lines", line, "--zones", zone]) == 0
    assert "12 frames: 2 " in capsys.readouterr().out
    records = json.loads((out / "detections.json").read_text())
    upper = {r["track_id"] for r in records if r["bbox"][1] < 40}
    lower = {r["track_id"] for r in records if r["bbox"][1] > 40}
    assert len(records) == 24 and len(upper) == len(lower) == 1 and upper != lower
    counts = json.loads((out / "counts.json").read_text())
    assert [sum(counts["."][0][side].values()) for side in ("right", "left")] == [1, 1]
    assert sum(counts["."][1]["entered"].values()) == 1
    trail = cv2.imread(str(out / "11.png"))[20, 40]  # the upper square's centre was here; now only its trail is
    assert trail.max() > 100 and trail.tolist() != [255, 255, 255]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lines", "[[1,2,3,4]]"], "--lines is read with --track alone"),
        (["--tracker.memory", "3"], "--tracker.memory"),
    ],
)
def test_what_needs_tracks_is_refused_without(flags, said, weights, walk, capsys):
    assert main(["predict", "--weights", str(weights), "--source", str(walk), *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "flag", "value"), [("ocsort", "low", "0.2"), ("bytetrack", "camera_motion", "false")])
def test_an_option_that_the_tracker_does_not_read_is_refused(kind, flag, value, weights, walk, capsys):
    flags = ["--source", str(walk), "--track", "--tracker.kind", kind, f"--tracker.{flag}", value]
    assert main(["predict", "--weights", str(weights), *flags]) == 2
    said = f"--tracker.{flag.replace('_', '-')} is not read by the tracker {kind}: leave it out"
    assert said in capsys.readouterr().err


def test_an_embedder_says_what_tracks_look_like(walk, weights, tmp_path, monkeypatch, capsys):
    """Both squares look the same, so the numbers are those of motion alone; the looks were asked for."""
    torch.manual_seed(0)
    embedder = tmp_path / "e.safetensors"
    config = EmbedderConfig(name="e", backbone="lenet5", dimensions=4)
    save_weights(embedder, build(config, ModelMetadata(["a", "b"], [1, 2], size=32)))
    seen = []
    describe = BoxEmbedder.__call__
    monkeypatch.setattr(BoxEmbedder, "__call__", lambda *given: seen.append(describe(*given)) or seen[-1])
    monkeypatch.setattr(Predictor, "__call__", both(Predictor.__call__, squares))
    flags = ["--source", str(walk), "--track", "--out", str(tmp_path / "out"), "--device", "cpu"]
    appearance = ["--tracker.appearance", str(embedder)]
    assert main(["predict", "--weights", str(weights), *flags, *appearance]) == 0
    assert len(seen) == 12 and all(one.shape == (2, 4) for one in seen)
    assert np.allclose(np.linalg.norm(np.concatenate(seen), axis=1), 1, atol=1e-5)
    records = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {record["track_id"] for record in records} == {1, 2} and len(records) == 24
    capsys.readouterr()
    assert main(["predict", "--weights", str(weights), *flags, "--tracker.appearance", str(weights)]) == 2
    assert "is no embedder" in capsys.readouterr().err
    assert BoxEmbedder(Detector.load(embedder, "cpu"))(np.zeros((9, 9, 3), np.uint8), np.zeros((0, 4))).shape == (0, 4)


def both(predict, answer):
    """A predictor that answers for the detector, and is itself for the embedder."""

    def call(self, frames):
        if self.model.task == "embed":
            return predict(self, frames)
        return ((frame, answer(frame)) for frame in frames)

    return call
