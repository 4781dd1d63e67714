"""Arguments to configuration: what overrides what, and one clear line for every mistake."""

import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest

import detect
from detect.__main__ import main
from detect.cli.parser import from_values, parse
from detect.cli.suggest import PEERS, flags_of
from detect.commands import COMMANDS
from detect.config.constraints import check
from detect.errors import UserError
from detect.models.configs import model_config, shipped_names
from detect.utils.device import spelled


def test_flags_override_model_and_config_files_wherever_they_stand(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("epochs: 7\noptim: {lr: 0.5, name: sgd}\n")
    args = ["--model.backbone", "resnet18", "--optim.lr", "0.1", "--data", "toy", "--model", "yolo_s"]
    got = parse("train", [*args, "--config", str(file)])
    assert (got.epochs, got.optim.lr, got.optim.name) == (7, 0.1, "sgd")
    assert (got.model.name, got.model.backbone, got.model.width) == ("yolo_s", "resnet18", 128)


def test_config_files_stack_in_order(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("data: toy\nepochs: 1\nimgsz: 96\n")
    second.write_text("epochs: 2\n")
    got = parse("train", ["--config", str(first), "--config", str(second)])
    assert (got.epochs, got.imgsz) == (2, 96)


def test_bare_switches_and_spelled_out_ones():
    assert parse("train", ["--data", "toy", "--resume", "--epochs", "3"]).resume
    assert not parse("train", ["--data", "toy", "--resume", "false"]).resume


def test_a_flag_of_several_words_may_come_several_times():
    words = ["--out", "o", "--style", "a", "b", "--content", "c", "--style", "d"]
    got = parse("stylize", words)
    assert (got.style, got.content, got.out) == (["a", "b", "d"], "c", "o")
    assert parse("evaluate", ["--weights", "a", "--data", "toy", "--weights", "b", "c"]).weights == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("train", ["--data", "toy", "--epoch", "3"], "did you mean '--epochs'"),
        ("train", ["--data", "toy", "--optim.lrr", "3"], "did you mean '--optim.lr'"),
        ("train", ["--data", "toy", "--model", "yolo_x"], "unknown model 'yolo_x'"),
        ("predict", ["--model", "other.pt", "--source", "x"], "unknown flag '--model': did you mean '--weights'"),
        ("evaluate", ["--model", "B", "--weights", "A"], "unknown flag '--model': did you mean '--weights'"),
        ("train", ["--data", "toy", "--epochs", "0"], "--epochs is 0: it must be at least 1"),
        ("train", ["--data", "toy", "--augment.flip", "1.5"], "from 0 to 1"),
        ("train", ["--data", "toy", "--optim.lr", ".nan"], "--optim.lr is nan"),
        ("train", ["--data", "toy", "--optim.name", "adma"], "did you mean 'adam'"),
        ("train", ["--data", "toy", "--model.levels", "[3, 9]"], "--model.levels is 9"),
        ("train", ["--data", "toy", "--batch", "many"], "--batch is 'many': it must be a whole number"),
        ("train", ["--data", "toy", "--config", "no/such.yaml"], "no/such.yaml"),
        ("train", ["--model", "yolo_n"], "data"),
        ("predict", ["--weights", "w"], "source"),
    ],
)
def test_a_mistake_is_one_line(command, arguments, said):
    with pytest.raises(UserError) as caught:
        parse(command, arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["--detector", "a", "b"], ["a", "b"]),
        (["--detector", "a", "--detector", "b"], ["a", "b"]),
        (["--detector=a", "--detector", "[b, c]"], ["a", "b", "c"]),
        (["--detector", "[]"], []),
    ],
)
def test_a_list_is_words_or_yaml_or_one_flag_after_the_other(words, expected):
    assert parse("identify", ["--gallery", "g", *words, "--source", "s"]).detector == expected
    assert parse("embed", ["--weights", "w", *words, "--source", "s"]).detector == (expected or [])


