import itertools
import json
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from anchors.boxes import xywh_to_xyxy
from detect.data import toy
from detect.data.oriented_outlines import oriented_outlines
from detect.data.sources.coco import load_coco
from detect.data.toy_images import INK, Canvas, rectangle, scene, sprite, stock
from detect.errors import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return toy.build(tmp_path_factory.mktemp("toy") / "set", seed=3, train=20, val=10, size=128)


def load(folder: Path, split: str) -> dict:
    return json.loads((folder / f"instances_{split}.json").read_text())


def test_splits_share_no_glyph_and_no_photograph_region():
    train, val = stock("train"), stock("val")
    assert len(train.digits) + len(val.digits) == 1797
    assert not {g.tobytes() for g in train.glyphs} & {g.tobytes() for g in val.glyphs}
    for split in (train, val):
        counts = np.bincount(split.digits, minlength=10)
        assert counts.min() > 0.9 * counts.max()
    for left, right in zip(train.photos, val.photos, strict=True):
        assert left.shape[1] + right.shape[1] == 640
        assert not np.shares_memory(left, right)


def test_sprite_fills_its_box():
    for pick in range(40):
        alpha = sprite(stock("train").glyphs[pick], 16 + pick, pick - 20.0)
        dark = alpha >= INK
        assert alpha.min() >= 0 and alpha.max() <= 1
        assert dark[0].any() and dark[-1].any() and dark[:, 0].any() and dark[:, -1].any()


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_hold_the_ink_that_was_drawn(split):
    """What differs from the bare background lies in the boxes and reaches each of their sides."""
    for seed in range(10):
        bare, none = scene(split, np.random.default_rng(seed), 128, 0)
        canvas, digits = scene(split, np.random.default_rng(seed), 128, 1)
        boxes = canvas.boxes
        assert not none and len(boxes) == len(digits) == 1
        changed = (canvas.pixels() != bare.pixels()).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        x, y, w, h = boxes[0]
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x, y, x + w, y + h)


def test_rectangles_hold_the_ink_and_turn_with_it():
    """The glyph of a bar: its long side has the angle it was turned by."""
    bar = np.zeros((8, 8), np.float32)
    bar[1:7, 3:5] = 1
    for angle in (-25.0, -7.0, 0.0, 13.0, 25.0):
        alpha = sprite(bar, 80, angle)
        corners = rectangle(alpha, angle)
        for spot in np.argwhere(alpha >= INK)[:, ::-1] + 0.5:
            assert cv2.pointPolygonTest(corners.astype(np.float32), spot.tolist(), True) > 0.4
        (left, top, right, bottom), (h, w) = (*corners.min(0), *corners.max(0)), alpha.shape
        assert left == pytest.approx(0, abs=8) and right == pytest.approx(w, abs=8)
        assert top == pytest.approx(0, abs=8) and bottom == pytest.approx(h, abs=8)
        assert cv2.contourArea(corners.astype(np.float32)) == pytest.approx(
            (alpha >= INK).sum(), rel=0.15
        )  # its corners are round
        down = corners[3] - corners[0]
        assert np.degrees(np.arctan2(down[0], down[1])) == pytest.approx(angle)
        assert np.linalg.norm(down) > np.linalg.norm(corners[1] - corners[0])


def test_the_annotated_masks_are_the_ink_that_is_seen(small):
    """Masks of an image share no pixel; they lie in their boxes, and where nothing lies on a digit they fill them."""
    annotations, filled = load_coco(small / "instances_train.json"), 0
    outlines = annotations.outlines
    assert outlines.present.all() and outlines.frames.shape == (len(annotations.boxes), 4, 2)
    found, boxes = outlines.bounds(), xywh_to_xyxy(torch.from_numpy(annotations.boxes)).numpy()
    assert (found[:, :2] >= boxes[:, :2]).all() and (found[:, 2:] <= boxes[:, 2:]).all()
    assert (found == boxes).all(axis=1).mean() > 0.7
    for start, end in itertools.pairwise(annotations.starts.tolist()):
        masks = [outlines.rle(i, (128, 128)) for i in range(start, end)]
        covered = sum(coco_mask.decode(mask).astype(int) for mask in masks)
        filled += end - start > 1
        assert end == start or covered.max() == 1
    assert filled > 5
    turned = oriented_outlines(annotations).outlines
    assert turned.whole and np.allclose(turned.bounds()[:, :2], outlines.frames.min(axis=1), atol=0.02)


