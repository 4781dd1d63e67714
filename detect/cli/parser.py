"""From arguments to a configuration: jsonargparse over the dataclasses of `detect.config`."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from itertools import chain, pairwise, takewhile
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_loader, set_parsing_settings

from detect.cli.applicability import refuse_unused
from detect.cli.plugin_flag import PLUGIN_HELP, load_plugins
from detect.cli.suggest import flags_of, unknown_flag
from detect.commands import COMMANDS, config_of, function_of
from detect.config import CONFIGS
from detect.config import train as configs
from detect.config.constraints import check
from detect.errors import UserError, unknown
from detect.models.legacy import current_settings
from detect.registry import REGISTRIES
from detect.tasks import get_task
from detect.utils.interrupt import uninterrupted
from detect.utils.names import warn_once
from detect.utils.yaml_files import PARTS, parse_yaml, read_yaml, require_settings

_FIRST = ("--config", "--model")  # files come before the flags that override them
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")  # what a switch may be followed by
WORDS = {"info": ("name",), "verify": ("a", "b")}  # what is said by words that belong to no flag


def named(text: str) -> Any:
    """A YAML value, or the model configuration shipped under that name."""
    value = parse_yaml(text)
    if isinstance(value, str) and re.fullmatch(r"\w{1,99}", value):
        path = CONFIGS / "models" / f"{value}.yaml"
        return read_yaml(path) if path.is_file() else value
    return value


def model_names() -> list[str]:
    """The model configurations that are shipped."""
    return sorted(p.stem for p in (CONFIGS / "models").glob("*.yaml"))


def _whole(name: str) -> str:
    """The model configuration, as YAML, of the whole network called `name`; anything else as it is."""
    if name.lower() in model_names() and not os.path.exists(name):
        return name.lower()
    if not re.fullmatch(r"(timm:)?[\w.-]+", name) or os.path.exists(name):
        return name
    backbones = REGISTRIES["backbone"]
    if name.lower() in backbones:
        name = name.lower()
    elif not name.startswith("timm:"):
        raise unknown("model", name, [*model_names(), *backbones])
    return json.dumps({"name": name, "kind": "classifier", "backbone": name})


def _task_of(model: str) -> str:
    """The task of what --model was given; nothing where that is not seen without reading more files."""
    try:
        value = named(_whole(model))
    except yaml.YAMLError as error:
        raise UserError(f"--model is broken YAML: {error}") from None
    return configs.TASK_OF.get(value.get("kind", "yolo"), "") if isinstance(value, dict) else ""


def model_config(name: str) -> configs.ModelConfig:
    """The shipped model configuration of that name."""
    if name not in model_names():
        raise unknown("model", name, model_names())
    return parse("train", ["--data", "toy", "--model", name]).model


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(self._explain(" ".join(message.split())))

    def _explain(self, message: str) -> str:
        command = self.prog.split()[-1]
        bad = re.search(r"unrecognized arguments: (\S+)", message)
        inner = re.search(r"(?:Group '([\w.]+)' does not accept o|O)ption '([\w.]+)'", message)
        if bad or inner:
            word = bad[1] if bad else "--" + ".".join(part for part in inner.groups() if part)  # type: ignore[union-attr]
            return str(unknown_flag(word, command, {name: flags_of(config_of(name)) for name in COMMANDS}))
        absent = re.search(r"arguments are required: (.*)", message)
        if absent:
            return f"detect {command} needs --{absent[1].replace(', ', ' and --')}"
        several = re.search(r"key ['\"](optim|augment|tracker)['\"]: Unable to load config ['\"](.*?)['\"]", message)
        if several:
            return f"--{several[1]} {several[2]}: it has several values; give one as --{several[1]}.NAME (see --help)"
        model = re.search(r"Unable to load config ['\"](\w+)['\"]", message)
        if model:
            return str(unknown("model", model[1], model_names()))
        wrong = re.search(r"key ['\"]([\w.]+)['\"]: .*?Expected a <class '(\w+)'>.* value: (.*)", message)
        return f"--{wrong[1]} is {wrong[3]!r}: it must be of type {wrong[2]}" if wrong else message


def _parser(command: str) -> tuple[_Parser, type]:
    set_loader("named", named, exceptions=(yaml.YAMLError,))
    set_parsing_settings(instantiate_subclass_spec_in_any=False)
    kind = config_of(command)
    text = (kind.__doc__ or "").strip()
    parser = _Parser(prog=f"detect {command}", description=text, parser_mode="named", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file with any of the flags below; may be given again")
    parser.add_argument("--plugin", type=list[str], default=[], help=PLUGIN_HELP)
    parser.add_class_arguments(kind, None)
    for group in parser._action_groups:  # a nested dataclass: its own name and docstring, not its repr
        nested = getattr(configs, str(group.title).rpartition(".")[2].removesuffix("'>"), None)
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            group.title, group.description = nested.__name__, nested.__doc__
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            action.nargs, action.const = "?", True
    return parser, kind


def _worded(arguments: list[str], names: Sequence[str], kind: type) -> list[str]:
    """`arguments` with the words that belong to no flag as flags `names`, in their order."""
    switches = {f"--{f.name}" for f in dataclasses.fields(kind) if f.type == "bool"}
    placed, left, taken = [], list(names), False
    for word in arguments:
        flag = word.startswith("-")
        placed.append(f"--{left.pop(0)}={word}" if left and not flag and not taken else word)
        taken = flag and "=" not in word and word not in switches
    return placed


def _spelled(arguments: list[str], kind: type, command: str) -> list[str]:
    """Flags with underscores for hyphens; the words after a flag that takes several as one value."""
    spelled = [re.sub(r"^--[\w.-]+", lambda m: m[0][:2] + m[0][2:].replace("-", "_").lower(), a) for a in arguments]
    spelled = [re.sub(r"^--hidden(?==|$)", "--model.hidden", a) for a in spelled]
    if "--model.hidden" in spelled:
        start = spelled.index("--model.hidden")
        words = list(takewhile(str.isdecimal, spelled[start + 1 :]))
        if words:
            spelled[start : start + 1 + len(words)] = [f"--model.hidden=[{', '.join(words)}]"]
    lists = [f"--{name}" for name, hint in get_type_hints(kind).items() if hint == list[str]]
    for name in (*lists, *(["--weights"] if command == "evaluate" else [])):
        spelled, groups = _gathered(spelled, name)
        if groups:
            value = json.dumps([*chain(*map(_listed, groups))]) if name in lists else ",".join(groups[-1])
            spelled.append(f"{name}={value}")
    _refuse_stray(spelled, kind, command)
    return spelled


def _refuse_stray(arguments: list[str], kind: type, command: str) -> None:
    """Raises UserError for a word that is neither a flag nor the value of one."""
    switches = {f"--{f.name}" for f in dataclasses.fields(kind) if f.type == "bool"}
    flag, taken = "", True
    for word in arguments:
        if re.match("--?[a-zA-Z]", word):
            flag, taken = word, "=" in word
        elif not taken and (flag not in switches or word.lower() in BOOLEANS):
            taken = True
        elif flag == "--weights" and "=" not in word:
            raise UserError(
                f"--weights takes one file in detect {command}: what is {word!r}? Only evaluate takes several"
            )
        else:
            raise unknown_flag(word, command, {name: flags_of(config_of(name)) for name in COMMANDS})


def _gathered(arguments: list[str], name: str) -> tuple[list[str], list[list[str]]]:
    """The arguments without the flag `name`, and the words after it or its =, each time it is there."""
    rest, groups = list[str](), list[list[str]]()
    into = rest
    for one in arguments:
        if one == name:
            into = []
            groups.append(into)
        elif one.startswith(f"{name}="):
            into = rest
            groups.append([one.removeprefix(f"{name}=")])
        else:
            into = rest if one.startswith("--") else into
            into.append(one)
    return rest, groups


def _listed(words: list[str]) -> list[str]:
    """Words, or the one YAML list that they are."""
    if len(words) == 1 and words[0].startswith("["):
        try:
            return [str(v) for v in parse_yaml(words[0], words=True)]  # where no and 007 are words
        except yaml.YAMLError as error:
            raise UserError(f"{words[0]!r} is no list: write [a, b], or the words alone") from error
    return words


def _of_weights(path: str) -> dict[str, str]:
    """The model in a weights file and its image size, as flags; its weights of classes are for its own alone."""
    from detect.models.weights import read_weights  # late: it needs torch

    config, metadata, _ = read_weights(Path(path))
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, class_weights=[]))
    size = {"--imgsz": str(metadata.size)} if config.dims == 2 else {}  # of signals the data says it
    return {"--model": json.dumps(dataclasses.asdict(config)), **size}


def _sorted(arguments: list[str], command: str) -> list[str]:
    """`arguments` with what the task means, --config and --model in front, in this order.

    Whatever else is given wins. The task is that of --task or, without it, that of the model; and the model that is
    trained further is that of the weights, where none is named.
    """
    front: dict[str, list[str]] = {name: [] for name in _FIRST}
    rest: list[str] = []
    task, weights = "auto", ""
    i = 0
    while i < len(arguments):
        name, _, value = arguments[i].partition("=")
        words = [name, value] if value else arguments[i : i + 2]
        if name in front:
            front[name] += words
            i += 1 if value else 2
            continue
        if name == "--task":
            task = words[-1]
        if name == "--weights":
            weights = value if "=" in arguments[i] else words[-1]
        rest.append(arguments[i])
        i += 1
    theirs = _of_weights(weights) if weights and command == "train" and not front["--model"] else {}
    model = theirs.get("--model") or (front["--model"] or [""])[-1]
    if task == "auto" and model and command == "train":
        task = _task_of(model)
    defaults = get_task(task).defaults if task in REGISTRIES["task"] else {}
    meant = ({f"--{name}": value for name, value in defaults.items()} | theirs).items() if command == "train" else ()
    means = [part for name, value in meant if not front.get(name) for part in (name, value)]
    ordered = [*means, *front["--config"], *front["--model"], *rest]
    own = "--model" if command == "train" else None  # what others take instead is said where flags are read
    return [_whole(a) if before == own else a for before, a in pairwise(["", *ordered])]


def _build(kind: type, values: dict[str, Any]) -> Any:
    """The dataclass `kind` from plain nested values."""
    built = {}
    for f in dataclasses.fields(kind):
        value = values[f.name]
        if any("\0" in one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)):
            raise UserError(f"--{f.name} holds a NUL, which the name of no file and no thing does")
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else None
        built[f.name] = _build(type(default), value) if dataclasses.is_dataclass(default) else value
    return kind(**built)


def _lower_names(model: configs.ModelConfig) -> configs.ModelConfig:
    """The names of its parts as they are registered: in lower case, but for those of timm."""
    names = {name: getattr(model, name) for name in ("kind", "backbone", "neck", "head", "assigner")}
    lower = {name: value.lower() for name, value in names.items() if not value.startswith("timm:")}
    return dataclasses.replace(model, **lower)


def _continued(arguments: list[str]) -> list[str]:
    """`arguments` with `--resume RUN` as what it means: what RUN/config.yaml says, below all else, into that folder."""
    rest, given = _gathered(arguments, "--resume")
    run, *more = given[-1] if given and given[-1] else [""]
    if run.lower() in ("", "true", "false"):
        return arguments
    if not (Path(run) / "config.yaml").is_file():
        raise UserError(f"--resume {run}: no run is there that could go on (no config.yaml): begin one with --data")
    for out in chain(*_gathered(rest, "--out")[1]):
        if Path(out).resolve() != Path(run).resolve():
            raise UserError(f"--resume {run} goes on in that folder: leave --out {out} out")
    return ["--config", _settings_of(Path(run) / "config.yaml"), *rest, *more, f"--out={run}", "--resume=true"]


def _settings_of(path: Path) -> str:
    """A run's config.yaml: its path, or where an older version wrote it the YAML text with the current names."""
    written = read_yaml(path)
    current = current_settings(written) if isinstance(written, dict) else written
    return str(path) if current == written else yaml.safe_dump(current, default_flow_style=True, width=10**9)


