"""The trackers: their filters, BoT-SORT's camera motion, OC-SORT's three additions, and what all of them promise."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detect.config.tracking import TrackConfig
from detect.registry import REGISTRIES
from detect.tracking.botsort import BoTSort, CameraMotion, moved
from detect.tracking.bytetrack import ByteTrack
from detect.tracking.kalman import AreaFilter, AspectFilter, SidesFilter
from detect.tracking.ocsort import OCSort
from tests.detect.test_track import found, numbers

TRACKERS = (ByteTrack, BoTSort, OCSort)


class OneTrack:
    """The textbook filter of a single box, with an inverse and no batches (Welch and Bishop, 1995)."""

    def __init__(self, seen, begun):
        self.m, self.p = np.array([*seen, *[0] * (len(begun) - 4)], float), np.diag(np.square(begun))

    def predict(self, noise):
        f = np.eye(len(self.m))
        for i in range(len(self.m) - 4):
            f[i, i + 4] = 1
        self.m, self.p = f @ self.m, f @ self.p @ f.T + np.diag(np.square(noise))

    def correct(self, z, noise):
        h = np.zeros((4, len(self.m)))
        h[range(4), range(4)] = 1
        k = self.p @ h.T @ np.linalg.inv(h @ self.p @ h.T + np.diag(np.square(noise)))
        self.m, self.p = self.m + k @ (np.array(z) - h @ self.m), (np.eye(len(self.m)) - k @ h) @ self.p


def aspect_noise(m):
    h = m[3]
    begun = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
    step = [h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]
    return begun, step, [h / 20, h / 20, 1e-1, h / 20]


def sides_noise(m):
    w, h = m[2], m[3]
    begun = [w / 10, h / 10, w / 10, h / 10, w / 16, h / 16, w / 16, h / 16]
    step = [w / 20, h / 20, w / 20, h / 20, w / 160, h / 160, w / 160, h / 160]
    return begun, step, [w / 20, h / 20, w / 20, h / 20]


def area_noise(m):
    return np.sqrt([10] * 4 + [1e4] * 3), np.sqrt([1] * 4 + [0.01, 0.01, 0.0001]), np.sqrt([1, 1, 10, 10])


FILTERS = [(AspectFilter(), aspect_noise), (SidesFilter(), sides_noise), (AreaFilter(), area_noise)]


@pytest.mark.parametrize(("kind", "noise"), FILTERS)
@settings(max_examples=10)
@given(st.integers(0, 2**31), st.integers(0, 4))
def test_the_filter_is_that_of_the_naive_twin(kind, noise, seed, count):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(0, 300, (count, 2, 2)), axis=1).reshape(count, 4)
    boxes[:, 2:] += 60
    twins = [OneTrack(row, noise(row)[0]) for row in kind.measured(boxes)]
    mean, covariance = kind.begin(boxes)
    for _ in range(5):
        mean, covariance = kind.predict(mean, covariance)
        boxes = kind.boxes_of(mean) + rng.normal(0, 1, (count, 4))
        seen = kind.measured(boxes)
        mean, covariance = kind.correct(mean, covariance, boxes)
        for i, twin in enumerate(twins):
            twin.predict(noise(twin.m)[1])
            twin.correct(seen[i], noise(twin.m)[2])
            assert np.allclose(mean[i], twin.m, rtol=1e-6, atol=1e-6)
            assert np.allclose(covariance[i], twin.p, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind, _ in FILTERS])
@settings(max_examples=10)
@given(st.lists(st.tuples(*[st.floats(-500, 500)] * 2, *[st.floats(1, 500)] * 2), max_size=5))
def test_boxes_survive_the_filters_form(kind, rows):
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in rows], float).reshape(-1, 4)
    assert np.allclose(kind.boxes_of(kind.begin(boxes)[0]), boxes, atol=1e-6)


def test_no_area_shrinks_to_less_than_nothing():
    mean = np.array([[50, 50, 100, 1, 0, 0, -200.0]])
    predicted, _ = AreaFilter().predict(mean, np.eye(7)[None])
    assert predicted[0, 2] == 100 and mean[0, 6] == -200


def test_every_built_in_tracker_is_tested_here():
    assert [REGISTRIES["tracker"][name] for name in ("bytetrack", "botsort", "ocsort")] == list(TRACKERS)


@pytest.mark.parametrize("kind", TRACKERS)
@settings(max_examples=12)
@given(st.integers(0, 2**31))
def test_numbers_are_distinct_and_never_come_again(kind, seed):
    rng = np.random.default_rng(seed)
    tracker, last, gone = kind(0.4, TrackConfig(memory=2)), {}, set()
    for frame in range(12):
        count = int(rng.integers(0, 6))
        rows = np.hstack([rng.integers(0, 4, (count, 2)) * 40, np.full((count, 2), 35), rng.uniform(0, 1, (count, 1))])
        given_ = found(*rows.tolist(), labels=rng.integers(0, 2, count).tolist())
        answer = tracker.update(given_)
        ids = answer.tracks.tolist()
        assert len(set(ids)) == len(ids) and not gone & set(ids) and all(0 < i <= tracker.count for i in ids)
        assert answer.scores.tolist() == sorted(answer.scores.tolist(), reverse=True)
        assert all(any((box == other).all() for other in given_.boxes) for box in answer.boxes)
        last |= dict.fromkeys(ids, frame)
        gone = {i for i, seen in last.items() if frame - seen > 2}


@pytest.mark.parametrize("kind", TRACKERS)
def test_two_who_cross_keep_their_numbers(kind):
    tracker = kind(0.5)
    for t in range(40):
        answer = tracker.update(found((10 + 5 * t, 50, 30, 60, 0.9), (210 - 5 * t, 80, 30, 60, 0.8)))
        assert answer.tracks.tolist() == [1, 2]
    assert tracker.count == 2 and tracker.active == {1, 2}


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize(("away", "same"), [(4, True), (6, False)])
def test_a_track_out_of_sight_is_looked_for_for_a_while(kind, away, same):
    tracker = kind(0.5, TrackConfig(memory=5))
    for t in range(10):
        tracker.update(found((10 + 2 * t, 10, 40, 40, 0.9)))
    for _ in range(away):
        assert len(tracker.update(found())) == 0
    for t in range(5):
        answer = tracker.update(found((10 + 2 * (10 + away + t), 10, 40, 40, 0.9)))
    assert answer.tracks.tolist() == [1 if same else 2]


def test_states_move_with_the_camera():
    """A turn by 90 degrees, twice the size, and a shift: worked by hand."""
    mean, covariance = np.array([[10.0, 20, 4, 6, 1, 2, 0, 0]]), np.diag(np.arange(1.0, 9))[None]
    motion = np.array([[0.0, -2, 100], [2, 0, 50]])
    here, spread = moved(mean, covariance, motion)
    assert here.tolist() == [[60, 70, -12, 8, -4, 2, 0, 0]]
    assert np.diag(spread[0]).tolist() == [8, 4, 16, 12, 24, 20, 32, 28]
    assert (SidesFilter().boxes_of(here)[0, 2:] >= SidesFilter().boxes_of(here)[0, :2]).all()


NOTHING = np.zeros((0, 4))


def scenery(seed=0, size=(240, 320)):
    image = np.random.default_rng(seed).integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("size", [(240, 320), (960, 1280)])
def test_the_motion_of_the_camera_is_found(size):
    """Turned by two degrees about a corner, scaled by 1.02 and shifted, with an object that moves by itself."""
    image = scenery(size=size)
    angle, scale = np.deg2rad(2), 1.02
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    motion = np.hstack([turn, [[7.0], [-4.0]]])
    after = cv2.warpAffine(image, motion, size[::-1], borderMode=cv2.BORDER_REFLECT)
    after[50:110, 60:120] = scenery(1, (64, 64))[:60, :60]
    camera = CameraMotion()
    assert camera.update(image, NOTHING).tolist() == np.eye(2, 3).tolist()
    seen = camera.update(after, NOTHING)
    assert np.allclose(seen[:, :2], turn, atol=2e-3) and np.allclose(seen[:, 2], [7, -4], atol=0.6)


def test_where_nothing_can_be_followed_the_camera_stands_still():
    camera, still = CameraMotion(), np.eye(2, 3).tolist()
    images = [np.zeros((40, 60, 3), np.uint8)] * 2 + [scenery(), scenery(1)[:100]]
    assert [camera.update(image, NOTHING).tolist() for image in images] == [still] * 4


def test_objects_that_fill_the_image_are_not_the_camera():
    """Three quarters of the image move, inside of detections; the rest stands still."""
    image, boxes = scenery(), np.array([[0.0, 0, 240, 240]])
    after = image.copy()
    after[:, :240] = np.roll(image, 6, axis=1)[:, :240]
    for seen, x, shift in ((NOTHING, 120, 6), (boxes, 280, 0)):
        camera = CameraMotion()
        camera.update(image, seen)
        assert camera.update(after, seen)[0] @ [x, 120, 1] - x == pytest.approx(shift, abs=0.3)


def test_botsort_keeps_tracks_through_a_jolt_of_the_camera():
    """Two who stand still, while the image jumps by more than their width: by positions alone they are lost."""
    image, shifts = scenery(size=(240, 480)), [0, 0, 0, 0, 24, 48, 72, 96, 72, 48]
    answers = {}
    for camera_motion in (True, False):
        tracker = BoTSort(0.5, TrackConfig(camera_motion=camera_motion))
        for shift in shifts:
            boxes = found((30 + shift, 60, 16, 40, 0.9), (200 + shift, 90, 16, 40, 0.8))
            answer = tracker.update(boxes, None, np.roll(image, shift, axis=1))
        answers[camera_motion] = answer.tracks.tolist()
    assert answers[True] == [1, 2] and answers[False] != [1, 2]


def test_ocsort_counts_a_track_from_its_fourth_frame_on_and_at_once_in_the_beginning():
    tracker, first = OCSort(0.5), (10, 10, 40, 40, 0.9)
    seen = [numbers(tracker.update(found(first, *[(300, 10, 40, 40, 0.9)] * (t >= 4)))) for t in range(8)]
    assert seen == [{10: 1}] * 7 + [{10: 1, 300: 2}]
    assert numbers(tracker.update(found((10, 10, 40, 40, 0.4)))) == {}  # not confident: it is not read


def test_ocsort_finds_what_stopped_where_it_was_seen_last():
    """It moves fast, stops behind something for six frames, and comes back where it was: recovery, not prediction."""
    place = {ByteTrack: [], OCSort: []}
    for kind, seen in place.items():
        tracker = kind(0.5)
        for t in range(12):
            tracker.update(found((10 + 12 * t, 10, 40, 40, 0.9)))
        for _ in range(6):
            tracker.update(found())
        for _ in range(3):
            seen.append(tracker.update(found((10 + 12 * 11, 10, 40, 40, 0.9))).tracks.tolist())
    assert place == {ByteTrack: [[], [2], [2]], OCSort: [[1]] * 3}


def test_ocsort_runs_the_filter_again_along_the_straight_line():
    """After three missed frames the state is that of a track that was seen in each, evenly between."""
    lost, seen = OCSort(0.5), OCSort(0.5)
    for t in range(12):
        row = (10 + 3 * t, 20 + 2 * t, 40 + t, 60, 0.9)
        lost.update(found(*[row] * (t not in (7, 8, 9))))
        seen.update(found(row))
    assert np.allclose(lost.tracks.mean, seen.tracks.mean, atol=1e-6)
    assert np.allclose(lost.tracks.covariance, seen.tracks.covariance, atol=1e-6)


def test_ocsort_weighs_direction():
    """One track that moves right; two detections overlap its prediction as much, one ahead and one above."""
    tracker = OCSort(0.5)
    for t in range(6):
        tracker.update(found((10 + 4 * t, 100, 40, 40, 0.9)))
    momentum = tracker._momentum(np.array([[40.0, 100, 80, 140], [10, 100, 50, 140], [22, 80, 62, 120]]))
    assert momentum.shape == (1, 3)
    assert momentum[0, 0] == pytest.approx(0.5, abs=0.01) and momentum[0, 1] == pytest.approx(-0.5, abs=0.01)
    assert abs(momentum[0, 2]) < 0.1
    assert OCSort(0.5)._momentum(np.zeros((2, 4))).shape == (0, 2)


def walk(kind, frames, told, width=16, speed=6, **config):
    """The numbers of one who walks right, seen in the given frames; `told`: the tracker is told of those between."""
    tracker, answers, last = kind(0.5, TrackConfig(**config)), [], frames[0] - 1
    for frame in frames:
        if told and frame - last > 1:
            tracker.skip(frame - last - 1)
        last = frame
        answers.append(tracker.update(found((10 + speed * frame, 50, width, 60, 0.9))).tracks.tolist())
    return answers


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize("seen", [[*range(10), *range(12, 60, 4)], [0, 1, 2, 3, 4, 5, 9, 10, 17, 18, 19, 23, 40]])
def test_frames_that_are_skipped_are_not_taken_for_speed(kind, seen):
    """Between two looks it moves by more than its width: its speed in a frame says where it is."""
    assert walk(kind, seen, told=True) == [[1]] * len(seen)
    assert walk(kind, seen, told=False)[-1] != [1]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_skipped_frame_is_a_prediction_and_nothing_else(kind):
    skipped, fresh = kind(0.5), kind(0.5)
    for t in range(9):
        for tracker in (skipped, fresh):
            tracker.update(found((10 + 3 * t, 20, 40 + t, 60, 0.9), (300, 20, 30, 60, 0.9)))
    skipped.skip(7)
    mean, covariance = fresh.tracks.mean, fresh.tracks.covariance
    for _ in range(7):
        mean, covariance = kind.filter.predict(mean, covariance)
    assert np.array_equal(skipped.tracks.mean, mean) and np.array_equal(skipped.tracks.covariance, covariance)
    assert skipped.tracks.state.tolist() == fresh.tracks.state.tolist() and skipped.frame == 16


@pytest.mark.parametrize("kind", TRACKERS)
@pytest.mark.parametrize(("away", "same"), [(2, True), (8, False)])
def test_a_lost_track_grows_older_by_frames_that_are_skipped(kind, away, same):
    """Memory is in frames of the video; a track that the last look saw outlives it."""
    tracker = kind(0.5, TrackConfig(memory=5))
    for _ in range(9):
        tracker.update(found((10, 10, 40, 40, 0.9)))
    tracker.skip(20)
    assert tracker.update(found((10, 10, 40, 40, 0.9))).tracks.tolist() == [1]
    tracker.update(found())
    tracker.skip(away)
    ids = [tracker.update(found((10, 10, 40, 40, 0.9))).tracks.tolist() for _ in range(4)]
    assert ids == [[1]] * 4 if same else ids[-1] == [2] and tracker.active == {2}


def test_a_stream_that_was_away_for_hours_costs_no_time():
    for kind in TRACKERS:
        tracker = kind(0.5)
        tracker.update(found((10, 10, 40, 40, 0.9)))
        tracker.skip(10**9)
        assert tracker.frame == 10**9 + 1 and np.isfinite(tracker.tracks.mean).all()


def test_ocsort_takes_directions_over_frames_of_the_video():
    """Three frames ago lies before the skipped ones; what a look did not see is filled in along the line, them too."""
    tracker, seen = OCSort(0.5), OCSort(0.5)
    for t in range(12):
        row = (10 + 3 * t, 20 + 2 * t, 40 + t, 60, 0.9)
        seen.update(found(row))
        if t in (6, 8):
            tracker.skip(1)
        else:
            tracker.update(found(*[row] * (t != 7)))
        if t == 6:
            assert tracker._references().tolist() == [tracker.tracks["before"][0, 2].tolist()]
            assert tracker.tracks["before"][0, 2].tolist() == [22, 28, 66, 88]
    assert np.allclose(tracker.tracks.mean, seen.tracks.mean, atol=1e-6)
    assert np.allclose(tracker.tracks.covariance, seen.tracks.covariance, atol=1e-6)
    tracker.skip(9)
    assert np.isnan(tracker.tracks["before"]).all()
    assert tracker._references().tolist() == tracker.tracks["box"].tolist()
