"""Progress gives the items on, and speaks only where and when it should."""

import io

import pytest

from detect.utils import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [None, 3])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_items_pass_unchanged(stream: type, total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", stream())
    assert list(progress.track(iter("abc"), total, "work", lambda: "loss 1.0")) == ["a", "b", "c"]
    assert list(progress.track([], 0, "work")) == []


def test_a_log_gets_a_plain_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(progress.track(range(20), None, "work", lambda: "loss 1.0"))
    lines = capsys.readouterr().err.splitlines()
    assert 3 <= len(lines) < 12
    assert all(line.startswith("work: ") and "/20 " in line and line.endswith("/s loss 1.0") for line in lines)


def test_short_work_leaves_a_log_alone(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress.track(range(20), 20, "work"))
    assert capsys.readouterr().err == ""


def test_leaving_early_takes_the_bar_down(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    items = progress.track(range(5), 5, "work")
    next(items)
    items.close()
    said = terminal.getvalue()
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h"), "the cursor is shown again"
