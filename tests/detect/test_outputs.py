"""The folder of predict: one run's files and no other's, whatever is in it already."""

import errno
import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detect.errors import UserError
from detect.inference import output_folder as outputs
from detect.inference import pipeline as job
from detect.inference.output_folder import LIST, OutputFolder, OutputPaths
from detect.inference.predictor import Predictor
from detect.inference.source import open_source
from detect.tracking.video_tracker import VideoTracker
from detect.types import Frame, Postprocess
from tests.reference.planted import MagentaFinder, film, moving, planted

BOX = (20, 10, 60, 50)


def run(source: object, out: Path, skip_bad: bool = False, **options) -> job.Summary:
    finder = Predictor(MagentaFinder(), 128, Postprocess())
    return job.predict_to(open_source(source, skip_bad=skip_bad), finder, ["cat", "dog"], [1, 2], out, **options)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} - {LIST}


def test_a_second_run_clears_what_the_first_wrote_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, second = (save(tmp_path / f"{name}.png", planted(96, 128, BOX)) for name in "ab")
    run(first, out, save_txt=True, save_crop=True)
    assert files(out) == {"a.png", "detections.json", "labels/a.txt", "crops/dog/a_0.jpg"}
    ours = {out / "notes.txt": "a", out / "labels" / "mine.txt": "b"}
    for path, text in ours.items():
        path.write_text(text)
    run(second, out)
    assert files(out) == {"b.png", "detections.json", "notes.txt", "labels/mine.txt"}
    assert all(path.read_text() == text for path, text in ours.items())
    assert not (out / "crops").exists()


def test_annotated_copies_are_drawn_as_asked(tmp_path: Path) -> None:
    image, covered = save(tmp_path / "a.png", planted(96, 128, BOX)), []
    for how in ({}, {"hide_conf": True}, {"hide_labels": True}):
        run(image, tmp_path / "out", plot=how)
        copy = np.array(Image.open(tmp_path / "out" / "a.png"))
        covered.append(int((copy != planted(96, 128, BOX)).any(2).sum()))
    assert covered[0] > covered[1] > covered[2] > 0


def test_a_list_that_lies_removes_nothing_outside_and_follows_no_link(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    for folder in (out, outside):
        folder.mkdir()
    kept = [outside / "x.txt", tmp_path / "y.txt"]
    for path in kept:
        path.write_text("mine")
    (out / "link").symlink_to(outside)
    (out / "z.txt").symlink_to(kept[1])
    names = ["../y.txt", str(kept[1]), "link/x.txt", "z.txt", "", ".", "link", LIST, 7, None, ["a"], {"a": 1}, "no\0"]
    (out / LIST).write_text("".join(json.dumps(name) + "\n" for name in names) + "no json\n")
    run([planted(96, 128, BOX)], out)
    assert all(path.read_text() == "mine" for path in kept)
    assert files(out) >= {"z.txt", "image-0.png"} and (out / "link").is_symlink()


@pytest.mark.parametrize(
    "name", ["x.png", "detections.json", "detections.part.json", "labels/x.txt", "crops/dog/x_0.jpg"]
)
def test_a_file_in_the_way_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    out, path = tmp_path / "out", save(tmp_path / "x.png", planted(96, 128, BOX))
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(UserError, match=r"is there, and predict did not write it.* another --out"):
        run(path, out, save_txt=True, save_crop=True)
    assert (out / name).read_text() == "mine"


def test_a_file_in_the_way_is_seen_before_any_work(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "in" / f"{i}.png", planted(96, 128, BOX))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "2.png").write_text("mine")
    with pytest.raises(UserError, match=r"2\.png is there"):
        run(tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == {"2.png"}


def test_the_list_is_written_into_no_other_file_that_has_its_name(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", planted(96, 128, BOX))
    before = source.read_bytes()
    (tmp_path / "out").mkdir()
    os.link(source, tmp_path / "out" / LIST)
    run(source, tmp_path / "out")
    assert source.read_bytes() == before and (tmp_path / "out" / LIST).read_text().startswith('"')


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".txt"])
def test_a_full_disk_leaves_no_file_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    written = Path.open

    def full(path: Path, *args: Any, **options: Any) -> Any:  # a file can be made, but holds nothing
        if path.name.endswith(".part") and now == suffix:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return written(path, *args, **options)

    real, now = outputs.OutputFolder.claim, ""

    def claim(self: OutputFolder, path: Path) -> Path:
        nonlocal now
        now = path.suffix
        return real(self, path)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(outputs.OutputFolder, "claim", claim)
    source = save(tmp_path / "a.png", planted(96, 128, BOX))
    with pytest.raises(UserError, match="cannot be written: No space left"):
        run(source, tmp_path / "out", save_txt=True, save_crop=True)
    monkeypatch.undo()
    left = files(tmp_path / "out")
    assert not any(name.endswith((suffix, ".part")) for name in left), left


def test_what_predict_wrote_is_no_source_of_the_same_folder(tmp_path: Path) -> None:
    save(tmp_path / "x.png", planted(96, 128, BOX))
    run(tmp_path, tmp_path)
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"x-2\.png was written by an earlier predict"):
        run(tmp_path, tmp_path)
    assert files(tmp_path) == before


def test_two_runs_into_one_folder_at_once_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = OutputFolder(tmp_path)
    with pytest.raises(UserError, match=r"is in use by .* wait until it ends"):
        OutputFolder(tmp_path)
    first.close()
    OutputFolder(tmp_path).close()


