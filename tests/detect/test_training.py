"""The parts of training against formulas and naive twins, and the loop's habits in small runs."""

import copy
import dataclasses
import json
import math
import re
import shutil
import sys
import types

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from detect.callbacks.base import make_callbacks
from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.data.datasets import detection
from detect.errors import UserError
from detect.evaluation.coco_protocol import NUMBERS
from detect.models.configs.yolo import YoloConfig
from detect.models.weights import read_weights
from detect.training.dist import Ranks
from detect.training.ema import Ema
from detect.training.finite import FiniteCheck
from detect.training.loop import Losses, Trainer
from detect.training.muon import Muon
from detect.training.optim import build_optimizer
from detect.training.schedules import lr_factor
from detect.training.setup import box_sizes, train
from detect.training.state import best_of, seed_all
from detect.types import Batch
from tests.reference.runs import MODEL, ready, remains, rows, settings

SCHEDULES = ["cosine", "linear", "piecewise", "exponential", "1/t", "constant"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", SCHEDULES)
def test_warm_up_climbs_in_equal_steps_to_the_whole_rate(name):
    config = OptimConfig(schedule=name)
    got = [lr_factor(config, step, 4, 100) for step in range(5)]
    assert got == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_schedules_at_their_ends_and_between():
    def at(step, name, **more):
        return lr_factor(
            OptimConfig(schedule=name, final=0.04, milestones=[0.8, 0.5], gamma=0.1, **more), step, 20, 120
        )

    assert [at(s, "linear") for s in (20, 45, 70, 120)] == pytest.approx([1, 0.76, 0.52, 0.04])
    assert [at(s, "exponential") for s in (20, 70, 120)] == pytest.approx([1, 0.2, 0.04])
    quarter = 0.04 + 0.96 * (1 + math.cos(math.pi / 4)) / 2
    assert [at(s, "cosine") for s in (20, 45, 70, 120)] == pytest.approx([1, quarter, 0.52, 0.04])
    assert [at(s, "piecewise") for s in (20, 59, 60, 95, 96, 120)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert [at(s, "constant") for s in (20, 120)] == [1, 1]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (1, 2), (7, 30)])
