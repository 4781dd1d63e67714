"""Several processes that train one model: gloo on the CPU."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.errors import UserError
from detect.models.configs import model_config
from detect.models.configs.classifier import ClassifierConfig, ClassifierLossConfig
from detect.training.dist import Ranks
from detect.training.run_record import SHARING
from detect.training.setup import _require_one_folder, train
from tests.reference.marks import slowly
from tests.reference.rank import (
    KINDS,
    gradient,
    in_float64,
    layer_and_images,
    normalize,
    normalized,
    together,
    train_and_tell,
)
from tests.reference.runs import ready, remains, rows, settings
from tests.reference.signals import waves, write

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(out, rank):
    return torch.load(f"{out}-rank-{rank}.pt", weights_only=True)


def test_two_ranks_end_with_one_model_and_one_set_of_files(digits, tmp_path, port):
    out = tmp_path / "run"
    config = settings(digits, out, batch=2, workers=1)
    assert together(train_and_tell, config, port) == [0, 0]
    assert {path.name for path in out.iterdir()} == {
        *("best.safetensors", "config.yaml", "last.ckpt"),
        *("metrics.jsonl", "notes.json"),
    }
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
        shutil.copytree(digits / split, folder / split)
    shutil.copy(digits / "instances_val.json", folder)
    ground_truth = json.loads((digits / "instances_train.json").read_text())
    files = ground_truth["images"]
    ground_truth["images"] = [{**files[i % len(files)], "id": i} for i in range(37)]
    chosen = {5 * i: files[5 * i % len(files)]["id"] for i in range(8)}
    objects = [(new, o) for new, old in chosen.items() for o in ground_truth["annotations"] if o["image_id"] == old]
    ground_truth["annotations"] = [{**o, "id": i, "image_id": new} for i, (new, o) in enumerate(objects, 1)]
    (folder / "instances_train.json").write_text(json.dumps(ground_truth))
    return folder


def apart_by(found, expected):
    """The relative difference of two tensors."""
    return ((found - expected).norm() / expected.norm()).item()


def one_and_two(config, folder, port):
    """The steps of two ranks that follow, in float64, those of one process of twice their batch."""
    assert together(in_float64, dataclasses.replace(config, out=str(folder / "one")), port, world=1) == [0]
    half = dataclasses.replace(config, out=str(folder / "two"), batch=config.batch // 2)
    assert together(in_float64, half, port) == [0, 0]
    one, two = loaded(folder / "one", 0), [loaded(folder / "two", rank) for rank in (0, 1)]
    for alone, *both in zip(one["steps"], two[0]["steps"], two[1]["steps"], strict=True):
        assert sorted(alone["ids"]) == sorted(both[0]["ids"] + both[1]["ids"])
        for name in ("means", "norm"):
            assert ((both[0][name] - alone[name]).abs() <= 1e-6 * alone[name].abs()).all()
    for part in ("model", "ema"):
        for k, v in one[part].items():
            assert torch.equal(two[0][part][k], two[1][part][k])
            assert apart_by(two[0][part][k].double(), v.double()) <= 1e-6, k
    return list(zip(two[0]["steps"], two[1]["steps"], strict=True))


def test_two_ranks_follow_one_process_of_twice_the_batch(sparse, tmp_path, port):
    config = settings(sparse, tmp_path, batch=16, epochs=7, augment=AugmentConfig(mosaic=0.3))
    steps = one_and_two(config, tmp_path, port)
    assert len(steps) >= 20
    assert any(len(a["ids"]) != len(b["ids"]) for a, b in steps)
    assert any((a["objects"] == 0) != (b["objects"] == 0) for a, b in steps)


@pytest.mark.slow
def test_so_do_two_ranks_of_a_classifier(digits, tmp_path, port):
    loss = ClassifierLossConfig(smoothing=0.1, class_weights=[1.0, 2.0] * 5)
    model = ClassifierConfig(name="csp_n", backbone="csp_n", loss=loss)
    config = settings(digits, tmp_path, model=model, task="classify", batch=8, epochs=2, balance="sampling")
    steps = one_and_two(config, tmp_path, port)
    assert len(steps) >= 10 and any(len(a["ids"]) != len(b["ids"]) for a, b in steps)
    one, two = (rows(tmp_path / name) for name in ("one", "two"))
    assert [row["top1"] for row in one] == [row["top1"] for row in two] and len(two) == 2


@pytest.mark.slow
def test_so_do_two_ranks_of_signals(tmp_path, port):
    model = ClassifierConfig(name="csp_n", backbone="csp_n", dims=1)
    data = write(tmp_path / "waves.npz", waves)
    config = settings(data, tmp_path, model=model, task="classify", batch=8, epochs=2, multi_scale=0.0)
    assert len(one_and_two(config, tmp_path, port)) == 8


@pytest.mark.slow
def test_the_number_of_ranks_may_change_between_checkpoints(sparse, tmp_path, port):
    """With --global-batch: a step has the same images and the same mean losses, whoever shares it."""
    config = settings(sparse, tmp_path / "one", batch=5, epochs=5, global_batch=12, augment=AugmentConfig(mosaic=0.3))
    assert together(in_float64, config, port, world=1) == [0]
    changing, steps = dataclasses.replace(config, out=str(tmp_path / "many")), []
    for world, last in ((2, 3), (3, 9), (1, -1)):
        resumed = dataclasses.replace(changing, resume=bool(steps))
        assert together(partial(in_float64, last=last), resumed, port, world=world) == [0] * world
        parts = [loaded(tmp_path / "many", rank)["steps"] for rank in range(world)]
        steps += zip(*parts, strict=True)
    one, many = loaded(tmp_path / "one", 0), loaded(tmp_path / "many", 0)
    assert [len(step) for step in steps] == [2] * 3 + [3] * 6 + [1] * 11
    for alone, shared in zip(one["steps"], steps, strict=True):
        assert sorted(alone["ids"]) == sorted(i for part in shared for i in part["ids"])
        for name in ("means", "norm"):
            assert ((shared[0][name] - alone[name]).abs() <= 1e-6 * alone[name].abs()).all()
    assert all(apart_by(many["model"][k].double(), v.double()) <= 1e-6 for k, v in one["model"].items())
    lines = [json.loads(line) for line in (tmp_path / "many" / "changes.jsonl").read_text().splitlines()]
    assert [line["changed"] for line in lines] == [{SHARING: [2, 3]}, {SHARING: [3, 1]}]


def test_a_folder_that_machines_do_not_share_is_refused(monkeypatch):
    ranks = Ranks(1, 3)
    monkeypatch.setattr(Ranks, "gather", lambda self, value: [12, 12, value])
    run = SimpleNamespace(step=0, checkpoint=Path("runs/last.ckpt"))
    with pytest.raises(UserError, match=r"process 0 finds step 12 in .*, process 2 finds no checkpoint: put --out"):
        _require_one_folder(run, ranks)
    run.step = 12
    _require_one_folder(run, ranks)


def small(kind):
    """A small model of a kind, as its configuration would have it but for its width."""
    config = model_config(kind)
    return dataclasses.replace(config, width=16) if hasattr(config, "width") else config


@pytest.mark.parametrize("kind", slowly("yolo_n_points", "localizer", "landmarker"))
def test_so_do_two_ranks_of_other_kinds(marked, tmp_path, port, kind):
    """Those whose loss is a sum over images, whoever else is in the batch."""
    augment = AugmentConfig(flip_pairs=[] if kind == "localizer" else [[0, 1]])
    config = settings(marked, tmp_path, model=small(kind), batch=8, epochs=2, augment=augment)
    assert len(one_and_two(config, tmp_path, port)) >= 4


@pytest.mark.parametrize("kind", ["faster_rcnn", *slowly("sliding_window", "fast_rcnn", "rcnn", "embedder")])
def test_two_ranks_of_those_that_draw_end_with_one_model(digits, tmp_path, port, kind):
    """Which windows, regions and triplets count is drawn by each rank: no one process draws the same."""
    task = "embed" if kind == "embedder" else "detect"
    config = settings(
        digits,
        tmp_path / "run",
        task=task,
        model=small(kind),
        batch=4,
        epochs=1,
        multi_scale=0.0,
        images_per_identity=2,
    )
    assert together(train_and_tell, config, port) == [0, 0]
    first, second = loaded(tmp_path / "run", 0), loaded(tmp_path / "run", 1)
    assert all(torch.equal(v, second["model"][k]) for k, v in first["model"].items())
    assert first["best"] == second["best"] and len(rows(tmp_path / "run")) == 1


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
        assert torch.allclose(found["means"], means, rtol=1e-4)
        for ours, reference in zip(alone.run.model.parameters(), found["grads"], strict=True):
            assert torch.allclose(ours.grad, reference, rtol=1e-3, atol=1e-5)


def test_one_process_needs_no_group():
    x = torch.ones(2)
    assert Ranks().sum(x) is x and Ranks().gather(3) == [3] and Ranks().main
    Ranks().wait()


def test_a_checkpoint_of_one_process_is_not_continued_by_two(digits, tmp_path, monkeypatch):
    """Where an epoch stands is counted in batches of each rank."""
    train(settings(digits, tmp_path, epochs=1))
    with pytest.raises(UserError, match="processes"):
        train(settings(digits, tmp_path, epochs=2, batch=2, resume=True))


def test_parts_are_normalized_as_the_whole(tmp_path, port):
    assert together(normalize, tmp_path, port, world=3) == [0, 0, 0]
    ranks = [torch.load(tmp_path / f"norm-{rank}.pt", weights_only=True) for rank in range(3)]
    for kind in KINDS:
        layer, images, grads = layer_and_images(kind)
        exact = normalized(layer.double(), images.double(), grads.double())
        found = {k: torch.cat([r[kind][k] for r in ranks]) for k in ("out", "gradient")}
        found |= {
            f"{k} gradient": sum(r[kind][f"{k} gradient"] for r in ranks) for k in ("weight", "bias") if layer.affine
        }
        assert found["out"].dtype == found["gradient"].dtype == images.dtype
        if images.ndim == 4:
            assert all(r[kind]["out"].is_contiguous(memory_format=torch.channels_last) for r in ranks)
        for k in ("running_mean", "running_var", "num_batches_tracked"):
            found[k] = ranks[0][kind][k]
            assert all(torch.equal(r[kind][k], found[k]) for r in ranks)
        near = {"float64": 1e-11, "float32": 1e-4, "bfloat16": 1e-4, "vectors": 1e-11}[kind]
        for k, v in exact.items():
            coarse = kind == "bfloat16" and k in ("out", "gradient")
            assert apart_by(found[k].double(), v.double()) <= (4e-3 if coarse else near), (kind, k)


def by_torchrun(config, folder, world, *flags):
    """A run by torchrun of which rank 0 dies in its seventh step, at the first attempt."""
    (folder / "given.yaml").write_text(yaml.safe_dump(dataclasses.asdict(config)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(world), *flags]
    program = ["-m", "tests.reference.rank", "6", "train", "--config", str(folder / "given.yaml")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the ranks of `together`: bits are those of a number of threads
    return subprocess.run([*launcher, *program], cwd=ROOT, capture_output=True, text=True, timeout=600, env=alone)


LOST = "error: another process of this run has ended: "


@pytest.mark.slow
def test_torchrun_starts_a_run_again_and_nothing_is_lost(digits, tmp_path, port):
    """Of three ranks, for how two add up depends on nothing."""
    config = settings(digits, tmp_path / "whole", batch=2, workers=1, save_steps=2)
    assert together(train, config, port, world=3) == [0, 0, 0]
    again = dataclasses.replace(config, out=str(tmp_path / "again"))
    work = by_torchrun(again, tmp_path, 3, "--max-restarts", "1", "--master-port", str(port))
    assert work.returncode == 0, work.stderr
    assert work.stderr.count(LOST) == 2 and "--resume" in work.stderr
    assert work.stderr.count("torchrun starts this run again") == 1
    assert remains(tmp_path / "again") == remains(tmp_path / "whole")
    assert len(list((tmp_path / "again").iterdir())) == 6  # with the report


@pytest.mark.slow
def test_a_lost_rank_ends_the_others(digits, tmp_path):
    config = settings(digits, tmp_path / "run", batch=2, workers=1, save_steps=2)
    work = by_torchrun(config, tmp_path, 2, "--standalone")
    assert work.returncode == 1
    ours = [line for line in work.stderr.splitlines() if line.startswith(LOST)]
    assert len(ours) == 1 and ours[0].endswith("--resume")
    assert "detect/training" not in work.stderr  # a traceback of ours
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["counts"][2] == 6


@pytest.mark.slow
def test_torchrun_takes_over_no_run_of_another(digits, tmp_path):
    train(settings(digits, tmp_path / "run", epochs=1))
    before = remains(tmp_path / "run")
    work = by_torchrun(settings(digits, tmp_path / "run", batch=2), tmp_path, 2, "--standalone", "--max-restarts", "1")
    assert work.returncode == 1 and "holds a run already" in work.stderr
    assert "starts this run again" not in work.stderr
    assert remains(tmp_path / "run") == before


@pytest.mark.slow
def test_torchrun(digits, tmp_path):
    train(settings(digits, tmp_path / "one", epochs=1))
    flags = ["--config", str(tmp_path / "one" / "config.yaml"), "--out", str(tmp_path / "two"), "--epochs", "2"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    work = subprocess.run([*launcher, "-m", "detect", "train", *flags], capture_output=True, text=True, timeout=600)
    assert work.returncode == 0, work.stderr
    assert work.stdout.count("best weights") == 1
    assert [row["epoch"] for row in rows(tmp_path / "two")] == [0, 1]
