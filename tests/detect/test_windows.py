"""The training samples of sliding windows, and the commands from data to detections."""

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from anchors.boxes import area, clip
from anchors.windows import square_iou
from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.data.datasets.windows import ANYWHERE, WindowDataset
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.models.configs.sliding_window import SlidingWindowConfig, WindowLossConfig
from detect.training.setup import train
from detect.types import Preprocess
from tests.reference.doom import doomed
from tests.reference.runs import remains, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")

LOSS = WindowLossConfig(box=1.0, classes=1.0)
SLIDING = SlidingWindowConfig(name="sliding_window", backbone="lenet5", loss=LOSS)
CPU = ["--device", "cpu", "--precision", "float32", "--workers", "0"]
WHOLE = torch.tensor([[0.0, 0, 32, 32]])


def stored(folder, *things):
    """A COCO set of grey images: each is (height, width, [(x, y, width, height, class, crowd)]), the objects red."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True)
    for i, (height, width, objects) in enumerate(things, 1):
        pixels = np.full((height, width, 3), 120, np.uint8)
        for x, y, w, h, label, crowd in objects:
            pixels[y : y + h, x : x + w] = (250, 20, 20)
            box = {"bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd, "category_id": label + 1}
            annotations.append({"id": len(annotations) + 1, "image_id": i, **box})
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
    names = [{"id": c, "name": f"c{c}"} for c in (1, 2)]
    record = {"images": images, "annotations": annotations, "categories": names}
    (folder / "ground_truth.json").write_text(json.dumps(record))
    text = "".join(f"{split}:\n  annotations: ground_truth.json\n  images: images\n" for split in ("train", "val"))
    (folder / "data.yaml").write_text(text)
    return load_data(folder / "data.yaml", "train")


def same(one, other):
    return np.array_equal(one[0], other[0]) and torch.equal(one[1].boxes, other[1].boxes)


def test_a_window_depends_on_seed_epoch_and_position_alone(digits):
    annotations, augment = load_data(digits, "train"), AugmentConfig()
    data, again = (WindowDataset(annotations, 96, 32, 1.5, augment, seed=1, balanced=True) for _ in range(2))
    draws = [SampleKey(epoch, position, 96) for epoch in (0, 5) for position in range(0, len(data), 7)]
    first = [data[draw] for draw in draws]
    assert all(same(a, b) for a, b in zip(first, [again[d] for d in draws[::-1]][::-1], strict=True))
    assert not all(same(a, b) for a, b in zip(first, [data[d._replace(epoch=1)] for d in draws], strict=True))
    other = WindowDataset(annotations, 96, 32, 1.5, augment, seed=2, balanced=True)
    assert not all(same(a, b) for a, b in zip(first, [other[d] for d in draws], strict=True))


def test_an_epoch_shows_every_object_once_and_every_image(tmp_path):
    objects = [(4, 30, 40, 30, 0, 0), (50, 8, 36, 44, 1, 0), (0, 60, 30, 30, 0, 1)]
    annotations = stored(tmp_path, (100, 120, objects), (64, 64, []), (40, 90, [(10, 2, 36, 36, 1, 0)]))
    data = WindowDataset(annotations, 120, 32)
    samples = [data[SampleKey(0, position, 120)] for position in range(len(data))]
    assert len(data) == 3 * (1 + ANYWHERE)
    assert {t.image_id for _, t in samples} == {1, 2, 3}  # the one without objects too
    exact = [t for _, t in samples if len(t) and (square_iou(t.boxes[~t.crowd], WHOLE) > 0.95).any()]
    fitted = [(t.image_id, int(i)) for t in exact for i in t.labels[~t.crowd] if len(t)]
    assert {(1, 0), (1, 1), (3, 1)} <= set(fitted)
    for image, found in samples:
        assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and found.size == (32, 32)
        assert (area(clip(found.boxes, (32, 32))) > 0).all()  # each touches the window
        red = (image[..., 0] > 200).any()
        assert not red or len(found)


@pytest.mark.parametrize("stretch", [False, True])
def test_the_ground_truth_of_a_window_lies_on_its_pixels_and_objects_stay_whole(tmp_path, stretch):
    annotations = stored(tmp_path, (90, 160, [(30, 20, 60, 50, 1, 0)]))
    augment = AugmentConfig(hue=0, saturation=0, value=0)
    data = WindowDataset(annotations, 160, 32, 1.0, augment, preprocess=Preprocess(stretch=stretch))
    cut = 0
    for position in range(200):
        image, found = data[SampleKey(position // len(data), position % len(data), 160)]
        red = (image[..., 0].astype(int) - image[..., 1]) > 115
        if not len(found):
            assert not red.any()
            continue
        x0, y0, x1, y1 = found.boxes[0].tolist()
        cut += min(x0, y0) < -1 or max(x1, y1) > 33
        inside = clip(found.boxes, (32, 32))[0]
        if (inside[2:] - inside[:2]).min() > 2:
            rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
            seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert (seen - inside).abs().max() <= 1.2
        assert (x1 - x0) / (y1 - y0) == pytest.approx(60 / 50 if not stretch else 60 / 50 * 90 / 160, rel=0.15)
    assert cut > 20


def test_windows_are_as_large_as_a_detection_has_them(tmp_path):
    """From one window of the canvas to the longer side of the image; objects below that are in smaller windows."""
    annotations = stored(tmp_path, (60, 120, [(20, 10, 40, 40, 0, 0), (100, 30, 9, 9, 1, 0)]))
    data = WindowDataset(annotations, 240, 32)
    sides = []
    for position in range(100):
        _, found = data[SampleKey(position // len(data), position % len(data), 240)]
        whole = found.boxes[found.labels == 0]
        sides += [32 / float(x1 - x0) * 40 for x0, _, x1, _ in whole.tolist()]
    assert min(sides) == pytest.approx(16, rel=0.15) and 60 < max(sides) < 130


@pytest.mark.parametrize("piece", [1.0, 1.5])
def test_jitter_keeps_objects_in_their_windows(digits, piece):
    annotations = load_data(digits, "train")
    data = WindowDataset(annotations, 224, 32, piece, AugmentConfig())
    samples = [data[SampleKey(0, position, 224)] for position in range(len(data))]
    side = round(32 * piece)
    assert all(image.shape == (side, side, 3) and t.size == (side, side) for image, t in samples)
    middle = torch.tensor([[side - 32.0, side - 32, side + 32, side + 32]]) / 2
    shown = [t for _, t in samples if len(t) and square_iou(t.boxes, middle).max() >= 0.5]
    assert len(shown) >= 0.8 * len(data.crops)


def test_what_cannot_be_learned_is_said(tmp_path, digits, capsys):
    annotations = load_data(digits, "train")
    with pytest.raises(UserError, match=r"objects are too small for a window of 227 px in images of 96: raise --im"):
        WindowDataset(annotations, 96, 227)
    WindowDataset(annotations, 96, 32)
    assert "objects are too small for a window of 32 px in images of 96: a larger --imgsz" in capsys.readouterr().err
    crowds = stored(tmp_path, (50, 50, [(1, 1, 40, 40, 0, 1)]))
    with pytest.raises(UserError, match="no object"):
        WindowDataset(crowds, 96, 32)
    with pytest.raises(UserError, match="are for whole images"):
        WindowDataset(annotations, 224, 32, 1.0, AugmentConfig(albumentations=[{"RandomGamma": {}}]))
    with pytest.raises(UserError, match="--cache-features"):
        _ = WindowDataset(annotations, 224, 32).canvases


def small(data, out, **changes):
    """A run of 2 epochs of about 9 steps."""
    return settings(data, out, **{"model": SLIDING, "epochs": 2, "imgsz": 96, "batch": 32, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("fate", [("at_step", 13, "die")])
def test_a_run_killed_and_resumed_is_as_never_killed(digits, tmp_path, fate):
    train(small(digits, tmp_path / "whole", save_steps=5))
    config = small(digits, tmp_path / "run", save_steps=5)
    assert status(doomed, config, *fate) == -signal.SIGKILL
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == remains(tmp_path / "whole")


def test_a_image_that_is_all_object_and_one_below_a_window_train_and_are_looked_at(tmp_path):
    """No background to be had, an object of the whole image, and an image of fewer pixels than a window."""
    stored(tmp_path / "data", (40, 40, [(0, 0, 40, 40, 0, 0)]), (20, 12, [(0, 0, 12, 20, 1, 0)]), (300, 9, []))
    out, data = tmp_path / "run", str(tmp_path / "data" / "data.yaml")
    flags = ["--imgsz", "32", "--epochs", "1", "--batch", "8", "--model", "sliding_window", *CPU]
    assert main(["train", "--data", data, "--out", str(out), *flags]) == 0
    evaluated = ["--weights", str(out / "best.safetensors"), "--data", data, "--json", str(tmp_path / "n.json")]
    assert main(["evaluate", *evaluated, "--device", "cpu"]) == 0
    assert "AP50" in json.loads((tmp_path / "n.json").read_text())


def test_the_commands_from_windows_to_detections(digits, tmp_path, capsys):
    out = tmp_path / "run"
    flags = ["--imgsz", "128", "--epochs", "2", "--batch", "64", "--model", "sliding_window", *CPU]
    assert main(["train", "--data", str(digits), "--out", str(out), *flags]) == 0
    said = capsys.readouterr()
    assert "box" in said.out and "AP50" in said.out
    weights = ["--weights", str(out / "best.safetensors"), *CPU[:4]]
    kept = tmp_path / "n.json", tmp_path / "d.json"
    files = ["--json", str(kept[0]), "--detections", str(kept[1])]
    assert main(["evaluate", *weights, "--data", str(digits), *files]) == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    measured = json.loads(kept[0].read_text())["AR100"]
    assert min(abs(measured - row["AR100"]) for row in rows) < 0.01
    assert len(json.loads(kept[1].read_text())) > 100 and all(row["classes"] > 0 and row["box"] > 0 for row in rows)
    source = ["--source", str(digits / "val"), "--out", str(tmp_path / "p"), "--conf", "0.001", "--imgsz", "64"]
    assert main(["predict", *weights, *source]) == 0
    found = json.loads((tmp_path / "p" / "detections.json").read_text())
    x, y, w, h = np.array([one["bbox"] for one in found]).T
    assert len(found) and min(x.min(), y.min()) >= 0 and max((x + w).max(), (y + h).max()) <= 96.01
    refused = ["--freeze", "-1", "--cache-features", *flags]
    assert main(["train", "--data", str(digits), "--out", str(tmp_path / "no"), *refused]) == 2
    assert "--cache-features" in capsys.readouterr().err
    assert main(["info", "sliding_window"]) == 0
