"""Which samples come when, to the pixel: one stream for any workers, ranks and interruptions, and look draws it."""

import dataclasses
import hashlib
import importlib.util
import itertools
import signal

import cv2
import numpy as np
import pytest
import torch

from detect.config.augment import AugmentConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import TrainLoader
from detect.data.sources.formats import load_data
from detect.data.toy import build
from detect.types import Target
from tests.reference.doom import doomed
from tests.reference.runs import ready, settings, status
from tools import look

EPOCHS = (0, 2)  # with mosaic and mixup, without
BATCH = 6  # of 16 images: steps of 6, 5 and 5
PIPELINE: list[dict] = [
    {"Rotate": {"limit": 10, "p": 0.5}},
    {"OneOf": {"transforms": [{"GaussNoise": {}}, {"ISONoise": {}}, {"MotionBlur": {}}], "p": 0.9}},
    {"RandomBrightnessContrast": {"p": 0.5}},
    {"CoarseDropout": {"p": 0.3}},
    {"RandomCropFromBorders": {"p": 0.3}},
]
if importlib.util.find_spec("albumentations") is None:  # an extra
    PIPELINE = []

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


def drawn(digits, out, **changes):
    """A run whose every draw is in use: mosaic, mixup, warps, crops, an albumentations pipeline, sizes."""
    moved = {"rotate": 10.0, "shear": 5.0, "perspective": 0.05, "warp": 0.02, "crop": 0.3}
    augment = AugmentConfig(mosaic=0.8, mixup=0.5, mosaic_off=1, albumentations=PIPELINE, **moved)
    return settings(digits, out, **{"batch": BATCH, "augment": augment, **changes})


def plain(image, target):
    """(pixels, boxes, labels, crowd, image id) of a sample."""
    return image, target.boxes.numpy(), target.labels.numpy(), target.crowd.numpy(), np.array(target.image_id)


def samples(loader, epoch, start=0):
    """The samples of an epoch, step by step."""
    for batch in loader.epoch(epoch, start):
        yield list(map(plain, batch.images.permute(0, 2, 3, 1).numpy(), batch.targets))


def looked_at(config, epoch, count, ranks=1):
    """The first samples of an epoch as look has them."""
    return list(itertools.starmap(plain, look.samples(config, "train", epoch, range(count), ranks)[0]))


def made(config, world=1):
    """The loaders of each rank of a run."""
    data = CocoDataset(load_data(config.data, "train"), 64, config.augment, config.seed, config.epochs)
    every = (config.batch, config.workers)
    return [TrainLoader(data, 64, *every, rank, world, config.multi_scale) for rank in range(world)]