def test_yaml_cannot_construct_classes(tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text("data: toy\naugment:\n  albumentations:\n    - Rotate: {class_path: os.system, init_args: {}}\n")
    got = parse("train", ["--config", str(file)])
    assert got.augment.albumentations == [{"Rotate": {"class_path": "os.system", "init_args": {}}}]


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_model_is_a_valid_configuration_of_its_own_name(name):
    config = model_config(name)
    check(config)
    assert config.name == name


def test_numbers_as_people_write_them(tmp_path):
    assert parse("train", ["--data", "toy", "--optim.lr", "1e-3"]).optim.lr == 1e-3
    file = tmp_path / "c.yaml"
    file.write_text("data: toy\noptim: {lr: 1e-3}\n")
    assert parse("train", ["--config", str(file)]).optim.lr == 1e-3


def test_keywords_are_flags():
    got = from_values("train", {"data": "my data", "optim.lr": 0.25, "augment": {"flip": 0.0}, "model": "yolo_s"})
    assert (got.data, got.optim.lr, got.augment.flip, got.model.name) == ("my data", 0.25, 0.0, "yolo_s")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_its_flags(command, capsys):
    assert main([command, "--help"]) == 0
    assert "usage: detect " + command in capsys.readouterr().out


def test_status_2_and_one_line_for_the_users_mistake(capsys):
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'trian': did you mean 'train'?\n"
    assert main(["evaluate", "--weights", "no.safetensors", "--data", "toy"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_top_help_and_import_need_no_torch():
    code = "import sys, detect, detect.__main__ as m; m.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_public_names_resolve():
    for name in detect.__all__:
        assert getattr(detect, name) is not None
    assert not hasattr(detect, "no_such_name")


@pytest.mark.parametrize(
    ("command", "values", "field", "expected"),
    [
        ("train", {"data": Path("a b")}, "data", "a b"),
        ("train", {"data": "toy", "callbacks": ("mlflow", "wandb")}, "callbacks", ["mlflow", "wandb"]),
        ("train", {"data": "toy", "weights": None, "callbacks": None}, "weights", ""),
        ("train", {"data": "toy", "epochs": np.int64(3)}, "epochs", 3),
        ("train", {"data": "toy", "optim": {"lr": np.float32(0.5)}}, "optim.lr", 0.5),
        ("train", {"data": "toy", "model.levels": (3, 4)}, "model.levels", [3, 4]),
        ("evaluate", {"data": "toy", "weights": [Path("a"), "b"]}, "weights", ["a", "b"]),
        ("anchors", {"data": Path("toy"), "json": None}, "json", ""),
    ],
)
def test_keywords_of_python_types(command, values, field, expected):
    assert attrgetter(field)(from_values(command, values)) == expected


@pytest.mark.parametrize(
    ("command", "values", "said"),
    [
        ("train", {"data": "toy", "callbacks": [object()]}, "--callbacks holds <object"),
        ("train", {"data": "toy", "epochs": {1, 2}}, "--epochs holds {1, 2} (set)"),
        ("train", {"data": ["a", "b"]}, "--data is ['a', 'b']: it must be text"),
        ("evaluate", {"data": {"val": Path("a")}, "weights": "w"}, "--data is {'val': 'a'}: it must be text"),
        ("train", {"data": "toy", "optim": {"lr": print}}, "--optim.lr holds <built-in"),
        ("anchors", {"data": "toy", "k": True}, "--k is True: it must be a whole number"),
        ("anchors", {"data": None}, "data"),
    ],
)
def test_keywords_that_no_flag_can_hold(command, values, said):
    with pytest.raises(UserError) as caught:
        from_values(command, values)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_the_case_of_names_does_not_matter():
    got = parse(
        "train", ["--data", "toy", "--optim.name", "AdamW", "--precision", "Float32", "--optim.schedule", "COSINE"]
    )
    assert (got.optim.name, got.precision, got.optim.schedule) == ("adamw", "float32", "cosine")
    assert parse("export", ["--weights", "w", "--format", "ONNX"]).format == "onnx"


ALL_FLAGS = {name: flags_of(name) for name in COMMANDS}


@pytest.mark.parametrize("peer", PEERS)
def test_words_of_other_tools_lead_to_flags_that_exist(peer):
    targets = [target.split() for target in PEERS[peer]]
    for target, *value in targets:
        commands = [name for name, flags in ALL_FLAGS.items() if target in ["config", *flags]]
        assert commands, target
        if peer in ALL_FLAGS[commands[0]] or value == []:
            continue
        words = [word for flag in REQUIRED[commands[0]] for word in (f"--{flag}", "toy")]
        parse(commands[0], [*words, f"--{target}", *value])


REQUIRED = {
    "train": ["data"],
    "evaluate": ["weights", "data"],
    "predict": ["weights", "source"],
    "check": ["data"],
    "see": ["weights", "data"],
    "report": [],
}


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("train", "--lr 0.1", "did you mean '--optim.lr'"),
        ("train", "--weight-decay 0.1", "'--optim.weight-decay'"),
        ("train", "--Mosaic 0", "'--augment.mosaic'"),
        ("train", "--lr0 0.1", "'--optim.lr'"),
        ("train", "--cos-lr", "'--optim.schedule cosine'"),
        ("train", "--HSV_H 0.1", "'--augment.hue'"),
        ("train", "--hsv_hh 0.1", "did you mean '--augment.hue'?"),
        ("train", "--cos_lrr", "did you mean '--optim.schedule cosine'?"),
        ("predict", "--sourcee x", "did you mean '--source'?"),
        ("report", "--out x", "did you mean '--page'?"),
        ("evaluate", "--output_dir x", "did you mean '--page'?"),
        ("train", "degrees=10", "'--augment.rotate 10'"),
        ("train", "--shear 2", "'--augment.shear'"),
        ("train", "--perspective 0.1", "'--augment.perspective'"),
        ("train", "--random-crop 0.5", "'--augment.crop'"),
        ("train", "--optim.lr0 0.1", "'--optim.lr'"),
        ("train", "lr0=0.1", "'--optim.lr 0.1'"),
        ("train", "close_mosaic=5", "'--augment.mosaic-off 5'"),
        ("train", "device 0", "'--device'"),
        ("train", "device=0", "'--device 0'"),
        ("train", "--gpus 0", "'--device'"),
        ("train", "--nc 3", "the classes are those of the data"),
        ("train", "--each 3", "did you mean '--images-per-identity'?"),  # what older versions had
        ("train", "--thaw 2", "did you mean '--unfreeze-every'?"),
        ("train", "--model.tower 2", "did you mean '--model.head-convs'?"),
        ("train", "--model.loss.code 2", "did you mean '--model.loss.regression'?"),
        ("see", "--answers 2", "did you mean '--predictions'?"),
        ("train", "--dropout 0.5", "detect train --help lists the flags"),  # no far-fetched guesses
        ("train", "--fraction 0.5", "detect train --help lists the flags"),
        ("check", "--split val", "did you mean '--splits'?"),
        ("train", "--optim.lr --epochs 3", "--optim.lr needs a value"),
        ("train", "-epochs 3", "did you mean '--epochs'?"),
        ("train", "--conf 0.5", "it is of detect evaluate and predict, not of detect train"),
        ("train", "--optim sgd", "one as --optim.NAME"),
        ("predict", "--task classify", "the task is that of the weights or the data; leave it out"),
        ("evaluate", "--task classify", "the task is that of the weights"),
        ("predict", "--conf_thres 0.5", "'--conf'"),
        ("predict", "--img-size 320", "'--imgsz'"),
        ("predict", "--half", "'--precision float16'"),
        ("predict", "--view_img", "'--show'"),
        ("predict", "--nosave", "always written to --out"),
        ("predict", "--project x", "'--out'"),
        ("predict", "--augment", "'--tta'"),
        ("predict", "--epochs 3", "it is of detect demo and train"),
        ("predict", "--zzz 3", "detect predict --help lists the flags"),
        ("predict", "--conf 0.5 stray", "'stray' belongs to no flag"),
        ("see", "--weights a b", "--weights takes one file in detect see: what is 'b'?"),
    ],
)
def test_a_word_that_is_no_flag_leads_to_one(command, words, said):
    given = [word for flag in REQUIRED[command] for word in (f"--{flag}", "toy")]
    with pytest.raises(UserError) as caught:
        parse(command, [*given, *words.split()])
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_words_with_values_come_before_what_is_missing():
    with pytest.raises(UserError, match=r"did you mean '--source x\.jpg'"):
        parse("predict", ["--weights", "w", "source=x.jpg"])
    with pytest.raises(UserError, match=r"did you mean '--optim\.lr'"):
        from_values("train", {"data": "toy", "lr0": 0.1})


def test_models_and_parts_go_by_name_in_any_case():
    got = parse("train", ["--data", "toy", "--model", "YOLO_N", "--model.backbone", "ResNet18"])
    assert (got.model.name, got.model.backbone) == ("yolo_n", "resnet18")
    assert parse("train", ["--data", "toy", "--Model", "LeNet5", "--IMGSZ", "64"]).model.backbone == "lenet5"


def test_a_device_may_be_a_number():
    assert spelled("0") == "cuda:0" and spelled("CPU") == "cpu"
    with pytest.raises(UserError, match="torchrun"):
        spelled("0,1")


def test_a_nul_is_no_part_of_a_name(tmp_path):
    for flags in ({"out": "a\0b"}, {"classes": ["a", "b\0"]}):
        with pytest.raises(UserError, match="holds a NUL"):
            from_values("predict", {"weights": "w", "source": "s", **flags})


def test_naming_a_model_replaces_that_of_a_file_as_a_whole(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: toy\nmodel: {kind: classifier, backbone: lenet5}\n")
    got = parse("train", ["--config", str(file)])
    assert (got.task, got.model.backbone, got.imgsz) == ("classify", "lenet5", 224)
    assert parse("train", ["--config", str(file), "--model", "yolo_s"]).model == model_config("yolo_s")
    assert parse("train", ["--config", str(file), "--model.backbone", "alexnet"]).model.backbone == "alexnet"


def test_settings_of_older_runs_have_their_names_of_now(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data: toy\nthaw: 2\neach: 3\nfreeze: 1\nmodel: {kind: localizer}\n")
    with pytest.raises(UserError, match="--images-per-identity is"):  # known by its new name
        parse("train", ["--config", str(file)])
    file.write_text("data: toy\nthaw: 2\nfreeze: 1\nmodel: {kind: localizer}\n")
    got = parse("train", ["--config", str(file)])
    assert (got.unfreeze_every, got.task) == (2, "localize")


def test_python_fills_the_classes_without_text():
    got = from_values("train", {"data": "007", "optim": {"lr": 0.1}, "optim.name": "sgd", "model": {"width": 32}})
    assert (got.data, got.optim.lr, got.optim.name, got.model.width) == ("007", 0.1, "sgd", 32)
    assert from_values("predict", {"weights": "w", "source": "s", "classes": ["no", "1e3"]}).classes == ["no", "1e3"]
    with pytest.raises(UserError, match=r"--optim\.clip is True: it must be a number"):
        from_values("train", {"data": "toy", "optim": {"clip": True}})
