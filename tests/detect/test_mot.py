"""tools/mot.py: tracks of given detections, measured by others; and our tracks beside those of other implementations.

Both need environments of their own (they bring another OpenCV). GRIDHEAD_TRACKERS names the interpreter of one with
trackeval and supervision 0.25.1, whose ByteTrack follows the paper's code. That does not predict where a track of one
frame will be in the next, as the paper says: the twin is made to. GRIDHEAD_TRACKERS2 names one with trackers 2.6.1,
whose BoT-SORT and OC-SORT are compared. Four things of its OC-SORT differ from ours, and the twin is made to do as
ours: it takes no direction from the box with which a track begins; it corrects the filter twice with the box with which
a track is found again; it reports a confirmed track only from the third frame in a row; and it does not count tracks
from the first frame on that begin in the first three (as SORT does). Their first box is left out in the comparison.
"""

import json
import os
import subprocess

import numpy as np
import pytest
import torch

from detect.tracking.botsort import BoTSort
from detect.tracking.bytetrack import ByteTrack
from detect.tracking.ocsort import OCSort
from detect.types import Detections
from tools import mot

OTHERS, OTHERS2 = (os.environ.get(name, "") for name in ("GRIDHEAD_TRACKERS", "GRIDHEAD_TRACKERS2"))
needs_others = pytest.mark.skipif(
    not OTHERS, reason="GRIDHEAD_TRACKERS names no interpreter with trackeval, supervision"
)

TWIN = """
import json, sys, warnings
import numpy as np
warnings.filterwarnings("ignore")
import supervision as sv
from supervision.tracker.byte_tracker.core import STrack
tracker, answers = sv.ByteTrack(0.25, 30, 0.8, 30), []
known = STrack.multi_predict
fresh = lambda: [track for track in tracker.tracked_tracks if not track.is_activated]
STrack.multi_predict = staticmethod(lambda tracks, kalman: known(tracks + fresh(), kalman))
for rows in json.load(sys.stdin):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    found = sv.Detections(xyxy=rows[:, :4], confidence=rows[:, 4], class_id=np.zeros(len(rows), int))
    out = tracker.update_with_detections(found)
    answers.append([[*map(float, box), int(number)] for box, number in zip(out.xyxy, out.tracker_id)])
print(json.dumps(answers))
"""

OTHER_TWINS = """
import json, sys, warnings
import numpy as np
warnings.filterwarnings("ignore")
import supervision as sv
from trackers import BoTSORTTracker, OCSORTTracker
from trackers.core.ocsort.tracklet import OCSORTTracklet as Tracklet
begin, resolve, again = Tracklet.__init__, Tracklet.resolve_tracker_id, Tracklet._unfreeze

def begun(self, box, *rest, **named):
    begin(self, box, *rest, **named)
    self.observations = {self.age: box}

def resolved(self, *given):
    least, frame, allocate = given
    return self.tracker_id if self.tracker_id != -1 else resolve(self, least, frame + 1, allocate)

def found_again(self, box, timing):
    correct, last = self.state_estimator.kf.update, self.time_since_update
    calls = []
    self.state_estimator.kf.update = lambda z: calls.append(1) or (correct(z) if len(calls) < last else None)
    again(self, box, timing)
    self.state_estimator.kf.update = correct

def spawned(self, boxes):
    spawn(self, boxes)
    for track in self.tracks[len(self.tracks) - len(boxes):] if self.frame_count < 3 else ():
        track.tracker_id = self._allocate_tracker_id()

spawn, OCSORTTracker._spawn_new_tracklets = OCSORTTracker._spawn_new_tracklets, spawned
Tracklet.__init__, Tracklet.resolve_tracker_id, Tracklet._unfreeze = begun, resolved, found_again
if sys.argv[1] == "ocsort":
    tracker = OCSORTTracker(high_conf_det_threshold=0.25)
else:
    tracker = BoTSORTTracker(high_conf_det_threshold=0.25, track_activation_threshold=0.35, enable_cmc=False)
answers = []
for rows in json.load(sys.stdin):
    rows = np.array(rows, np.float32).reshape(-1, 5)
    found = sv.Detections(xyxy=rows[:, :4], confidence=rows[:, 4], class_id=np.zeros(len(rows), int))
    out = tracker.update(found)
    pairs = zip(out.xyxy, out.tracker_id)
    answers.append([[*map(float, box), int(number)] for box, number in pairs if number >= 0])
print(json.dumps(answers))
"""


def scene(seed, frames=28):
    """Rows x1, y1, x2, y2, score of people who walk about, are hidden now and then, and of things that are none."""
    rng = np.random.default_rng(seed)
    place, speed = rng.uniform(0, 600, (8, 2)), rng.normal(0, 6, (8, 2))
    for _ in range(frames):
        place = place + speed
        at = place + rng.normal(0, 1.5, place.shape)
        rows = np.hstack([at, at + np.array([40, 100]), rng.beta(4, 2, (8, 1))])[rng.random(8) < 0.85]
        stray = rng.uniform(0, 600, (1, 2))
        yield np.vstack([rows, np.hstack([stray, stray + 15, rng.uniform(0.1, 0.6, (1, 1))])])


