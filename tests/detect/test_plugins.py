"""Plugins: loaded by file, module or entry point, before the flags are read; every mistake in one line."""

import os
import re
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from detect import plugins
from detect.cli.parser import from_values, parse, run
from detect.cli.plugin_flag import load_plugins
from detect.config.augment import AugmentConfig
from detect.config.constraints import Registered
from detect.data import workers
from detect.data.datasets.detection import CocoDataset
from detect.data.loader import TrainLoader
from detect.data.workers import _Batches
from detect.errors import UserError
from detect.models.weights import read_weights
from detect.registry import REGISTRIES, Registry
from tests.reference.runs import tiny_weights
from tests.reference.scenes import Store

TOY = """
from detect.registry import register

@register("toy", "{name}")
class Entry:
    pass
"""


@pytest.fixture
def toy(monkeypatch):
    """A kind of registry of this test alone, and no plugin loaded."""
    monkeypatch.setitem(REGISTRIES, "toy", Registry("toy", {"built_in": "detect.errors:unknown"}))
    monkeypatch.setattr(plugins, "_loaded", {})
    before = set(sys.modules)
    yield REGISTRIES["toy"]
    for name in set(sys.modules) - before:
        if name.startswith("gridhead_plugin_"):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return str(path)


def test_a_file_registers_under_a_module_name_of_its_own(tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "types.py", TOY.format(name="car"))
    plugins.load(["./types.py", "types.py"])
    assert toy["car"].__module__ == "gridhead_plugin_types"
    assert plugins.loaded() == [str(tmp_path / "types.py")]
    assert plugins.origins([("toy", "car"), ("toy", "built_in")]) == {"toy car": "types.py"}


def test_a_folder_is_a_package_with_relative_imports(tmp_path, toy):
    write(tmp_path / "cars" / "__init__.py", "from . import entries")
    write(tmp_path / "cars" / "entries.py", TOY.format(name="car"))
    plugins.load([str(tmp_path / "cars")])
    assert plugins.origins([("toy", "car")]) == {"toy car": "cars"}


def test_a_module_is_found_as_python_finds_it(tmp_path, toy, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "car_plugin.py", TOY.format(name="car"))
    plugins.load(["car_plugin"])
    assert plugins.origins([("toy", "car")]) == {"toy car": "car_plugin"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nx.y", r"plugin {path}: {path}:2: AttributeError: 'int' object has no attribute 'y'"),
        ("if", r"plugin {path}: {path}:1: SyntaxError"),
        ("import no_such_module_here", r"plugin {path}: {path}:1: ModuleNotFoundError: No module named 'no_such"),
        ("raise SystemExit(3)", r"plugin {path}: {path}:1: SystemExit: 3"),
        ("from detect import registry as r\nr.register('tou', 'x')", r"{path}:2: unknown kind of registry 'tou': did"),
        (TOY.format(name="built_in"), r"{path}:4: ValueError: toy 'built_in' is registered already, by detect.errors"),
    ],
)
def test_a_broken_plugin_is_named_in_one_line(tmp_path, toy, text, said):
    path = write(tmp_path / "broken.py", text)
    with pytest.raises(UserError, match=said.format(path=path)) as error:
        plugins.load([path])
    assert "\n" not in str(error.value) and plugins.loaded() == []
    (tmp_path / "broken.py").write_text("mended = True")
    plugins.load([path])


def test_what_is_not_there_is_said(tmp_path, toy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "car.py", "")
    with pytest.raises(UserError, match=r"plugin car: Python finds no such module; did you mean \./car\.py\?"):
        plugins.load(["car"])
    with pytest.raises(UserError, match=r"plugin \./cat\.py: there is no file"):
        plugins.load(["./cat.py"])


def test_two_plugins_with_one_name_are_one_line(tmp_path, toy):
    first, second = write(tmp_path / "a" / "car.py", TOY.format(name="car")), write(tmp_path / "b" / "car.py", "")
    plugins.load([first])
    with pytest.raises(UserError, match=f"plugin {second}: {first} is a plugin of the same name; rename one"):
        plugins.load([second])
    other = write(tmp_path / "b" / "other.py", TOY.format(name="car"))
    with pytest.raises(UserError, match=rf"plugin {other}: .*toy 'car' is registered already, by gridhead_plugin_car"):
        plugins.load([other])


def test_the_flag_may_stand_anywhere_and_in_a_configuration_file(tmp_path, toy, monkeypatch):
    paths = [write(tmp_path / f"{name}.py", TOY.format(name=name)) for name in ("a", "b", "c")]
    write(tmp_path / "run.yaml", f"plugin: [{paths[0]}]\nepochs: 3\n")
    arguments = ["--plugin", paths[1], "--data", "toy", f"--plugin={paths[2]}", "--config", str(tmp_path / "run.yaml")]
    assert parse("train", arguments).epochs == 3
    assert set(plugins.loaded()) == set(paths) and {"a", "b", "c"} < set(Registered("toy").names)
    with pytest.raises(UserError, match="--plugin needs a module or a file"):
        load_plugins(["--data", "toy", "--plugin"])
    write(tmp_path / "wrong.yaml", "plugin: car.py\n")
    with pytest.raises(UserError, match=r"wrong\.yaml: plugin is 'car\.py': it must be a list"):
        parse("train", ["--config", str(tmp_path / "wrong.yaml")])