def test_a_rate_never_leaves_its_bounds(name, warmup, total):
    got = [lr_factor(OptimConfig(schedule=name), step, warmup, total) for step in range(total + 1)]
    assert all(0 < value <= 1 for value in got)
    assert got[warmup:] == sorted(got[warmup:], reverse=True)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sgd", torch.optim.SGD),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
        ("muon", Muon),
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
    ],
)
def test_optimizers_by_name_decay_weights_and_nothing_else(name, kind):
    net = network()
    net[0].bias.requires_grad_(False)
    optimizer = build_optimizer(net, OptimConfig(name=name, lr=0.5, weight_decay=0.25))
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    got = {n: decay.get(id(p)) for n, p in net.named_parameters()}
    plain = {"1.weight": 0.0, "1.bias": 0.0, "3.bias": 0.0}
    assert got == {"0.weight": 0.25, "3.weight": 0.25, "0.bias": None, **plain}
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    before = net[3].weight.detach().clone()
    net(torch.rand(2, 3, 3, 3)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(net[3].weight, before)


def test_moving_average_against_a_naive_twin():
    net, decay = network(), 0.3
    ema = Ema(net, decay)
    twin = {k: v.double().clone() for k, v in net.state_dict().items()}
    for step in range(8):
        net(torch.rand(2, 3, 3, 3))  # moves the statistics of the batch norm
        with torch.no_grad():
            for p in net.parameters():
                p += torch.randn_like(p)
        ema.update(net, step)
        d = min(decay, (1 + step) / (10 + step))
        for k, v in net.state_dict().items():
            twin[k] = d * twin[k] + (1 - d) * v.double() if v.is_floating_point() else v.double()
    got = ema.module.state_dict()
    assert all(torch.allclose(got[k].double(), twin[k], atol=1e-5) for k in twin)
    assert got["1.num_batches_tracked"] == 8
    assert not ema.module.training and not any(p.requires_grad for p in ema.module.parameters())


def test_watch_finds_the_first_bad_step_and_forgets():
    watch = FiniteCheck(0.02)
    assert watch.first_bad() is None
    good, bad = torch.tensor([1.0, 2.0]), torch.tensor([1.0, float("inf")])
    watch.add(3, [7], good)
    assert (len(watch), watch.first_bad(), len(watch)) == (1, None, 0)
    for step, values in enumerate((good, bad, good, bad * float("nan")), 4):
        watch.add(step, [step * 10], values)
    assert watch.first_bad() == (5, [50], [1.0, math.inf])
    assert watch.first_bad() is None


def test_seeds_differ_by_every_part_of_the_key():
    def drawn(*key):
        seed_all(*key)
        return torch.rand(1).item(), np.random.rand()  # noqa: NPY002

    keys = [(0, 1, 0), (1, 0, 0), (0, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 0)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert drawn(*keys[0]) == drawn(*keys[0])


def test_what_a_step_draws_is_a_matter_of_its_number(digits, tmp_path, monkeypatch):
    drawn, forward = [], Losses.forward
    monkeypatch.setattr(Losses, "forward", lambda s, x, t: (drawn.append(torch.rand(1).item()), forward(s, x, t))[1])
    train(settings(digits, tmp_path, epochs=2, seed=5))
    expected = []
    for step in range(8):
        seed_all(5, step, 0)
        expected.append(torch.rand(1).item())
    assert drawn == expected


def joined(batches: list[Batch]) -> Batch:
    return Batch(torch.cat([b.images for b in batches]), [t for b in batches for t in b.targets])


@pytest.mark.parametrize("head", ["point", "anchor"])
def test_accumulated_batches_give_the_gradient_of_their_union(digits, tmp_path, monkeypatch, head):
    model = dataclasses.replace(MODEL, head=head)
    trainer = ready(settings(digits, tmp_path, model=model, multi_scale=0.0), monkeypatch)
    net = trainer.run.model.eval()  # batch norm would tell the batches apart
    parts = list(trainer.loader.epoch(0))[:3]
    grads, means = [], []
    for batches in (parts, [joined(parts)]):
        net.zero_grad()
        means.append(trainer._backward(batches))
        grads.append([p.grad.clone() for p in net.parameters()])
    assert torch.allclose(means[0], means[1], rtol=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*grads, strict=True))
    assert max(g.abs().max() for g in grads[0]) > 1e-3


def test_the_last_group_of_batches_may_be_incomplete(digits, tmp_path, monkeypatch):
    groups, step = [], Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, batches: (groups.append(len(batches)), step(self, batches)))
    optim = OptimConfig(lr=0.002, accumulate=3, schedule="linear", warmup=0, final=0)
    train(settings(digits, tmp_path, epochs=2, optim=optim))
    assert groups == [3, 1, 3, 1]
    got = rows(tmp_path)
    assert [row["step"] for row in got] == [2, 4]
    assert [row["lr"] for row in got] == pytest.approx([0.75 * optim.lr, 0.25 * optim.lr])
    said = yaml.safe_load((tmp_path / "config.yaml").read_text())["optim"]
    assert (said["lr"], said["momentum"], said["weight_decay"]) == (0.002, 0.9, 0.05)  # the values that were used


def test_clipping_bounds_the_step(digits, tmp_path, monkeypatch):
    moved = {}
    for clip in (0.0, 1e-3):
        optim = OptimConfig(name="sgd", lr=1.0, weight_decay=0.0, warmup=0, clip=clip)
        trainer = ready(settings(digits, tmp_path / str(clip), optim=optim), monkeypatch)
        before = [p.detach().clone() for p in trainer.run.model.parameters()]
        trainer._step([next(iter(trainer.loader.epoch(0)))])
        after = [p.detach() for p in trainer.run.model.parameters()]
        moved[clip] = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True)))
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-2) and moved[0.0] > 0.1


