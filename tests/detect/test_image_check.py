"""The check of images beside the first epoch: it ends a run or it leaves no trace."""

import dataclasses
import os
import shutil
import signal
import time

import pytest

from detect.data import validate
from detect.data.sources.formats import load_data
from detect.errors import UserError
from detect.training import image_check
from detect.training.dist import Ranks
from detect.training.image_check import ImageCheck, is_beside, start_check
from detect.training.loop import Trainer
from detect.training.setup import train
from tests.reference.doom import die, doomed
from tests.reference.runs import remains, settings, status

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def large(monkeypatch):
    """Makes every set large."""
    monkeypatch.setattr(image_check, "LEAST", 1)


def slowly(path, *rest, examine=validate.examine):
    """`examine`, later than it would be."""
    time.sleep(0.05)
    return examine(path, *rest)


def killed(config, *fate):
    """Train, and be killed while images are still being checked: at a step, or where the epoch waits for the check."""
    image_check.LEAST, validate.examine = 1, slowly
    if not fate:
        Trainer._await_check = lambda trainer: die() if trainer.check.pending() else None
        fate = ("after", 0)
    doomed(config, *fate)


def ended(check):
    """Wait until a check has ended."""
    end = time.monotonic() + 60
    while check.pending() and time.monotonic() < end:
        time.sleep(0.02)
    return check


def test_a_run_is_the_same_whenever_the_check_ends(digits, tmp_path, large, monkeypatch, capsys):
    config = settings(digits, tmp_path / "first", epochs=1)
    train(dataclasses.replace(config, check_first=True))
    monkeypatch.setattr(validate, "examine", slowly)
    train(dataclasses.replace(config, out=str(tmp_path / "beside")))
    said = capsys.readouterr().err
    assert "24 images are decoded beside the first epoch" in said
    assert "the epoch waits for the check of images" in said
    assert remains(tmp_path / "first") == remains(tmp_path / "beside")


def test_a_run_that_is_killed_during_the_check_goes_on_as_if_it_had_not_been(digits, tmp_path, large, capsys):
    config = settings(digits, tmp_path / "whole", epochs=1, save_steps=2)
    train(dataclasses.replace(config, check_first=True))
    config = dataclasses.replace(config, out=str(tmp_path / "killed"))
    assert status(killed, config, "at_step", 3, "die") == -signal.SIGKILL
    config = dataclasses.replace(config, resume=True)
    assert status(killed, config) == -signal.SIGKILL
    train(config)
    assert "24 images are decoded beside the first epoch" in capsys.readouterr().err  # those that nobody has reached
    assert remains(tmp_path / "whole") == remains(tmp_path / "killed")


def test_a_run_that_a_bad_image_has_ended_goes_on_when_it_is_mended(digits, tmp_path, large, monkeypatch):
    config = settings(digits, tmp_path / "whole", epochs=1, save_steps=1)
    train(dataclasses.replace(config, check_first=True))
    config = dataclasses.replace(config, out=str(tmp_path / "ended"))
    pause = Trainer._between_steps

    def found_at_step_2(trainer):
        check, trainer.check = trainer.check, None
        pause(trainer)
        trainer.check = check
        while trainer.run.step == 2:
            check.pending()

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_between_steps", found_at_step_2)
        bad, examine = validate.Examined(None, "7.png: the image is damaged"), validate.examine
        patch.setattr(validate, "examine", lambda *rest: examine(*rest) if rest[2:] == (False,) else bad)
        with pytest.raises(UserError, match=r"7\.png: the image is damaged; fix it and go on with --resume"):
            train(config)
    assert (tmp_path / "ended" / "last.ckpt").exists()
    train(dataclasses.replace(config, resume=True))
    assert remains(tmp_path / "whole") == remains(tmp_path / "ended")


@pytest.fixture
def damaged(digits, tmp_path):
    """A set with an image whose header is good and whose pixels end too early, and the name of that image."""
    shutil.copytree(digits, tmp_path / "data")
    (path, *_) = sorted(one for one in (tmp_path / "data").rglob("*") if one.suffix in (".png", ".jpg"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return tmp_path / "data", path.name


def test_a_bad_image_ends_the_run_with_one_line(damaged, tmp_path, large):
    data, name = damaged
    with pytest.raises(UserError, match=name) as error:
        train(settings(data, tmp_path / "run"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "last.ckpt").exists()
    check = ImageCheck([load_data(data, "train"), load_data(data, "val")], Ranks())
    with pytest.raises(UserError, match=rf"{name}.*fix it and go on with --resume, or start again.*--skip-bad"):
        ended(check)
    assert not check.pending()


def test_with_skip_bad_it_is_left_out_before_the_first_step(damaged, tmp_path, large):
    data, name = damaged
    train(settings(data, tmp_path / "run", epochs=1, skip_bad=True))
    assert name in (tmp_path / "run" / "left_out.txt").read_text()


def test_a_killed_check_is_no_success(digits, monkeypatch):
    monkeypatch.setattr(validate, "examine", slowly)
    check = ImageCheck([load_data(digits, "train")], Ranks())
    os.kill(check.process.pid, signal.SIGKILL)
    with pytest.raises(UserError, match="the process that decodes all images has ended"):
        ended(check)


def test_the_check_is_beside_where_nobody_asked_for_strictness(digits, tmp_path, large):
    config, annotations = settings(digits, tmp_path), load_data(digits, "train")
    assert is_beside(config, annotations)
    for strict in ("check_first", "skip_bad", "find_lr"):
        assert not is_beside(dataclasses.replace(config, **{strict: True}), annotations)
    assert start_check(config, (annotations,), begun=True, ranks=Ranks()) is None
    one = start_check(config, (annotations, annotations), begun=False, ranks=Ranks())
    assert one.total == len(annotations)  # once
    one.close()
    assert start_check(config, (annotations,), begun=False, ranks=Ranks(rank=1, world=2, local=1)).process is None


def test_small_sets_are_checked_before_the_first_step(digits, tmp_path):
    assert not is_beside(settings(digits, tmp_path), load_data(digits, "train"))
