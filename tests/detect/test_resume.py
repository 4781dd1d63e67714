"""A run that was killed and resumed ends as one that was not: to the bit, wherever it was killed."""

import dataclasses
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import detect
from detect.__main__ import main
from detect.config.augment import AugmentConfig
from detect.config.train import OptimConfig
from detect.errors import UserError
from detect.models.configs.yolo import YoloConfig, YoloLossConfig
from detect.training.loop import Losses
from detect.training.setup import train
from detect.utils.interrupt import Interrupt
from tests.reference.doom import ask, doomed, fading, hold
from tests.reference.marks import slowly
from tests.reference.runs import MODEL, alive, apart, children, ready, remains, rows, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def whole(one_thread, digits, tmp_path_factory):
    """What a run leaves that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    train(settings(digits, out))
    return remains(out)


@pytest.fixture(scope="module")
def epoch(one_thread, digits, tmp_path_factory):
    """The folder of a run of one epoch."""
    out = tmp_path_factory.mktemp("epoch")
    train(settings(digits, out, epochs=1))
    return out


KILLS = {
    "before the first checkpoint": (0, "at_step", 2, "die"),
    "within an epoch": (2, "at_step", 7, "die"),
    "in the last step of an epoch": (0, "at_step", 8, "die"),
    "during the first evaluation": (0, "in_evaluation", 0, "die"),
    "during evaluation": (1, "in_evaluation", 1, "die"),
    "half way through a checkpoint": (3, "half_written", 3),
    "between best weights and checkpoint": (0, "at_replacement", "last.ckpt", 2),
    "between checkpoint and metrics": (0, "at_replacement", "metrics.jsonl", 3),
}


@pytest.mark.parametrize("name", [*list(KILLS)[1::2], *slowly(*list(KILLS)[::2])])
def test_killed_and_resumed_is_as_never_killed(digits, tmp_path, whole, name):
    save_steps, *fate = KILLS[name]
    config = settings(digits, tmp_path / "run", save_steps=save_steps)
    assert status(doomed, config, *fate) == -signal.SIGKILL
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == whole


@pytest.mark.parametrize("changes", [{"save_steps": 2}, *slowly({"save_seconds": 1e-9})], ids=["by step", "by time"])
def test_checkpoints_inside_an_epoch(digits, tmp_path, whole, changes):
    """Killed after step 7, before a checkpoint of it: what is left is that of step 6, in the middle of epoch 1."""
    config = settings(digits, tmp_path / "run", **changes)
    assert status(doomed, config, "at_step", 7, "die") == -signal.SIGKILL
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["counts"] == [1, 2, 6]
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == whole


@pytest.mark.slow
def test_the_number_of_threads_is_resumed_too(digits, tmp_path, whole):
    config = settings(digits, tmp_path / "run", save_steps=1)
    assert status(doomed, config, "at_step", 6, "die") == -signal.SIGKILL
    torch.set_num_threads(2)
    train(dataclasses.replace(config, resume=True))
    assert torch.get_num_threads() == 1
    assert remains(tmp_path / "run") == whole


def busy(digits, out, **changes):
    """Four batches an epoch joined to two steps; mixup, sizes, mosaic off from epoch 3, two epochs of patience."""
    augment, optim = AugmentConfig(mixup=0.5, mosaic_off=5), OptimConfig(accumulate=2, warmup=0.5)
    return settings(digits, out, **{"epochs": 8, "patience": 2, "augment": augment, "optim": optim, **changes})


@pytest.fixture(scope="module")
def stopped(one_thread, digits, tmp_path_factory):
    """What a run leaves that its patience ended."""
    config = busy(digits, tmp_path_factory.mktemp("stopped") / "run")
    assert status(fading, config, "after", 0) == 0
    found = remains(Path(config.out))
    assert found["best"] and found["counts"] == [5, 0, 10] and len(found["rows"]) == 5
    return found


def somewhere(rng):
    """Any of the moments at which a process may be killed."""
    place = rng.integers(5)
    name = str(rng.choice(["last.ckpt", "metrics.jsonl", "best.safetensors"]))
    return [
        ("at_step", int(rng.integers(1, 11)), "die"),
        ("in_evaluation", int(rng.integers(5)), "die"),
        ("half_written", int(rng.integers(1, 6))),
        ("at_replacement", name, int(rng.integers(1, 4))),
        ("after", float(rng.uniform(0.1, 1.5))),
    ][place]


@pytest.mark.parametrize("workers", slowly(0, 1, 2))
def test_killed_anywhere_again_and_again(digits, tmp_path, stopped, workers):
    """Early stopping comes after the last resume, as if there had been none; then nothing is left to be done."""
    rng = np.random.default_rng(workers)
    saving = [{"save_steps": 1}, {"save_seconds": 1e-9}, {"save_steps": 3}][workers]
    config = busy(digits, tmp_path / "run", workers=workers, resume=True, **saving)
    lives = [somewhere(rng) for _ in range(3)]
    ends = [status(fading, config, *fate) for fate in lives]
    assert set(ends) <= {-signal.SIGKILL, -signal.SIGPROF, 0} and ends[0], lives
    for _ in range(2):
        assert status(fading, config, "after", 0) == 0
        assert remains(tmp_path / "run") == stopped, lives


def test_no_worker_outlives_a_process_that_was_killed(tmp_path):
    process = apart(hold, tmp_path)
    while not (tmp_path / "workers").exists() and process.is_alive():
        time.sleep(0.05)
    workers = [int(word) for word in (tmp_path / "workers").read_text().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    process.kill()
    process.join()
    deadline = time.monotonic() + 300
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def test_a_killed_worker_ends_the_run_with_one_line(digits, tmp_path, whole):
    config = settings(digits, tmp_path / "run", save_steps=1, workers=2)
    assert status(doomed, config, "at_step", 6, "maim") == 2
    said = (tmp_path / "said").read_text()
    assert "worker" in said and "killed" in said and "--resume" in said and "\n" not in said
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == whole


@pytest.mark.parametrize("fate", [("at_step", 6, "ask"), ("in_evaluation", 1, "ask")], ids=["step", "evaluation"])
def test_interrupted_saves_and_resumes(digits, tmp_path, whole, fate):
    config = settings(digits, tmp_path / "run")
    assert status(doomed, config, *fate) == 130
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert state["counts"] in ([1, 2, 6], [1, 4, 8])
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "run") == whole


def test_a_second_request_is_heeded_at_once_but_not_an_echo(monkeypatch):
    old = signal.getsignal(signal.SIGINT)
    interrupt = Interrupt()
    try:
        ask()
        ask()
        assert interrupt.asked
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 3)
        with pytest.raises(KeyboardInterrupt):
            ask()
    finally:
        interrupt.close()
    assert signal.getsignal(signal.SIGINT) is old


def test_the_command_interrupted_ends_with_130_and_one_line(digits, tmp_path):
    out = tmp_path / "run"
    train(settings(digits, tmp_path / "first", epochs=1, workers=1, precision="auto"))
    flags = ["--config", str(tmp_path / "first" / "config.yaml"), "--out", str(out), "--epochs", "10000"]
    work = subprocess.Popen([sys.executable, "-m", "detect", "train", *flags], stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").exists() and work.poll() is None:
        time.sleep(0.05)
    work.send_signal(signal.SIGINT)
    _, said = work.communicate(timeout=300)
    assert work.returncode == 130 and said.startswith("interrupted: saved at epoch ") and said.count("\n") == 1
    assert said.endswith(f" in {out / 'last.ckpt'}; resume with: detect train --resume {out}\n")
    assert torch.load(out / "last.ckpt", weights_only=True)["counts"][2] >= 4


def test_resume_of_nothing_and_of_a_finished_run(digits, tmp_path, whole):
    config = settings(digits, tmp_path / "new", resume=True)
    train(config)
    assert remains(tmp_path / "new") == whole
    before = (tmp_path / "new" / "last.ckpt").read_bytes()
    assert train(config) == tmp_path / "new" / "best.safetensors"
    assert (tmp_path / "new" / "last.ckpt").read_bytes() == before


def test_images_are_decoded_until_there_is_a_checkpoint(digits, tmp_path):
    data = shutil.copytree(digits, tmp_path / "digits")
    torn = sorted((data / "train").iterdir())[0]
    content = torn.read_bytes()
    torn.write_bytes(content[: len(content) * 2 // 3])  # its header is whole
    config = settings(data, tmp_path / "run", epochs=1, resume=True)
    with pytest.raises(UserError, match=torn.name):
        train(config)
    torn.write_bytes(content)
    train(config)
    torn.write_bytes(content[: len(content) * 2 // 3])
    train(config)  # there is nothing left to do, and no image is read


def test_a_folder_that_holds_a_run_is_refused(digits, tmp_path):
    config = settings(digits, tmp_path, epochs=1)
    train(config)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="--resume"):
        train(config)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": YoloConfig(width=24, levels=[3], neck="straight", head_convs=0)}, "model.width: 16 -> 24"),
        ({"model": YoloConfig(width=16, levels=[4], neck="straight", head_convs=0)}, "model.levels"),
        ({"batch": 8}, "--batch"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"optim": OptimConfig(name="sgd")}, "optim.name: muon -> sgd"),
        ({"optim": OptimConfig(accumulate=2)}, "optim.accumulate"),
    ],
)
def test_resume_with_other_settings_is_refused(digits, epoch, changes, named):
    before = (epoch / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match=r"last\.ckpt") as caught:
        train(settings(digits, epoch, **{"epochs": 2, "resume": True, **changes}))
    assert named in str(caught.value) and "config.yaml" in str(caught.value)
    assert (epoch / "last.ckpt").read_bytes() == before


def test_resume_may_go_on_for_longer_and_says_how_the_rate_jumps(digits, tmp_path, capsys):
    config = settings(digits, tmp_path, epochs=1, optim=OptimConfig(warmup=0))
    train(config)
    first, steps = rows(tmp_path), [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    train(dataclasses.replace(config, epochs=2, resume=True, workers=1))
    assert rows(tmp_path)[:1] == first and [row["epoch"] for row in rows(tmp_path)] == [0, 1]
    said = capsys.readouterr().err
    assert "resumed with epochs: 1 -> 2\n" in said and "resumed with workers: 0 -> 1\n" in said
    assert f"learning rate: {steps[0]['lr']:.3g} at the last step, 0.00101 at the next" in said
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["epochs"] == 2
    changes = [json.loads(line) for line in (tmp_path / "changes.jsonl").open()]
    assert changes == [{"epoch": 1, "step": 4, "changed": {"epochs": [1, 2], "workers": [0, 1]}}]


OTHER = {
    "optim.weight_decay: 0.05 -> 0.01": {"optim": OptimConfig(warmup=0.5, weight_decay=0.01)},
    "model.loss.box: 7.5 -> 5.0": {"model": dataclasses.replace(MODEL, loss=YoloLossConfig(box=5.0))},
    "augment.flip: 0.5 -> 0.0": {"augment": AugmentConfig(mosaic_off=1, flip=0.0)},
    "multi_scale: 0.5 -> 0.0": {"multi_scale": 0.0},
    "computed in: float32 -> bfloat16": {"precision": "bfloat16"},
    "batch: 4 -> 5": {"batch": 5},  # as many batches an epoch
}


@pytest.mark.parametrize("said", [*list(OTHER)[::4], *slowly(*(said for i, said in enumerate(OTHER) if i % 4))])
def test_what_changes_the_steps_to_come_is_refused_unless_told(digits, tmp_path, said, capsys):
    config = settings(digits, tmp_path, epochs=1)
    train(config)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = dataclasses.replace(config, epochs=2, resume=True, **OTHER[said])
    with pytest.raises(UserError, match="--resume-anyway") as caught:
        train(other)
    assert said in str(caught.value) and "epochs" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    train(dataclasses.replace(other, resume_anyway=True))
    decay = {group["weight_decay"] for group in torch.load(tmp_path / "last.ckpt")["optimizer"]["param_groups"]}
    assert decay == {0.0, 0.01 if "decay" in said else 0.05}  # what is said is done
    assert f"resumed with {said}\n" in capsys.readouterr().err
    train(dataclasses.replace(other))  # what was accepted is the run's own from then on
    assert capsys.readouterr().err == ""


def test_the_data_of_a_run_may_move_but_not_change(digits, tmp_path, capsys):
    data, moved = shutil.copytree(digits, tmp_path / "digits"), tmp_path / "elsewhere"
    config = settings(data, tmp_path / "run", epochs=1)
    train(config)
    data.rename(moved)
    config = dataclasses.replace(config, data=str(moved), epochs=2, resume=True)
    train(config)
    said = capsys.readouterr().err
    assert "resumed with data: " in said and "resumed with train images: " in said and "annotations" not in said
    file = next(moved.glob("*train*.json"))
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] -= 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"train annotations: 16 images.* -> 16 images"):
        train(dataclasses.replace(config, epochs=3))


def test_precision_auto_goes_on_in_the_type_that_it_began_in(digits, tmp_path, monkeypatch):
    config = settings(digits, tmp_path, epochs=1, precision="auto")
    monkeypatch.setattr("detect.training.setup.pick_dtype", lambda name, device: torch.bfloat16)
    train(config)
    monkeypatch.undo()
    monkeypatch.setattr("detect.utils.device.pick_dtype", lambda name, device: torch.float32)
    assert ready(dataclasses.replace(config, epochs=2, resume=True), monkeypatch).dtype == torch.bfloat16


def command(*words):
    return main(["train", *map(str, words)])


def test_a_run_goes_on_by_its_folder_alone(digits, tmp_path, whole, capsys):
    config = settings(digits, tmp_path / "run")
    assert status(doomed, config, "at_step", 6, "ask") == 130
    assert command("--resume", tmp_path / "run") == 0
    assert "resumed with" not in capsys.readouterr().err
    assert remains(tmp_path / "run") == whole
    assert detect.train(resume=str(tmp_path / "run")) == tmp_path / "run" / "best.safetensors"
    assert remains(tmp_path / "run") == whole
    assert command(f"--resume={tmp_path / 'run'}", "--epochs", 4, "--out", tmp_path / "run") == 0
    assert "resumed with epochs: 3 -> 4" in capsys.readouterr().err
    report = (tmp_path / "run" / "report.html").read_text()
    assert "resumed with other settings" in report and "<td>epochs</td>" in report and "epochs: 4" in report


def test_a_folder_to_go_on_in_is_a_run_and_the_only_one(tmp_path, capsys):
    assert command("--resume", tmp_path) == 2
    assert "there is no run to continue" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("data: toy\n")
    assert command("--resume", tmp_path, "--out", tmp_path / "other") == 2
    assert "leave --out" in capsys.readouterr().err
    assert command("--data", "toy", "--resume-anyway") == 2
    assert "--resume" in capsys.readouterr().err


def test_a_run_that_failed_before_its_first_checkpoint_leaves_its_folder_free(digits, tmp_path, whole, capsys):
    config = settings(digits, tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Losses, "forward", lambda self, images, targets: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config)
    assert (tmp_path / "run" / "config.yaml").exists()
    train(config)
    assert "holds no checkpoint: the run starts from the beginning" in capsys.readouterr().err
    assert remains(tmp_path / "run") == whole


@pytest.mark.slow
def test_an_epoch_resumed_after_its_last_step_has_no_speed(digits, tmp_path, whole, capsys):
    config = settings(digits, tmp_path / "run")
    assert status(doomed, config, "in_evaluation", 1, "ask") == 130
    train(dataclasses.replace(config, resume=True))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert ["images_per_second" in line for line in lines] == [True, False, True]
    epochs = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["images/s" in line for line in epochs[:2]] == [False, True]


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["empty", "truncated", "noise", "pickle", "other"])
def test_a_damaged_checkpoint_is_the_users_error(digits, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    train(settings(digits, tmp_path / "run", epochs=1))
    path = tmp_path / "run" / "last.ckpt"
    whole = path.read_bytes()
    torch.save({"a": torch.zeros(1)}, tmp_path / "other")
    content = {"empty": b"", "truncated": whole[: len(whole) // 2], "noise": bytes(range(256)) * 50}
    content |= {"pickle": pickle.dumps(Evil()), "other": (tmp_path / "other").read_bytes()}
    path.write_bytes(content[kind])
    with pytest.raises(UserError, match=r"last\.ckpt is damaged or no checkpoint"):
        train(settings(digits, tmp_path / "run", epochs=2, resume=True))
    assert not (tmp_path / "pwned").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(digits, tmp_path, whole, monkeypatch):
    config = settings(digits, tmp_path, save_steps=3)
    forward, calls, seen = Losses.forward, [], []

    def broken(self, images, targets):
        names, totals, counts = forward(self, images, targets)
        calls.append(1)
        if len(calls) == 6:
            seen.extend(t.image_id for t in targets)
            totals = totals * torch.tensor([1.0, float("nan"), 1.0])
        return names, totals, counts

    monkeypatch.setattr(Losses, "forward", broken)
    with pytest.raises(UserError) as caught:
        train(config)
    said = str(caught.value)
    assert "not finite at step 5:" in said and "regression nan" in said and str(seen) in said and "\n" not in said
    assert "the checkpoint before it is intact" in said
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["counts"] == [1, 0, 4]  # the end of the first epoch; step 6 found the bad one first
    assert all(v.isfinite().all() for part in ("model", "ema") for v in state[part].values())
    monkeypatch.setattr(Losses, "forward", forward)
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path) == whole


def test_a_gradient_that_is_not_finite_is_named(digits, tmp_path, monkeypatch):
    trainer = ready(settings(digits, tmp_path), monkeypatch)
    parameter = next(trainer.run.model.parameters())
    parameter.register_hook(lambda grad: grad * float("inf"))
    trainer._step([next(iter(trainer.loader.epoch(0)))])
    with pytest.raises(UserError, match=r"gradient (nan|inf).*there was no checkpoint yet"):
        trainer._save()
    assert not (tmp_path / "last.ckpt").exists()


def test_a_full_disk_keeps_the_checkpoint_before(digits, tmp_path, whole):
    out = tmp_path / "run"
    config = settings(digits, out, save_steps=2)
    assert status(doomed, config, "at_step", 6, "starve") == 2
    said = (tmp_path / "said").read_text()
    assert "last.ckpt cannot be written" in said and "\n" not in said
    assert torch.load(out / "last.ckpt", weights_only=True)["counts"] == [1, 0, 4]
    assert list(out.glob(".*")) == []
    train(dataclasses.replace(config, resume=True))
    assert remains(out) == whole


def test_a_checkpoint_holds_plain_values_alone(digits, tmp_path):
    train(settings(digits, tmp_path, epochs=1))
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {
        "record",
        "changes",
        "model",
        "ema",
        "optimizer",
        "scaler",
        "counts",
        "best",
        "history",
        "threads",
    } <= state.keys()
    assert [row["epoch"] for row in json.loads(state["history"])] == [0]


def test_metrics_of_a_resumed_run_forget_what_came_after_the_checkpoint(digits, tmp_path, monkeypatch):
    config = settings(digits, tmp_path, epochs=1)
    train(config)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1}\n')
    trainer = ready(dataclasses.replace(config, epochs=2, resume=True), monkeypatch)
    assert trainer.run.epoch == 1 and [row["epoch"] for row in rows(tmp_path)] == [0]


def life(command, out, seconds, threads, at_once):
    """One life of a run that is killed after `seconds`, counted from its start or from its first sign; its status."""

    def signs():
        return {path.name: path.stat().st_mtime_ns for path in out.glob("[cm]*")}  # config.yaml, metrics.jsonl

    before = signs()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not at_once and signs() == before and process.poll() is None:
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    workers = children(process.pid)
    process.kill()
    assert len(workers) <= 4
    while any(map(alive, workers)):
        time.sleep(0.05)
    return process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_command_killed_by_the_clock(digits, tmp_path, workers):
    """A dozen lives of random length; each time some checkpoint inside an epoch is by time, some by step."""
    flags = f"--data {digits} --imgsz 64 --batch 2 --epochs 24 --seed 5 --workers {workers} --device cpu"
    flags += " --model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0"
    flags += " --multi_scale 0.5 --optim.accumulate 2 --augment.mixup 0.5 --augment.mosaic_off 12 --patience 20"
    command = [sys.executable, "-m", "detect", "train", *flags.split()]
    started = time.monotonic()
    quiet = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.DEVNULL}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, **quiet)
    span = (time.monotonic() - started) / 10

    rng, out, ends, places = np.random.default_rng(workers), tmp_path / "run", [], []
    command += ["--out", str(out), "--resume"]
    for k in range(12):
        saving = ["--save_steps", "3"] if k % 2 else ["--save_seconds", "0.3"]
        threads = 1 + (out / "last.ckpt").exists()  # the checkpoint knows better
        ends.append(life([*command, *saving], out, rng.uniform(0, span), threads, at_once=k % 4 == 3))
        if (out / "last.ckpt").exists():
            places.append(torch.load(out / "last.ckpt", weights_only=True)["counts"])
    subprocess.run(command, check=True, **quiet)
    print(f"{workers} workers, lives of up to {span:.1f} s: {ends} at epoch, batch, step {places}")
    assert ends.count(-signal.SIGKILL) >= 6 and any(batch for _, batch, _ in places)
    assert remains(out) == remains(tmp_path / "whole")
