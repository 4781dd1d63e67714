"""The flag `--plugin`, which every command has: plugins are loaded before the other flags are read."""

from __future__ import annotations

import os

from detect import plugins
from detect.errors import UserError
from detect.utils.yaml_files import read_yaml

PLUGIN_HELP = "module or file that registers models, losses, formats and the like"


def load_plugins(arguments: list[str]) -> list[str]:
    """Load the installed plugins, those that `--config` files name as `plugin: [...]`, and those of `--plugin`.

    Returns:
        The arguments without `--plugin`.

    Raises:
        UserError: a plugin cannot be loaded, or `--plugin` has no value.
    """
    plugins.load_installed()
    rest, given = _taken(arguments, "--plugin")
    if any(not name or name.startswith("-") for name in given):
        raise UserError("--plugin needs a module or a file: --plugin my_module, or --plugin ./my_plugin.py")
    for file in _taken(arguments, "--config")[1]:
        plugins.load(_named_in(file))
    plugins.load(given)
    return rest


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


def _named_in(file: str) -> list[str]:
    """The plugins that a configuration file names. A file that cannot be read is left to the parser."""
    if not os.path.isfile(file):  # text of ours may stand for a file
        return []
    try:
        content = read_yaml(file)
    except UserError:
        return []
    names = content.get("plugin", []) if isinstance(content, dict) else []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{file}: plugin is {names!r}: it must be a list of modules or files, [./my_plugin.py]")
    return names
