"""From the command line, or the keywords of Python, to the configuration of a command."""

from __future__ import annotations

import importlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from detect.cli.applicability import ignored_options, refuse_unused
from detect.cli.arguments import read
from detect.cli.auto_values import chosen_layers
from detect.cli.help import Help
from detect.cli.plugin_flag import load_listed, load_plugins
from detect.cli.suggest import unknown_flag
from detect.cli.train_values import Layer, train_values
from detect.commands import config_of, function_of, trains
from detect.config.constraints import from_values as checked
from detect.config.fields import own_options
from detect.config.fill import SWITCH, UnknownOption, merged, nested, settings
from detect.config.train import TrainConfig, with_task
from detect.errors import UserError
from detect.hub import offline
from detect.models.legacy import current_settings
from detect.utils.interrupt import uninterrupted
from detect.utils.names import say, warn_once

OFFLINE = "--offline"  # of every command, as --plugin
HELP = frozenset(("-h", "--help", "--help-all"))


def run(command: str, arguments: Sequence[str]) -> None:
    """Run a command, or print its help."""
    if OFFLINE in arguments:
        with offline():
            run(command, [word for word in arguments if word != OFFLINE])
        return
    with uninterrupted():
        arguments = load_plugins(list(arguments))
        if asked := HELP.intersection(arguments):
            for line in _help(command, arguments, "--help-all" in asked).split("\n"):
                say(line)
            return
        config = _parsed(command, arguments)
        if getattr(config, "native", True):
            importlib.import_module("detect.api")  # torch and whatever else is native, before anything may break it off
    warn_once.cache_clear()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    function_of(command)(config)


def parse(command: str, arguments: Sequence[str]) -> Any:
    """The configuration that a command line describes, every value checked.

    Args:
        command: a key of `COMMANDS`.
        arguments: the words after the command.

    Raises:
        UserError: a flag, value or file that cannot be used, in one line.
    """
    return _parsed(command, load_plugins(list(arguments)))


def from_values(command: str, values: Mapping[str, Any]) -> Any:
    """The configuration that keywords of Python describe, checked as a command line is.

    Args:
        command: a key of `COMMANDS`.
        values: values by name, as nested dicts or with dotted names; None stands for unset. "config" names YAML files,
            "plugin" is a list of modules or files.

    Raises:
        UserError: a name, value or file that cannot be used, in one line.
    """
    values = {name: value for name, value in values.items() if value is not None}
    files, names = _several(values.pop("config", [])), _several(values.pop("plugin", []))
    load_plugins([])
    load_listed(names, "keywords")
    return _configured(command, values, files)


def _several(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list | tuple) else [value])]


def _parsed(command: str, arguments: Sequence[str]) -> Any:
    given = read(command, arguments)
    return _configured(command, given.values, given.files)


def _configured(command: str, values: dict[str, Any], files: Sequence[str]) -> Any:
    """The configuration of a command from its values, above those in files, of which the later win."""
    kind = config_of(command)
    filled = _layered(command, values, files)
    filled |= {
        name: [] for name, other in getattr(kind, "instead", {}).items() if other in filled and name not in filled
    }
    absent = [name for name, one in own_options(kind).items() if one.default is MISSING and name not in filled]
    if absent:
        raise UserError(f"detect {command} needs --{' and --'.join(absent)}{_remedy(command, absent, filled)}")
    config: Any = checked(kind, filled, "--")
    full = with_task(config) if trains(command) else config
    refuse_unused("train" if trains(command) else command, full, full.task if trains(command) else "")
    return full if command == "train" else config  # others, as tune, fill in what an optimizer decides themselves


def _remedy(command: str, absent: Sequence[str], values: Mapping[str, Any]) -> str:
    """The two commands that would work where only the weights are missing; "" where none are published for it."""
    published = getattr(config_of(command), "published", "")
    if absent != ["weights"] or not published:
        return ""
    given = {name: [value] if isinstance(value, str) else value for name, value in values.items()}
    texts = {name: one for name, one in given.items() if isinstance(one, list) and all(isinstance(x, str) for x in one)}
    rest = " ".join(f"--{name.replace('_', '-')} {shlex.join(text)}" for name, text in texts.items())
    named, own = (f"`detect {command} --weights {one} {rest}`" for one in (published, "runs/train/best.safetensors"))
    return f": {named} takes published ones (`detect weights` lists them), {own} those of a training run"


def _layered(command: str, values: dict[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """All values as nested dicts, what a command adds to them included."""
    kind = config_of(command)
    if "resume" in own_options(kind):
        values, files = _resumed(values, files)
    layers: list[Layer] = [*((_settings(file), Path(file).parent) for file in files), (values, None)]
    try:
        if trains(command):
            own = [({k: v for k, v in layer.items() if _is_own(kind, k)}, folder) for layer, folder in layers]
            layers = [({k: v for k, v in layer.items() if not _is_own(kind, k)}, folder) for layer, folder in layers]
            others = merged(*(nested(kind, layer, folder=folder) for layer, folder in own))
            return {**train_values([*chosen_layers(layers), *layers]), **others}
        return merged(*(nested(kind, layer, folder=folder) for layer, folder in layers))
    except UnknownOption as error:
        raise unknown_flag(f"--{error.name}", command, error.model) from None


def _is_own(kind: type, name: str) -> bool:
    """Whether an option is one of the command alone, and not of `detect train`."""
    return name.replace("-", "_") in own_options(kind).keys() - own_options(TrainConfig).keys()


def _settings(file: str) -> dict[str, Any]:
    """The settings in a `--config` file; its plugins are loaded. Raises UserError as `settings` does."""
    values = current_settings(settings(file))
    load_listed(values.pop("plugin", []), file)
    if "config" in values:
        raise UserError(f"{file}: config: a file cannot name another; give --config for each")
    return values


def _resumed(values: dict[str, Any], files: Sequence[str]) -> tuple[dict[str, Any], Sequence[str]]:
    """Values and files with `--resume RUN` as what it means: below all else the settings in RUN, and RUN as --out."""
    run = values.get("resume")
    if not isinstance(run, str | Path) or not str(run) or str(run).lower() in SWITCH:
        return values, files
    if not (Path(run) / "config.yaml").is_file():
        raise UserError(f"--resume {run}: there is no run to continue (no config.yaml): start one with --data")
    out = values.get("out", run)
    if Path(out).resolve() != Path(run).resolve():
        raise UserError(f"--resume {run} continues in that folder: leave --out {out} out")
    return {**values, "out": str(run), "resume": True}, [str(Path(run) / "config.yaml"), *files]


def _help(command: str, arguments: Sequence[str], everything: bool) -> str:
    """The help of a command. Its defaults are those of the model, task and files that are named beside --help."""
    given = read(command, [word for word in arguments if word not in HELP])
    if not trains(command):
        return Help(command, {}, everything=everything).text()
    values = _layered(command, given.values | {"auto": False}, given.files)  # help looks at no data
    config = with_task(checked(config_of(command), {"data": "", **values}, "--"))
    values = {name: getattr(config, name) for name in own_options(config_of(command)) if name != "data"}
    named = bool({"model", "weights", "task"} & set(given.values))
    ignored = ignored_options("train", config, config.task) if named else ()
    return Help(command, values, named, everything, ignored).text()
