"""`detect serve --run`: the state of runs before, during and after training, their images, and the page."""

import asyncio
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time

import pytest
import yaml

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("jsonschema")

import uvicorn

from detect.__main__ import main
from detect.commands.serve import ServeConfig
from detect.data.images import read_image
from detect.serve import live
from detect.serve.app import build
from detect.serve.preview import preview
from detect.serve.run_state import expected_end, run_lines, run_state
from detect.tasks import get_task
from detect.utils.locks import LOCK, in_use_since, locked_folder
from tests.browser import WIDTHS, check_width, until
from tests.detect.test_serve_api import require

METRICS = {
    "epoch": 0,
    "step": 4,
    "images_per_second": 9.5,
    "lr": 0.1,
    "box": 2.5,
    "classes": 1.5,
    "AP": 0.1,
    "AP50": 0.2,
}


def write_rows(run, count):
    """As training writes metrics.jsonl after its epoch `count`."""
    rows = [METRICS | {"epoch": i, "AP": 0.1 * i, "seconds": 20.0} for i in range(count)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path, digits):
    """The folder of a run of 5 epochs before the first one has ended."""
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"data": str(digits), "task": "detect", "model": {"name": "yolo_n"}, "epochs": 5, "seed": 0}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings | {"workers": 0, "imgsz": 64}))
    (folder / "notes.json").write_text(json.dumps({"start": {"train": "16 images"}, "warnings": {}}))
    return folder


def hold(run, process, node=None):
    """Write the lock of a run as this process would."""
    (run / LOCK).write_text(json.dumps({"process": f"process {process} on {node or platform.node()}"}))


def state_of(run):
    state = run_state(run)
    return state["state"], state["done"], state.get("expected_end"), state.get("best", {}).get("epoch")


def test_the_state_of_a_run_from_its_start_to_its_end(run):
    assert state_of(run) == ("stopped", 0, None, None)
    with locked_folder(run):
        assert state_of(run) == ("training", 0, None, None)
        write_rows(run, 3)
        before = time.time()
        state, done, end, best = state_of(run)
        assert (state, done, best) == ("training", 3, 3) and end == pytest.approx(before + 40, abs=20)
        assert run_state(run)["start"] == {"train": "16 images"}
    assert state_of(run) == ("stopped", 3, None, 3)
    (run / "report.html").touch()
    assert state_of(run)[0] == "ended"  # early
    os.utime(run / "report.html", (1, 1))  # the report of a run that went on later
    assert state_of(run)[0] == "stopped"
    write_rows(run, 5)
    assert state_of(run) == ("ended", 5, None, 5)


def test_a_killed_run_is_not_in_use(run):
    child = subprocess.Popen([sys.executable, "-c", ""])
    hold(run, child.pid)
    time.sleep(0.5)
    assert in_use_since(run) is None  # it has ended, whether its parent has asked for its status or not
    child.wait()
    assert in_use_since(run) is None
    hold(run, child.pid, "elsewhere")  # a machine whose processes cannot be seen
    assert in_use_since(run) is not None
    (run / LOCK).write_text("{")
    assert in_use_since(run) is None


def test_the_end_is_expected_by_the_last_epochs():
    rows = [{"seconds": 900.0}] + [{"seconds": 10.0}] * 4
    assert expected_end(rows, 15, 1000.0) == 1100.0
    assert expected_end([], 15, 1000.0) is None


def test_several_runs_are_drawn_beside_each_other(run, tmp_path):
    write_rows(run, 2)
    other = shutil.copytree(run, tmp_path / "other")
    assert list(run_lines({"run": run})) == [
        *("Metrics on the validation set", "Loss terms", "Learning rate", "Images per second")
    ]
    both = run_lines({"run": run, "other": other})
    assert list(both["AP"]) == ["run", "other"] and both["AP"]["run"] == [(1, 0.0), (2, 0.1)]
    (other / "config.yaml").unlink()
    assert list(run_lines({"run": run, "other": other})["AP"]) == ["run"]


