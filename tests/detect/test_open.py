"""Published files given to --weights: imported in memory where they are known, one line where they are not."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import detect
from detect import plugins
from detect.__main__ import main
from detect.cli.parser import parse
from detect.convert.coco_classes import IDS, NAMES
from detect.convert.open import open_model, open_weights
from detect.errors import UserError
from detect.models.weights import load_weights, save_weights
from detect.registry import REGISTRIES
from detect.training.transfer import find_source
from tests.reference.published import write_darknet

DATA = Path(os.environ.get("GRIDHEAD_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
NANO = DATA / "weights" / "yolox_nano" / "yolox_nano.onnx"
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def darknet(tmp_path_factory):
    """The .weights of a small network for COCO's classes, its .cfg beside it."""
    return write_darknet(tmp_path_factory.mktemp("darknet") / "net.weights")


def test_what_is_in_a_file_decides(darknet, tmp_path):
    model = open_model(darknet)
    assert (model.metadata.names, model.metadata.category_ids, model.metadata.size) == (NAMES, IDS, 96)
    assert not model.training
    save_weights(tmp_path / "w.safetensors", model)
    (tmp_path / "w.safetensors").rename(tmp_path / "w.pth")
    for path in (darknet.with_suffix(".cfg"), tmp_path / "w.pth"):
        again = open_model(path)
        assert again.config == model.config and again.metadata == model.metadata
        assert all(torch.equal(t, again.state_dict()[k]) for k, t in model.state_dict().items())


def test_every_command_takes_a_published_file(darknet, digits, tmp_path):
    assert len(detect.load(darknet, "cpu").predict(IMAGE, conf=0.0)[0][1]) > 0
    kept = load_weights(imported(darknet, tmp_path / "w.safetensors"))
    assert torch.equal(
        kept.state_dict()["backbone.stages.0.0.weight"], open_weights(darknet)[2]["backbone.stages.0.0.weight"]
    )
    device = ["--device", "cpu"]
    data = ["--data", str(digits), "--split", "val"]
    assert (
        main(["see", "--weights", str(darknet), *data, "--images", "2", "--out", str(tmp_path / "see"), *device]) == 0
    )
    out = ["--out", str(tmp_path / "net.torchscript")]
    assert main(["export", "--weights", str(darknet), "--format", "torchscript", *out]) == 0


def test_python_loads_the_plugins_of_installed_packages(darknet, monkeypatch):
    loaded = []
    monkeypatch.setattr(plugins, "load_installed", lambda: loaded.append(1))
    detect.load(darknet, "cpu")
    assert loaded == [1]


def imported(path: Path, out: Path) -> Path:
    assert main(["import", "--weights", str(path), "--out", str(out)]) == 0
    return out


def test_a_run_begins_with_a_published_file_and_resumes(darknet, digits, tmp_path):
    config = parse("train", ["--data", "toy", "--weights", str(darknet)])
    assert (config.model.kind, config.imgsz, config.task) == ("darknet", 96, "detect")
    flags = {"data": digits, "imgsz": 96, "batch": 8, "workers": 0, "device": "cpu", "out": tmp_path / "run"}
    best = detect.train(weights=darknet, epochs=1, **flags)
    assert len(load_weights(best).metadata.names) == 10
    assert f"weights: {darknet}" in (tmp_path / "run" / "config.yaml").read_text()
    darknet.unlink()  # the checkpoint has all that it gave
    detect.train(weights=darknet, epochs=2, resume=True, model=load_weights(best).config, **flags)


@pytest.mark.skipif(not NANO.exists(), reason="no yolox_nano.onnx: set GRIDHEAD_DATA")
def test_fine_tuning_knows_that_normalization_is_folded():
    config = parse("train", ["--data", "toy", "--weights", str(NANO)])
    source = find_source(config)
    assert (config.model.name, config.imgsz, source.folded) == ("yolox_nano", 416, True)
    assert source.metadata.names == NAMES and source.pixels.order == "BGR"


def other_onnx(path: Path) -> None:
    graph = '<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] y) { y = Abs(x) }'
    onnx.save(onnx.parser.parse_model(graph), str(path))


@pytest.mark.parametrize(
    ("name", "write", "said"),
    [
        ("x.onnx", other_onnx, "holds no network that detect import knows"),
        ("x.onnx", lambda path: path.write_bytes(b"nothing"), "is not an ONNX file"),
        ("x.pth", lambda path: torch.save({"a": torch.ones(2)}, path), "holds no network that detect import knows"),
        ("x.pth", lambda path: torch.save({"a": Path("x")}, path), "can be read safely"),
        ("x.weights", lambda path: path.write_bytes(b"nothing"), "give both to detect import"),
        ("x.cfg", lambda path: path.write_bytes(b"nothing"), "give both to detect import"),
        ("x.ckpt", lambda path: path.write_bytes(b"nothing"), "holds no network that detect import knows"),
        ("x.safetensors", lambda path: path.write_bytes(b"nothing"), "is not a weights file that can be read"),
    ],
)
def test_what_is_not_known_is_said_in_one_line(tmp_path, name, write, said):
    write(tmp_path / name)
    for read in (open_model, open_weights, detect.load):
        with pytest.raises(UserError, match=said) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value) and name.partition(".")[0] in str(caught.value)


def test_a_file_is_never_exported_over_itself(tmp_path):
    other_onnx(tmp_path / "x.onnx")
    with pytest.raises(UserError, match="give --out"):
        parse_and_export(tmp_path / "x.onnx")


def parse_and_export(path: Path) -> None:
    from detect.commands.export import export

    export(parse("export", ["--weights", str(path)]))


def test_importers_of_plugins_are_named(tmp_path, monkeypatch):
    def mine(file):
        return None

    monkeypatch.setitem(REGISTRIES, "importer", {**REGISTRIES["importer"], "mine": mine})
    other_onnx(tmp_path / "x.onnx")
    with pytest.raises(UserError, match=r"it reads YOLOX .*, mine \(a plugin's\)"):
        open_model(tmp_path / "x.onnx")
