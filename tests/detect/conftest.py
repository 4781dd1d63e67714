"""What several test files share: a small embedded set, made once a session."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch

from detect.data.toy import build
from tests.reference.server import BOUNDS, Server, weights_file


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The embedded set with 16 training and 8 held-out images of 96 pixels. Read only."""
    return build(tmp_path_factory.mktemp("toy") / "digits", train=16, val=8, size=96)


@pytest.fixture(scope="session")
def served_weights(tmp_path_factory) -> Path:
    """Weights that `detect serve` is started with: they see a few cats everywhere."""
    return weights_file(tmp_path_factory.mktemp("served") / "w.safetensors")


@pytest.fixture(scope="session")
def server(served_weights):
    """`detect serve` with tight bounds."""
    one = Server(served_weights, *BOUNDS)
    yield one
    one.stop()


@pytest.fixture(scope="session")
def albumentations():
    """Skips where the extra is not installed."""
    pytest.importorskip("albumentations")


@pytest.fixture(scope="module")
def one_thread():
    """Small networks are slower with more, and bits depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def marked(digits, tmp_path_factory):
    """The embedded set, each digit with two opposite corners as keypoints, now and then without."""
    folder = tmp_path_factory.mktemp("marked") / "digits"
    shutil.copytree(digits, folder)
    for split in ("train", "val"):
        path = folder / f"instances_{split}.json"
        data = json.loads(path.read_text())
        for category in data["categories"]:
            category |= {"keypoints": ["left_top", "right_bottom", "middle"], "skeleton": [[1, 2]]}
        for n, one in enumerate(data["annotations"]):
            x, y, w, h = one["bbox"]
            points = [x, y, 2, x + w, y + h, 1, 0, 0, 0]
            one["keypoints"] = points if n % 5 else [0] * 9
            one["num_keypoints"] = 2 if n % 5 else 0
        path.write_text(json.dumps(data))
    return folder


@pytest.fixture
def port():
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