def test_sizes_are_drawn_and_mosaic_ends_early(digits, tmp_path, monkeypatch):
    sides, mosaics = [], []
    forward, mosaic, finish = Losses.forward, detection.mosaic, Trainer._finish
    monkeypatch.setattr(Losses, "forward", lambda s, x, t: (sides.append(tuple(x.shape[2:])), forward(s, x, t))[1])
    monkeypatch.setattr(detection, "mosaic", lambda *a: (mosaics.append(1), mosaic(*a))[1])
    counts = []
    monkeypatch.setattr(Trainer, "_finish", lambda s, row: (counts.append(len(mosaics)), finish(s, row)))
    train(settings(digits, tmp_path, epochs=4, augment=AugmentConfig(mosaic_off=2)))
    assert counts == [16, 32, 32, 32]
    assert set(sides) == {(32, 32), (64, 64), (96, 96)} and len(sides) == 16


def scripted(monkeypatch, values):
    """Evaluations that give these APs, one after the other."""
    left = iter(values)
    monkeypatch.setattr(Trainer, "_evaluate", lambda self: {"AP": next(left), "AP50": 0.0, "per_class": {}})


def test_patience_ends_a_run_that_gets_no_better(digits, tmp_path, monkeypatch):
    scripted(monkeypatch, [0.1, 0.3, 0.2, 0.2, 0.29])
    kept, finish = [], Trainer._finish

    def keep(self, row):
        finish(self, row)
        kept.append(copy.deepcopy(self.run.ema.module.state_dict()))

    monkeypatch.setattr(Trainer, "_finish", keep)
    best = train(settings(digits, tmp_path, epochs=9, patience=3))
    assert [row["AP"] for row in rows(tmp_path)] == [0.1, 0.3, 0.2, 0.2, 0.29]
    weights = load_file(best)
    assert weights.keys() == kept[1].keys() and all(torch.equal(weights[k], v) for k, v in kept[1].items())


@pytest.mark.parametrize("ap", [0.0, -1.0])
def test_where_ap_says_nothing_the_latest_weights_are_the_best(digits, tmp_path, monkeypatch, ap):
    scripted(monkeypatch, [ap] * 3)
    best = load_file(train(settings(digits, tmp_path)))
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["ema"]
    assert all(torch.equal(best[k], v) for k, v in last.items())


@pytest.mark.parametrize(
    ("aps", "marks", "best"),
    [
        ([0.0, 0.2, 0.2, 0.1], ["nothing detected yet", "best", "", ""], (1, True)),
        ([0.0, -1.0, 0.0], ["nothing detected yet"] * 3, (2, False)),
        ([0.3, 0.0, 0.3, 0.4], ["best", "", "", "best"], (3, True)),
    ],
)
def test_what_is_marked_as_best_is_the_best(digits, tmp_path, monkeypatch, capsys, aps, marks, best):
    scripted(monkeypatch, aps)
    train(settings(digits, tmp_path, epochs=len(aps)))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [line.partition(" s  ")[2] for line in lines] == marks
    row, found = best_of(rows(tmp_path), "AP")
    assert (row["epoch"], found) == best
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["best"] == [row["AP"], row["epoch"]]


def test_the_least_of_an_error_is_the_best_and_the_first_of_ties():
    nme = [{"epoch": i, "nme": value} for i, value in enumerate([0.3, 0.0, 0.0, 0.1])]
    assert best_of(nme, "-nme") == (nme[1], True)