def parse(command: str, arguments: list[str]) -> Any:
    """The configuration that `arguments` say, every range checked. Raises UserError in one line."""
    if command == "train":
        arguments = _continued(arguments)
    arguments = load_plugins(arguments)
    parser, kind = _parser(command)
    arguments = _worded(arguments, WORDS.get(command, ()), kind)
    missing = [f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
    arguments = _sorted(_spelled(arguments, kind, command), command)
    require_settings(chain(*(chain(*_gathered(arguments, f"--{part}")[1]) for part in PARTS)))
    try:
        parsed = parser.parse_args(arguments).as_dict()
    except UnicodeDecodeError as error:
        raise UserError(f"a configuration is not UTF-8 text ({error.reason} at byte {error.start})") from None
    absent = [name for name in missing if parsed.get(name) is None]
    if absent:
        raise UserError(f"detect {command} needs --{' and --'.join(absent)}")
    built = _build(kind, parsed)
    built = check(built)
    if command == "train":
        built = configs.with_task(dataclasses.replace(built, model=_lower_names(built.model)))
    refuse_unused(command, built)
    return built


def from_values(command: str, values: dict[str, Any]) -> Any:
    """The configuration from keyword arguments, as in Python: nested dicts, or dotted keys."""
    texts = {name for name, hint in get_type_hints(config_of(command)).items() if hint is str}
    arguments = []
    for key, value in values.items():
        value = _plain(key, value)
        if value is None:  # unset, as where it is not given
            continue
        if key == "weights" and isinstance(value, list):
            value = ",".join(map(str, value))
        if key in texts and isinstance(value, list | dict | bool):
            raise UserError(f"--{key} is {value!r}: it must be text")
        if not isinstance(value, str):
            value = yaml.safe_dump(value, default_flow_style=True, width=10**9).strip().removesuffix("\n...")
        arguments.append(f"--{key}={value}")
    return parse(command, arguments)


def _plain(key: str, value: Any) -> Any:
    """A keyword's value in the types that YAML has. Raises UserError for one that has no such form."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Integral | Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, list | tuple):
        return [_plain(key, one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(f"{key}.{name}", one) for name, one in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    kind = type(value).__name__
    raise UserError(f"--{key} holds {value!r} ({kind}): give text, numbers, True or False, or lists and dicts of these")


def run(command: str, arguments: list[str]) -> None:
    """Parse `arguments`, then call the command's function."""
    with uninterrupted():
        parsed = parse(command, arguments)
        importlib.import_module("detect.api")  # torch and whatever else is native, before anything may break it off
    warn_once.cache_clear()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    function_of(command)(parsed)
