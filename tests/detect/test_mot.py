"""tools/mot.py: tracks of given detections, measured by others; and our tracks beside another's ByteTrack.

Both need an environment of their own (they bring another OpenCV): GRIDHEAD_TRACKERS names the interpreter of one with
trackeval and supervision 0.25.1, whose ByteTrack follows the paper's code. That does not predict where a track of one
frame will be in the next, as the paper says: the twin is made to.
"""

import json
import os
import subprocess

import numpy as np
import pytest
import torch

from detect.tracking.bytetrack import ByteTrack
from detect.types import Detections
from tools import mot

OTHERS = os.environ.get("GRIDHEAD_TRACKERS", "")
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


@needs_others
@pytest.mark.parametrize("seed", range(8))
def test_tracks_are_those_of_another_bytetrack(seed):
    rows = [np.round(one, 5) for one in scene(seed)]
    sent = json.dumps([one.tolist() for one in rows])
    reference = json.loads(subprocess.run([OTHERS, "-c", TWIN], input=sent, capture_output=True, text=True).stdout)
    tracker, ours, names = ByteTrack(0.25), [], {}
    for one in rows:
        values = torch.from_numpy(one).float()
        found = tracker.update(Detections(values[:, :4], values[:, 4], torch.zeros(len(one), dtype=torch.int64)))
        ours.append({tuple(b): n for b, n in zip(found.boxes.tolist(), found.tracks.tolist(), strict=True)})
    for mine, other in zip(ours, reference, strict=True):
        other = {tuple(row[:4]): row[4] for row in other}
        assert mine.keys() == other.keys()
        for box, number in mine.items():
            assert names.setdefault(number, other[box]) == other[box]
    assert len(names) == len(set(names.values())) >= 8


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
    rows = mot.tracked(mot.read(files / "det.txt"), range(1, 11), 0.25)
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