def tracked_by(kind, rows):
    """The number of each box of each frame, as our tracker has them."""
    tracker, ours = kind(0.25), []
    for one in rows:
        values = torch.from_numpy(one).float()
        found = tracker.update(Detections(values[:, :4], values[:, 4], torch.zeros(len(one), dtype=torch.int64)))
        ours.append({tuple(b): n for b, n in zip(found.boxes.tolist(), found.tracks.tolist(), strict=True)})
    return ours


def tracked_by_others(command, rows):
    """The same of another implementation."""
    sent = json.dumps([one.tolist() for one in rows])
    answer = json.loads(subprocess.run(command, input=sent, capture_output=True, text=True).stdout)
    return [{tuple(row[:4]): row[4] for row in other} for other in answer]


def require_same_numbers(ours, reference, settled=0):
    """Boxes have the same tracks; those of our first `settled` frames may be more."""
    names = {}
    for frame, (mine, other) in enumerate(zip(ours, reference, strict=True)):
        assert other.keys() <= mine.keys() if frame < settled else mine.keys() == other.keys()
        for box in other:
            assert names.setdefault(mine[box], other[box]) == other[box]
    assert len(names) == len(set(names.values())) >= 8


@needs_others
@pytest.mark.parametrize("seed", range(8))
def test_tracks_are_those_of_another_bytetrack(seed):
    rows = [np.round(one, 5) for one in scene(seed)]
    require_same_numbers(tracked_by(ByteTrack, rows), tracked_by_others([OTHERS, "-c", TWIN], rows))


@pytest.mark.skipif(not OTHERS2, reason="GRIDHEAD_TRACKERS2 names no interpreter with the package trackers")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("kind", "settled"), [(BoTSort, 0), (OCSort, 3)])
def test_tracks_are_those_of_another_botsort_and_ocsort(kind, settled, seed):
    rows = [np.round(one, 5) for one in scene(seed)]
    reference = tracked_by_others([OTHERS2, "-c", OTHER_TWINS, kind.__name__.lower()], rows)
    require_same_numbers(tracked_by(kind, rows), reference, settled)


@pytest.fixture
def files(tmp_path):
    """Truth of two who walk, and detections that miss one of them for a frame."""
    ground_truth, given = [], []
    for t in range(1, 11):
        for number, x in ((7, 10 + 5 * t), (9, 300 - 5 * t)):
            ground_truth.append(f"{t},{number},{x},50,40,90,1")
            if (t, number) != (5, 9):
                given.append(f"{t},-1,{x},50,40,90,{60 + number}")
    (tmp_path / "gt.txt").write_text("\n".join(ground_truth))
    (tmp_path / "det.txt").write_text("\n".join(given))
    return tmp_path


def test_given_detections_become_tracks(files):
    rows = mot.tracked(mot.detected(files / "det.txt"), range(1, 11), 0.25)
    assert len(rows) == 19 and set(rows[:, 1]) == {1, 2}
    assert rows[0].tolist() == pytest.approx([1, 2, 295, 50, 40, 90, 1])


def test_what_predict_wrote_becomes_tracks(tmp_path):
    still = {"image": "img1/000012.jpg", "bbox": [1, 2, 3, 4], "score": 0.5, "track_id": 3}
    moving = {**still, "image": "a1.mp4", "frame": 0}
    (tmp_path / "found.json").write_text(json.dumps([still, moving]))
    assert mot.predicted(tmp_path / "found.json").tolist() == [[12, 3, 1, 2, 3, 4, 0.5], [1, 3, 1, 2, 3, 4, 0.5]]


@needs_others
def test_the_evaluator_says_what_is_plain(files, capsys):
    given = ["--gt", str(files / "gt.txt"), "--detections", str(files / "det.txt"), "--trackeval", OTHERS]
    assert mot.main(given) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["MOTA"] == 0.95 and said["switches"] == 0 and said["missed"] == 1 and said["tracks"] == 2
    assert said["IDF1"] == pytest.approx(38 / 39)


@pytest.mark.parametrize(("text", "said"), [("a,b\n", "cannot be read"), ("1,2,3\n", "3 numbers a line")])
def test_files_that_are_none_are_one_line(files, tmp_path, text, said, capsys):
    (tmp_path / "bad.txt").write_text(text)
    assert (
        mot.main(["--gt", str(tmp_path / "bad.txt"), "--detections", str(files / "det.txt"), "--trackeval", "false"])
        == 2
    )
    assert said in capsys.readouterr().err
    assert (
        mot.main(["--gt", str(files / "gt.txt"), "--detections", str(files / "det.txt"), "--trackeval", "false"]) == 2
    )
    assert "--trackeval false failed" in capsys.readouterr().err