def test_help_and_errors_know_what_a_plugin_registers(tmp_path, toy, monkeypatch, capsys):
    callbacks = REGISTRIES["callback"]
    for kept in ("_entries", "_modules"):
        monkeypatch.setattr(callbacks, kept, dict(getattr(callbacks, kept)))
    path = write(tmp_path / "beeper.py", TOY.format(name="beep").replace('"toy"', '"callback"'))
    run("train", ["--help", "--plugin", path])
    shown = " ".join(capsys.readouterr().out.split())
    assert re.search(r"\[tensorboard, mlflow, wandb, ([\w-]+, )*beep\]", shown)  # other tests may have registered some
    with pytest.raises(UserError, match="unknown value of --callbacks 'bep': did you mean 'beep'"):
        parse("train", ["--data", "toy", "--callbacks", "bep"])


def test_python_names_plugins_by_a_keyword(tmp_path, toy):
    path = tmp_path / "a.py"
    write(path, TOY.format(name="a"))
    assert from_values("train", {"data": "toy", "plugin": [path]}).data == "toy" and "a" in toy


def test_every_command_loads_plugins_first_and_names_a_broken_one(tmp_path):
    path = write(tmp_path / "broken.py", "1 / 0")
    ended = subprocess.run(
        [sys.executable, "-m", "detect", "info", "--plugin", path, "resnet18"], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr == f"error: plugin {path}: {path}:1: ZeroDivisionError: division by zero\n"


def test_installed_packages_are_loaded_by_entry_point(tmp_path, toy, monkeypatch):
    write(tmp_path / "car_package.py", TOY.format(name="car"))
    write(tmp_path / "cars-1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: cars\nVersion: 1\n")
    write(tmp_path / "cars-1.dist-info" / "entry_points.txt", "[gridhead.plugins]\ncars = car_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.load_installed.cache_clear()
    plugins.load_installed()
    assert "car" in toy and plugins.loaded() == []
    write(tmp_path / "car_package.py", "1 / 0")
    monkeypatch.delitem(sys.modules, "car_package")
    plugins.load_installed.cache_clear()
    with pytest.raises(
        UserError, match=r"plugin cars of the installed package cars: .*car_package\.py:1: ZeroDivision"
    ):
        plugins.load_installed()
    plugins.load_installed.cache_clear()


def test_what_a_file_was_made_with_is_asked_for(toy):
    plugins.require({"toy built_in": "cars"}, "w.safetensors")
    message = r"w\.safetensors was made with the plugin cars\.py \(toy car\): give --plugin PATH/cars\.py"
    with pytest.raises(UserError, match=message):
        plugins.require({"toy car": "cars.py"}, "w.safetensors")
    with pytest.raises(UserError, match=r"give --plugin cars$"):
        plugins.require({"no_such_kind car": "cars"}, "w.safetensors")


def _ends_well(batches):
    os._exit(0 if type(batches.sample).__module__ == "gridhead_plugin_cars" else 7)


@pytest.mark.slow
def test_objects_of_a_plugin_reach_loader_workers_that_are_spawned(tmp_path, toy):
    plugins.load([write(tmp_path / "cars.py", "class Car:\n    pass\n")])
    batches = _Batches(sys.modules["gridhead_plugin_cars"].Car())
    process = get_context("spawn").Process(target=_ends_well, args=(batches,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_spawned_workers_make_the_samples_of_a_transform_of_a_plugin(toy, monkeypatch):
    monkeypatch.setitem(REGISTRIES, "transform", Registry("transform"))
    plugins.load([str(Path(__file__).parents[2] / "examples" / "plugins" / "vertical_flip.py")])
    monkeypatch.setattr(workers, "DataLoader", _spawned)
    plain, flipped = (
        CocoDataset(Store(6), 64, AugmentConfig(transforms=[{"vertical_flip": {"p": p}}])) for p in (0.0, 1.0)
    )
    (one,), (other,) = (list(TrainLoader(data, 64, 6).epoch(0)) for data in (plain, flipped))
    assert torch.equal(one.images.flip(2), other.images)
    (got,) = TrainLoader(flipped, 64, 6, workers=1).epoch(0)
    assert torch.equal(got.images, other.images)


def _spawned(*args, **kwargs):
    """A DataLoader whose workers are spawned, as on macOS and Windows."""
    return DataLoader(*args, **{**kwargs, **({"multiprocessing_context": "spawn"} if kwargs["num_workers"] else {})})


def test_weights_name_the_plugin_they_were_made_with_and_load_with_it_alone(tmp_path, toy, monkeypatch):
    monkeypatch.setitem(REGISTRIES, "task", Registry("task"))
    made_with = write(tmp_path / "my_task.py", TOY.format(name="x").replace('"toy", "x"', '"task", "detect"'))
    plugins.load([made_with])
    path = tiny_weights(tmp_path / "w.safetensors")
    assert read_weights(path)
    monkeypatch.setitem(REGISTRIES, "task", Registry("task"))
    with pytest.raises(UserError, match=r"w\.safetensors was made with the plugin my_task\.py \(task detect\): give"):
        read_weights(path)
    monkeypatch.setattr(plugins, "origins", lambda parts: ["my_task.py"])
    with pytest.raises(UserError, match="is damaged or not gridhead's: its plugins are"):
        read_weights(tiny_weights(path))


def test_the_page_names_every_kind():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
    assert [kind for kind in REGISTRIES if f"| `{kind}` |" not in page] == []
