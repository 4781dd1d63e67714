"""What prediction leaves behind: images, films, results, also when it is cut short."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from detect.errors import UserError
from detect.inference import pipeline as job
from detect.inference import video_writer as films
from detect.inference import writers as sink
from detect.inference.crops import CropSink
from detect.inference.output_folder import LIST, LOCK, OutputFolder, OutputPaths
from detect.inference.palette import color_of
from detect.inference.predictor import Predictor
from detect.inference.result_writers import JsonSink, part_of
from detect.inference.source import open_source
from detect.inference.video_writer import VideoWriter
from detect.inference.writers import YoloTxtSink
from detect.types import Detections, Frame, Postprocess
from tests.reference.planted import MagentaFinder, film, moving, planted

NAMES, IDS = ["cat", "사람/a"], [3, 18]


def run(source: object, out: Path, finder: object = None, **options) -> job.Summary:
    finder = finder or Predictor(MagentaFinder(), 128, Postprocess())
    return job.predict_to(open_source(source), finder, NAMES, IDS, out, **options)  # type: ignore[arg-type]


def results(out: Path) -> list[dict]:
    return json.loads((out / "detections.json").read_text(encoding="utf-8"))


def unfinished(out: Path) -> list[dict]:
    return json.loads(part_of(out / "detections.json").read_text(encoding="utf-8"))


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def test_a_folder_of_images(tmp_path: Path) -> None:
    box = (20, 10, 60, 50)
    save(tmp_path / "in é" / "one 1.png", planted(96, 128, box))
    save(tmp_path / "in é" / "two.gif", planted(96, 128, None))
    out = tmp_path / "out 한"
    summary = run(tmp_path / "in é", out, save_txt=True, save_crop=True)
    assert (summary.frames, summary.objects) == (2, {"사람/a": 1})
    record = {"image_id": 1, "image": "one 1.png", "category_id": 18, "category": "사람/a"}
    assert results(out) == [{**record, "bbox": [20, 10, 40, 40], "score": 0.9}]
    image = np.asarray(Image.open(out / "one 1.png"))
    assert tuple(image[49, 30]) == color_of(1) and tuple(image[80, 100]) == (90, 90, 90)
    assert (out / "two.png").is_file()
    assert (out / "labels" / "one 1.txt").read_text() == "1 0.312500 0.312500 0.312500 0.416667 0.90000\n"
    assert (out / "labels" / "two.txt").read_text() == ""
    crop = np.asarray(Image.open(out / "crops" / "사람_a" / "one 1_0.jpg")).astype(int)
    assert crop.shape == (40, 40, 3) and np.abs(crop - (255, 0, 255)).max() < 12
    assert not list(out.rglob("*.part"))


def test_results_are_what_pycocotools_loads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    run([planted(96, 128, (20, 10, 60, 50)), planted(96, 128, (1, 2, 50, 90))], tmp_path)
    ground_truth = {"images": [{"id": 1}, {"id": 2}], "annotations": [], "categories": [{"id": 18, "name": "x"}]}
    (tmp_path / "ground_truth.json").write_text(json.dumps(ground_truth))
    loaded = COCO(str(tmp_path / "ground_truth.json")).loadRes(str(tmp_path / "detections.json"))
    assert [a["image_id"] for a in loaded.loadAnns(loaded.getAnnIds())] == [1, 2]


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(30000, 1001)])
def test_an_annotated_video_has_the_frames_and_times_of_its_source(tmp_path: Path, rate: Fraction) -> None:
    images, boxes = moving(12)
    film(tmp_path / "clip.mkv", images, [i / rate for i in range(12)], rate)
    run(tmp_path / "clip.mkv", tmp_path / "out")
    source, copy = (list(open_source(p)) for p in (tmp_path / "clip.mkv", tmp_path / "out" / "clip.mp4"))
    assert len(copy) == 12
    assert [f.time for f in copy] == pytest.approx([f.time for f in source], abs=0.001)
    found = results(tmp_path / "out")
    assert [r["frame"] for r in found] == list(range(12))
    assert [r["time"] for r in found] == pytest.approx([f.time for f in source], abs=1e-6)
    for record, (x1, y1, x2, y2) in zip(found, boxes, strict=True):
        assert record["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=2)
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == pytest.approx(float(rate), rel=1e-3)
    data = (tmp_path / "out" / "clip.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "a browser plays it before it has all of it"


def test_a_variable_rate_stays_variable(tmp_path: Path) -> None:
    times = [1.5, 1.54, 1.58, 2.0, 2.01, 3.0]
    one = VideoWriter(tmp_path / "v.mp4", Fraction(25))
    for time in times:
        one.write(planted(32, 32, None), time)
    one.close()
    assert [f.time for f in open_source(tmp_path / "v.mp4")] == pytest.approx([t - 1.5 for t in times], abs=1e-4)


def test_a_film_keeps_colours_and_goes_on_where_times_and_sizes_do_not(tmp_path: Path) -> None:
    one = VideoWriter(tmp_path / "v.mp4", None)
    colours = [(255, 0, 0), (0, 255, 0), (200, 150, 30)]
    for colour, time, size in zip(colours, (5.0, 5.0, 4.0), (33, 33, 50), strict=True):
        one.write(np.full((size, size, 3), colour, np.uint8), time)
    one.close()
    frames = list(open_source(tmp_path / "v.mp4"))
    for frame, colour in zip(frames, colours, strict=True):
        assert frame.image.shape == (34, 34, 3)
        assert np.abs(frame.image[16, 16].astype(int) - colour).max() <= 4


def test_a_film_without_h264_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(films.av, "codecs_available", {"mpeg4"})
    one = VideoWriter(tmp_path / "v.mp4", Fraction(30000, 1001))
    for i in range(3):
        one.write(planted(32, 32, None), i / 29.97)
    one.close()
    assert len(list(open_source(tmp_path / "v.mp4"))) == 3


def test_a_film_of_nothing_leaves_nothing(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "v.mp4", None).close()
    assert list(tmp_path.iterdir()) == []


def test_videos_of_one_folder_become_films_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, count in (("a.mp4", 3), ("b.avi", 4)):
        film(tmp_path / "in" / name, moving(count)[0], [Fraction(i, 10) for i in range(count)], Fraction(10))
    run(tmp_path / "in", tmp_path / "out", save_txt=True)
    assert [len(list(open_source(tmp_path / "out" / n))) for n in ("a.mp4", "b.mp4")] == [3, 4]
    texts = sorted(p.name for p in (tmp_path / "out" / "labels").iterdir())
    assert texts == [f"a_{i:06d}.txt" for i in range(3)] + [f"b_{i:06d}.txt" for i in range(4)]


def test_a_source_is_never_written_over(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", planted(96, 128, (20, 10, 60, 50)))
    film(tmp_path / "x.mp4", moving(2)[0], [Fraction(0), Fraction(1, 10)], Fraction(10))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").symlink_to(path)
    before = {p: p.read_bytes() for p in (path, tmp_path / "x.mp4")}
    run(tmp_path, tmp_path)
    run(path, tmp_path / "out")
    assert all(p.read_bytes() == data for p, data in before.items())
    assert (
        (tmp_path / "x-2.png").is_file()
        and (tmp_path / "x-2.mp4").is_file()
        and (tmp_path / "out" / "x-2.png").is_file()
    )


def test_names_are_distinct_and_stay_under_the_folder(tmp_path: Path) -> None:
    paths = OutputPaths(OutputFolder(tmp_path))
    given = [paths.give(name, ".jpg") for name in ("a/x.png", "b/x.png", "x.png", "x.jpg", "../../x.png", "/x.png")]
    names = ["a/x", "b/x", "x", "x-2", "x-3", "x-4"]
    assert given == [tmp_path / f"{name}.jpg" for name in names]
    assert paths.give('we:ird"?.png', ".txt") == tmp_path / "we_ird__.txt"
    assert paths.give("10.0.0.1", ".mp4") == tmp_path / "10.0.0.1.mp4"


def test_a_second_clip_of_the_same_name_starts_anew(tmp_path: Path) -> None:
    paths = OutputPaths(OutputFolder(tmp_path))
    image = planted(4, 4, None)
    stems = [paths.of(Frame(image, "a.mp4", i, i / 10)).name for i in (0, 1, 2, 0, 1)]
    assert stems == ["a_000000", "a_000001", "a_000002", "a-2_000000", "a-2_000001"]
    assert len(paths.taken) == 2, "a long video takes no memory"


def test_keypoints_and_tracks_are_in_the_results(tmp_path: Path) -> None:
    sink = JsonSink(OutputFolder(tmp_path), "d.json", NAMES, IDS)
    found = Detections(
        torch.tensor([[1.0, 2, 4, 6]]),
        torch.tensor([0.5]),
        torch.tensor([0]),
        torch.tensor([[[1.0, 2, 2], [3, 4, 0]]]),
        torch.tensor([7]),
    )
    sink.write(Frame(planted(8, 8, None), "x"), found, planted(8, 8, None))
    sink.close()
    (record,) = json.loads((tmp_path / "d.json").read_text())
    assert (record["keypoints"], record["track_id"], record["bbox"]) == ([1, 2, 2, 3, 4, 0], 7, [1, 2, 3, 4])


STEMS = [b"caf\xe9", b"\xff\xfe", b"a\nb", b"-x", b" x ", "\u05e2\u05d1".encode(), b"\x1b[31m", b"x" * 251]


def test_names_of_files_are_any_bytes_and_are_found_again(tmp_path: Path) -> None:
    image, folder = planted(96, 128, (20, 10, 60, 50)), os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    try:
        for name in STEMS:
            with open(os.path.join(folder, name + b".png"), "wb") as file:
                file.write(data)
    except OSError:
        pytest.skip("this file system takes only text")
    film(tmp_path / "in" / os.fsdecode(b"v\xff.mp4"), moving(2)[0], [Fraction(0), Fraction(1, 10)], Fraction(10))
    out = tmp_path / os.fsdecode(b"out\xff")
    run(tmp_path / "in", out, save_txt=True, save_crop=True)
    text = (out / "detections.json").read_text(encoding="utf-8")
    found = {os.fsencode(record["image"]) for record in json.loads(text)}
    assert found == {name + b".png" for name in STEMS} | {b"v\xff.mp4"}
    listed = [json.loads(line) for line in (out / LIST).read_text(encoding="utf-8").splitlines()]
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written - {LIST} <= set(listed) and len(list(out.glob("*.png"))) == len(STEMS)
    assert len(list((out / "labels").iterdir())) == len(list((out / "crops" / "사람_a").iterdir())) == len(STEMS) + 2
    run([image], out)
    assert not list(out.glob("*.mp4")) and not (out / "crops").exists()


def test_nothing_found_in_nothing(tmp_path: Path) -> None:
    run([planted(96, 128, None)], tmp_path, save_crop=True)
    assert results(tmp_path) == [] and not (tmp_path / "crops").exists()
    frame, image = Frame(planted(8, 8, None), "x"), planted(8, 8, None)
    for one in (
        YoloTxtSink(OutputPaths(OutputFolder(tmp_path / "l"))),
        CropSink(OutputPaths(OutputFolder(tmp_path / "c")), NAMES),
    ):
        one.write(frame, Detections.none(), image)
        one.close()
    assert (tmp_path / "l" / "x.txt").read_text() == "" and set(os.listdir(tmp_path / "c")) == {LIST, LOCK}


def interrupted(error: BaseException, after: int):
    def answers(frames: Iterable[Frame]) -> Iterator[tuple[Frame, Detections]]:
        for i, frame in enumerate(frames):
            if i == after:
                raise error
            yield frame, Detections(torch.tensor([[1.0, 2, 30, 40]]), torch.tensor([0.5]), torch.tensor([0]))

    return answers


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("broken"), RuntimeError("a defect")])
def test_what_was_done_is_kept_however_it_ends(tmp_path: Path, error: BaseException) -> None:
    film(tmp_path / "v.mp4", moving(9)[0], [Fraction(i, 10) for i in range(9)], Fraction(10))
    with pytest.raises(type(error)) as caught:
        run(tmp_path / "v.mp4", tmp_path / "out", interrupted(error, after=5))
    assert len(list(open_source(tmp_path / "out" / "v.mp4"))) == 5
    assert len(unfinished(tmp_path / "out")) == 5 and not (tmp_path / "out" / "detections.json").exists()
    if isinstance(error, UserError):
        assert "broken; the 5 frames before are in " in str(caught.value) and "detections.part.json" in str(
            caught.value
        )


SCRIPT = """
import sys, time
from pathlib import Path
from detect.inference import Predictor, open_source, predict_to
from detect.types import Postprocess
from tests.reference.planted import MagentaFinder
class Slow(MagentaFinder):
    def forward(self, images):
        time.sleep(0.05)
        print("working", flush=True)
        return super().forward(images)
