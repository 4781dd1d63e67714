"""Every program in tools/ explains itself."""

import runpy
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "tools").glob("*.py"))
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
