"""Every program in tools/ explains itself, and ends quietly when its output is cut off."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tools import windows

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tools").glob("*.py"))
TOOLS = [path for path in FILES if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_help_says_what_the_tool_is_for(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert said.startswith("usage: ") and len(said.splitlines()) > 3


@pytest.mark.skipif(sys.platform == "win32", reason="a closed pipe is another error there")
@pytest.mark.parametrize(
    ("program", "status"),
    [
        (["-m", "detect", "--help"], 0),
        (["-m", "detect", "train", "--help"], 0),
        (["-m", "tools.release", "no-version"], 2),
        (["-c", "from detect.errors import in_one_line; in_one_line(lambda: print('x' * 99999))()"], 0),
    ],
    ids=["detect", "a command", "a tool", "more than a pipe holds"],
)
def test_a_closed_pipe_ends_a_program_quietly(program, status):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, *program], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert done.returncode == status
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_every_tool_that_prints_results_uses_that_mechanism(path):
    text = path.read_text(encoding="utf-8")
    assert "def main(" not in text or "in_one_line" in text or "quiet_pipe" in text or path.stem == "bench_side"


def test_windows_of_a_set_with_a_film_are_those_of_its_images(digits, tmp_path, capsys):
    windows.main([str(digits), "--out", str(tmp_path / "windows")])
    assert "video: left out, for several of its images share a file" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "windows").glob("*.json")} == {
        "instances_train.json",
        "instances_val.json",
    }
