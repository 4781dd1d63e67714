"""Files are the old or the new ones, whatever happens in between."""

import errno
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest
from PIL import Image

from detect.__main__ import main
from detect.commands import info
from detect.errors import UserError
from detect.utils.atomic_io import read_bytes, replace_file, replace_text, temporary_folder, without_compiler_cache


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
        with pytest.raises(UserError, match=f"{name} cannot be written: it exists and is not a file"):
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


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "source").write_text("mine")
    (tmp_path / "symbolic").symlink_to("source")
    os.link(tmp_path / "source", tmp_path / "hard")
    for name in ("symbolic", "hard"):
        replace_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new" and not (tmp_path / name).is_symlink()
    assert (tmp_path / "source").read_text() == "mine" and os.stat(tmp_path / "source").st_nlink == 1


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


def planted(folder, name, form):
    """A set of one image in `folder`, whose file `name` is a named pipe; what --data takes."""
    coco = {"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    files = {
        "x.png": lambda path: Image.new("RGB", (40, 20)).save(path),
        "x.txt": lambda path: path.write_text("0 .5 .5 .5 .5"),
        "list.txt": lambda path: path.write_text("x.png\n"),
        "instances_train.json": lambda path: path.write_text(json.dumps(coco)),
        "data.yaml": lambda path: path.write_text("{train: list.txt, names: [a]}"),
    }
    expected = ["x.png", "instances_train.json"] if form == "json" else ["x.png", "x.txt", "list.txt", "data.yaml"]
    for one in (*expected, name):
        (folder / one).unlink(missing_ok=True)
        os.mkfifo(folder / one) if one == name else files[one](folder / one)
    return str(folder / "data.yaml" if form == "yaml" else folder)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *(("json", name) for name in ("x.png", "instances_train.json")),
        *(("yaml", name) for name in ("x.png", "x.txt", "list.txt", "data.yaml")),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_refused_and_never_opened(tmp_path, capsys, form, name):
    data = planted(tmp_path, name, form)
    assert main(["check", "--data", data]) in (0, 2)
    said = "".join(capsys.readouterr())
    assert "it is a named pipe, and only regular files are read" in said and "Traceback" not in said


@pytest.mark.parametrize("suffix", [".yaml", ".csv", ".npz", ".tsv", ".png", ".safetensors", ".mp4"])
def test_what_is_named_must_be_a_file_too(tmp_path, capsys, suffix):
    pipe = tmp_path / f"x_train{suffix}"
    os.mkfifo(pipe)
    assert main(["check", "--data", str(pipe)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_devices_and_sockets_are_no_files_and_a_file_may_be_too_large(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "linked").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"abc")
    assert read_bytes(tmp_path / "linked", 3) == b"abc" == read_bytes(tmp_path / "file")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, said in (("zero", "a device"), ("socket", "a socket"), ("", "a folder")):
            with pytest.raises(OSError, match=f"it is {said}, and only regular files are read"):
                read_bytes(tmp_path / name)
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read_bytes(tmp_path / "file", 2)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_temporary_folder_is_one_line_however_a_library_puts_it(tmp_path, monkeypatch, error):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(UserError, match=rf"^{tmp_path} is full; free some space, or let TMPDIR"), temporary_folder():
        raise error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_in_a_temporary_folder_are_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for error in (RuntimeError("a defect"), UserError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, temporary_folder() as folder:
            (folder / "file").write_text("some")
            raise error
        assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_may_not_write_is_a_full_folder(tmp_path):
    """Of a library that says so by an error of its own, in a process with `ulimit -f`."""
    code = (
        "import resource\nfrom detect.utils.atomic_io import temporary_folder\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with temporary_folder() as folder:\n"
        "    try: (folder / 'file').write_bytes(bytes(2000))\n    except OSError: raise RuntimeError('write failed')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True
    )
    assert f"detect.errors.UserError: {tmp_path} is full; " in said.stderr.decode() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["missing/deeper", "file"])
def test_a_temporary_folder_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, place):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    match = rf"{place} cannot be written: .*; free some space, or let TMPDIR name"
    with pytest.raises(UserError, match=match), temporary_folder():
        pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_is_one_line_in_every_command(monkeypatch, capsys, number):
    def fails(config):
        raise OSError(number, os.strerror(number), "/place/of/it")

    monkeypatch.setattr(info, "info", fails)
    assert main(["info", "yolo_n"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: /place/of/it: {os.strerror(number)}") and said.count("\n") == 1
    assert ("TMPDIR" in said) == (number in (errno.ENOSPC, errno.EDQUOT))


@pytest.mark.parametrize(("named", "filled", "left"), [(False, False, False), (False, True, True), (True, False, True)])
def test_an_empty_folder_that_torch_made_for_its_compiler_is_removed(tmp_path, monkeypatch, named, filled, left):
    folder, name = tmp_path / "torchinductor_me", "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv(name, str(folder))
    if not named:
        monkeypatch.delenv(name)
    with without_compiler_cache():
        folder.mkdir()
        if filled:
            (folder / "code").write_text("compiled")
        monkeypatch.setenv(name, str(folder))
    assert folder.exists() == left
