"""report.html: every kind of run has one, it loads in a browser, and it never costs a run."""

import json
import shutil

import cv2
import numpy as np
import pytest
import yaml

from detect.__main__ import main
from detect.report.comparison import short_names
from tests.browser import check_look
from tools import look

SMALL = "--imgsz 64 --batch 8 --epochs 2 --workers 0 --device cpu --precision float32"
YOLO = "--model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0"
KINDS = {
    "yolo_n": YOLO,
    "yolo_anchor_n": "--model.width 16 --model.levels [3] --model.neck straight",
    "yolo_n_points": YOLO,
    "localizer": "--model.width 16",
    "landmarker": "--model.width 16",
    "csp_n": "--task classify --augment.flip_pairs []",
}


def train(data, out, model):
    flags = KINDS[model].split()
    if model not in ("yolo_n_points", "landmarker"):
        flags = [flag for flag in flags if flag not in ("--augment.flip_pairs", "[]")]
    else:
        flags += ["--augment.flip_pairs", "[[0, 1]]"]
    return main(["train", "--data", str(data), "--model", model, *SMALL.split(), *flags, "--out", str(out)])


@pytest.fixture(scope="module")
def run(marked, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "run"
    assert train(marked, out, "yolo_n") == 0
    return out


SECTIONS = {
    "yolo_anchor_n": ["Confidence thresholds", "Calibration", "What is hard"],
    "yolo_n_points": ["OKS_AP", "Confidence thresholds", "What is hard"],
    "localizer": ["IoU of box and object", "images that show an object", "expected calibration error"],
    "landmarker": ["mean error of each keypoint", "Worst images", "Best images"],
    "csp_n": ["true classes (rows)", "expected calibration error", "Most surprising errors"],
}


@pytest.mark.parametrize("model", list(KINDS)[1:])
def test_every_kind_of_run_has_a_report(marked, tmp_path, model, capsys):
    assert train(marked, tmp_path / "run", model) == 0
    said = capsys.readouterr()
    assert "report.html" in said.out and "no report" not in said.err
    text = (tmp_path / "run/report.html").read_text()
    assert text.startswith("<!DOCTYPE html>") and "Settings and versions" in text and "learning rate" in text
    assert [part for part in SECTIONS[model] if part not in text] == []


def test_a_detector_is_told_of_in_full(run):
    text = (run / "report.html").read_text()
    for part in (
        "loss terms",
        "precision against recall",
        "F1 by confidence",
        "Cost of errors",
        "were missed",
        "Sizes",
    ):
        assert part in text, part
    for part in ("Best images", "Worst images", "Most surprising", "Seed 0", "torchvision", "epochs: 2"):
        assert part in text, part
    assert text.count("data:image/jpeg;base64,") >= 3 and 'src="http' not in text and '<link rel="style' not in text


def test_it_opens_in_a_browser_and_tables_sort(run, page_at):
    page = page_at(run / "report.html")
    table = page.locator("table", has=page.get_by_role("columnheader", name="TP", exact=True))
    head = table.get_by_role("columnheader", name="objects")

    def order():
        return [int(text) for text in table.locator("tbody tr td:nth-child(2)").all_inner_texts()]

    before = order()
    head.get_by_role("button").press("Enter")
    up = order()
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert up == sorted(before) and order() == up[::-1] and head.get_attribute("aria-sort") == "descending"
    images = page.evaluate("[...document.images].filter(i => i.src).map(i => i.complete && i.naturalWidth > 0)")
    assert all(images) and len(images) >= 3 and page.locator(".plot svg").count() >= 8
    check_look(page)
    assert (run / "report.html").stat().st_size < 5_000_000


def test_a_report_is_written_again_on_request(run, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "report.html").unlink()
    assert main(["report", "--run", str(copy)]) == 0
    assert (copy / "report.html").read_text() == (run / "report.html").read_text()
    assert {p.name for p in copy.iterdir()} == {p.name for p in run.iterdir()}


def test_what_is_no_run_is_one_line(run, tmp_path, capsys):
    def said(folder):
        assert main(["report", "--run", str(folder)]) == 2
        return capsys.readouterr().err

    assert "is not the folder of a run" in said(tmp_path / "none")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "metrics.jsonl").write_text("")
    assert "nothing to report yet" in said(copy)
    (copy / "metrics.jsonl").write_text("{")
    assert "metrics.jsonl cannot be read" in said(copy)
    (copy / "config.yaml").write_text("a: [")
    assert "broken YAML" in said(copy)
    (copy / "config.yaml").write_text(yaml.safe_dump({"a": 1}))
    assert "not the configuration of a run" in said(copy)


