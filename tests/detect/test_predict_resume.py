"""A run of predict that was killed at any moment continues: the same files in the end, nothing predicted twice."""

import json
import shutil
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detect.errors import UserError
from detect.inference import pipeline as job
from detect.inference.output_folder import LIST
from detect.inference.parquet import FIELDS
from detect.inference.predictor import Predictor
from detect.inference.resume import Listing, Note
from detect.inference.source import open_source
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.types import Postprocess
from tests.reference.planted import MagentaFinder, film, moving, planted

BOX = (20, 10, 60, 50)
FIELDS_OF_BOXES = ("category_id", "category", "bbox", "score")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, some of whose copies would have one name, pages, a broken file, and a video between them."""
    folder = tmp_path_factory.mktemp("source")
    for i, name in enumerate(("a.bmp", "b.heic.png", "c.gif", "c.png", "e.jpg", "f_000001.png", "g.png")):
        box = None if i == 4 else (20, 10, 60, 40 + i)
        Image.fromarray(planted(96, 128, box)).save(folder / name)
    pages = [Image.fromarray(planted(96, 128, (20, 10, 60 + i, 50))) for i in range(3)]
    pages[0].save(folder / "b.tiff", save_all=True, append_images=pages[1:])
    (folder / "d.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "z.png").write_bytes(b"")
    film(folder / "e.mp4", moving(4)[0], [Fraction(i, 10) for i in range(4)], Fraction(10))
    return folder


def run(source: Path, out: Path, name: str, predictor: Any = None, **options: Any) -> tuple[job.Summary, list[str]]:
    opened = open_source(source, skip_bad=True)
    options = {"run": {"--conf": 0.5}, "save_txt": True, "save_crop": True, "fields": FIELDS_OF_BOXES, **options}
    predictor = predictor or Predictor(MagentaFinder(), 128, Postprocess())
    summary = job.predict_to(opened, predictor, ["cat", "dog"], [1, 2], out, results_file=name, **options)
    return summary, opened.left_out


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in (LIST, ".gridhead.lock")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.suffix != ".mp4"} | {
        path.name: b"" for path in files if path.suffix == ".mp4"
    }


NAMES = ("detections.json", "detections.jsonl", "detections.parquet")


@pytest.mark.parametrize(
    ("name", "moments"),
    [(NAMES[0], (0, 3, 9)), (NAMES[2], (13,)), *(pytest.param(x, range(14), marks=pytest.mark.slow) for x in NAMES)],
)
def test_a_run_killed_at_any_frame_continues(folder: Path, tmp_path: Path, name: str, moments: Iterable[int]) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    out, taken, finder = tmp_path / "out", 0, Predictor(MagentaFinder(), 128, Postprocess())

    def watched(frames: Any) -> Iterator[Any]:
        nonlocal taken
        for pair in finder(frames):
            if taken in moments:
                shutil.copytree(out, tmp_path / f"killed-{taken}")  # what a kill would leave
            taken += 1
            yield pair

    whole, left_out = run(folder, out, name, watched)
    assert whole.frames == taken == 14 and len(left_out) == 2
    expected = contents(out)
    for killed in moments:
        copy, again = tmp_path / f"killed-{killed}", 0

        def counted(frames: Any) -> Iterator[Any]:
            nonlocal again
            for pair in finder(frames):
                again += 1
                yield pair

        summary, left = run(folder, copy, name, counted, resume=True)
        assert contents(copy) == expected
        assert (summary.frames, summary.objects, left) == (whole.frames, whole.objects, left_out)
        assert again <= taken - killed + 4, "the video whose end was not noted, of 4 frames, is read again"
    assert run(folder, out, name, None, resume=True)[0] == whole and contents(out) == expected


def test_rows_have_every_image_and_the_records_of_the_json_file(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in NAMES:
        run(folder, tmp_path / name, name, annotate=False, save_txt=False, save_crop=False)
    records = json.loads((tmp_path / "detections.json/detections.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "detections.jsonl/detections.jsonl").open()]
    rows = parquet.read_table(tmp_path / "detections.parquet/detections.parquet").to_pylist()
    assert [row["image_id"] for row in lines] == list(range(1, 15)) and {row["width"] for row in rows} == {128}
    about = ("image_id", "image", "frame", "time")
    for found in (lines, rows):
        flat = [
            {k: row[k] for k in about if row.get(k) is not None} | one for row in found for one in row["detections"]
        ]
        assert flat == records and len(flat) == 13


def test_another_run_is_not_continued(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", "detections.json", interrupting(5))
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"was begun with --conf 0\.5, not 0\.25: give the same, or start anew"):
        run(folder, tmp_path / "out", "detections.json", run={"--conf": 0.25}, resume=True)
    with pytest.raises(UserError, match="was begun with other weights"):
        run(folder, tmp_path / "out", "detections.json", run={"--conf": 0.5, "weights": ["x"]}, resume=True)
    assert contents(tmp_path / "out") == before
    (tmp_path / "out" / "detections.part.json").write_text("")
    with pytest.raises(UserError, match="missing or cut"):
        run(folder, tmp_path / "out", "detections.json", resume=True)
    run(folder, tmp_path / "out", "detections.json", run={"--conf": 0.25})
    assert not (tmp_path / "out" / "detections.part.json").exists()


def interrupting(after: int) -> Any:
    def predict(frames: Any) -> Iterator[Any]:
        for i, pair in enumerate(Predictor(MagentaFinder(), 128, Postprocess())(frames)):
            if i == after:
                raise KeyboardInterrupt
            yield pair

    return predict


def test_a_run_without_a_beginning_begins(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "out", "detections.json", resume=True)[0].frames == 14
    (tmp_path / "hostile").mkdir()
    lines = ['"../x"', '{"part": -1}', '{"part": 0, "frames": "1", "records": 0, "size": 0}', "[1]", "{", '{"run": 3}']
    (tmp_path / "hostile" / LIST).write_text("\n".join(lines))
    assert run(folder, tmp_path / "hostile", "detections.json", resume=True)[0].frames == 14


def test_notes_are_read_as_they_were_written() -> None:
    notes = [Note(0, 1, 2, 3), Note(4, 5, 6, 7, 8, True, {"cat": 2}, {"3": "broken"})]
    lines = [json.dumps({"run": {"--x": 1}}), '"a"', notes[0].line(), '"b"', notes[1].line(), '"c"', '{"part": 9, "fra']
    listing = Listing(lines)
    assert listing.notes == notes and listing.opened == ['"a"'] and listing.later == ['"c"']
    assert listing.lines == lines[:5] and listing.run == {"--x": 1}


def test_without_copies_nothing_but_results_is_written(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path, "detections.json", annotate=False, save_txt=False, save_crop=False)
    assert set(contents(tmp_path)) == {"detections.json"}


def test_every_task_names_fields_of_parquet() -> None:
    for task in map(get_task, REGISTRIES["task"]):
        assert bool(task.record_fields) == bool(task.results_file) and set(task.record_fields) <= set(FIELDS)
    assert np.dtype("float64") == np.dtype(FIELDS["score"])
