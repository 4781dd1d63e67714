import errno
import gc
import hashlib
import itertools
import multiprocessing
import os
import re
import sys
import tempfile
from dataclasses import replace
from multiprocessing import current_process
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detect.config.augment import AugmentConfig
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import EvalLoader, TrainLoader
from detect.data.rng import batches
from detect.data.workers import _has_sockets, _tell_small, ready_to_fork, through_workers
from detect.data.workers import stream as stream_of
from detect.errors import UserError
from detect.types import Target
from tests.reference.scenes import Store


def dataset(count=21, **options):
    return CocoDataset(Store(count, keypoints=2), 64, AugmentConfig(mixup=0.3), seed=4, **options)


def rows(batch):
    """One hash for each sample of a batch, whatever batch it came in."""
    for image, target in zip(batch.images, batch.targets, strict=True):
        found = hashlib.sha256(image.numpy().tobytes())
        for value in (target.boxes, target.labels, target.crowd, target.keypoints):
            found.update(value.numpy().tobytes())
        found.update(f"{target.image_id} {target.size}".encode())
        yield found.hexdigest()


@given(st.integers(6, 200), st.integers(6, 80), st.integers(1, 6))
def test_a_shared_batch_is_the_same_for_any_number_of_processes(n, shared, world):
    parts = [batches(n, 99, rank, world, shared) for rank in range(world)]
    steps = [np.sort(np.concatenate(step)) for step in zip(*parts, strict=True)]
    alone = batches(n, shared)
    if len(steps) == len(alone):  # fewer only where some process would have no image in a step
        assert all(np.array_equal(a, b) for a, b in zip(steps, alone, strict=True))
    else:
        assert n // world < len(alone)
    assert max(map(len, itertools.chain(*parts))) <= -(-max(map(len, steps)) // world)


def test_a_shared_batch_has_an_image_for_each_process():
    with pytest.raises(UserError, match="--global-batch 2 cannot be shared among 3 processes"):
        batches(20, 8, 0, 3, 2)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 6))
