"""Options that nothing would read are refused in one line."""

import dataclasses

import pytest

from detect.cli.applicability import refuse_unused
from detect.cli.parser import parse
from detect.cli.suggest import flags_of
from detect.commands import config_of
from detect.errors import UserError
from detect.models.configs import model_class, shipped_names
from detect.registry import REGISTRIES
from detect.tasks import get_task

CLASSIFY = ["--task", "classify", "--model", "lenet5"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            [*CLASSIFY, "--augment.mosaic", "0.5"],
            "--augment.mosaic is for detectors",
        ),
        (
            [*CLASSIFY, "--balance", "sampling", "--repeat", "0.3"],
            "--repeat is for detectors, instance segmenters",
        ),
        (["--repeat", "0.3"], "--repeat is read with --balance sampling alone"),
        (["--augment.crop_min", "0.3"], "--augment.crop-min is read with --augment.crop alone"),
        (
            ["--model", "sliding_window", "--augment.crop", "0.3"],
            "--augment.crop has no effect on model",
        ),
        ([*CLASSIFY, "--model.dims", "1", "--augment.rotate", "9"], "--augment.rotate has no effect on model lenet5"),
        (["--proposals", "p"], "--proposals has no effect on model yolo_n"),
        (["--images-per-identity", "3"], "--images-per-identity is for embedders, and yolo_n is none"),
        (["--features", "f"], "--features is read with --cache-features alone"),
        (["--unfreeze-every", "3"], "--unfreeze-every is read with --freeze alone"),
        (["--model.anchors", "[[9, 9]]"], "--model.anchors is read with --model.head anchor or grid alone"),
        (["--model.loss.objectness", "2"], "--model.loss.objectness is read with --model.head anchor or grid"),
    ],
)
def test_training_refuses_what_it_would_not_read(flags, said):
    with pytest.raises(UserError, match="leave it out") as caught:
        parse("train", ["--data", "toy", *flags])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "flags",
    [
        [*CLASSIFY, "--hidden", "32", "--model.padding", "same", "--model.loss.smoothing", "0.1"],
        [*CLASSIFY, "--balance", "sampling", "--model.loss.class_weights", "[1, 2]", "--cache-gb", "1"],
        ["--balance", "sampling", "--repeat", "0.3", "--model.loss.class_kind", "focal"],
        ["--cache-features", "--features", "f", "--freeze", "-1"],
        ["--freeze", "2", "--unfreeze-every", "1"],
        [*CLASSIFY, "--augment.crop", "0.3", "--augment.crop_min", "0.3", "--augment.rotate", "9"],
        ["--model", "sliding_window", "--augment.rotate", "9", "--augment.warp", "0.01"],
        ["--model.anchors", "[]", "--model.loss.objectness", "1", "--repeat", "0.1"],  # as they are anyway
    ],
)
def test_what_is_read_may_be_given(flags):
    assert parse("train", ["--data", "toy", *flags])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--hidden", "32", "16"], "'--model.hidden' of a model of kind yolo: those of kind sliding_window or"),
        (
            ["--model", "embedder", "--model.dims", "1"],
            "of a model of kind embedder: those of kind classifier or layers have it",
        ),
        (["--model.loss.smoothing", "0.1"], "of kind yolo: those of kind localizer or classifier or layers have it"),
        ([*CLASSIFY, "--model.loss.class_kind", "focal"], "of kind classifier: those of kind yolo or"),
        (["--model.widthh", "8"], "unknown flag '--model.widthh': did you mean '--model.width'"),
    ],
)
def test_a_model_has_no_options_but_its_own(flags, said):
    with pytest.raises(UserError) as caught:
        parse("train", ["--data", "toy", *flags])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*shipped_names(), "lenet5"])
def test_no_model_that_is_shipped_sets_what_it_does_not_read(name):
    assert parse("train", ["--data", "toy", *(["--task", "classify"] if name == "lenet5" else []), "--model", name])


@pytest.mark.parametrize(
    ("command", "task", "option", "value"),
    [
        ("evaluate", "detect", "crops", 10),
        *(("evaluate", "classify", *given) for given in (("conf", 0.1), ("max_det", 5), ("detections", "d.json"))),
        *(("predict", "classify", *given) for given in (("soft", True), ("iou", 0.5), ("save_crop", True))),
    ],
)
def test_weights_of_another_task_refuse_an_option(command, task, option, value):
    config = config_of(command)("w.safetensors", "somewhere")
    for one in ("detect", "classify"):
        refuse_unused(command, config, one)
    given = dataclasses.replace(config, **{option: value})
    refuse_unused(command, given, "classify" if task == "detect" else "detect")
    refuse_unused(command, given)  # the weights have not been read yet
    with pytest.raises(UserError, match=rf"^--{option.replace('_', '-')} is for .*w.safetensors is none: leave it out"):
        refuse_unused(command, given, task)


@pytest.mark.parametrize("name", REGISTRIES["task"])
def test_the_options_of_a_task_are_those_of_its_commands(name):
    for command, own in get_task(name).options.items():
        assert set(own) <= set(flags_of(command))
    assert set(get_task(name).defaults) <= set(flags_of("train"))


@pytest.mark.parametrize("kind", REGISTRIES["model"])
def test_the_options_that_a_model_ignores_are_there(kind):
    assert set(model_class(kind)().ignored_options()) <= set(flags_of("train"))