def test_the_metrics_file_tells_of_every_epoch(digits, tmp_path):
    train(settings(digits, tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = {"epoch", "step", "images_per_second", "lr", "box", "regression", "classes", "seconds", *NUMBERS}
    assert [line.keys() for line in lines] == [expected] * 3
    assert [(line["epoch"], line["step"]) for line in lines] == [(0, 4), (1, 8), (2, 12)]
    assert all(line["box"] > 0 and line["images_per_second"] > 0 for line in lines)


def test_the_same_run_gives_the_same_bits_and_another_seed_others(digits, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(settings(digits, tmp_path / name, epochs=1, seed=seed))
    a, b, c = (remains(tmp_path / name) for name in "abc")
    assert a == b and a["best"] != c["best"]


def relabelled(digits, folder, names):
    """The digits with other classes: even and odd ones share what the first and the second name says."""
    shutil.copytree(digits, folder)
    for split in ("train", "val"):
        path = folder / f"instances_{split}.json"
        content = json.loads(path.read_text())
        content["categories"] = [{"id": 5 + i, "name": name} for i, name in enumerate(names)]
        for one in content["annotations"]:
            one["category_id"] = 5 + one["category_id"] % len(names)
        path.write_text(json.dumps(content))
    return folder


def test_fine_tuning_takes_what_fits_and_names_the_rest(digits, tmp_path, monkeypatch, capsys):
    weights = train(settings(digits, tmp_path / "first", epochs=1))
    other = relabelled(digits, tmp_path / "other", ["even", "odd"])
    capsys.readouterr()
    trainer = ready(settings(other, tmp_path / "second", weights=str(weights)), monkeypatch)
    said = capsys.readouterr().err
    old, new = load_file(weights), trainer.run.model.state_dict()
    left = {k for k in new if old[k].shape != new[k].shape}
    lines = re.findall(r"not taken: (\S+?)(?: and (\d+) more)?: shape", said)
    assert left and {first for first, _ in lines} <= left and sum(1 + int(more or 0) for _, more in lines) == len(left)
    assert all(torch.equal(new[k], old[k]) for k in new.keys() - left)
    assert f"{len(new) - len(left)} tensors taken, {len(left)} keep their initial values" in said
    trained = train(settings(other, tmp_path / "third", weights=str(weights), epochs=1))
    assert read_weights(trained)[1].names == ["even", "odd"] and read_weights(trained)[1].category_ids == [5, 6]


def test_objects_of_a_class_that_training_does_not_know_are_refused(digits, tmp_path):
    mixed = relabelled(digits, tmp_path / "mixed", ["even", "odd"])
    shutil.copy(digits / "instances_val.json", mixed / "instances_val.json")
    with pytest.raises(UserError, match=r"instances_val\.json: unknown class '0': known: even, odd"):
        train(settings(mixed, tmp_path / "run"))


def test_without_a_val_split_the_training_images_are_measured(digits, tmp_path, capsys):
    alone = tmp_path / "alone"
    shutil.copytree(digits, alone)
    (alone / "instances_val.json").unlink()
    (alone / "instances_video.json").unlink()
    train(settings(alone, tmp_path / "run", epochs=1))
    assert "no val split" in capsys.readouterr().err
    (alone / "instances_train.json").rename(alone / "instances_val.json")
    with pytest.raises(UserError, match="no split 'train'"):
        train(settings(alone, tmp_path / "other"))


def test_bad_records_are_an_error_or_a_line_in_a_report(digits, tmp_path, capsys):
    data, out = tmp_path / "bad", tmp_path / "run"
    shutil.copytree(digits, data)
    path = data / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][3]["bbox"][2] = -4
    path.write_text(json.dumps(content))
    image = data / content["images"][5]["file_name"]
    image.write_bytes(image.read_bytes()[:900])
    with pytest.raises(UserError, match=r"annotation"):
        train(settings(data, out, epochs=1))
    train(settings(data, out, epochs=1, skip_bad=True))
    lines = (out / "left_out.txt").read_text().splitlines()
    assert len(lines) == 2 and f"{content['annotations'][3]['id']}" in lines[0] and image.name in lines[1]
    assert "2 bad records were left out" in capsys.readouterr().err


def test_an_image_that_breaks_in_a_worker_is_one_line(digits, tmp_path):
    data = tmp_path / "bad"
    shutil.copytree(digits, data)
    image = next((data / "train").iterdir())
    image.write_bytes(image.read_bytes()[:900])
    with pytest.raises(UserError, match=image.name):
        train(settings(data, tmp_path / "run", workers=1))


def test_a_batch_of_one_cell_is_one_line(digits, tmp_path):
    with pytest.raises(UserError, match=r"in a batch of 1: choose a --batch that leaves no single image over"):
        train(
            settings(
                digits,
                tmp_path / "run",
                imgsz=32,
                batch=1,
                multi_scale=0.0,
                model=dataclasses.replace(MODEL, levels=[5]),
            )
        )


def test_a_mistake_found_before_the_first_step_leaves_the_folder_free(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'gridhead\[wandb\]'"):
        train(settings(digits, tmp_path / "run", callbacks=["wandb"]))
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        train(settings(digits, tmp_path / "run", callbacks=["tensorbord"]))
    with pytest.raises(UserError, match="Flipp"):
        train(settings(digits, tmp_path / "run", augment=AugmentConfig(albumentations=[{"Flipp": {}}])))
    train(settings(digits, tmp_path / "run", epochs=1))


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_folder_that_cannot_be_made_is_one_line(digits, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another --out"):
        train(settings(digits, tmp_path / place))


def test_tensorboard_gets_the_numbers_of_every_epoch(digits, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(settings(digits, tmp_path, epochs=2, callbacks=["tensorboard"]))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    expected = rows(tmp_path)
    for name in ("AP", "box", "lr"):
        got = [(event.step, event.value) for event in events.Scalars(name)]
        assert got == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in expected]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_other_loggers_speak_their_packages_language(tmp_path, monkeypatch, name):
    said = []

    def recorder(kind):
        return lambda *args, **more: said.append((kind, args, more)) or fake

    verbs = ("start_run", "log_dict", "log_metrics", "end_run", "init", "log", "finish")
    fake = types.SimpleNamespace(**{verb: recorder(verb) for verb in verbs})
    monkeypatch.setitem(sys.modules, name, fake)
    (logger,) = make_callbacks([name]).values()
    run = types.SimpleNamespace(out=tmp_path / "run")
    trainer = types.SimpleNamespace(run=run, ranks=Ranks(), config=OptimConfig())
    logger.on_fit_start(trainer)
    logger.on_epoch_end(trainer, {"epoch": 1, "AP": 0.5})
    logger.on_fit_end(trainer)
    assert ({"AP": 0.5},) in [args for _, args, _ in said] and {"step": 1} in [more for _, _, more in said]
    assert said[-1][0] in ("end_run", "finish")


def test_anchors_are_computed_from_the_labels_and_kept(digits, tmp_path, monkeypatch):
    model = YoloConfig(width=16, head="anchor", levels=[3, 4], anchors_per_level=2)
    trainer = ready(settings(digits, tmp_path, model=model), monkeypatch)
    anchors = trainer.run.model.config.anchors
    areas = [w * h for w, h in anchors]
    assert len(anchors) == 4 and areas == sorted(areas)
    assert torch.equal(trainer.run.model.head.sizes.view(-1, 2), torch.tensor(anchors))
    assert "anchors:\n  - - " in (tmp_path / "config.yaml").read_text()


def test_box_sizes_where_the_annotations_do_not_say_how_large_an_image_is(digits, tmp_path, monkeypatch):
    annotations = ready(settings(digits, tmp_path), monkeypatch).annotations
    unsaid = dataclasses.replace(annotations, sizes=np.zeros_like(annotations.sizes))
    assert torch.equal(box_sizes(unsaid, 192), box_sizes(annotations, 192))
    assert torch.allclose(box_sizes(annotations, 192), 2 * torch.from_numpy(annotations.boxes[:, 2:]).float())
