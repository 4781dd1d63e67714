"""Callbacks: called in one order, able to change what they may, and resumed to the bit."""

import dataclasses
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from detect.callbacks import Callback
from detect.callbacks.base import make_callbacks, require_plain, watched
from detect.cli.parser import parse
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.training.setup import train
from tests.reference import counted
from tests.reference.runs import remains, rows, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")
TRAINING = [name for name in vars(Callback) if name.startswith("on_") and "predict" not in name]


class Recorder(Callback):
    """Notes which hooks are called, and changes a little in each that may."""

    def __init__(self):
        self.called = []

    def on_validation_end(self, trainer, metrics):
        metrics["seen"] = 0.5

    def on_epoch_end(self, trainer, row):
        row["mine"] = float(trainer.run.epoch)
        trainer.stop = trainer.run.epoch == 1


def noted(name):
    own = vars(Recorder).get(name, getattr(Callback, name))

    def hook(self, *values):
        self.called.append(name)
        return own(self, *values)

    return hook


for _name in TRAINING:
    setattr(Recorder, _name, noted(_name))


@pytest.fixture
def registered(monkeypatch):
    """Registers classes as callbacks for one test."""
    return lambda **classes: [monkeypatch.setitem(REGISTRIES["callback"]._entries, *item) for item in classes.items()]


def test_hooks_are_called_in_order_and_may_add_numbers_and_stop(digits, tmp_path, registered):
    recorder = Recorder()
    registered(recorder=lambda: recorder)
    train(settings(digits, tmp_path, callbacks=["recorder"]))
    step = ["on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"]
    validation = ["on_validation_start", *["on_validation_batch_end"] * 2, "on_validation_end"]
    epoch = ["on_epoch_start", *step * 4, *validation, "on_epoch_end", "on_checkpoint"]
    assert recorder.called == ["on_fit_start", *epoch * 2, "on_fit_end"]
    assert [(row["seen"], row["mine"]) for row in rows(tmp_path)] == [(0.5, 0.0), (0.5, 1.0)]


def test_what_ends_a_run_early_is_told(digits, tmp_path, registered):
    class Failing(Recorder):
        def on_train_batch_end(self, trainer, batches, losses):
            raise ZeroDivisionError("in a callback")

    failing = Failing()
    registered(failing=lambda: failing)
    with pytest.raises(ZeroDivisionError):
        train(settings(digits, tmp_path, callbacks=["failing"]))
    assert failing.called[-1] == "on_exception" and "on_fit_end" not in failing.called


@pytest.mark.slow
def test_a_run_with_a_state_is_resumed_to_the_bit(digits, tmp_path):
    """Killed within an epoch, a callback that changes gradients by what it has counted goes on from there."""
    whole = settings(digits, tmp_path / "whole", callbacks=["counted"], save_steps=2)
    assert status(counted.run, whole) == 0
    config = dataclasses.replace(whole, out=str(tmp_path / "run"))
    assert status(counted.run, config, "at_step", 7, "die") == -signal.SIGKILL
    saved = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert saved["callbacks"]["counted"]["steps"] == 6
    assert status(counted.run, dataclasses.replace(config, resume=True)) == 0
    assert remains(tmp_path / "run") == remains(tmp_path / "whole")


def test_callbacks_that_take_part_are_those_of_the_run(digits, tmp_path, registered):
    """Others are refused when it is resumed; those that only watch may come and go."""

    class Watching(Callback):
        passive = True

    class Active(Callback):
        pass

    registered(watching=Watching, active=Active)
    config = settings(digits, tmp_path, epochs=1)
    train(config)
    train(dataclasses.replace(config, resume=True, callbacks=["watching"]))
    with pytest.raises(UserError, match=r"callbacks that take part: unset -> \['active'\].*--resume-anyway"):
        train(dataclasses.replace(config, resume=True, callbacks=["active"]))


def test_a_run_folder_with_loggers_of_an_older_version_goes_on(digits, tmp_path):
    train(settings(digits, tmp_path, epochs=1))
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text().replace("callbacks: []", "log: [tensorboard]"))
    assert parse("train", ["--resume", str(tmp_path)]).callbacks == ["tensorboard"]


@pytest.mark.parametrize("value", [np.zeros(2), {"a": [set()]}, object()])
def test_a_state_that_a_checkpoint_cannot_hold_is_one_line(value):
    with pytest.raises(
        UserError, match=r"callback mine: its state_dict\(\) holds a (ndarray|set|object); a checkpoint"
    ):
        require_plain("mine", {"x": value})
    require_plain("mine", {"x": [1, 2.0, "a", None, True, (torch.zeros(2),)], 3: {}})


def test_names_that_make_no_callback_are_one_line(registered):
    def missing():
        raise ModuleNotFoundError("No module named 'comet'")

    registered(number=int, missing=missing)
    with pytest.raises(UserError, match="callback number is of type int: derive its class"):
        make_callbacks(["number"])
    with pytest.raises(UserError, match="callback missing: No module named 'comet'"):
        make_callbacks(["missing"])
    with pytest.raises(UserError, match="unknown callback 'tensorbord': did you mean 'tensorboard'"):
        make_callbacks(["tensorbord"])


def test_predictions_are_seen_and_may_be_replaced():
    said = Counter()

    class Doubling(Callback):
        def on_predict_start(self, model):
            said["start"] += 1

        def on_predict_image_end(self, model, frame, predictions):
            return predictions * 2

        def on_predict_end(self, model):
            said["end"] += 1

    def predictor(frames):
        yield from ((frame, 1) for frame in frames)

    results = watched(predictor, [Doubling(), Doubling()], None)("ab")
    assert next(results) == ("a", 4)
    results.close()
    assert said == {"start": 2, "end": 2}
    assert watched(predictor, [], None) is predictor


def test_the_page_explains_every_hook():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
    assert [name for name in vars(Callback) if name.startswith("on_") and f"`{name}`" not in page] == []
