"""Selective search, its cache, and proposals on their way with the ground truth."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.boxes import iou
from detect.__main__ import main
from detect.api import Detector
from detect.config.augment import AugmentConfig
from detect.data import proposals
from detect.data import selective_search as search
from detect.data.augment.transforms import merge, mirror
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import EvalLoader, TrainLoader
from detect.data.proposals import with_proposals
from detect.data.selective_search import hierarchy, selective_search
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.training.setup import train
from detect.types import Target
from tests.reference.marks import slowly
from tests.reference.runs import remains
from tests.reference.runs import settings as run_settings
from tests.reference.search import grouped

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 8), st.integers(3, 8), st.integers(1, 6), st.integers(0, 2**31))
def test_grouping_is_that_of_the_naive_twin(height, width, most, seed):
    rng = np.random.default_rng(seed)
    _, labels = np.unique(rng.integers(0, most, (height, width)), return_inverse=True)
    regions = labels.reshape(height, width)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    n = int(regions.max()) + 1
    _, _, looks = search._first(pixels, regions, n)
    expected = grouped([regions == i for i in range(n)], list(looks))
    assert hierarchy(pixels, regions).tolist() == expected


def test_histograms_sum_to_one_and_boxes_hold_their_regions():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    regions = np.repeat(np.arange(3), 36).reshape(12, 9)
    sizes, boxes, looks = search._first(pixels, regions, 3)
    assert sizes.tolist() == [36] * 3 and np.allclose(looks.sum(axis=1), 2)
    assert boxes.tolist() == [[0, 0, 9, 4], [0, 4, 9, 8], [0, 8, 9, 12]]


def scene() -> tuple[np.ndarray, torch.Tensor]:
    """Three plain objects on a noisy ground, and their boxes."""
    image = np.random.default_rng(0).integers(90, 110, (120, 160, 3), dtype=np.uint8)
    boxes = [(10, 20, 50, 60), (90, 10, 150, 40), (70, 70, 110, 115)]
    for (x0, y0, x1, y1), colour in zip(boxes, ((250, 20, 20), (20, 20, 250), (240, 240, 10)), strict=True):
        image[y0:y1, x0:x1] = colour
    return image, torch.tensor(boxes, dtype=torch.float32)


def test_plain_objects_are_proposed():
    image, boxes = scene()
    found = torch.from_numpy(selective_search(image))
    assert iou(boxes, found).max(1).values.min() > 0.85
    assert (found[:, :2] >= 0).all() and (found[:, 2:] <= torch.tensor([160, 120])).all()
    assert len(found.unique(dim=0)) == len(found) <= search.MOST
    assert np.array_equal(selective_search(image), found.numpy())
    large = np.repeat(np.repeat(image, 5, 0), 5, 1)  # searched at a smaller size
    again = torch.from_numpy(selective_search(large)) / 5
    assert iou(boxes, again).max(1).values.min() > 0.7


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (40, 40)])
def test_images_with_nothing_in_them(shape):
    found = selective_search(np.full((*shape, 3), 7, np.uint8))
    assert found.shape == ((1, 4) if min(shape) >= search.LEAST else (0, 4)) and found.dtype == np.float32


def test_without_the_extra_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(UserError, match=r"^selective search needs scikit-image: pip install 'gridhead\[proposals\]'$"):
        selective_search(scene()[0])


def test_a_image_is_searched_once(digits, tmp_path, monkeypatch):
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    annotations = load_data(str(data), "val")
    first = with_proposals(annotations, tmp_path / "kept")
    assert len(first.proposal_starts) == len(annotations) + 1 and first.proposal_starts[-1] == len(first.proposals)
    assert np.array_equal(first.target(2).proposals.numpy(), selective_search(annotations.read(2)))
    asked = []
    monkeypatch.setattr(search, "selective_search", lambda image: asked.append(image) or np.ones((1, 4), np.float32))
    assert np.array_equal(with_proposals(annotations, tmp_path / "kept").proposals, first.proposals) and not asked
    picture = annotations.image_path(2)
    picture.write_bytes(picture.read_bytes() + b"\0")  # another file in its place
    changed = with_proposals(annotations, tmp_path / "kept")
    assert len(asked) == 1 and changed.target(2).proposals.tolist() == [[1, 1, 1, 1]]
    some = first.select([3, 1])
    assert [torch.equal(some.target(i).proposals, first.target(j).proposals) for i, j in ((0, 3), (1, 1))] == [True] * 2
    monkeypatch.setattr(proposals, "VERSION", "other settings")
    with_proposals(annotations, tmp_path / "kept")
    assert len(asked) == 1 + len(annotations)


def alike(annotations):
    """The annotations with the boxes of its objects for proposals: both must go the same way."""
    boxes = annotations.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    return dataclasses.replace(annotations, proposals=boxes.astype(np.float32), proposal_starts=annotations.starts)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rotate": 20.0, "shear": 5.0, "perspective": 0.1, "warp": 0.03, "crop": 0.5},
        {"albumentations": [{"Affine": {"rotate": 20, "scale": 0.8, "p": 1.0}}]},
    ],
    ids=["plain", "warped", "albumentations"],
)
def test_proposals_go_where_boxes_go(digits, workers, changes, request):
    if "albumentations" in changes:
        request.getfixturevalue("albumentations")
    config = AugmentConfig(mosaic=0.7, mixup=0.5, mosaic_off=0, flip=0.5, **changes)
    data = CocoDataset(alike(load_data(str(digits), "train")), 64, config, seed=3)
    batches = [b for epoch in range(2) for b in TrainLoader(data, 64, 8, workers).epoch(epoch)]
    targets = [t for batch in batches for t in batch.targets]
    assert sum(map(len, targets)) > 30
    for target in targets:
        assert torch.allclose(target.proposals, target.boxes, atol=1e-4)
    plain = [data.sample(i)[1] for i in range(4)]
    assert all(torch.equal(t.proposals, t.boxes) for t in plain)


def test_proposals_go_where_boxes_go_in_evaluation(digits):
    for batch in EvalLoader(alike(load_data(str(digits), "val")), 64, 3):
        assert all(torch.equal(t.proposals, t.boxes) for t in batch.targets)
        assert all(torch.equal(p, t.proposals) for p, t in zip(batch.proposals, batch.targets, strict=True))
    for batch in EvalLoader(load_data(str(digits), "val"), 64, 3):
        assert batch.proposals is None


def test_merging_and_mirroring():
    none = Target(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).bool(), 1, (10, 20))
    one = dataclasses.replace(none, proposals=torch.tensor([[1.0, 2, 5, 6]]))
    both = mirror(merge([one, one], (10, 20)), None)
    assert both.proposals.tolist() == [[15, 2, 19, 6]] * 2
    assert merge([none, none], (10, 20)).proposals is None and mirror(none, None).proposals is None


KINDS = {
    "faster_rcnn": ["--model.width", "8", "--model.hidden", "[8]"],
    "fast_rcnn": ["--model.width", "8", "--model.hidden", "[8]", "--model.pooling", "max"],
    "rcnn": ["--model.window", "32"],
}


SLOW_BUT_ONE = ["fast_rcnn", *slowly("faster_rcnn", "rcnn")]


@pytest.mark.parametrize("kind", SLOW_BUT_ONE)
def test_from_the_command_line(digits, tmp_path, kind, capsys):
    out, weights = tmp_path / "run", tmp_path / "run" / "best.safetensors"
    common = ["--imgsz", "64", "--device", "cpu"]
    flags = ["--epochs", "1", "--batch", "8", "--workers", "0", *KINDS[kind], *common]
    assert main(["train", "--data", str(digits), "--model", kind, "--out", str(out), *flags]) == 0
    searched = kind != "faster_rcnn"
    assert (out / "proposals").exists() == searched
    files = sorted((out / "proposals").iterdir()) if searched else []
    assert len(files) == 24 * searched
    answers = tmp_path / "found.json"
    asked = ["--conf", "0", "--max-det", "5", "--workers", "0", "--device", "cpu", "--detections", str(answers)]
    assert main(["evaluate", "--weights", str(weights), "--data", str(digits), *asked]) == 0
    assert sorted((out / "proposals").iterdir() if searched else []) == files  # they serve here, too
    assert len(json.loads(answers.read_text())) > 0
    image = next((digits / "val").iterdir())
    shown = ["--conf", "0", "--max-det", "3", "--device", "cpu", "--out", str(tmp_path / "shown")]
    assert main(["predict", "--weights", str(weights), "--source", str(image), *shown]) == 0
    found = json.loads((tmp_path / "shown" / "detections.json").read_text())
    assert 0 < len(found) <= 3
    capsys.readouterr()


def test_prediction_and_evaluation_look_at_the_same_regions(digits, tmp_path):
    config = tiny("fast_rcnn", digits, tmp_path / "run", epochs=1)
    detector = Detector.load(train(config), device="cpu", precision="float32")
    annotations = with_proposals(load_data(str(digits), "val"), tmp_path / "run" / "proposals")
    batch = next(iter(EvalLoader(annotations, 64, 1)))
    seen = []
    detector.model.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    path = annotations.image_path([int(i) for i in annotations.image_ids].index(batch.targets[0].image_id))
    list(detector.predict(str(path)))
    assert torch.allclose(seen[0][0], batch.proposals[0], atol=1e-4)


def tiny(kind, data, out, **changes):
    from detect.models.configs import model_config

    small = {"rcnn": {"window": 32}}.get(kind, {"width": 8, "hidden": [8]})
    return run_settings(data, out, model=dataclasses.replace(model_config(kind), **small), **changes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fast_rcnn", *slowly("faster_rcnn", "rcnn")])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(digits, tmp_path, monkeypatch, kind):
    from detect.training.loop import Trainer

    kept = str(tmp_path / "proposals") if kind != "faster_rcnn" else ""
    whole = tiny(kind, digits, tmp_path / "whole", epochs=2, proposals=kept)
    train(whole)
    cut = dataclasses.replace(whole, out=str(tmp_path / "cut"), save_steps=1)
    old = Trainer._between_steps

    def between(self):
        old(self)
        if self.run.step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_between_steps", between)
        with pytest.raises(KeyboardInterrupt):
            train(cut)
    train(dataclasses.replace(cut, resume=True))
    assert remains(tmp_path / "cut") == remains(tmp_path / "whole")


@pytest.mark.parametrize("kind", SLOW_BUT_ONE)
def test_the_head_alone_trains_on_features_that_are_kept(digits, tmp_path, kind):
    kept = {"proposals": str(tmp_path / "proposals")} if kind != "faster_rcnn" else {}
    config = tiny(kind, digits, tmp_path / "run", epochs=1, multi_scale=0.0, freeze=-1, cache_features=True, **kept)
    weights = train(config)
    first = weights.read_bytes()
    again = dataclasses.replace(config, out=str(tmp_path / "again"), features=str(tmp_path / "run" / "features"))
    assert train(again).read_bytes() == first
