"""What training says before its first step, by its first steps, and where the run goes badly; and what it keeps."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.explain.summary import describe, multiply_accumulates, network
from detect.models.builder import build
from detect.training import banner
from detect.training.banner import Forecast, duration
from detect.training.notes import read_notes
from detect.training.setup import train
from detect.training.transfer import parts
from tests.reference.runs import ready, settings, tiny_weights

pytestmark = pytest.mark.usefixtures("one_thread")

LABELS = ["train", "val", "model", "device", "optimizer", "steps"]


def lines(text, labels=LABELS):
    """The texts of the banner by label, as printed."""
    found = (line.partition(" ") for line in text.splitlines())
    return {label: text.strip() for label, _, text in found if label in labels}


def test_the_start_is_told_in_six_lines(digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    ready(settings(digits, tmp_path / "run"), monkeypatch)
    said = capsys.readouterr()
    found = lines(said.out)
    assert list(found) == LABELS and max(map(len, said.out.splitlines())) < 140
    assert found["train"] == "16 images, 68 objects, 10 classes" and found["val"].startswith("8 images, ")
    assert found["model"].startswith("yolo, 59.5 k parameters, ") and found["model"].endswith(" at 64 px, from scratch")
    assert found["device"] == "cpu in float32 (--precision), 1 thread, no workers"
    assert found["optimizer"] == (
        "muon, learning rate 0.002, cosine after a warm-up of 2 steps, weight decay 0.05, EMA 0.999"
    )
    assert found["steps"] == "4 an epoch, each of 4 images; 12 in 3 epochs"
    assert said.err.count("warning: 12 steps are few; ") == 1


def test_splits_of_one_file_are_not_taken_for_one_another(digits):
    train, val = (load_data(digits, split) for split in ("train", "val"))
    assert banner._validation(train, train) == "the training set itself"
    assert banner._validation(replace(val, path=train.path), train).startswith("8 images, ")  # as of a YOLO data.yaml


def test_weights_and_frozen_stages_are_told(digits, tmp_path, monkeypatch, capsys):
    weights = tiny_weights(tmp_path / "w.safetensors")
    trainer = ready(settings(digits, tmp_path / "run", weights=str(weights), freeze=2, unfreeze_every=2), monkeypatch)
    said = capsys.readouterr()
    frozen = f"2 of {len(parts(trainer.run.model))} stages of the backbone frozen, one fewer every 2 epochs"
    assert f"{frozen}, fine-tuned from {weights}" in said.out
    assert said.err.count("warning") == 1 and "warning: 12 steps are few even for fine-tuning: " in said.err


@pytest.mark.parametrize("name", ["yolo_n", "faster_rcnn", "localizer"])
def test_multiply_accumulates_are_those_of_detect_info(name):
    model = network(name, 64)[0]
    real = build(model.config, model.metadata).train()
    before = {n: t.clone() for n, t in real.state_dict().items()}
    assert multiply_accumulates(real, 64) == describe(name, 64)["macs"] > 0
    assert real.training and all(torch.equal(t, before[n]) for n, t in real.state_dict().items())
    assert not any(layer._forward_hooks for layer in real.modules())


def test_a_network_that_cannot_be_counted_is_told_without(digits, tmp_path, monkeypatch, capsys):
    def reads_values(self, images, given=None):
        return float(images.float().mean())

    monkeypatch.setattr("detect.models.base.Model.preprocess", reads_values)
    ready(settings(digits, tmp_path / "run"), monkeypatch)
    assert "parameters, from scratch" in lines(capsys.readouterr().out)["model"]


def clocked(monkeypatch, times):
    """A forecast whose clock reads these times."""
    clock = iter(times)
    monkeypatch.setattr(banner.time, "monotonic", lambda: next(clock))
    return Forecast(steps_per_epoch=50, validation=0.3)


def test_the_time_is_told_once_by_the_first_steps(monkeypatch):
    slow_first = [0, 90, 91, 92, 93, *range(95, 200, 2)]  # the first steps wait for the loader
    forecast = clocked(monkeypatch, slow_first)
    said = [forecast.step(left=400 - i) for i in range(30)]
    assert [i for i, line in enumerate(said) if line] == [20]
    assert said[20] == "about 14 min for 8 epochs, by the first 20 steps"  # 380 steps of 2 s, a tenth more to validate
    assert forecast.epoch(100.0, 7) == ""


def test_the_time_is_told_by_the_first_epoch_where_its_steps_are_few(monkeypatch):
    forecast = clocked(monkeypatch, [0, 1, 2])
    assert [forecast.step(300), forecast.step(299), forecast.epoch(20.0, 59)] == [
        "",
        "",
        "about 20 min for 59 epochs, by the first epoch",
    ]
    assert forecast.step(298) == "" == forecast.epoch(20.0, 58)
    assert clocked(monkeypatch, []).epoch(20.0, 0) == ""  # that was the last one


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42.3, "42 s"), (720, "12 min"), (12_000, "3 h 20 min"), (400_000, "4.6 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_poor_run_is_explained_at_its_end_and_in_its_folder(digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    train(settings(digits, out))
    said = capsys.readouterr()
    assert said.err.count("warning: 12 steps are few; ") == 2  # before the first step, and where AP was poor
    assert "warning: AP is 0.0" in said.err and "12 steps), " in said.err
    assert "time " in said.out and " for 2 epochs, by the first epoch" in said.out
    notes = read_notes(out)
    assert list(notes["start"]) == LABELS and notes["warnings"].keys() == {"few_steps", "nothing_detected"}
    assert all(f"warning: {one['text']}" in said.err for one in notes["warnings"].values())


def test_a_resumed_run_warns_of_what_is_new_alone(digits, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    train(settings(digits, out, epochs=1))
    first = read_notes(out)
    capsys.readouterr()
    ready(settings(digits, out, epochs=3, resume=True), monkeypatch)
    said = capsys.readouterr()
    assert "12 in 3 epochs, 4 of them done" in lines(said.out)["steps"]
    assert "warning" not in said.err and read_notes(out)["start"] == first["start"]
    (out / "notes.json").write_text("{")
    ready(settings(digits, out, epochs=3, resume=True), monkeypatch)  # damaged notes are no reason to stop
    assert list(read_notes(out)) == ["start", "warnings"]


def test_the_report_shows_the_start_and_the_warnings(digits, tmp_path):
    out = tmp_path / "run"
    train(settings(digits, out, epochs=1))
    assert main(["report", "--run", str(out), "--device", "cpu"]) == 0
    text = (out / "report.html").read_text()
    for part in ("Warnings", "4 steps are few;", "Start", "muon, learning rate 0.002"):
        assert part in text, part
    shutil.copytree(out, tmp_path / "old")
    (tmp_path / "old/notes.json").unlink()  # as runs of before
    assert main(["report", "--run", str(tmp_path / "old"), "--device", "cpu"]) == 0


@pytest.mark.parametrize("notes", ["[]", '{"start": {}, "warnings": {"a": 1}}', '{"start": {"a": 1}, "warnings": {}}'])
def test_notes_of_another_form_are_none(tmp_path, notes):
    (tmp_path / "notes.json").write_text(notes)
    assert read_notes(tmp_path) == {}
    (tmp_path / "notes.json").write_text(json.dumps({"start": {"train": "1"}, "warnings": {}}))
    assert read_notes(tmp_path)["start"] == {"train": "1"}
