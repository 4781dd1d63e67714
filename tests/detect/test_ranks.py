"""Several processes that train one model: gloo on the CPU."""

import dataclasses
import json
import shutil
import socket
import subprocess
import sys

import pytest
import torch

from detect.config import AugmentConfig, OptimConfig
from detect.errors import UserError
from detect.training.dist import Ranks
from detect.training.setup import train
from tests.reference.rank import gradient, in_float64, together, train_and_tell
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
    for part in ("model", "ema"):
        assert all(torch.equal(v, second[part][k]) for k, v in first[part].items())
    assert [(row["epoch"], row["step"]) for row in rows(out)] == [(0, 4), (1, 8), (2, 12)]

    half = dataclasses.replace(config, out=str(tmp_path / "half"), epochs=3, save_steps=5)
    assert together(train_and_tell, half, port) == [0, 0]
    assert remains(tmp_path / "half") == remains(out)


@pytest.fixture(scope="module")
def sparse(digits, tmp_path_factory):
    """37 images, of which 8 hold objects: one process at batch 16 makes steps of 13, 12 and 12."""
    folder = tmp_path_factory.mktemp("sparse")
    for split in ("train", "val"):
        (folder / split).symlink_to(digits / split)
    shutil.copy(digits / "instances_val.json", folder)
    truth = json.loads((digits / "instances_train.json").read_text())
    files = truth["images"]
    truth["images"] = [{**files[i % len(files)], "id": i} for i in range(37)]
    chosen = {5 * i: files[5 * i % len(files)]["id"] for i in range(8)}
    objects = [(new, o) for new, old in chosen.items() for o in truth["annotations"] if o["image_id"] == old]
    truth["annotations"] = [{**o, "id": i, "image_id": new} for i, (new, o) in enumerate(objects, 1)]
    (folder / "instances_train.json").write_text(json.dumps(truth))
    return folder


def apart_by(found, wanted):
    """The relative difference of two tensors."""
    return ((found - wanted).norm() / wanted.norm()).item()


def test_two_ranks_follow_one_process_of_twice_the_batch(sparse, tmp_path, port):
    config = settings(sparse, tmp_path / "one", batch=16, epochs=7, augment=AugmentConfig(mosaic=0.3))
    assert together(in_float64, config, port, world=1) == [0]
    assert together(in_float64, dataclasses.replace(config, out=str(tmp_path / "two"), batch=8), port) == [0, 0]
    one, two = loaded(tmp_path / "one", 0), [loaded(tmp_path / "two", rank) for rank in (0, 1)]
    assert len(one["steps"]) >= 20
    for alone, *both in zip(one["steps"], two[0]["steps"], two[1]["steps"], strict=True):
        assert sorted(alone["ids"]) == sorted(both[0]["ids"] + both[1]["ids"])
        for name in ("means", "norm"):
            assert ((both[0][name] - alone[name]).abs() <= 1e-6 * alone[name].abs()).all()
    for part in ("model", "ema"):
        for k, v in one[part].items():
            assert torch.equal(two[0][part][k], two[1][part][k])
            assert apart_by(two[0][part][k].double(), v.double()) <= 1e-6, k
    steps = list(zip(two[0]["steps"], two[1]["steps"], strict=True))
    assert any(len(a["ids"]) != len(b["ids"]) for a, b in steps)
    assert any((a["objects"] == 0) != (b["objects"] == 0) for a, b in steps)


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
