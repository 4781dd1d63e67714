"""Registries: built-in names without imports, registering from anywhere, mistakes in one line."""

import subprocess
import sys

import pytest

from detect.errors import UserError
from detect.models.configs import model_class, model_values
from detect.registry import REGISTRIES, Registry, register


def test_a_built_in_name_is_known_before_its_module_is_imported():
    sys.modules.pop("colorsys", None)
    registry = Registry("conversion", {"hls": "colorsys:rgb_to_hls"})
    assert "hls" in registry and list(registry) == ["hls"] and len(registry) == 1
    assert "colorsys" not in sys.modules
    assert registry["HLS"](1.0, 1.0, 1.0) == (0.0, 1.0, 0.0)


def test_an_unknown_name_is_a_users_mistake_with_the_nearest_suggested():
    registry = Registry("backbone", {"resnet18": "nowhere"})
    with pytest.raises(UserError, match=r"unknown backbone 'resnet81': did you mean 'resnet18'\?"):
        registry["resnet81"]


def test_a_name_belongs_to_one_module():
    registry = Registry("thing", {"a": "detect.errors:unknown"})
    with pytest.raises(ValueError, match=r"thing 'a' is registered already, by detect\.errors"):
        registry.add("a", print, "mine")
    registry.add("b", len, "mine")
    registry.add("b", print, "mine")
    assert registry["b"] is print and registry.origin("b") == "mine" and registry.origin("a") == ""
    with pytest.raises(ValueError, match="thing 'b' is registered already, by mine"):
        registry.add("b", print, "theirs")
    with pytest.raises(ValueError, match="lower case"):
        registry.add("B", print, "mine")


def test_the_decorator_registers_by_kind(monkeypatch):
    monkeypatch.setitem(REGISTRIES, "toy", Registry("toy"))

    @register("toy", "car", "auto")
    def car():
        return 4

    assert REGISTRIES["toy"]["car"] is REGISTRIES["toy"]["auto"] is car
    assert REGISTRIES["toy"].origin("car") == __name__
    with pytest.raises(UserError, match="unknown kind of registry 'tou'"):
        register("tou", "x")


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_built_in_name_leads_to_an_entry(kind):
    for name in REGISTRIES[kind]:
        assert REGISTRIES[kind][name] is not None


def test_names_of_models_need_no_torch():
    code = (
        "import sys; from detect.models.configs import model_class, model_names, model_values; model_names();"
        " model_class('yolo'); model_values('yolo_n'); model_values('ResNet18'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_model_is_named_by_its_yaml_its_kind_or_its_backbone():
    assert model_values("yolo_s")["backbone"] == "csp_s"
    assert model_values("Rcnn")["window"] == 64
    assert model_values("darknet") == {"name": "darknet", "kind": "darknet"}
    assert model_values("ResNet18") == {"name": "resnet18", "kind": "classifier", "backbone": "resnet18"}
    assert model_values("timm:resnet18d")["backbone"] == "timm:resnet18d"
    with pytest.raises(UserError, match="unknown model kind 'yolov': did you mean 'yolo'"):
        model_class("yolov")
    with pytest.raises(UserError, match=r"unknown model 'yolo_x': did you mean 'yolox_x'"):
        model_values("yolo_x")
