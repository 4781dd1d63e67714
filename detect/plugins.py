"""Plugins: code from outside the package that registers backbones, losses, dataset formats, callbacks and the like.

A plugin is a module, a file, or a folder with an `__init__.py`, named by `--plugin`; or an installed package with an
entry point in the group `gridhead.plugins`. Loading a plugin imports it, and importing it registers what it offers.
Nothing else imports one: a weights file only says which plugin it was made with.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from detect.errors import UserError
from detect.registry import REGISTRIES

GROUP = "gridhead.plugins"  # of entry points
_loaded: dict[str, str] = {}  # the plugins that were named -> the names of their modules


def load(names: Iterable[str]) -> None:
    """Import plugins, in their order; one that is loaded already stays as it is.

    Args:
        names: modules that Python finds ("my_module"), or paths of files or package folders ("./my_file.py").

    Raises:
        UserError: a plugin is not there, or its import fails; the line names its file and the error.
    """
    for name in names:
        if not name.endswith(".py") and not {"/", "\\"} & set(name):
            if name not in _loaded:
                _import(name, name)
                _loaded[name] = name
            continue
        path = Path(name).expanduser().resolve()
        if str(path) not in _loaded:
            _loaded[str(path)] = _import_file(name, path)


@functools.cache
def load_installed() -> None:
    """Import the plugins of installed packages. Raises UserError as `load` does."""
    if not any(map(_mentions_plugins, sys.path)):
        return
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP):
        _import(entry.module, f"{entry.name} of the installed package {entry.dist.name if entry.dist else entry.name}")


def _mentions_plugins(place: str) -> bool:
    """Whether a folder or archive of `sys.path` may hold an installed package with plugins.

    Few environments have one, and this takes a twentieth of the time of importlib.metadata, for which `--help` would
    wait.
    """
    folder = place or "."
    if os.path.isfile(folder):
        return True  # an archive: importlib.metadata looks inside
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.endswith((".dist-info", ".egg-info")):
                with suppress(OSError), open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    if GROUP.encode() in file.read():
                        return True
    return False


def loaded() -> list[str]:
    """The plugins that were named, as another process of the same run can load them: files by their whole path."""
    return list(_loaded)


class Loaded:
    """Pickled in front of other objects, it loads in another process the plugins whose classes these may have."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (loaded(),)


def origins(parts: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Which of these parts plugins have registered.

    Args:
        parts: kinds of registry and names in them, such as ("backbone", "resnet18").

    Returns:
        For each part of a plugin, as "kind name", what to call the plugin: its module, or the name of its file.
    """
    found = {}
    for kind, name in parts:
        if kind in REGISTRIES and (module := REGISTRIES[kind].origin(name)):
            found[f"{kind} {name}"] = _title(module)
    return found


def require(made_with: Any, path: object) -> None:
    """Check that everything that a file was made with is registered here.

    Args:
        made_with: as `origins` returns it; a file that is damaged may hold anything.
        path: the file, for the message.

    Raises:
        UserError: a part is missing; the line names its plugin.
    """
    if not isinstance(made_with, dict) or not all(isinstance(plugin, str) for plugin in made_with.values()):
        raise UserError(f"{path} is damaged or not gridhead's: its plugins are {str(made_with)[:60]!r}")
    for part, plugin in made_with.items():
        kind, _, name = part.partition(" ")
        if name not in REGISTRIES.get(kind, ()):
            place = f"PATH/{plugin}" if plugin.endswith(".py") else plugin
            raise UserError(f"{path} was made with the plugin {plugin} ({part}): give --plugin {place}")


def _import_file(name: str, path: Path) -> str:
    """Import a file or a package folder under a module name of its own, and return that name."""
    package = path / "__init__.py"
    file = package if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"plugin {name}: there is no file {file}")
    module_name = f"gridhead_plugin_{path.stem}"  # a prefix, so that yolo.py or types.py do not replace another module
    if module_name in sys.modules:
        raise UserError(f"plugin {name}: {sys.modules[module_name].__file__} is a plugin of the same name; rename one")
    spec = spec_from_file_location(module_name, file, submodule_search_locations=[str(path)] if path.is_dir() else None)
    assert spec is not None and spec.loader is not None  # a file that ends in .py
    sys.modules[module_name] = module_from_spec(spec)
    _import(module_name, name, functools.partial(spec.loader.exec_module, sys.modules[module_name]))
    return module_name


def _import(module: str, name: str, run: Any = None) -> None:
    """Import `module`, or `run` what does so. Raises UserError naming the plugin as `name`, its line and its error."""
    try:
        run() if run else importlib.import_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(module, None)
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            here = f"; did you mean ./{module}.py?" if Path(f"{module}.py").is_file() else ""
            raise UserError(f"plugin {name}: Python finds no such module{here}") from None
        said = " ".join(str(error).split()) or "no message"
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        raise UserError(f"plugin {name}: {_place(error)}{kind}{said}") from error


def _place(error: BaseException) -> str:
    """The file and line of a plugin that an error comes from, for a message."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    inside = (str(Path(__file__).parent / "_")[:-1], str(Path(importlib.__file__).parent / "_")[:-1], "<frozen")
    outside = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(inside)]
    return f"{outside[-1].filename}:{outside[-1].lineno}: " if outside else ""


def _title(module: str) -> str:
    """What to call the plugin that a module belongs to: the module that was named, or the name of a file."""
    for name, own in _loaded.items():
        if f"{module}.".startswith(f"{own}."):
            return Path(name).name if own != name else name
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).name if module == "__main__" and file else module
