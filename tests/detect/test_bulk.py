"""Bulk prediction in one process: parts that depend on nothing else, restarts, and an account of every input."""

import json
import logging
import shutil
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from unittest.mock import ANY

import pytest
from PIL import Image

from detect.__main__ import main
from detect.bulk import part_results, ray_engine
from detect.bulk.engines import Computed
from detect.bulk.manifest import Manifest, Part, cut, part_size
from detect.bulk.ray_engine import OnRay
from detect.errors import UserError
from detect.inference import video_range
from detect.inference.video_range import FrameRange, VideoRange
from tests.reference.planted import film, moving, planted
from tests.reference.runs import tiny_weights

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytestmark = pytest.mark.usefixtures("one_thread")
FLAGS = ["--conf", "0.001", "--max-det", "3", "--device", "cpu", "--precision", "float32"]
INPUTS = 11  # of them two cannot be read


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two shapes, one of three pages, a film of four frames, and two broken files."""
    folder = tmp_path_factory.mktemp("source")
    for i in range(7):
        Image.fromarray(planted(64 + 16 * (i % 2), 80, (8, 8, 30 + i, 40))).save(folder / f"{i}.png")
    pages = [Image.fromarray(planted(48, 64, (8, 8, 30 + i, 40))) for i in range(3)]
    pages[0].save(folder / "2b.tiff", save_all=True, append_images=pages[1:])
    film(folder / "4b.mp4", moving(4)[0], [Fraction(i, 10) for i in range(4)], Fraction(10))
    (folder / "3b.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "9.png").write_bytes(b"")
    return folder


Run = Callable[..., int]


@pytest.fixture(scope="module")
def run(weights: Path, source: Path) -> Run:
    def run(out: Path, *flags: str) -> int:
        given = {"--weights": str(weights), "--source": str(source), "--part-images": "3", "--workers": "0"}
        given |= dict(zip(flags[::2], flags[1::2], strict=True))
        return main(["bulk", "--out", str(out), *FLAGS, *(word for pair in given.items() for word in pair)])

    return run


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    assert run(out, "--coco", str(out.parent / "all.json")) == 0
    return out


def rows(out: Path) -> list[dict]:
    parquet = pytest.importorskip("pyarrow.parquet")
    return [row for path in sorted(out.glob("part-*")) for row in parquet.read_table(path).to_pylist()]


def test_the_results_are_those_of_predict(whole: Path, weights: Path, source: Path, tmp_path: Path) -> None:
    words = ["--weights", str(weights), "--source", str(source), "--annotate", "false", "--skip-bad"]
    assert main(["predict", *words, "--out", str(tmp_path / "p"), *FLAGS]) == 0
    expected = (tmp_path / "p/detections.json").read_bytes()
    assert (whole.parent / "all.json").read_bytes() == expected and len(json.loads(expected)) > INPUTS
    assert [row["image"] for row in rows(whole) if row["frame"] == 1] == ["2b.tiff", "4b.mp4"]


def test_every_input_is_accounted_for_once(whole: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(whole)
    assert sorted({row["input"] for row in found}) == list(range(INPUTS))
    failed = [row for row in found if row["error"] is not None]
    listed = [json.loads(line) for line in (whole / "failures.jsonl").read_text().splitlines()]
    assert [row["image"] for row in failed] == [line["image"] for line in listed] == ["3b.jpg", "9.png"]
    assert all(line["image"] in line["error"] and Path(line["place"]).is_file() for line in listed)
    assert run(whole, "--resume", "true") == 0
    said = capsys.readouterr()
    assert f"{INPUTS} inputs (14 frames): 9 with predictions, 0 without, 2 failed" in said.out
    assert "2 failed; the first: " in said.err and "failures.jsonl" in said.err


def test_a_long_video_is_several_parts(run: Run, tmp_path: Path, monkeypatch, capsys) -> None:
    """Their rows are those of the undivided video; a kill costs a part; damage and what lacks is found."""
    parquet = pytest.importorskip("pyarrow.parquet")
    film(tmp_path / "film.mp4", moving(60)[0], [Fraction(i, 10) for i in range(60)], Fraction(10))
    flags = ("--source", str(tmp_path / "film.mp4"), "--part-images", "10", "--vid-stride", "2")
    assert run(tmp_path / "whole", *flags) == 0 and len(list(tmp_path.glob("whole/part-*"))) == 1
    monkeypatch.setattr(video_range, "LEAST", 0)
    capsys.readouterr()
    out = tmp_path / "out"
    assert run(out, *flags) == 0 and "1 input (30 frames)" in capsys.readouterr().out
    expected = contents(out)
    assert rows(out) == rows(tmp_path / "whole") and len(list(out.glob("part-*"))) == 3
    (out / "part-00001.parquet").unlink()
    assert run(out, *flags, "--resume", "true") == 0 and contents(out) == expected
    table = parquet.read_table(out / "part-00001.parquet")
    for wrong in (table[1:], table[:0], parquet.read_table(out / "part-00000.parquet")):
        parquet.write_table(wrong, out / "part-00001.parquet")
        assert run(out, *flags, "--resume", "true") == 2 and "part-00001.parquet has " in capsys.readouterr().err
    read = VideoRange.__iter__
    with monkeypatch.context() as patch:
        patch.setattr(VideoRange, "__iter__", lambda self: setattr(self, "report", "9 of 10") or islice(read(self), 9))
        (out / "part-00001.parquet").unlink()
        assert run(out, *flags, "--resume", "true") == 0
    said = capsys.readouterr()
    assert "(29 frames): 0 with predictions, 0 without, 0 failed, 1 read in part" in said.out
    assert "0 failed, 1 were read in part; the first: film.mp4: 9 of 10" in said.err


def test_an_input_without_objects_is_no_failure(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", "--conf", "1") == 0
    assert "0 with predictions, 9 without, 2 failed" in capsys.readouterr().out
    assert all(row["detections"] == [] for row in rows(tmp_path / "out") if row["error"] is None)


@pytest.mark.parametrize(
    "kept",
    [
        ["inputs.jsonl"],
        ["inputs.jsonl", "skipped.jsonl", "job.json", "part-00001.parquet"],
        pytest.param(["inputs.jsonl", "skipped.jsonl"], marks=pytest.mark.slow),
        pytest.param([], marks=pytest.mark.slow),
    ],
    ids=len,
)
def test_a_killed_job_continues_from_what_its_folder_has(whole: Path, run: Run, tmp_path: Path, kept: list) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in kept:
        shutil.copy(whole / name, out)
    (out / ".gridhead-0123456789ab.part").write_bytes(b"of a killed process")
    assert run(out, "--resume", "true") == 0
    assert contents(out) == contents(whole)


def test_only_what_is_missing_is_computed(whole: Path, run: Run, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(whole, out := tmp_path / "out")
    (out / "part-00002.parquet").unlink()
    computed, compute = [], part_results.PartPredictor.__call__
    monkeypatch.setattr(
        part_results.PartPredictor, "__call__", lambda self, part: computed.append(part.number) or compute(self, part)
    )
    assert run(out, "--resume", "true") == 0
    assert computed == [2] and contents(out) == contents(whole)


def test_a_part_does_not_depend_on_the_parts_before_it(whole: Path, run: Run, tmp_path: Path) -> None:
    assert run(tmp_path / "out", "--part-images", "100") == 0
    assert rows(tmp_path / "out") == rows(whole)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "holds a bulk job: --resume continues it"),
        (("--resume", "true", "--iou", "0.5"), "was begun with --iou 0.7, not 0.5: give the same, or choose another"),
        (("--resume", "true", "--weights", "other"), "was begun with other weights"),
        (("--resume", "true", "--source", "one"), "was begun with other files in --source"),
    ],
)
def test_another_job_is_not_continued(whole, run, source, tmp_path, capsys, flags, said) -> None:
    other = tiny_weights(tmp_path / "w.safetensors", seed=1)
    given = [{"other": str(other), "one": str(source / "0.png")}.get(word, word) for word in flags]
    before = contents(whole)
    assert run(whole, *given) == 2
    assert said in capsys.readouterr().err and contents(whole) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--source", "0"), "is a camera or a stream"),
        (("--source", "rtsp://camera/1"), "is a camera or a stream"),
        (("--source", "{tmp}"), "no image or video in it"),
        (("--out", "{source}"), "and no bulk job: choose an empty folder"),
        (("--address", "auto"), "leave one of them out"),
        (("--source", "{source}/9.png"), "nothing could be read; the first:"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run, source, tmp_path, capsys, flags, said) -> None:
    (tmp_path / "empty").mkdir()
    given = [word.format(tmp=tmp_path / "empty", source=source) for word in flags]
    assert run(tmp_path / "out", *given) == 2
    assert said in capsys.readouterr().err


def test_without_ray_the_message_says_how_to_go_on(run: Run, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    assert run(tmp_path / "out", "--workers", "2") == 2
    said = capsys.readouterr().err
    assert "pip install 'gridhead[ray]'" in said and "--workers 0" in said and not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "a row lacks", "a row is doubled"])
def test_a_damaged_part_is_named(whole: Path, run: Run, tmp_path: Path, capsys, damage: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    shutil.copytree(whole, out := tmp_path / "out")
    path = out / "part-00000.parquet"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        table = parquet.read_table(path)
        doubled = __import__("pyarrow").concat_tables([table[:1], table])
        parquet.write_table(table[1:] if damage == "a row lacks" else doubled, path)
    assert run(out, "--resume", "true") == 2
    said = capsys.readouterr().err
    assert f"{path}" in said and "remove it, and --resume makes it again" in said
    path.unlink()
    assert run(out, "--resume", "true") == 0 and contents(out) == contents(whole)
    assert run(out, "--resume", "true", "--retry-failed", "true", "--iou", "0.5") == 2  # nothing is lost by a mistake
    assert contents(out) == contents(whole)


def test_failures_can_be_tried_again(whole: Path, run: Run, tmp_path: Path, monkeypatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise UserError(f"{path.name}: the store did not answer") if path.name == "5.png" else ValueError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(part_results, "open_part", refuse)
        assert run(tmp_path / "out") == 2
    failures = [json.loads(line)["error"] for line in (tmp_path / "out/failures.jsonl").open()]
    assert failures[0] == "0.png: ValueError: a defect" and "5.png: the store did not answer" in failures
    assert run(tmp_path / "out", "--resume", "true") == 2
    assert run(tmp_path / "out", "--resume", "true", "--retry-failed", "true") == 0
    assert contents(tmp_path / "out") == contents(whole)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize("videos", [set(), {0}, {4, 5}, {10}, set(range(11))])
def test_parts_hold_every_input_once_and_videos_alone(tmp_path: Path, size: int, videos: set) -> None:
    names = [f"{i}\udcff.{'mp4' if i in videos else 'png'}" for i in range(11)]
    files = [(name, tmp_path / name) for name in names]
    parts = list(cut(files, size))
    assert [part.number for part in parts] == list(range(len(parts)))
    ranges = [FrameRange(0, 5, 0, 50, 0), FrameRange(5, 2, 50, None, 40)]
    divided = list(cut(files, size, lambda _: ranges))
    assert [part for part in divided if part.frames is None] == [
        part._replace(number=ANY) for part in parts if not videos & {part.first}
    ]
    assert [(part.first, part.frames) for part in divided if part.frames] == [
        (i, one) for i in sorted(videos) for one in ranges
    ]
    assert [one.name for part in parts for one in part.inputs] == [name for name, _ in files]
    for part in parts:
        numbers = range(part.first, part.first + len(part.inputs))
        assert part.inputs[0].name == files[part.first][0] and len(part.inputs) <= size
        assert len(part.inputs) == 1 or not videos & set(numbers)
        assert all(Part.from_json(one.to_json()) == one for one in (part, *divided))
    Manifest.begin(tmp_path, {}, parts, "detections", ["score"])
    loaded = Manifest.load(tmp_path)
    assert loaded is not None and list(loaded.missing()) == parts and loaded.inputs == 11


def test_parts_are_neither_few_nor_small() -> None:
    assert [part_size(count) for count in (1, 364, 118_287, 10**6, 10**8)] == [16, 16, 462, 1024, 1024]


def test_parts_that_ray_gave_up_are_asked_for_again_as_long_as_some_finish(monkeypatch) -> None:
    asked, finish, left = [], [[0], [2], [1], [], [], []], set(range(5))

    def once(self, rows, work):
        asked.append([Part.from_json(zlib.decompress(row["part"])).number for row in rows])
        for number in finish[len(asked) - 1]:
            left.remove(number)
            yield Computed(number, b"")
        yield Computed(4, b"", "it always fails")

    monkeypatch.setattr(OnRay, "_once", once)
    monkeypatch.setattr(ray_engine, "WINDOW", 3)
    found = OnRay.results(object.__new__(OnRay), lambda: (Part(i, i, []) for i in sorted(left)), None)
    assert [one.part for one in found if not one.error] == [0, 2, 1]
    assert asked == [[0, 1, 2], [3, 4], [1, 3, 4], [3, 4]]


def test_the_loss_of_a_node_is_a_line_for_each_part() -> None:
    """Ray logs a page for each."""
    try:
        raise OSError("the actor\nis gone")
    except OSError:
        record = logging.LogRecord("ray", logging.ERROR, "", 0, "a task of %r failed", ("Map",), sys.exc_info())
    assert ray_engine.shortened(record)
    assert logging.Formatter().format(record) == "a task of 'Map' failed (the actor is gone)"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "[::1]:9", "127.0.0.1:99999"])
def test_an_address_at_which_nothing_listens_is_told_at_once(address: str) -> None:
    with pytest.raises(UserError, match=r"--address .*: no Ray cluster answers there \("):
        ray_engine.require_listener(address)
    ray_engine.require_listener("auto")
