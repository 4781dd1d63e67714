"""One run at a time for each output, and temporary files of each process alone."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from detect.__main__ import main
from detect.errors import UserError
from detect.inference.output_folder import OutputFolder
from detect.training.setup import train
from detect.utils import locks
from detect.utils.atomic_io import replace_file, replace_text
from detect.utils.locks import LOCK, Draft, locked_files, locked_folder, under
from tests.reference.runs import apart, settings

HOLD = """
import os, sys, time
from pathlib import Path
from detect.utils.locks import Draft, locked_folder
sys.argv = ["detect", "train", "--secret"]
with locked_folder(Path({0!r})):
    Draft(Path({0!r}) / "last.ckpt")
    child = os.fork()
    os.write(1, b"ready\\n" if child else b"forked\\n")
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder `run`, and has forked a worker, as training does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(str(tmp_path / "run"))], stdout=subprocess.PIPE, text=True, process_group=0
    )
    assert {process.stdout.readline(), process.stdout.readline()} == {"ready\n", "forked\n"}
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_the_refusal_says_who_holds_it(tmp_path, holder):
    with pytest.raises(UserError) as caught, locked_folder(tmp_path / "run"):
        pass
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'run'} is in use by detect train (process {holder.pid} on ")
    assert ", since 2" in said and "secret" not in said


def test_a_killed_holder_lets_go_though_its_worker_lives_and_its_drafts_are_removed(tmp_path, holder):
    assert len(list((tmp_path / "run").glob(".gridhead-*.part"))) == 1
    with pytest.raises(UserError, match="is in use"), locked_folder(tmp_path / "run"):
        pass
    assert len(list((tmp_path / "run").glob(".gridhead-*.part"))) == 1
    holder.kill()
    holder.wait()
    with locked_folder(tmp_path / "run"):
        assert os.listdir(tmp_path / "run") == [LOCK]


def test_a_run_resumed_while_it_still_runs_is_refused_before_anything_is_written(digits, tmp_path, holder):
    before = sorted(os.listdir(tmp_path / "run"))
    for resume in (True, False):
        with pytest.raises(UserError, match="is in use by detect train"):
            train(settings(digits, tmp_path / "run", resume=resume))
    with pytest.raises(UserError, match="is in use by detect train"):
        OutputFolder(tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == before


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--out", "run"],
        ["see", "--weights", "w", "--data", "d", "--out", "run"],
        ["next", "--weights", "w", "--source", "d", "--out", "run"],
        ["evaluate", "--weights", "w", "--data", "d", "--json", "file"],
        ["evaluate", "--weights", "w", "--data", "d", "--detections", "file"],
        ["embed", "--weights", "w", "--source", "d", "--out", "file"],
        ["import", "--weights", "w", "--out", "file"],
        ["report", "--run", "reported"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_heeds_the_lock_of_its_output(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    with locked_folder(tmp_path / "run"), locked_files("file", tmp_path / "reported/report.html"):
        assert main(command) == 2
    assert " is in use by " in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_locks_leave_nothing_and_make_folders(tmp_path):
    with locked_folder(tmp_path / "a" / "b"), locked_files("", tmp_path / "c" / "x.json"):
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LOCK]
    assert os.listdir(tmp_path) == []
    with locked_folder(tmp_path / "a"):
        (tmp_path / "a" / "kept").touch()
    assert os.listdir(tmp_path / "a") == ["kept"]


def test_two_files_of_a_folder_have_a_lock_each(tmp_path):
    with locked_files(tmp_path / "a"), locked_files(tmp_path / "b"), locked_folder(tmp_path):
        pass
    with (
        locked_files(tmp_path / "a"),
        pytest.raises(UserError, match="is in use"),
        locked_files(tmp_path / "b", tmp_path / "a"),
    ):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"command": 1}), "x" * 5000])
def test_whatever_the_lock_file_holds_the_run_is_refused(tmp_path, content):
    with (tmp_path / LOCK).open("w") as file:
        file.write(content)
        file.flush()
        locks.fcntl.flock(file, locks.fcntl.LOCK_EX)
        with pytest.raises(UserError, match="is in use by another run"), locked_folder(tmp_path):
            pass
    with locked_folder(tmp_path):  # and one that nobody holds is in nobody's way
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="cannot be written"), locked_folder(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with locked_folder(tmp_path / "run"):
        replace_text(tmp_path / "run" / "a", "text")
    assert "has no locks" in caplog.text and os.listdir(tmp_path / "run") == ["a"]


def test_two_writers_of_one_file_write_into_files_of_their_own(tmp_path):
    def write(part):
        part.write_text("outer")
        replace_text(tmp_path / "a", "inner")
        assert part.read_text() == "outer" and (tmp_path / "a").read_text() == "inner"

    replace_file(tmp_path / "a", write)
    assert (tmp_path / "a").read_text() == "outer" and os.listdir(tmp_path) == ["a"]


def test_a_name_as_long_as_names_may_be_can_be_written(tmp_path):
    name = "n" * 251 + ".txt"
    with locked_files(tmp_path / name):
        replace_text(tmp_path / name, "text")
    assert os.listdir(tmp_path) == [name]


def test_only_drafts_of_the_dead_are_removed(tmp_path):
    draft = Draft(tmp_path / "a")
    for name in (".gridhead-0123456789ab.part", ".gridhead-mine.part", "b.part"):
        (tmp_path / name).write_text("left")
    with locked_folder(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {LOCK, draft.part.name, ".gridhead-mine.part", "b.part"}
    draft.discard()


def test_a_command_keeps_its_name_under_a_lock(tmp_path):
    @under(lambda config: locked_folder(config))
    def work(config):
        """What it does."""
        return os.listdir(config)

    assert work(tmp_path) == [LOCK] and work.__name__ == "work" and work.__doc__ == "What it does."


def test_one_of_two_trainings_at_once_is_refused_and_the_other_is_whole(digits, tmp_path):
    config = settings(digits, tmp_path / "run", epochs=1)
    both = [apart(train, config) for _ in range(2)]
    for process in both:
        process.join(300)
    ends = sorted(process.exitcode for process in both)
    assert ends[0] == 0 and (tmp_path / "run" / "best.safetensors").exists()
    assert not [path for path in os.listdir(tmp_path / "run") if path.startswith(".")]
