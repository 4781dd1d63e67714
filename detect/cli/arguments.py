"""From words on the command line to values by name: `--flag value`, `--flag=value`, switches, lists, and bare words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from typing import Any, NamedTuple, get_origin

from detect.cli.suggest import unknown_flag
from detect.commands import config_of
from detect.config.fields import Option, options_of, own_options
from detect.config.fill import SWITCH, converted
from detect.errors import UserError

ALIASES = {"hidden": "model.hidden"}


class Given(NamedTuple):
    """What a command line says: values by dotted name, and the files after `--config`."""

    values: dict[str, Any]
    files: list[str]


class Flag(NamedTuple):
    """A flag as it is written, and the words up to the next one; `joined` says that the first came after "="."""

    text: str
    words: list[str]
    joined: bool

    @property
    def name(self) -> str:
        """The dotted name of its option."""
        name = self.text.removeprefix("--").replace("-", "_").lower()
        return ALIASES.get(name, name)


def read(command: str, arguments: Sequence[str]) -> Given:
    """The values that a command line gives to the options of a command.

    Options `model.NAME` keep their text, for the model decides which there are.

    Raises:
        UserError: a flag that the command does not have, one without its value, or a word that belongs to no flag.
    """
    kind = config_of(command)
    options = {option.name: option for option in options_of(kind) if not option.name.startswith("model.")}
    given, strays = Given({}, []), list[tuple[str, str]]()
    for flag in _flags(arguments):
        of_model = flag.name.startswith("model.") and "model" in options
        if flag.text == "--config":
            given.files.extend(flag.words)
            count = len(flag.words)
        elif flag.text and not of_model and (not flag.text.startswith("--") or flag.name not in options):
            raise unknown_flag(flag.text, command)
        else:
            count = _add(given.values, flag, options) if flag.text else 0
        strays += [(flag.name, word) for word in flag.words[count:]]
    _place([*strays, *_last_words(strays, command, given.values)], command, given.values)
    return given


def _flags(arguments: Sequence[str]) -> Iterator[Flag]:
    """The flags in their order; before them one without text, for the words in front."""
    flag = Flag("", [], False)
    for word in arguments:
        if re.match("--?[a-zA-Z]", word):
            yield flag
            text, equals, value = word.partition("=")
            flag = Flag(text, [value] * bool(equals), bool(equals))
        else:
            flag.words.append(word)
    yield flag


def _add(values: dict[str, Any], flag: Flag, options: Mapping[str, Option]) -> int:
    """Put the value of a flag into `values`; returns how many of its words that took.

    A list ends before a word such as source=x.jpg: that was meant as another option.
    """
    option = options.get(flag.name)
    several = option is None or get_origin(option.hint) is list
    meant = (i for i, word in enumerate(flag.words) if i and "=" in word and word.partition("=")[0] in options)
    count = 1 if flag.joined or not several else next(meant, len(flag.words))
    if option is not None and option.hint is bool:
        count = int(bool(flag.words) and (flag.joined or flag.name == "resume" or flag.words[0].lower() in SWITCH))
    elif not flag.words:
        raise UserError(f"{flag.text} needs a value: --help says which")
    words = flag.words[:count]
    value: Any = words if len(words) > 1 else words[0] if words else True
    if option is not None and several:
        value = [*values.get(flag.name, []), *converted(flag.text, value, option.hint)]
    values[flag.name] = value
    return count


def _last_words(strays: list[tuple[str, str]], command: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Take from a list the words at its end that are meant for options named by words alone: `--weights w a.jpg b.jpg`.

    Returns:
        The name of the list and the word, for each of them.
    """
    kind = config_of(command)
    options = own_options(kind)
    names = getattr(kind, "positional", ())
    missing = sum(name not in values and options[name].default is MISSING for name in names) - len(strays)
    for name, words in values.items() if missing > 0 else ():
        if name in options and options[name].hint == list[str] and len(words) > missing:
            values[name] = words[:-missing]
            return [(name, word) for word in words[-missing:]]
    return []


def _place(strays: list[tuple[str, str]], command: str, values: dict[str, Any]) -> None:
    """Give words that belong to no flag to the options that are named by words.

    Raises:
        UserError: there is no such option left.
    """
    names = [name for name in getattr(config_of(command), "positional", ()) if name not in values]
    for flag, word in strays:
        if names:
            values[names.pop(0)] = word
        elif flag == "weights" and "=" not in word:
            raise UserError(
                f"--weights takes one file in detect {command}: what is {word!r}? Evaluate and predict take several"
            )
        else:
            raise unknown_flag(word, command)
