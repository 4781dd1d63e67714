"""Stylized copies in training: who gets one is a function of (seed, epoch, image), and boxes stay as they are."""

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.data.augment.stylized import StylizedCopies
from detect.data.datasets.crops import CropDataset, Crops
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import TrainLoader
from detect.data.rng import SampleKey
from detect.data.sources.formats import load_data
from detect.errors import UserError

STILL = AugmentConfig(mosaic=0, scale=0, translate=0, flip=0, hue=0, saturation=0, value=0)


@pytest.fixture(scope="module")
def inverted(digits, tmp_path_factory):
    """Copies in which black is white and white black, for all training images but one."""
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(digits / "train", folder / "train")
    files = sorted((folder / "train").iterdir())
    files[5].unlink()
    for file in files:
        if file.exists():
            cv2.imwrite(str(file), 255 - cv2.imread(str(file)), [cv2.IMWRITE_JPEG_QUALITY, 98])
    return folder


@pytest.fixture(scope="module")
def annotations(digits):
    return load_data(digits, "train")


def samples(data, epoch=0):
    return [data[SampleKey(epoch, position, 96)] for position in range(len(data))]


def test_copies_are_drawn_and_boxes_stay(annotations, inverted, capsys):
    plain = CocoDataset(annotations, 96, STILL)
    data = CocoDataset(annotations, 96, replace(STILL, stylized=str(inverted), stylized_share=1.0))
    assert capsys.readouterr().err == f"{inverted}: 1 of 16 images have no copy and stay as they are\n"
    same = 0
    for (image, target), (copy, moved) in zip(samples(plain), samples(data), strict=True):
        assert torch.equal(target.boxes, moved.boxes) and torch.equal(target.labels, moved.labels)
        assert target.image_id == moved.image_id
        same += np.array_equal(image, copy)
        if not np.array_equal(image, copy):
            assert np.abs(255 - image.astype(int) - copy).mean() < 6
    assert same == 1


def test_the_rest_of_a_sample_is_as_it_would_be(annotations, inverted):
    full = AugmentConfig(mosaic=0.5, mixup=0.5)
    plain = CocoDataset(annotations, 96, full, seed=3)
    data = CocoDataset(annotations, 96, replace(full, stylized=str(inverted), stylized_share=0.5), seed=3)
    pairs = list(zip(samples(plain), samples(data), strict=True))
    assert all(torch.equal(a.boxes, b.boxes) for (_, a), (_, b) in pairs)
    assert any(not np.array_equal(a, b) for (a, _), (b, _) in pairs)


def test_who_is_copied_depends_on_seed_epoch_and_image(annotations, inverted):
    def shown(seed, epoch):
        copies = StylizedCopies(annotations, replace(STILL, stylized=str(inverted), stylized_share=0.3), seed)
        return [copies.shown(i, epoch) for i in range(len(annotations))]

    assert shown(0, 1) == shown(0, 1) != shown(0, 2)
    assert shown(0, 1) != shown(1, 1)
    assert sum(sum(shown(0, epoch)) for epoch in range(200)) == pytest.approx(0.3 * 15 * 200, rel=0.1)
    assert not any(shown(0, None))


def test_workers_and_caches_change_nothing(annotations, inverted):
    config = replace(AugmentConfig(), stylized=str(inverted), stylized_share=0.5)
    batches = []
    for workers, cache in ((0, 1.0), (0, 0.0), (2, 1.0)):
        loader = TrainLoader(CocoDataset(annotations, 96, config, seed=1, cache_gb=cache), 96, 4, workers)
        batches.append([batch.images for epoch in (0, 1) for batch in loader.epoch(epoch)])
    for others in batches[1:]:
        assert all(torch.equal(a, b) for a, b in zip(batches[0], others, strict=True))


def test_crops_are_cut_out_of_copies(annotations, inverted):
    plain = CropDataset(Crops.of(annotations), 32, STILL)
    data = CropDataset(Crops.of(annotations), 32, replace(STILL, stylized=str(inverted), stylized_share=1.0))
    differ = 0
    for (image, target), (copy, other) in zip(samples(plain), samples(data), strict=True):
        assert target.labels.tolist() == other.labels.tolist()
        differ += not np.array_equal(image, copy)
    assert differ >= 0.8 * len(data)
    assert np.array_equal(plain.sample(0)[0], data.sample(0)[0])  # what is looked at without augmentation


def test_training_takes_them(digits, inverted, tmp_path, one_thread):
    words = f"--data {digits} --out {tmp_path / 'run'} --augment.stylized {inverted} --augment.stylized_share 0.5"
    small = "--epochs 1 --imgsz 64 --batch 8 --workers 0 --device cpu --precision float32"
    thin = "--model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0"
    assert main(["train", *words.split(), *small.split(), *thin.split()]) == 0
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["epoch"] == 0


def test_a_folder_without_a_copy_is_refused(annotations, tmp_path):
    with pytest.raises(UserError, match=r"has no copy of any image of .*: make them with detect stylize"):
        CocoDataset(annotations, 96, replace(STILL, stylized=str(tmp_path / "none")))


def test_a_copy_of_another_size_is_refused(annotations, inverted, tmp_path):
    shutil.copytree(inverted / "train", tmp_path / "train")
    for file in (tmp_path / "train").iterdir():
        cv2.imwrite(str(file), np.zeros((50, 40, 3), np.uint8))
    data = CocoDataset(annotations, 96, replace(STILL, stylized=str(tmp_path), stylized_share=1.0))
    with pytest.raises(UserError, match=r"annotated as 96 x 96 pixels .* but the file is 40 x 50"):
        samples(data)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--augment.stylized_share 0.5", "--augment.stylized-share is read with --augment.stylized alone"),
        ("--model sliding_window --augment.stylized copies", "--augment.stylized has no effect on model"),
        ("--augment.stylized_share 2", "--augment.stylized-share is 2"),
    ],
)
def test_flags_that_nothing_would_read(words, said, capsys):
    assert main(["train", "--data", "toy", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error