finder = Predictor(Slow(), 128, Postprocess())
predict_to(open_source(sys.argv[1]), finder, ["a", "b"], [1, 2], Path(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_closes_the_film(tmp_path: Path) -> None:
    film(tmp_path / "v.mp4", moving(30, 200, 300)[0] * 20, [Fraction(i, 10) for i in range(600)], Fraction(10))
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "v.mp4"), str(tmp_path / "out")]
    work = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert work.stdout is not None
    for _ in range(12):
        work.stdout.readline()
    work.send_signal(signal.SIGINT)
    _, said = work.communicate(timeout=300)
    assert work.returncode != 0 and "KeyboardInterrupt" in said
    kept = len(list(open_source(tmp_path / "out" / "v.mp4")))
    assert 5 <= kept < 600 and len(unfinished(tmp_path / "out")) in (kept, kept + 1)


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="cannot be written"):
            run([planted(96, 128, None)], out)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some.png")

    monkeypatch.setattr(sink, "save_image", full)
    with pytest.raises(UserError, match=r"some\.png: cannot be written \(No space left"):
        run([planted(96, 128, None)], tmp_path / "out")


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_full_disk_under_a_film_is_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 96, 128, 3), np.uint8)
    film(tmp_path / "v.avi", list(noise), [Fraction(i, 10) for i in range(30)], Fraction(10))
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    command = [sys.executable, "-c", limit + SCRIPT, str(tmp_path / "v.avi"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stderr.strip().splitlines()[-1].startswith("detect.errors.UserError: ")
    assert "cannot be written" in done.stderr.strip().splitlines()[-1]
    assert not list((tmp_path / "out").glob("v.mp4*"))


def test_a_window_is_refused_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(sink.cv2, "namedWindow", none)
    with pytest.raises(UserError, match="opencv-python"):
        run([planted(96, 128, None)], tmp_path, show=True)


def test_closing_the_window_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(sink.cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(sink.cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(sink.cv2, "waitKey", lambda _: ord("q") if len(shown) == 2 else -1)
    monkeypatch.setattr(sink.cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(sink.cv2, "destroyAllWindows", lambda: None)
    run([planted(96, 128, (20, 10, 60, 50))] * 4, tmp_path, show=True)
    assert len(shown) == 2 and len(results(tmp_path)) == 2
