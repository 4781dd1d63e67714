"""Files are the old or the new ones, whatever happens in between."""

import errno
import os
import stat

import pytest

from detect.errors import UserError
from detect.files import replace_file, replace_text


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(part):
    part.write_text("half")
    full()


def test_a_file_is_written_and_replaced_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "naïve 한글.txt"
    for text in ("first", "second: é\n"):
        replace_text(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_permissions_are_the_usual_ones(tmp_path):
    replace_text(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    def torch_style(part):
        part.write_text("half")
        raise RuntimeError("file write failed\nmore")

    for write, reason in ((half, "No space left"), (torch_style, "file write failed")):
        with pytest.raises(UserError, match=reason) as caught:
            replace_file(path, write)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
        assert [p.name for p in tmp_path.iterdir()] == ["a"] and path.read_text() == "old"


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # as a device is; those cannot be made by everyone
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(UserError, match=f"{name} cannot be written: it is there, and no file"):
            replace_text(tmp_path / name, "new")
    assert (tmp_path / "pipe").is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == ["folder", "pipe"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    path.write_text("old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match="No space left"):
        replace_text(path, "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and path.read_text() == "old"


def test_a_defect_in_the_writer_is_not_dressed_up(tmp_path):
    with pytest.raises(ZeroDivisionError):
        replace_file(tmp_path / "a", lambda part: 1 / 0)


@pytest.mark.parametrize("place", ["file/a", "file/deeper/a", "folder"])
def test_a_place_that_cannot_hold_a_file_is_one_line(tmp_path, place):
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        replace_text(tmp_path / place, "new")
    assert (tmp_path / "file").read_text() == "old" and list((tmp_path / "folder").iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}