def test_without_a_report_training_has_still_ended_well(marked, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("detect.report.run_report.replace_text", full)
    assert train(marked, tmp_path / "run", "yolo_n") == 0
    said = capsys.readouterr()
    assert "no report: [Errno 28]" in said.err and "best weights" in said.out
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])["epoch"] == 0


@pytest.fixture(scope="module")
def other(run, tmp_path_factory):
    """A run like `run`, with another seed and other metrics."""
    folder = tmp_path_factory.mktemp("other") / "run"
    shutil.copytree(run, folder)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    settings |= {"seed": 7, "augment": settings["augment"] | {"flip": 0.25}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text(json.dumps(rows[0] | {"AP": 0.5}) + "\n")
    return folder


def test_runs_are_compared_on_a_page(run, other, tmp_path, page_at):
    assert main(["report", "--runs", str(run), str(other), "--page", str(tmp_path / "c.html"), "--device", "cpu"]) == 0
    page = page_at(tmp_path / "c.html")
    check_look(page)
    first, second = short_names([run, other])
    assert first.endswith("/run") and first != second
    text = page.locator("main").inner_text()
    for part in ("95 % interval of AP", "more than chance", "1,000 resamples", "augment.flip", "AP of each class"):
        assert part in text, part
    settings = page.locator("table", has=page.get_by_role("columnheader", name="setting"))
    assert settings.locator("tbody tr td:first-child").all_inner_texts() == ["seed", "augment.flip"]
    assert page.locator(".plot svg").count() >= 7
    assert page.locator("table", has_text=f"{first} − {second}").locator("td:nth-child(2)").inner_text() == "0.000"


def test_runs_that_cannot_be_compared_are_one_line(run, other, tmp_path, capsys):
    def said(*runs):
        assert main(["report", *runs, "--page", str(tmp_path / "c.html"), "--device", "cpu"]) == 2
        return capsys.readouterr().err

    assert "at least two folders" in said("--runs", str(run))
    assert "named twice" in said("--runs", str(run), str(run))
    assert "is not the folder of a run" in said("--runs", str(run), str(tmp_path / "none"))
    assert "--run, or the folders of several" in said("--run", str(run), "--runs", str(run), str(other))
    shutil.copytree(other, tmp_path / "elsewhere")
    settings = (other / "config.yaml").read_text()
    data = yaml.safe_load(settings)["data"]
    shutil.copytree(data, tmp_path / "data")
    content = json.loads((tmp_path / "data/instances_val.json").read_text())
    content["annotations"] = content["annotations"][1:]
    (tmp_path / "data/instances_val.json").write_text(json.dumps(content))
    (tmp_path / "elsewhere/config.yaml").write_text(settings.replace(data, str(tmp_path / "data")))
    assert "on different images, annotations or classes" in said("--runs", str(run), str(tmp_path / "elsewhere"))
    assert not (tmp_path / "c.html").exists()


THIN = [(4, 4000), (1, 3000), (3000, 1), (4000, 4), (1, 1), (60, 80)]  # heights and widths


@pytest.fixture(scope="module")
def thin(tmp_path_factory):
    """Images of which a small copy has less than a pixel of height or width, each wholly an object."""
    folder = tmp_path_factory.mktemp("thin")
    for split in ("train", "val"):
        (folder / split).mkdir()
        images, objects = [], []
        for i, (height, width) in enumerate(THIN, 1):
            cv2.imwrite(str(folder / split / f"{i}.png"), np.full((height, width, 3), 40 * i, np.uint8))
            images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
            objects.append({"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, width, height], "iscrowd": 0})
        content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "line"}]}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_thin_images_are_trained_reported_predicted_and_looked_at(thin, tmp_path, capsys):
    assert train(thin, tmp_path / "run", "yolo_n") == 0
    assert "no report" not in capsys.readouterr().err and (tmp_path / "run" / "report.html").exists()
    weights, out = str(tmp_path / "run" / "best.safetensors"), str(tmp_path / "found")
    flags = ["--weights", weights, "--source", str(thin / "val"), "--device", "cpu", "--conf", "0", "--save-crop"]
    assert main(["predict", *flags, "--out", out, "--tile"]) == 0
    assert main(["predict", *flags, "--out", out + "-2", "--tta"]) == 0
    assert look.main(["--data", str(thin), "--imgsz", "64", "--count", "6", "--out", str(tmp_path / "look.png")]) == 0
