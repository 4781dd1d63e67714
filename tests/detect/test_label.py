"""`detect label`: predictions as a dataset."""

import json

import numpy as np
import pytest
from PIL import Image

from detect.__main__ import main
from detect.data.sources.formats import load_data
from detect.registry import REGISTRIES


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for name in ("a.png", "deep er/a.png", "ü.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (64, 80, 3), np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    return folder


def run(weights, source, out, *options):
    common = ("--recursive", "true", "--skip-bad", "true", "--device", "cpu", "--precision", "float32")
    return main(["label", "--weights", str(weights), "--source", str(source), "--out", str(out), *common, *options])


@pytest.mark.parametrize("form", list(REGISTRIES["labels"]))
def test_every_image_is_in_the_dataset_once(served_weights, photos, tmp_path, form, capsys):
    assert run(served_weights, photos, tmp_path / "out", "--format", form) == 0
    printed = capsys.readouterr()
    assert "3 images: " in printed.out and "broken.png" in printed.err
    if form in ("coco", "yolo", "voc"):
        read = load_data(tmp_path / "out", "train")
        names = sorted(read.file_name(i).rpartition("train/")[2].removeprefix("JPEGImages/") for i in range(len(read)))
        assert names == sorted(["a.png", "deep er/a.png", "ü.jpg"])
    assert run(served_weights, photos, tmp_path / "out", "--format", form) == 2
    assert "holds something already" in capsys.readouterr().err


def test_bands_part_the_objects(served_weights, photos, tmp_path, capsys):
    assert run(served_weights, photos, tmp_path / "all", "--accept", "0.01", "--ask", "0.01") == 0
    content = json.loads((tmp_path / "all" / "instances_train.json").read_text())
    scores = sorted(one["score"] for one in content["annotations"])
    assert len(scores) > 2
    low, high = scores[len(scores) // 3] + 1e-4, scores[2 * len(scores) // 3] + 1e-4
    capsys.readouterr()
    assert run(served_weights, photos, tmp_path / "some", "--accept", f"{high:.4f}", "--ask", f"{low:.4f}") == 0
    kept = json.loads((tmp_path / "some" / "instances_train.json").read_text())
    assert sorted(one["score"] for one in kept["annotations"]) == [s for s in scores if s >= float(f"{low:.4f}")]
    asked = [one for one in kept["annotations"] if one.get("review")]
    assert all(one["score"] < float(f"{high:.4f}") for one in asked)
    listed = (tmp_path / "some" / "review.txt").read_text().splitlines() if asked else []
    assert len(listed) == len({one["image_id"] for one in asked})
    assert f"{len(asked)} to review" in capsys.readouterr().out
    assert run(served_weights, photos, tmp_path / "none", "--accept", "0.2", "--ask", "0.3") == 2
    assert "lower it" in capsys.readouterr().err


def test_images_are_copied_on_request_alone(served_weights, photos, tmp_path):
    assert run(served_weights, photos, tmp_path / "refer") == 0
    assert not (tmp_path / "refer" / "images").exists()
    assert run(served_weights, photos, tmp_path / "copy", "--images", "copy") == 0
    copied = tmp_path / "copy" / "images" / "train" / "deep er" / "a.png"
    assert copied.read_bytes() == (photos / "deep er" / "a.png").read_bytes()
    assert run(served_weights, photos, tmp_path / "yolo", "--images", "refer", "--format", "yolo") == 2


def test_pages_of_a_file_are_written_as_images(served_weights, tmp_path):
    pages = [Image.new("RGB", (64, 48), (60 * i, 90, 30)) for i in range(3)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "x.png")
    assert run(served_weights, tmp_path / "*.*", tmp_path / "out", "--track", "true") == 0
    read = load_data(tmp_path / "out", "train")
    assert [read.file_name(i) for i in range(4)] == [*(f"scan_{i:06d}.png" for i in range(3)), "x.png"]
    assert all(read.read(i).shape == (48, 64, 3) for i in range(4))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--out", "x"], "needs --weights and --source"),
        (["--weights", "w", "--source", "x", "--format", "paper"], "paper"),
    ],
)
def test_mistakes_are_one_line(words, line, capsys):
    assert main(["label", *words]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
