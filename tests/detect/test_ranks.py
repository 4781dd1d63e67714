"""Several processes that train one model: gloo on the CPU."""

import dataclasses
import socket
import subprocess
import sys

import pytest
import torch

from detect.config import OptimConfig
from detect.errors import UserError
from detect.training.dist import Ranks
from detect.training.setup import train
from tests.reference.rank import gradient, together, train_and_tell
from tests.reference.runs import ready, remains, rows, settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def loaded(out, rank):
    return torch.load(f"{out}-rank-{rank}.pt", weights_only=True)


def test_two_ranks_end_with_one_model_and_one_set_of_files(digits, tmp_path, port):
    out = tmp_path / "run"
    config = settings(digits, out, batch=2, workers=1)
    assert together(train_and_tell, config, port) == [0, 0]
    assert {path.name for path in out.iterdir()} == {"best.safetensors", "config.yaml", "last.ckpt", "metrics.jsonl"}
    first, second = loaded(out, 0), loaded(out, 1)
    assert first["best"] == second["best"]
    assert all(torch.equal(v, second["ema"][k]) for k, v in first["ema"].items())
    learned = [k for k in first["model"] if "running" not in k]  # each rank's statistics are its own
    assert all(torch.equal(first["model"][k], second["model"][k]) for k in learned)
    assert [(row["epoch"], row["step"]) for row in rows(out)] == [(0, 4), (1, 8), (2, 12)]

    half = dataclasses.replace(config, out=str(tmp_path / "half"), epochs=3, save_steps=5)
    assert together(train_and_tell, half, port) == [0, 0]
    assert remains(tmp_path / "half") == remains(out)


def test_the_gradient_of_two_ranks_is_that_of_one(digits, tmp_path, port, monkeypatch):
    optim = OptimConfig(accumulate=2)
    config = settings(digits, tmp_path / "two", batch=2, multi_scale=0.0, optim=optim)
    assert together(gradient, config, port) == [0, 0]
    alone = ready(dataclasses.replace(config, out=str(tmp_path / "one"), batch=4), monkeypatch)
    alone.run.model.eval()
    batches = list(alone.loader.epoch(0))[:2]
    means = alone._backward(batches)
    ids = sorted(t.image_id for batch in batches for t in batch.targets)
    assert sorted(loaded(tmp_path / "two", 0)["ids"] + loaded(tmp_path / "two", 1)["ids"]) == ids
    for rank in (0, 1):
        found = loaded(tmp_path / "two", rank)
        assert torch.allclose(found["means"], means, rtol=1e-5)
        for ours, theirs in zip(alone.run.model.parameters(), found["grads"], strict=True):
            assert torch.allclose(ours.grad, theirs, rtol=1e-3, atol=1e-6)


def test_one_process_needs_no_group():
    x = torch.ones(2)
    assert Ranks().sum(x) is x and Ranks().gather(3) == [3] and Ranks().main
    Ranks().wait()
    Ranks().share_buffers(torch.nn.BatchNorm2d(2))


def test_a_checkpoint_of_one_process_is_not_continued_by_two(digits, tmp_path, monkeypatch):
    """Where an epoch stands is counted in batches of each rank."""
    train(settings(digits, tmp_path, epochs=1))
    with pytest.raises(UserError, match="processes"):
        train(settings(digits, tmp_path, epochs=2, batch=2, resume=True))


@pytest.mark.slow
def test_torchrun(digits, tmp_path):
    train(settings(digits, tmp_path / "one", epochs=1))
    flags = ["--config", str(tmp_path / "one" / "config.yaml"), "--out", str(tmp_path / "two"), "--epochs", "2"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    work = subprocess.run([*launcher, "-m", "detect", "train", *flags], capture_output=True, text=True, timeout=120)
    assert work.returncode == 0, work.stderr
    assert work.stdout.count("best weights") == 1
    assert [row["epoch"] for row in rows(tmp_path / "two")] == [0, 1]
