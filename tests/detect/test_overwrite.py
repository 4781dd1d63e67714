"""A flag that names a file to write never costs a file that gridhead did not write."""

import json
import shutil

import pytest
import torch

from detect.__main__ import main
from detect.embedding.gallery import Gallery
from detect.errors import UserError
from detect.evaluation import coco_protocol as protocol
from detect.evaluation import landmarks, oks, verification
from detect.evaluation import localization as locate
from detect.utils.overwrite import require_own
from tests.reference.runs import tiny_weights

# Commands, and the file of theirs that somebody else may have.
FLAGS = [
    ("evaluate --weights w.safetensors --data data --json", "user.json"),
    ("evaluate --weights w.safetensors --data data --detections", "user.json"),
    ("evaluate --weights w.safetensors --data data --json", "w.safetensors"),
    ("evaluate --weights w.safetensors --data data --detections", "data/val/000017.jpg"),
    ("evaluate --weights w.safetensors --data data --json", "data/instances_val.json"),
    ("check --data data --json", "data/instances_val.json"),
    ("check --data data --page", "user.html"),
    ("anchors --data data --json", "data/instances_train.json"),
    ("info yolo_n --json", "user.json"),
    ("embed --weights w.safetensors --source data/val --out", "user.json"),
    ("import --weights w.safetensors --out", "user.safetensors"),
    ("export --weights w.safetensors --out", "user.onnx"),
    ("export --weights w.safetensors --format openvino --out user.xml", "user.bin"),
    ("export --weights w.safetensors --format torchscript --out", "user.torchscript"),
    ("stylize --style data/val/000017.jpg --content data/val/000017.jpg --out", "user.png"),
    ("see --weights w.safetensors --data data --out .", "see.html"),
    ("train --data data --model yolo_n --epochs 1 --config config.yaml --out .", "config.yaml"),
    ("report --run .", "report.html"),
]
USER = {
    ".json": '{"images": [], "annotations": []}',
    ".html": "<!DOCTYPE html>\n<html><title>mine</title></html>",
    ".yaml": "# mine\nseed: 3\n",
    ".png": "\x89PNG\r\n",
    ".safetensors": '        {"a":{}}',
    ".onnx": "\x08\x07\x12\x07pytorch",
}


@pytest.fixture(scope="module")
def place(digits, tmp_path_factory):
    """A folder with a copy of `digits` and weights."""
    folder = tmp_path_factory.mktemp("place")
    tiny_weights(folder / "w.safetensors")
    shutil.copytree(digits, folder / "data")
    return folder


@pytest.mark.parametrize(("command", "name"), FLAGS)
def test_a_file_of_somebody_else_stays(place, tmp_path, monkeypatch, capsys, command, name):
    folder = shutil.copytree(place, tmp_path / "here")
    monkeypatch.chdir(folder)
    if not (file := folder / name).exists():
        file.write_text(USER.get(file.suffix, "mine"), encoding="latin-1")
    before = file.read_bytes()
    assert main([*command.split(), *([] if command.split()[-1] in (".", "user.xml") else [name])]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and file.name in err, err
    assert file.read_bytes() == before and not list(folder.glob(".gridhead-*"))


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("evaluate --weights w.safetensors --data data --json a.json --detections b.json --workers 0", "a.json b.json"),
        ("check --data data --imgsz 64 --json a.json --page a.html", "a.json a.html"),
        ("anchors --data data --k 3 --imgsz 64 --json a.json", "a.json"),
        ("info yolo_n --imgsz 64 --json a.json", "a.json"),
        ("export --weights w.safetensors --format onnx --out a.onnx --conf 0.001", "a.onnx"),
        pytest.param(
            "export --weights w.safetensors --format openvino --out a.xml --conf 0.001",
            "a.xml a.bin",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "export --weights w.safetensors --format torchscript --out a.torchscript --conf 0.001",
            "a.torchscript",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_result_of_before_is_replaced(place, tmp_path, monkeypatch, capsys, command, files):
    if command.startswith("export"):
        for library in ("onnx", "onnxruntime", "openvino"):
            pytest.importorskip(library, reason="the extra export is not installed")
    monkeypatch.chdir(shutil.copytree(place, tmp_path / "here"))
    for _ in range(2):
        assert main(command.split()) == 0, capsys.readouterr().err
    assert all((tmp_path / "here" / name).stat().st_size for name in files.split())


def test_files_of_every_kind_are_known(place, tmp_path):
    kinds = (protocol.NUMBERS, oks.NUMBERS, locate.NUMBERS, landmarks.NUMBERS)
    firsts = [next(iter(one)) for one in kinds if "OKS_AP" not in one]  # whose file begins with AP too
    firsts += [next(iter(verification.measure([], torch.zeros(0, dtype=torch.bool).numpy()))), "top1"]
    texts = [json.dumps({name: -1.0}, indent=1) for name in firsts] + ["[\n]\n", '[\n{"image_id": 1}', ""]
    for text in texts:
        (tmp_path / "a").write_text(text)
        require_own(tmp_path / "a", "results")
    Gallery(torch.zeros(1, 2).numpy(), ["a"], ["a.png"], [("w", "0")], [1.0]).save(tmp_path / "g")
    require_own(tmp_path / "g", "gallery")
    require_own(place / "w.safetensors", "weights")
    require_own(tmp_path / "nothing", "image")


def test_what_is_no_file_is_refused_before_any_work(tmp_path):
    for path in (tmp_path, "/dev/null"):
        with pytest.raises(UserError, match="exists"):
            require_own(type(tmp_path)(path), "results")