def digest(stream):
    """One hash of samples in the order of their positions in the epoch."""
    found = hashlib.sha256()
    for value in itertools.chain.from_iterable(stream):
        found.update(f"{value.shape}{value.dtype}".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def joined(loaders, epoch):
    """The samples of an epoch over all ranks: in every step they take its positions in turn, like dealt cards."""
    for parts in zip(*(samples(loader, epoch) for loader in loaders), strict=True):
        dealt = itertools.chain.from_iterable(itertools.zip_longest(*parts))
        yield from (sample for sample in dealt if sample is not None)


@pytest.fixture(scope="module")
def trainer(digits, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return ready(drawn(digits, tmp_path_factory.mktemp("alone")), patch)


@pytest.fixture(scope="module")
def stream(trainer):
    """The steps of each epoch as one process makes them."""
    return {epoch: list(samples(trainer.loader, epoch)) for epoch in EPOCHS}


@pytest.fixture(scope="module")
def hashes(stream):
    return {epoch: digest(itertools.chain.from_iterable(steps)) for epoch, steps in stream.items()}


def test_the_draws_are_in_use(stream, digits):
    """A hash says nothing where nothing varies."""
    assert len({step[0][0].shape for step in stream[0]}) > 1
    plain, mixed = (sum(len(sample[1]) for step in stream[epoch] for sample in step) for epoch in (2, 0))
    assert mixed > 2 * plain
    ids = {epoch: [int(sample[4]) for step in steps for sample in step] for epoch, steps in stream.items()}
    assert sorted(ids[0]) == sorted(ids[2]) and ids[0] != ids[2]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_one_stream_for_any_number_of_workers(digits, tmp_path, hashes, workers, monkeypatch):
    loader = ready(drawn(digits, tmp_path, workers=workers), monkeypatch).loader
    assert {epoch: digest(joined([loader], epoch)) for epoch in EPOCHS} == hashes


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (2, 1), (3, 0)])
def test_ranks_together_make_the_same_stream(digits, hashes, world, workers):
    loaders = made(drawn(digits, "", batch=BATCH // world, workers=workers), world)
    assert {epoch: digest(joined(loaders, epoch)) for epoch in EPOCHS} == hashes


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_begun_in_the_middle_goes_on_as_it_would_have(digits, stream, hashes, workers):
    (loader,) = made(drawn(digits, "", workers=workers))
    for epoch, start in itertools.product(EPOCHS, range(len(loader) + 1)):
        steps = [*stream[epoch][:start], *samples(loader, epoch, start)]
        assert digest(itertools.chain.from_iterable(steps)) == hashes[epoch]


def test_a_killed_run_goes_on_with_the_samples_that_are_left(digits, tmp_path, stream, hashes, monkeypatch):
    config = drawn(digits, tmp_path / "run", save_steps=1, workers=2)
    assert status(doomed, config, "at_step", 2, "die") == -signal.SIGKILL
    resumed = ready(dataclasses.replace(config, resume=True), monkeypatch)
    assert (resumed.run.epoch, resumed.run.batch) == (0, 1)
    steps = [stream[0][0], *samples(resumed.loader, 0, resumed.run.batch)]
    assert digest(itertools.chain.from_iterable(steps)) == hashes[0]


def test_look_draws_what_the_run_saw(tmp_path, trainer, stream):
    """From the configuration that the run wrote: the same samples, and of them the same image."""
    names = trainer.annotations.names
    out = tmp_path / "look.png"
    for epoch in EPOCHS:
        for position, expected in list(enumerate(itertools.chain.from_iterable(stream[epoch])))[::5]:
            flags = ["--run", str(trainer.run.out), "--epoch", str(epoch), "--index", str(position), "--out", str(out)]
            assert look.main(flags) == 0
            image, boxes, labels, crowd, image_id = expected
            size = image.shape[:2]
            target = Target(*map(torch.from_numpy, (boxes, labels, crowd)), int(image_id), size)
            drawn_large = look.sheet([look.annotate(image, target, names, 2)])
            assert np.array_equal(cv2.imread(str(out))[..., ::-1], drawn_large)


def test_look_gives_the_very_samples(trainer, hashes):
    for epoch in EPOCHS:
        assert digest(looked_at(trainer.config, epoch, 16)) == hashes[epoch]


def test_look_knows_the_order_of_a_run_that_left_bad_images_out(tmp_path, monkeypatch):
    """An image that cannot be decoded leaves the order of the others, and all of them move."""
    folder = build(tmp_path / "digits", train=8, val=2, size=64)
    broken = sorted((folder / "train").iterdir())[2]
    broken.write_bytes(broken.read_bytes()[:600])
    config = drawn(folder, tmp_path / "run", skip_bad=True)
    loader = ready(config, monkeypatch).loader
    assert digest(looked_at(config, 0, 7)) == digest(joined([loader], 0))


def test_look_knows_the_sizes_of_several_ranks(digits):
    """More images a step, fewer steps, other sizes."""
    config = drawn(digits, "", batch=5)
    found = [digest(looked_at(config, 1, 16, ranks)) for ranks in (1, 2, 5)]
    assert found == [digest(joined(made(config, ranks), 1)) for ranks in (1, 2, 5)]
    assert len(set(found)) == 3