def test_what_cannot_be_watched_is_one_line(run, tmp_path, capsys, served_weights):
    for given in (["--run", str(tmp_path)], ["--run", str(run), "--weights", "w"], []):
        assert main(["serve", *given, "--port", "0"]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
    assert "--weights" in said and "--run" in said
    assert main(["serve", "--run", str(run), "--max-mb", "3"]) == 2
    assert "--max-mb is read with --weights alone" in capsys.readouterr().err


def test_validation_images_are_drawn_from_the_best_weights(run, tmp_path, served_weights):
    shutil.copy(served_weights, run / "best.safetensors")
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    captions = preview(run, tmp_path)
    assert len(captions) == 8 and all("object" in one and "detection" in one for one in captions)
    assert read_image(tmp_path / "7.jpg").shape == (96, 2 * 96 + 6, 3)
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


@pytest.mark.slow
def test_the_process_that_draws_images_answers_or_tells_why(run, tmp_path, served_weights):
    async def go(view, preview):
        await view._draw(preview, preview.now())
        return preview.state()

    view = live.LiveView(ServeConfig(run=[str(run)]), tmp_path)
    (one,) = view.runs.values()
    (run / "best.safetensors").write_bytes(b"no weights")
    assert "best.safetensors" in asyncio.run(go(view, one))["error"] and not list(tmp_path.glob("preview-*"))
    shutil.copy(served_weights, run / "best.safetensors")
    state = asyncio.run(go(view, one))
    assert len(state["captions"]) == 8 and not state["error"] and (one.folder / "0.jpg").is_file()


@pytest.fixture
def watched(run, tmp_path, served_weights, monkeypatch):
    """The URL of the page of a run of which one epoch is done; images are drawn by this process."""
    write_rows(run, 1)
    shutil.copy(served_weights, run / "best.safetensors")

    async def draw(view, one, stamp):
        one.stamp, one.folder, one.captions = stamp, tmp_path, preview(one.run, tmp_path)

    monkeypatch.setattr(live.LiveView, "_draw", draw)
    config = ServeConfig(run=[str(run)])
    service, listening = live.LiveView(config, tmp_path), socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(build(config, service), log_level="error", lifespan="off"))

    async def serve():
        async with service:
            await server.serve([listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def test_the_page_goes_on_without_being_loaded_again(watched, run, page_at):
    page = page_at(watched)
    until(page, "document.querySelectorAll('.plot svg').length === 4")
    page.evaluate("window.mark = document.querySelector('.plot svg')")
    assert "1 of 5 epochs" in page.inner_text(".run") and "stopped" in page.inner_text(".run")
    until(page, "document.querySelectorAll('.gallery img').length === 8")
    with locked_folder(run):
        write_rows(run, 3)
        until(page, "document.querySelector('.done').textContent.startsWith('3 of 5')")
        assert "expected to end at" in page.inner_text(".end") and "best: AP 0.200 in epoch 3" in page.inner_text(
            ".run"
        )
    until(page, "document.querySelector('.state').textContent === 'stopped'")
    assert page.evaluate("window.mark !== undefined")
    lines = "document.querySelector('.plot').querySelectorAll('.mark-line path').length"
    assert page.evaluate(lines) == 2
    page.click(".legend button >> nth=0")
    until(page, f"{lines} === 1")
    page.click(".gallery button >> nth=0")
    assert page.is_visible("#large img")
    page.keyboard.press("Escape")
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        check_width(page)
    (run / "config.yaml").rename(run / "gone.yaml")
    until(page, "document.querySelector('.about').textContent.includes('no config.yaml')")


def test_the_answers_are_as_described(run, tmp_path):
    view = live.LiveView(ServeConfig(run=[str(run)]), tmp_path)
    require("/runs", "get", 200, view._state())
    write_rows(run, 2)
    require("/runs", "get", 200, view._state())
    (run / "config.yaml").unlink()
    require("/runs", "get", 200, view._state())


def test_a_metric_that_should_be_small_is_named_without_its_sign(run):
    settings = yaml.safe_load((run / "config.yaml").read_text()) | {"task": "landmarks"}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    metric = get_task("landmarks").metric
    name = metric.lstrip("-")
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "keypoints": 1.0, name: 0.5, "seconds": 1.0}) + "\n")
    assert metric != name and run_state(run)["best"] == {"epoch": 1, "metric": name, "value": 0.5}
