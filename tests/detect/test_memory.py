"""Resident memory stays what it was, epoch after epoch, and annotations are there once for all workers."""

import json
import sys

import numpy as np
import pytest

from detect.data.datasets.detection import CocoDataset
from tests.reference.memory import Copying, Leaky, crowded, watch_loaders, watch_training, watch_workers
from tests.reference.runs import settings, status

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's account of memory is Linux's")

WARM, EPOCHS = 30, 50  # twenty count; in the first twenty or so, forked workers copy what they write to, and freed
# memory fills up: over 80 epochs 757, 771 (after 10), 775.8 (after 20), 776.4 (30), 776.8 (40) … 777.4 megabytes
BOUND = 0.5  # megabytes an epoch, over all processes: two kilobytes for each of the 250 samples below


def slope(held):
    """Megabytes an epoch: the median over all pairs of epochs (Theil, 1950; Sen, 1968).

    A leak goes on from epoch to epoch; a step, as of memory that the kernel joins to large pages, moves it little.
    """
    return np.median([(held[j] - held[i]) / (j - i) for j in range(len(held)) for i in range(j)])


def watched(task, tmp_path, *arguments):
    assert status(task, *arguments, tmp_path / "found") == 0
    return json.loads((tmp_path / "found").read_text())


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """200 thousand boxes on 250 images of 64 pixels."""
    return crowded(tmp_path_factory.mktemp("crowd"), 250, 800)


@pytest.mark.slow
def test_loaders_and_workers_hold_no_more_after_twenty_epochs(crowd, tmp_path):
    found = watched(watch_loaders, tmp_path, crowd, CocoDataset, EPOCHS)
    assert slope(found["held"][WARM:]) < BOUND, found["held"]
    assert len(set(found["files"][WARM:])) == 1


@pytest.mark.slow
def test_the_bound_catches_a_leak(crowd, tmp_path):
    found = watched(watch_loaders, tmp_path, crowd, Leaky, 20)
    assert slope(found["held"][10:]) > 2 * BOUND, found["held"]


@pytest.mark.parametrize("kind", [CocoDataset, Copying])
def test_workers_share_the_annotations(tmp_path, kind):
    """Two million boxes, of which every one is read."""
    found = watched(watch_workers, tmp_path, tmp_path, kind, 1000)
    assert found["columns"] > 100 and len(found["alone"]) == 2
    for alone in found["alone"]:
        assert (alone < found["columns"] / 2) == (kind is CocoDataset), found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_training_holds_no_more_after_forty_epochs(digits, tmp_path, workers):
    config = settings(digits, tmp_path / "run", epochs=40, workers=workers, multi_scale=0.0)
    found = watched(watch_training, tmp_path, config)
    assert slope(found["held"][20:]) < BOUND, found["held"]
