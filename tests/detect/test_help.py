"""The help of every command: whole, short, quick, and with the defaults that count."""

import re
from dataclasses import dataclass

import pytest

from detect.__main__ import main
from detect.commands import COMMANDS, config_of
from detect.config.fields import explanations, options_of
from detect.models.configs import model_class
from detect.registry import REGISTRIES

LINES = 100  # two screens


@pytest.fixture(autouse=True)
def width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")


def help_of(capsys, command, *arguments):
    assert main([command, *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_full(command, capsys):
    said = help_of(capsys, command, "--help-all")
    for option in options_of(config_of(command)):
        if option.name.startswith("model."):  # those of each kind are below
            continue
        assert re.fullmatch(r"[A-Z0-9].*[.!)]", option.explanation), option.name
        assert option.nested or f"--{option.name.replace('_', '-')} " in said.replace("\n", " "), option.name
    assert "Options:" not in said  # every option is in a group
    assert not re.search(r"^  --\S*_", said, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_two_screens(command, capsys):
    said = help_of(capsys, command, "--help").splitlines()
    assert len(said) <= LINES and max(map(len, said)) <= 100
    assert said[0].startswith(f"usage: detect {command}")
    wrapped = [line for line in said if line.startswith(" " * 30)]
    assert len(wrapped) <= 0.2 * len(said)  # an option is a line, all but a few


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "import", "train", "see", "serve", "next"])
def test_help_says_that_weights_have_names(command, capsys):
    said = " ".join(help_of(capsys, command, "--help").split())
    assert re.search(r"--weights [A-Z].{0,200}\bnames? of `detect weights`", said)


@pytest.mark.parametrize("kind", REGISTRIES["model"])
def test_help_beside_a_model_fits_two_screens_and_explains_its_options(kind, capsys):
    said = help_of(capsys, "train", "--model", kind, "--help").splitlines()
    assert len(said) <= LINES
    for option in options_of(model_class(kind), "model."):
        assert re.fullmatch(r"[A-Z0-9].*[.!)]", option.explanation) or option.nested, option.name
        rare = option.advanced or option.nested or option.name in ("model.name", "model.kind")
        assert rare or any(f"--{option.name.replace('_', '-')}" in line for line in said), option.name


def test_help_beside_a_model_leaves_out_what_it_does_not_read(capsys):
    assert "--augment.mosaic" not in help_of(capsys, "train", "--model", "resnet18", "--help")
    assert "--augment.mosaic" in help_of(capsys, "train", "--model", "resnet18", "--help-all")
    assert "--images-per-identity" in help_of(capsys, "train", "--model", "embedder", "--help")


def test_help_names_choices_ranges_and_defaults(capsys):
    said = help_of(capsys, "train", "--help")
    assert re.search(r"--balance NAME .*none, weights, sampling; default none\]", said.replace("\n", " "))
    assert re.search(r"--augment.rotate X .*\[0 to 180\]", said)
    assert "--data DATA" in said.splitlines()[0] and "[required]" in said
    assert "cosine" in said and "muon" in said  # what is registered


def test_help_has_the_defaults_of_task_model_and_file(tmp_path, capsys):
    assert re.search(r"--imgsz N .*default 224\]", help_of(capsys, "train", "--task", "classify", "--help"))
    (tmp_path / "c.yaml").write_text("epochs: 7\n")
    assert re.search(
        r"--epochs N .*default 7\]", help_of(capsys, "train", "--help", "--config", str(tmp_path / "c.yaml"))
    )


def test_help_beside_a_model_has_its_options(capsys):
    plain, own = (help_of(capsys, "train", *more, "--help") for more in ([], ["--model", "faster_rcnn"]))
    assert "--model.backbone" not in plain
    assert "--model.backbone" in own and "default faster_rcnn" in own


def test_a_mistake_beside_help_is_one_line(capsys):
    assert main(["train", "--modle", "yolo_n", "--help"]) == 2
    assert capsys.readouterr().err == "error: unknown flag '--modle': did you mean '--model'?\n"


def test_explanations_are_those_of_the_class_and_of_what_it_inherits():
    @dataclass(frozen=True)
    class Base:
        first: int = 1
        """First,
        in two lines."""

    @dataclass(frozen=True)
    class Own(Base):
        second: int = 2
        third: int = 3
        """Third."""

    assert explanations(Own) == {"first": "First, in two lines.", "third": "Third."}
