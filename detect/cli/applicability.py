"""Options that a command, task or model does not read: an error in one line, never ignored in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detect.config.constraints import ReadWith
from detect.config.fields import options_of, own_options
from detect.config.train import TrainConfig
from detect.errors import UserError
from detect.registry import REGISTRIES
from detect.tasks import Task, get_task


def refuse_unused(command: str, config: Any, task: str = "") -> None:
    """Check that the command reads every option that was set.

    Args:
        command: the command.
        config: its configuration.
        task: that of the model, where it is known.

    Raises:
        UserError: an option was set that nothing would read.
    """
    for option, reason in ignored_options(command, config, task).items() if task else ():
        if _value(config, option) != _default(config, option):
            raise UserError(f"{_flag(option)} {reason}: leave it out")
    _refuse_unread(config)


def refuse_set(config: Any, options: Sequence[str], reason: str) -> None:
    """Check that none of some options was set.

    Args:
        config: the configuration of the command.
        options: their dotted names; of a nested configuration its own fields are checked.
        reason: why not, as it follows the name of the option in a message.

    Raises:
        UserError: one was set.
    """
    for option in options_of(type(config)):
        own = option.name in options or option.name.partition(".")[0] in options
        if own and not option.nested and _value(config, option.name) != _default(config, option.name):
            raise UserError(f"{_flag(option.name)} {reason}: leave it out")


def ignored_options(command: str, config: Any, task: str) -> dict[str, str]:
    """The options that only other tasks or models read, each with the reason that follows it in a message."""
    ignored, name = dict[str, str](), _model_name(config)
    readers: dict[str, list[Task]] = {}
    for one in map(get_task, REGISTRIES["task"]):
        for option in one.options.get(command, ()):
            readers.setdefault(option, []).append(one)
    for option, tasks in readers.items():
        if task not in {one.name for one in tasks}:
            nouns = [f"{one.noun}s" for one in tasks]
            known = " and ".join(filter(None, (", ".join(nouns[:-1]), nouns[-1])))
            ignored[option] = f"is for {known}, and {name} is none"
    if isinstance(config, TrainConfig):
        ignored |= dict.fromkeys(config.model.ignored_options(), f"has no effect on model {name}")
    return ignored


def _refuse_unread(config: Any) -> None:
    """Check every field that `ReadWith` says to be read only with another one."""
    for option in options_of(type(config)):
        for rule in option.rules:
            if isinstance(rule, ReadWith) and _value(config, option.name) != _default(config, option.name):
                value = _value(config, rule.option)
                read = str(value).lower() in rule.values if rule.values else value != _default(config, rule.option)
                if not read:
                    raise UserError(f"{_flag(option.name)} {_reason(rule.option, rule.values)}")


def _reason(decider: str, values: Sequence[str]) -> str:
    flag = f"{_flag(decider)} {' or '.join(values)}".removesuffix(" true").strip()
    return f"is read with {flag} alone: leave it out, or give that"


def _model_name(config: Any) -> str:
    """How messages call the model: by its name, or by its weights files."""
    if isinstance(config, TrainConfig):
        return config.model.name
    return config.weights if isinstance(config.weights, str) else ", ".join(config.weights)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part, None)
    return config


def _default(config: Any, name: str) -> Any:
    *above, last = name.split(".")
    for part in above:
        config = getattr(config, part)
    kind: Any = type(config)
    return own_options(kind)[last].default
