"""What bulk prediction reads: shards, lists with URLs and mistakes, and listings that no memory would hold."""

import io
import json
import random
import re
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detect.__main__ import main
from detect.bulk import listing
from detect.bulk.listing import Listing
from detect.errors import UserError
from detect.inference.folder import files_of, natural
from detect.inference.source import open_source
from detect.storage import resolve
from tests.reference.planted import film, moving, planted
from tests.reference.runs import tiny_weights
from tools import convert

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")
FLAGS = ["--conf", "0.001", "--max-det", "3", "--device", "cpu", "--precision", "float32", "--part-images", "3"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


def bulk(weights: Path, source: object, out: Path, *flags: str) -> list[dict]:
    """The rows of a job."""
    parquet = pytest.importorskip("pyarrow.parquet")
    words = ["--weights", str(weights), "--source", str(source), "--out", str(out), "--workers", "0"]
    assert main(["bulk", *words, *FLAGS, *flags]) == 0
    return [row for path in sorted(out.glob("part-*")) for row in parquet.read_table(path).to_pylist()]


def image(path: Path, shade: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(planted(48, 64, (8, 8, shade, 40))).save(path)
    return path


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_images_in_shards_are_those_of_files(form, digits, weights, tmp_path, capsys) -> None:
    megabytes = 0.001 if form == "parquet" else 0.002
    shutil.copytree(digits, tmp_path / "set", ignore=shutil.ignore_patterns("instances_video.json"))
    convert.convert(str(tmp_path / "set"), tmp_path / "shards", form=form, megabytes=megabytes)
    named = json.loads((tmp_path / "shards/instances_val.json").read_text())["images"]
    pattern = tmp_path / ("shards/val-*.parquet" if form == "parquet" else "shards/val-*.tar")
    rows = bulk(weights, pattern, tmp_path / "a", "--coco", str(tmp_path / "all.json"))
    places = [str(Path(row["image"]).parent) for row in rows]
    assert places == [str(Path(one["file_name"]).parent) for one in named] and len(named) > 3
    plain = {row["image"]: row for row in bulk(weights, digits / "val", tmp_path / "b")}
    for row, one in zip(rows, named, strict=True):
        same = plain[Path(one["file_name"]).name]
        assert all(row[key] == same[key] for key in ("detections", "width", "height", "error"))
    words = ["--weights", str(weights), "--source", str(pattern), "--out", str(tmp_path / "p"), "--annotate", "false"]
    assert main(["predict", *words, *FLAGS[:-2]]) == 0
    assert (tmp_path / "p/detections.json").read_bytes() == (tmp_path / "all.json").read_bytes()
    whole = files_of(str(tmp_path / "shards"))  # a folder of shards alone, both splits
    assert len(whole) == sum(len(json.loads(one.read_text())["images"]) for one in tmp_path.glob("shards/*.json"))
    assert all(next(iter(open_source(one))) for one in whole[:2])
    image(tmp_path / "shards/beside.png")
    assert [path.name for path in files_of(str(tmp_path / "shards"))] == ["beside.png"]
    capsys.readouterr()


def tar_of(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_what_a_tar_holds_is_an_input_or_listed(weights, tmp_path, caplog, capsys) -> None:
    """Images of several pages and videos are read there as outside; every other file is counted and named."""
    pages = [Image.fromarray(planted(48, 64, (8, 8, 30 + i, 40))) for i in range(3)]
    for name in ("2.gif", "3.tiff", "4.webp", "5.png"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    film(tmp_path / "6.mp4", moving(4)[0], [Fraction(i, 10) for i in range(4)], Fraction(10))
    image(tmp_path / "1.png")
    (tmp_path / "7.avi").write_bytes(b"no video")
    inputs = [f"{i}.{suffix}" for i, suffix in enumerate(["png", "gif", "tiff", "webp", "png", "mp4", "avi"], 1)]
    others = ["1.json", "1.seg.png", "1.txt", "a.heic", "a.tar.gz", "b.tar", "notes", "._1.png", "a/../odd", "1.json"]
    files = [(f"a/{name}", (tmp_path / name).read_bytes()) for name in inputs]
    tar_of(tmp_path / "odd.tar", *files, *((f"a/{name}", b"?") for name in others))
    with tarfile.open(tmp_path / "odd.tar", "a") as archive:
        for name, kind in (("hard.png", tarfile.LNKTYPE), ("soft.png", tarfile.SYMTYPE), ("sub", tarfile.DIRTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a/1.png"
            archive.addfile(link)
    rows = bulk(weights, tmp_path / "odd.tar", tmp_path / "out", "--coco", str(tmp_path / "all.json"))
    assert list(dict.fromkeys(Path(row["image"]).name for row in rows)) == inputs
    assert [row["input"] for row in rows] == [0, *sorted([1, 2, 3, 4] * 3), 5, 5, 5, 5, 6]
    skipped = [json.loads(line) for line in (tmp_path / "out/skipped.jsonl").open()]
    names = [one["place"].removeprefix(f"{tmp_path}/odd.tar/") for one in skipped]
    assert sorted(names) == sorted([*(f"a/{name}" for name in others), "hard.png", "soft.png"])
    said = capsys.readouterr()
    assert "7 inputs (17 frames)" in said.out and "1 failed; " in said.out and "; 12 others skipped" in said.out
    text = "2 archives (a.tar.gz), 1 hidden (._1.png), 1 in formats that cannot be decoded (a.heic), 2 links (hard.png)"
    assert f"skipped {text}, 5 of other types (1.json), 1 with a dot before the suffix" in caplog.text
    words = ["--weights", str(weights), "--source", str(tmp_path / "odd.tar"), "--annotate", "false", "--skip-bad"]
    assert main(["predict", *words, "--out", str(tmp_path / "p"), *FLAGS[:-2]]) == 0
    assert (tmp_path / "p/detections.json").read_bytes() == (tmp_path / "all.json").read_bytes()
    assert caplog.text.count("skipped 2 archives") == 2  # of predict, too


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no tar at all", r"odd\.tar: not a readable tar file"),
        (b"", r"odd\.tar: not a readable tar file"),
        ("joined", "other files follow the end of the tar, as where several were joined by cat"),
        ("cut", r"odd\.tar: not a readable tar file"),
        ("without", r"odd\.tar: no image or video in it, but 1 of other types \(notes\)"),
    ],
)
def test_a_tar_of_which_something_would_be_lost_is_refused(content, said, tmp_path) -> None:
    path = tar_of(tmp_path / "odd.tar", ("1.png", bytes(3000)), ("2.png", bytes(3000)))
    if content == "without":
        tar_of(path, ("notes", b"?"))
    else:
        data = path.read_bytes()
        path.write_bytes({"joined": data + data, "cut": data[:5000]}.get(content, content))
    with pytest.raises(UserError, match=said):
        files_of(str(path))


def test_other_columns_of_images_in_parquet_are_told(tmp_path, caplog) -> None:
    pa = pytest.importorskip("pyarrow")
    data = image(tmp_path / "1.png").read_bytes()
    table = pa.table({"image": [{"bytes": data, "path": "a.png"}], "mask": [data], "text": ["no image"]})
    pa.parquet.write_table(table, tmp_path / "one.parquet")
    assert [path.name for path in files_of(str(tmp_path / "one.parquet"))] == ["a.png"]
    assert "one.parquet: skipped 1 columns of Parquet files (mask)" in caplog.text


def test_what_a_folder_or_pattern_holds_is_an_input_once_or_listed(tmp_path) -> None:
    for name in ("a/1.png", "a/01.png", "a/a/2.png", "a/.hidden.png"):
        image(tmp_path / "top" / name)
    (tmp_path / "top/a/notes.txt").write_text("?")
    tar_of(tmp_path / "top/a/b.tar", ("1.png", b"?"))
    (tmp_path / "top/a/gone.png").symlink_to(tmp_path / "nothing")
    twice = Listing(f"{tmp_path}/top/**/a/**/*.png", False, tmp_path)
    assert [name for name, _ in twice] == ["01.png", "1.png", "a/2.png"]  # 2.png matches in two ways
    for source in (f"{tmp_path}/top/a", f"{tmp_path}/top/a/*"):
        found = [json.loads(line) for line in Listing(source, False, tmp_path).skipped]
        hidden = [(".hidden.png", "hidden")] if not source.endswith("*") else []
        expected = [
            ("a", "folders"),
            ("b.tar", "archives"),
            ("gone.png", "broken links"),
            ("notes.txt", "of other types"),
        ]
        assert [(Path(one["place"]).name, one["reason"]) for one in found] == [*hidden, *expected]


def test_every_line_of_a_list_is_an_input_once(weights, tmp_path, monkeypatch, capsys) -> None:
    """Duplicates are inputs of their own; broken files and objects that are not there are failures; URLs are read."""
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    resolve._remote.cache_clear()
    image(tmp_path / "a/1.png")
    image(tmp_path / "a/2.png", 50)
    (tmp_path / "a/broken.jpg").write_bytes(b"\xff\xd8 no image")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a/2.png"), "/listed/far.png")
    lines = ["a/1.png", "a/broken.jpg", "a/2.png", "", "a/1.png", "memory://listed/far.png", "memory://listed/none.png"]
    (tmp_path / "list.txt").write_text("\n".join([*lines, "a/1.png"]))
    try:
        rows = bulk(weights, tmp_path / "list.txt", tmp_path / "out")
    finally:
        memory.rm("/listed", recursive=True)
        resolve._remote.cache_clear()
    assert [row["input"] for row in rows] == list(range(7))
    assert [row["input"] for row in rows if row["error"] is not None] == [1, 5]
    assert rows[0]["detections"] == rows[3]["detections"] == rows[6]["detections"] != rows[2]["detections"]
    assert rows[2]["detections"] == rows[4]["detections"]
    failures = [json.loads(line) for line in (tmp_path / "out/failures.jsonl").open()]
    assert [one["input"] for one in failures] == [1, 5] and failures[1]["place"] == "memory://listed/none.png"
    said = capsys.readouterr()
    assert "7 inputs (5 frames)" in said.out and "7 inputs in " in said.err and " a second" in said.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("gone.png", "list.txt:2: 'gone.png' is no file"),
        ("list.txt", "list.txt:2: 'list.txt' is not named as an image or video"),
        ("https://host/a.png?signature=x", "list.txt:2: URLs with a query"),
        ("https://host/page", "list.txt:2: 'https://host/page' is not named as an image or video"),
    ],
)
def test_a_mistake_in_a_list_names_its_line(line, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    image(tmp_path / "1.png")
    (tmp_path / "list.txt").write_text(f"1.png\n{line}\n")
    with pytest.raises(UserError, match=re.escape(said)):
        Listing(str(tmp_path / "list.txt"), False, tmp_path)


def test_a_list_in_another_encoding_is_read_line_by_line(tmp_path) -> None:
    image(tmp_path / "ä.png")
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (tmp_path / "list.txt").write_bytes("\nä.png\nä.png".encode(encoding))
        assert list(Listing(str(tmp_path / "list.txt"), False, tmp_path)) == [("ä.png", tmp_path / "ä.png")] * 2
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xff no text")
    assert files_of(str(tmp_path / "list.txt")) == [tmp_path / "list.txt"]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=4),
        max_size=12,
    )
)
@settings(max_examples=25, deadline=None)
def test_a_listing_on_disk_is_that_in_memory(tmp_path_factory, names) -> None:
    """Sorted in runs of three, merged two by two; names may hold line ends, and bytes that are no text."""
    paths = [Path(f"{name}\udcff{i % 3}.png") for i, name in enumerate(names)]
    random.Random(0).shuffle(paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_RUN", 3)
        patch.setattr(listing, "_RUNS", 2)
        patch.setattr(listing, "files_of", lambda _, __, collect, ___: collect(iter(paths), sort=True))
        found = Listing("", False, tmp_path_factory.getbasetemp())
    assert [path for _, path in found] == sorted(set(paths), key=natural) and len(found) == len(set(paths))
    assert len(list(zip(found, found, strict=True))) == len(found)  # two iterators at the same time


def test_names_of_a_listing_are_those_of_a_source(tmp_path) -> None:
    for name in ("x 10.png", "x 9.png", "deep/er/1.png", "deep/1.png", ".hidden/1.png", "notes.md"):
        image(tmp_path / "top" / name) if name.endswith("png") else (tmp_path / "top" / name).write_text("")
    (tmp_path / "top/loop").symlink_to(tmp_path / "top")
    for recursive in (False, True):
        files = Listing(str(tmp_path / "top"), recursive, tmp_path)
        source = open_source(tmp_path / "top", recursive=recursive)
        assert [name for name, _ in files] == [part.name for part in source.parts]
        assert len(files) == (4 if recursive else 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["top"]  # temporary files have no names
    shutil.rmtree(tmp_path / "top")
    with pytest.raises(UserError, match="no such file or folder"):
        Listing(str(tmp_path / "top"), False, tmp_path)


def test_a_disk_that_is_full_while_files_are_listed_is_one_line(tmp_path, monkeypatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    image(tmp_path / "1.png")
    monkeypatch.setattr(listing.tempfile, "TemporaryFile", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        Listing(str(tmp_path), False, tmp_path)
