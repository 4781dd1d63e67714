"""The flag `--plugin`, which every command has: plugins are loaded before the other flags are read."""

from __future__ import annotations

from typing import Any

from detect import plugins
from detect.errors import UserError

PLUGIN_HELP = "module or file that registers models, losses, formats and the like"


def load_plugins(arguments: list[str]) -> list[str]:
    """Load the plugins of installed packages, and those of `--plugin`.

    Returns:
        The arguments without `--plugin`.

    Raises:
        UserError: a plugin cannot be loaded, or `--plugin` has no value.
    """
    plugins.load_installed()
    rest, given = _taken(arguments, "--plugin")
    if any(not name or name.startswith("-") for name in given):
        raise UserError("--plugin needs a module or a file: --plugin my_module, or --plugin ./my_plugin.py")
    plugins.load(given)
    return rest


def load_listed(names: Any, place: str) -> None:
    """Load the plugins that a configuration file or a keyword of Python names.

    Args:
        names: what was given.
        place: the file or keyword, for the message.

    Raises:
        UserError: a plugin cannot be loaded, or `names` is no list of names.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{place}: plugin is {names!r}: it must be a list of modules or files, [./my_plugin.py]")
    plugins.load(names)


def _taken(arguments: list[str], flag: str) -> tuple[list[str], list[str]]:
    """The arguments without `flag` and its values, and these values, one each time that it is given."""
    rest, values, words = list[str](), list[str](), iter(arguments)
    for word in words:
        if word == flag:
            values.append(next(words, ""))
        elif word.startswith(f"{flag}="):
            values.append(word.removeprefix(f"{flag}="))
        else:
            rest.append(word)
    return rest, values