def test_canvas_refuses_what_would_hide_a_digit():
    canvas = Canvas(np.zeros((40, 40, 3), np.float32))
    wide, small = np.ones((20, 20), np.float32), np.ones((10, 10), np.float32)
    assert canvas.fits(wide, 0, 0)
    canvas.lay(wide, np.zeros(3), 0, 0)
    assert not canvas.fits(small, 5, 5)
    assert canvas.fits(small, 18, 18)
    canvas.lay(np.ones((20, 14), np.float32), np.ones(3), 0, 0)
    assert canvas.legible().tolist() == [False, True]


def test_annotations_are_sound(small):
    seen: set[int] = set()
    for split, count in (("train", 20), ("val", 10)):
        record = load(small, split)
        assert [c["name"] for c in record["categories"]] == list("0123456789")
        assert len(record["images"]) == count
        assert not seen & {i["id"] for i in record["images"]}
        seen |= {i["id"] for i in record["images"]}
        for image in record["images"]:
            assert cv2.imread(str(small / image["file_name"])).shape == (image["height"], image["width"], 3)
        assert [a["id"] for a in record["annotations"]] == list(range(1, len(record["annotations"]) + 1))
        for note in record["annotations"]:
            x, y, w, h = note["bbox"]
            assert min(x, y) >= 0 and min(w, h) >= 8 and max(x + w, y + h) <= 128
            assert note["area"] == w * h
        full = {a["image_id"] for a in record["annotations"]}
        empty = sum(i["id"] not in full for i in record["images"])
        assert empty >= count // 10


def test_film_plays_and_is_annotated(small):
    record = load(small, "video")
    with av.open(str(small / "video.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == toy.RATE
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == len(record["images"]) == toy.FRAMES
    assert [i["frame"] for i in record["images"]] == list(range(toy.FRAMES))
    assert frames[0].shape == (*toy.FILM, 3)
    of_track: dict[int, set[int]] = {}
    for note in record["annotations"]:
        of_track.setdefault(note["track_id"], set()).add(note["category_id"])
    assert sorted(of_track) == list(range(1, toy.CAST + 1))
    assert all(len(classes) == 1 for classes in of_track.values())
    pairs = [(a["image_id"], a["track_id"]) for a in record["annotations"]]
    assert len(set(pairs)) == len(pairs)


def test_same_seed_same_bits(small, tmp_path):
    again = toy.build(tmp_path / "again", seed=3, train=20, val=10, size=128)
    other = toy.build(tmp_path / "other", seed=4, train=20, val=10, size=128)
    names = sorted(str(p.relative_to(small)) for p in small.rglob("*") if p.is_file())
    assert len(names) == 34
    names.remove("video.mp4")  # x264 does not always encode the same frames to the same bits
    assert [n for n in names if (small / n).read_bytes() != (again / n).read_bytes()] == []
    assert (small / "train/000001.jpg").read_bytes() != (other / "train/000001.jpg").read_bytes()


def test_build_refuses_an_existing_folder(small):
    with pytest.raises(UserError, match="exists already"):
        toy.build(small)


def test_half_built_is_never_taken_for_whole(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(toy, "_film", fail)
    with pytest.raises(KeyboardInterrupt):
        toy.build(tmp_path / "set", train=1, val=1, size=64)
    assert list(tmp_path.iterdir()) == []


def test_whoever_comes_second_takes_what_is_there(tmp_path, monkeypatch):
    def overtaken(draft, seed):
        (tmp_path / "set").mkdir()
        (tmp_path / "set/theirs").touch()

    monkeypatch.setattr(toy, "_film", overtaken)
    assert toy.build(tmp_path / "set", train=1, val=1, size=64) == tmp_path / "set"
    assert [p.name for p in tmp_path.rglob("*")] == ["set", "theirs"]


def test_folder_is_cached_and_falls_back(tmp_path, monkeypatch):
    def quick(folder):
        return original(folder, train=1, val=1, size=64)

    original = toy.build
    monkeypatch.setattr(toy, "build", quick)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = toy.toy_folder()
    assert first == tmp_path / "cache/gridhead/toy-v2"
    stamp = (first / "instances_val.json").stat().st_mtime_ns
    assert toy.toy_folder() == first and (first / "instances_val.json").stat().st_mtime_ns == stamp

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    assert toy.toy_folder() == tmp_path / "temporary/gridhead/toy-v2"
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        toy.toy_folder()
