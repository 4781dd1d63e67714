"""torchvision that does not fit torch ends in one line, before anything is computed."""

import sys
from importlib.metadata import version

import pytest

from detect.__main__ import main
from detect.errors import UserError
from detect.models.backbones import build_backbone
from detect.models.base import ModelMetadata
from detect.models.builder import build
from detect.models.configs import model_config
from detect.utils import operators


def fail(text):
    def operator():
        raise RuntimeError(text)

    return operator


def test_builds_that_do_not_fit_are_refused_before_training(monkeypatch, digits, tmp_path, capsys):
    monkeypatch.setattr(operators, "operator", fail("operator torchvision::nms does not exist"))
    with pytest.raises(UserError, match="install both together, from the same index"):
        build(model_config("yolo_n"), ModelMetadata(["cat"], [1], size=64))
    for words in (["info", "yolo_n"], ["train", "--data", str(digits), "--out", str(tmp_path / "run")]):
        assert main([*words, "--imgsz", "64"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: torchvision {version('torchvision')} does not load beside torch")
    assert not (tmp_path / "run").exists()


def test_a_backbone_of_torchvision_needs_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UserError, match="does not load beside torch"):
        build_backbone("resnet18")
    build_backbone("csp_n")
    build(model_config("localizer"), ModelMetadata(["cat"], [1], size=64))


def test_other_errors_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(operators, "operator", fail("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        build(model_config("yolo_n"), ModelMetadata(["cat"], [1], size=64))


def test_torchvision_may_be_absent(monkeypatch):
    monkeypatch.setattr(operators, "version", lambda name: version("no such package"))
    monkeypatch.setattr(operators, "operator", fail("torchvision"))
    with pytest.raises(UserError, match=r"torchvision \(not installed\)"):
        operators.require_operators()