def test_names_of_frames_and_images_are_distinct_in_every_order(tmp_path: Path) -> None:
    clip = [Frame(planted(4, 4, None), "clip.mp4", i, i / 10) for i in range(3)]
    pages = [Frame(planted(4, 4, None), "clip.tif", i, pages=3) for i in range(3)]
    stills = [Frame(planted(4, 4, None), f"clip_00000{i}.jpg") for i in range(3)]
    for number, frames in enumerate([clip + stills + pages, stills + pages + clip, pages + clip + stills]):
        paths = OutputPaths(OutputFolder(tmp_path / str(number)))
        for folder in ("labels", "crops"):
            given = [paths.within(folder).of(frame, ".txt") for frame in frames]
            assert len(given) == len(frames)
        one = paths.within("again")
        assert len({one.of(frame, ".txt") for frame in frames}) == len(frames)
    assert (
        OutputPaths(OutputFolder(tmp_path / "c")).give("crops/dog/a_0.jpg", ".jpg")
        == tmp_path / "c" / "crops-2" / "dog" / "a_0.jpg"
    )


def test_names_of_dots_stay_in_the_folder(tmp_path: Path) -> None:
    names = {"..png", "...png", "a/..png", "._1.png", "._1.2.png"}
    for name in names:
        save(tmp_path / "x.png", planted(64, 64, None))
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x.png").rename(tmp_path / "in" / name)
    for name in names:
        source = tmp_path / "in" / name
        run([source, source], out := tmp_path / "out" / name)
        assert len(files(out)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_clip_and_images_that_are_called_like_its_frames(tmp_path: Path) -> None:
    film(tmp_path / "in" / "clip.mp4", *_clip(tmp_path / "in"))
    for i in range(3):
        save(tmp_path / "in" / f"clip_00000{i}.jpg", planted(96, 128, BOX))
    run(tmp_path / "in", tmp_path / "out", save_txt=True, save_crop=True)
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 6
    assert len(list((tmp_path / "out" / "crops" / "dog").iterdir())) == 6


def _clip(folder: Path) -> tuple[list[np.ndarray], list[Fraction], Fraction]:
    folder.mkdir(parents=True, exist_ok=True)
    return moving(3)[0], [Fraction(i, 10) for i in range(3)], Fraction(10)


def test_pages_have_names_and_records_of_their_own(tmp_path: Path) -> None:
    images = [Image.fromarray(planted(96, 128, (20 + i, 10, 60 + i, 50))) for i in range(3)]
    (tmp_path / "in").mkdir()
    images[0].save(tmp_path / "in" / "x.tif", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "in" / "y.png")
    summary = run(tmp_path / "in", tmp_path / "out", save_txt=True)
    assert summary.frames == 4
    numbered = {f"x_00000{i}" for i in range(3)}
    assert files(tmp_path / "out") == {
        *(f"{name}.tif" for name in numbered),
        *(f"labels/{name}.txt" for name in numbered),
        *("y.png", "labels/y.txt", "detections.json"),
    }
    records = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(r["image"], r.get("frame"), r["image_id"]) for r in records] == [
        *(("x.tif", i, i + 1) for i in range(3)),
        ("y.png", None, 4),
    ]
    assert [r["bbox"][0] for r in records[:3]] == pytest.approx([20, 21, 22], abs=1)


def test_one_corrupt_image_ends_a_folder_or_is_left_out(tmp_path: Path) -> None:
    for name in "ac":
        save(tmp_path / "in" / f"{name}.png", planted(96, 128, BOX))
    (tmp_path / "in" / "b.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:60])
    (tmp_path / "in" / "d.mp4").write_text("no video")
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"d\.mp4"):
        run(tmp_path / "in", out)
    (tmp_path / "in" / "d.mp4").unlink()
    with pytest.raises(UserError, match=r"b\.png.*; the 1 frames before are in .*detections\.part\.json"):
        run(tmp_path / "in", out)
    assert files(out) == {"a.png", "detections.part.json"}
    (tmp_path / "in" / "d.mp4").write_text("no video")
    source = open_source(tmp_path / "in", skip_bad=True)
    job.predict_to(source, Predictor(MagentaFinder(), 128, Postprocess()), ["cat", "dog"], [1, 2], out)
    assert files(out) == {"a.png", "c.png", "detections.json"}
    assert sorted(Path(line.split(":")[0]).name for line in source.left_out) == ["b.png", "d.mp4"]


def test_counts_of_a_run_that_was_cut_short_are_called_so(tmp_path: Path) -> None:
    def answers(frames):
        for frame, found in Predictor(MagentaFinder(), 128, Postprocess())(frames):
            if frame.index == 2:
                raise KeyboardInterrupt
            yield frame, found

    film(tmp_path / "v.mp4", *_clip(tmp_path))
    options = {"lines": [[0, 0, 9, 9]]}
    for predictor, name in (
        (answers, "counts.part.json"),
        (Predictor(MagentaFinder(), 128, Postprocess()), "counts.json"),
    ):
        tracker = VideoTracker(0.5, ["cat", "dog"], **options)
        source = open_source(tmp_path / "v.mp4")
        try:
            job.predict_to(source, predictor, ["cat", "dog"], [1, 2], tmp_path / "out", tracker=tracker)
        except KeyboardInterrupt:
            assert name == "counts.part.json"
        found = {path for path in files(tmp_path / "out") if path.startswith("counts")}
        assert found == {name} and os.stat(tmp_path / "out" / name).st_size