def test_batches_take_every_position_once_and_in_equal_parts(n, batch, world):
    if n < world:
        with pytest.raises(UserError, match="processes"):
            batches(n, batch, 0, world)
        return
    parts = [batches(n, batch, rank, world) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    together = []
    for step in zip(*parts, strict=True):
        assert all(len(part) for part in step)
        joined = np.sort(np.concatenate(step))
        assert np.array_equal(joined, np.arange(joined[0], joined[0] + len(joined)))
        together.append(joined)
    assert np.array_equal(np.concatenate(together), np.arange(n))
    assert max(map(len, together)) - min(map(len, together)) <= 1
    assert max(map(len, itertools.chain(*parts))) <= batch + 1


def test_batches_of_nothing():
    with pytest.raises(UserError):
        batches(0, 4)


@pytest.fixture(scope="module")
def stream():
    """Two epochs as one process makes them: (epoch, step) -> hashes and side."""
    loader = TrainLoader(dataset(), 64, 8, multi_scale=0.5)
    return {(e, s): (list(rows(b)), b.images.shape[-1]) for e in (0, 1) for s, b in enumerate(loader.epoch(e))}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_makes_the_same_stream(stream, workers):
    loader = TrainLoader(dataset(), 64, 8, workers=workers, multi_scale=0.5)
    for epoch in (0, 1):
        for step, batch in enumerate(loader.epoch(epoch)):
            assert (list(rows(batch)), batch.images.shape[-1]) == stream[epoch, step]


def small(free):
    """os.statvfs of a /dev/shm with so many bytes free."""
    return lambda path: SimpleNamespace(f_bavail=free // 512, f_frsize=512)


def full(*arguments, **options):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


@pytest.mark.parametrize("way", [("os.statvfs", small(20_000)), ("torch.UntypedStorage._new_shared", full)])
def test_a_small_shared_memory_makes_the_same_stream_and_is_told_of_once(stream, monkeypatch, capsys, way):
    monkeypatch.setattr(*way)
    _tell_small.cache_clear()
    loader = TrainLoader(dataset(), 64, 8, workers=2, multi_scale=0.5)
    for epoch in (0, 1):
        for step, batch in enumerate(loader.epoch(epoch)):
            assert (list(rows(batch)), batch.images.shape[-1]) == stream[epoch, step]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "lower --workers" in said and "--shm-size" in said


@pytest.mark.parametrize("place", ["x" * 90, "absent"])
def test_a_temporary_folder_without_sockets_makes_the_same_stream_and_is_told_of_once(
    stream, tmp_path, monkeypatch, capsys, place
):
    """multiprocessing keeps its folder for sockets in `_config` once it has made one."""
    if place != "absent":
        (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    monkeypatch.delitem(current_process()._config, "tempdir", raising=False)
    _tell_small.cache_clear(), _has_sockets.cache_clear()
    loader = TrainLoader(dataset(), 64, 8, workers=2, multi_scale=0.5)
    for step, batch in enumerate(loader.epoch(0)):
        assert (list(rows(batch)), batch.images.shape[-1]) == stream[0, step]
    monkeypatch.undo()
    _has_sockets.cache_clear()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{tmp_path / place} holds no sockets" in said and "TMPDIR" in said


def test_shared_memory_is_used_where_every_worker_has_room(monkeypatch, capsys):
    _tell_small.cache_clear()
    monkeypatch.setattr("os.statvfs", small(2 * 8 * 3 * 64 * 64))
    assert all(batch.images.is_shared() for batch in TrainLoader(dataset(), 64, 8, workers=2).epoch(0))
    assert capsys.readouterr().err == ""


WORKER = "Caught RuntimeError in DataLoader worker process 0.\nTraceback\n unable to open shared memory object"
FAILURES = [
    (OSError(errno.ENOSPC, "No space left on device"), "/dev/shm is full: lower --workers"),
    (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "unavailable; lower --workers"),
    (RuntimeError(WORKER), "unable to open shared memory object; /dev/shm is full"),
]


@pytest.mark.parametrize(("error", "said"), FAILURES)
def test_what_the_machine_lacks_is_one_line(monkeypatch, error, said):
    def fails(self):
        raise error

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", fails)
    with pytest.raises(UserError) as caught:
        next(TrainLoader(dataset(), 64, 8, workers=2).epoch(0))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_defect_of_a_worker_stays_one(monkeypatch):
    monkeypatch.setattr("detect.data.workers._shared", lambda room, workers: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(TrainLoader(dataset(), 64, 8, workers=1).epoch(0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_as_it_would_have(stream, workers):
    loader = TrainLoader(dataset(), 64, 8, workers=workers, multi_scale=0.5)
    next(loader.epoch(0))  # an epoch that was left early must leave no trace
    for start in range(len(loader) + 1):
        found = [(list(rows(batch)), batch.images.shape[-1]) for batch in loader.epoch(1, start)]
        assert found == [stream[1, step] for step in range(start, len(loader))]


@pytest.mark.parametrize("world, batch", [(2, 4), (4, 2)])
def test_ranks_together_make_the_same_stream(stream, world, batch):
    loaders = [TrainLoader(dataset(), 64, batch, rank=r, world=world, multi_scale=0.5) for r in range(world)]
    for epoch in (0, 1):
        for step, parts in enumerate(zip(*(loader.epoch(epoch) for loader in loaders), strict=True)):
            expected, side = stream[epoch, step]
            assert sorted(row for part in parts for row in rows(part)) == sorted(expected)
            assert {part.images.shape[-1] for part in parts} == {side}


def plan_sides(plan, epoch):
    plan.epoch = epoch
    return [keys[0].size for keys in plan]


def test_sides_are_drawn_from_their_range():
    loader = TrainLoader(dataset(), 320, 8, multi_scale=0.25)
    drawn = [plan_sides(loader.plan, epoch) for epoch in range(40)]
    assert {side for sides in drawn for side in sides} == {256, 288, 320, 352, 384}
    assert plan_sides(TrainLoader(dataset(), 320, 8).plan, 3) == [320] * 3


def test_iterating_leaves_the_random_state_of_the_training_alone():
    state = torch.random.get_rng_state()
    list(TrainLoader(dataset(), 64, 8, workers=1).epoch(0))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_batch_is_what_the_types_say():
    batch = next(TrainLoader(dataset(), 64, 8).epoch(0))
    assert batch.images.shape == (7, 3, 64, 64) and batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert len(batch.targets) == 7 and batch.fits == []
    assert all(target.keypoints.shape == (len(target), 2, 3) for target in batch.targets)


def outlined(key):
    """A sample with what tasks other than detection learn from; `key` objects, none in sample 0."""
    rng = np.random.default_rng(key)
    target = Target(
        torch.rand(key, 4),
        torch.arange(key),
        torch.zeros(key, dtype=torch.bool),
        key,
        (32, 48),
        masks=torch.from_numpy(rng.integers(0, 256, (key, 56, 56), np.uint8)),
        oriented=torch.rand(key, 5),
        label_map=torch.from_numpy(rng.integers(0, 256, (32, 48), np.uint8)),
    )
    return np.zeros((32, 48, 3), np.uint8), target


@pytest.mark.parametrize("workers", [0, 2])
def test_every_field_of_a_target_arrives(workers, monkeypatch):
    """Masks, oriented boxes and label maps too; large fields, as a crowd's masks, through shared memory."""
    monkeypatch.setattr("detect.data.workers.LARGE", 2**13)
    keys = [[3, 0, 2], [0, 0], [1]]
    batches = list(stream_of(through_workers(outlined, keys, workers, False)))
    for chosen, batch in zip(keys, batches, strict=True):
        for key, target in zip(chosen, batch.targets, strict=True):
            expected = outlined(key)[1]
            assert (target.image_id, target.size, target.keypoints) == (key, (32, 48), None)
            for name in ("labels", "masks", "label_map"):
                assert torch.equal(getattr(target, name), getattr(expected, name))
            assert target.oriented.shape == (key, 5) and target.oriented.dtype == torch.float32
            assert target.masks.is_shared() == (workers > 0 and len(chosen) > 2)
            assert target[target.labels > 0].masks.shape == (max(key - 1, 0), 56, 56)


def test_rows_of_a_target_must_match():
    with pytest.raises(ValueError, match=r"Target\.masks has 2 rows, boxes have 3"):
        replace(outlined(3)[1], masks=torch.zeros(2, 56, 56, dtype=torch.uint8))


def message(stream):
    """What the UserError says; caught here, so that no frame of a test keeps the workers alive."""
    try:
        for _ in stream:
            pass
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_user_error_arrives_as_itself(workers):
    data = dataset(9)
    data.annotations.bad = {3}
    assert message(TrainLoader(data, 64, 4, workers=workers).epoch(0)) == "image-3.jpg: cannot be read"
    assert message(EvalLoader(data.annotations, 64, 4, workers=workers, cache_gb=0.0)) == "image-3.jpg: cannot be read"


def test_workers_share_one_cache():
    data = dataset(12)
    loader = TrainLoader(data, 64, 4, workers=2)
    for epoch in range(6):
        list(loader.epoch(epoch))
    assert data.cache.shapes[:, 0].all()  # the workers stored them, the main process sees them
    assert data.annotations.reads == 0


def test_evaluation_sees_every_image_once():
    annotations = Store(23, keypoints=2)
    for world, workers in [(1, 0), (1, 2), (3, 0)]:
        seen = []
        for rank in range(world):
            loader = EvalLoader(annotations, 96, 4, workers=workers, rank=rank, world=world)
            for _ in range(2):
                found = []
                for batch in loader:
                    assert len(batch) == len(batch.fits) <= 4
                    for image, target, fit in zip(batch.images, batch.targets, batch.fits, strict=True):
                        index = annotations.image_ids.tolist().index(target.image_id)
                        assert target.size == fit.canvas == tuple(image.shape[1:])
                        assert np.array_equal(image.permute(1, 2, 0).numpy(), fit.apply(annotations.read(index)))
                        assert torch.allclose(fit.undo(target.boxes), annotations.target(index).boxes, atol=1e-4)
                        found.append(target.image_id)
            seen += found
        assert sorted(seen) == sorted(annotations.image_ids.tolist())


def test_evaluation_of_nothing():
    assert list(EvalLoader(Store(0), 64, 4)) == []
    assert len(list(EvalLoader(Store(2), 64, 4, rank=5, world=6))) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there are workers forked")
def test_workers_are_forked_while_opencv_has_no_threads(monkeypatch):
    before, counts, fork = cv2.getNumThreads(), [], os.fork
    monkeypatch.setattr(os, "fork", lambda: (counts.append(len(os.listdir("/proc/self/task"))), fork())[1])
    try:
        cv2.setNumThreads(1)
        alone = len(os.listdir("/proc/self/task"))
        cv2.setNumThreads(3)
        cv2.GaussianBlur(np.zeros((999, 999, 3), np.uint8), (0, 0), 3)
        assert len(os.listdir("/proc/self/task")) == alone + 2
        assert len(list(TrainLoader(dataset(), 64, 8, workers=2).epoch(0))) == 3
        assert len(counts) == 2 and max(counts) <= alone and cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def copied_by_a_collection(sender):
    """Send how many kB of memory garbage collection copies in this process."""

    def own():
        return int(re.search(r"Private_Dirty: +(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])

    before = own()
    gc.collect()
    sender.send(own() - before)


@pytest.mark.skipif(sys.platform != "linux", reason="only there are workers forked")
def test_garbage_collection_in_a_worker_copies_nothing_of_the_main_process():
    held = [[] for _ in range(300_000)]  # some 20 MB of objects that a collector writes into
    receiver, sender = multiprocessing.Pipe(duplex=False)
    with ready_to_fork():
        process = multiprocessing.get_context("fork").Process(target=copied_by_a_collection, args=(sender,))
        process.start()
    assert receiver.recv() < 4_000
    process.join()
    assert len(held) == 300_000 and gc.get_freeze_count() == 0
