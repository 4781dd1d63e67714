"""Every command ends in order by every signal, and leaves neither files nor processes behind."""

import os
import shutil
import signal
import time

import pytest

from detect.__main__ import COMMANDS
from detect.utils.interrupt import ENDING
from tests.reference.marks import slowly
from tests.reference.runs import alive, apart, children, tiny_weights
from tests.reference.stalled import paused

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="children are listed by Linux alone")
TINY = "--model.width 16 --model.levels [3] --model.neck straight --model.head-convs 0 --imgsz 64 --batch 4 --workers 2"
# Where each command pauses, in the middle of its work, and what it leaves under out/ when it is then ended.
PLACES = {
    "demo": ("--out out", "detect.data.toy:_pictures", []),
    "train": (
        f"--data data --model yolo_n --out out --device cpu {TINY}",
        "detect.training.loop:Trainer._between_steps",
        ["config.yaml", "last.ckpt", "notes.json"],
    ),
    "evaluate": ("--weights w.safetensors --data data --json out/m.json", "detect.evaluation.evaluate:open_split", []),
    "predict": (
        "--weights w.safetensors --source data/val --out out",
        "detect.types:Detections.plot",
        [".predict.jsonl", "000017.jpg", "detections.part.json"],
    ),
    "bulk": (
        "--weights w.safetensors --source data/val --out out --workers 0",
        "detect.bulk.job:account",
        ["inputs.jsonl", "job.json", "part-00000.parquet"],
    ),
    "embed": (
        "--weights w.safetensors --source data/val --out out/g",
        "detect.embedding.image_embedder:ImageEmbedder",
        [],
    ),
    "verify": ("a b --weights w.safetensors", "detect.embedding.image_embedder:ImageEmbedder", []),
    "identify": ("--gallery w.safetensors --source data/val", "detect.embedding.gallery:safe_open", []),
    "serve": ("--weights w.safetensors", "detect.commands.serve:_listen", []),
    "report": ("--run out", "detect.report.run_report:read_run", []),
    "label": ("--weights w.safetensors --source data/val --out out", "detect.labelling.predicted:PredictedLabels", []),
    "mistakes": (
        "--weights w.safetensors --data data --split val --out out",
        "detect.mistakes.search:open_labels",
        [],
    ),
    "tune": (
        "--data data --trials 1 --epochs 1 --out out",
        "detect.tuning.tuner:Worker",
        ["study.html", "study.jsonl"],
    ),
    "next": ("--weights w.safetensors --source data/val --out out", "detect.selection.run:open_source", []),
    "check": ("--data data --json out/c.json", "detect.data_check.summary:lines", []),
    "anchors": ("--data data --json out/a.json", "detect.data.sources.formats:load_data", []),
    "weights": ("", "detect.commands.weights:catalogue", []),
    "import": ("--weights w.safetensors --out out/w.safetensors", "detect.models.weights:is_ours", []),
    "export": ("--weights w.safetensors --out out/m.onnx", "detect.export.exporter:write", []),
    "see": ("--weights w.safetensors --data data --out out", "detect.explain.model_page:open_model", []),
    "stylize": ("--style a.jpg --content a.jpg --out out/s.png", "detect.style.artist:Stylizer", []),
    "info": ("yolo_n", "detect.explain.summary:describe", []),
}


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """A folder with weights and images; the data are those of `digits`."""
    folder = tmp_path_factory.mktemp("place")
    tiny_weights(folder / "w.safetensors")
    shutil.copy(next((digits / "val").iterdir()), folder / "a.jpg")
    (folder / "data").symlink_to(digits)
    (folder / "tmp").mkdir()
    return folder


def begun(place, folder, command):
    """A process that runs the command in a copy of the place, and has come to where it pauses; its children."""
    shutil.copytree(place, folder, symlinks=True)
    flags, where, _ = PLACES[command]
    process = apart(paused, folder, [command, *flags.split()], where)
    while not (folder / "pid").exists() and process.is_alive():
        time.sleep(0.02)
    assert process.is_alive(), process.exitcode
    return process, children(process.pid)


def gone(pids):
    """Whether all processes end, sooner or later."""
    deadline = time.monotonic() + 120
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_every_command_is_here():
    assert set(PLACES) == set(COMMANDS)


QUICK = ("train", "predict", "serve")


@pytest.mark.parametrize("command", [*QUICK, *slowly(*(name for name in PLACES if name not in QUICK))])
def test_a_command_ends_by_every_signal_and_leaves_nothing(place, tmp_path, command):
    if command == "export":
        pytest.importorskip("onnx", reason="the extra export is not installed")
    folders = {number: tmp_path / number.name for number in ENDING}
    running = {number: begun(place, folder, command) for number, folder in folders.items()}
    for number, (process, helpers) in running.items():
        assert helpers or command not in ("train", "check")
        os.kill(process.pid, number)
        for helper in helpers:  # as pkill and systemd do, which know no main process
            os.kill(helper, number)
    for number, (process, helpers) in running.items():
        process.join(300)
        assert process.exitcode == 128 + number
        assert gone(helpers)
        left = folders[number] / "out"
        assert sorted(os.listdir(left) if left.exists() else []) == PLACES[command][2]
        assert os.listdir(folders[number] / "tmp") == []


@pytest.mark.parametrize("command", [*slowly("train"), "check"])
def test_no_helper_outlives_a_command_that_was_killed(place, tmp_path, command):
    process, helpers = begun(place, tmp_path / "here", command)
    assert helpers
    os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    assert gone(helpers)
