"""A YAML that names the format of a dataset and its files, for sets whose files are not where the format has them.

    format: open_images
    classes: class-descriptions-boxable.csv
    val: {annotations: validation-annotations-bbox.csv, images: validation}

Any format can be named with the folder that it is to read: `{format: voc, path: VOC2012}`. Those that take files say
which in `Format.files` and `Format.split_files`. Paths are relative to the YAML, absolute, or URLs.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from detect.data.sources.base import Format, NamedFiles, Source, Splits
from detect.data.sources.inventory import by_split
from detect.errors import UserError, unknown
from detect.registry import REGISTRIES
from detect.storage.resolve import beside
from detect.utils.names import require_names


class NamedYaml(Format):
    """A YAML with `format:`, or a folder with such a `data.yaml`."""

    accepts = "a YAML with format: and the format's files or path:"

    def splits(self, source: Source) -> Splits:
        """Return the readers of the splits. Raises UserError for an unknown format, key or file."""
        path, content = source.yaml_path, source.yaml
        if path is None or not isinstance(content, dict) or "format" not in content:
            return {}
        name, registry = content["format"], REGISTRIES["format"]
        if not isinstance(name, str) or name not in registry:
            raise UserError(f"{path}: {unknown('format', str(name), registry)}")
        form = registry[name]()
        if isinstance(form, NamedYaml):
            raise UserError(f"{path}: format: {name} is this YAML itself; name the format of the files")
        if form.image_level and not source.image_level_labels:
            raise UserError(f"{path}: format {name} has labels of whole images alone; give --task classify or embed")
        if "path" in content:
            return _in_folder(path, content, form, source)
        return form.named(source, _files(path, name, content, form, source))


def _in_folder(path: Path, content: dict[str, Any], form: Format, source: Source) -> Splits:
    """The splits of the file or folder at `path:`, as the format reads it by itself."""
    _require_known(path, "", content, ("format", "path"))
    place = _resolved(path, "path", content["path"], source)
    if os.path.realpath(place) == os.path.realpath(path):
        raise UserError(f"{path}: path: is this YAML itself; name the folder of the dataset")
    if not os.path.exists(place):
        raise UserError(f"{path}: path: there is no {place}; it is relative to the YAML")
    if not (found := form.splits(replace(source, path=place))):
        raise UserError(f"{path}: {place} is not in the format {content['format']}: {form.accepts or 'see its page'}")
    return found


def _files(path: Path, name: str, content: dict[str, Any], form: Format, source: Source) -> NamedFiles:
    """The files that the YAML names, all of which exist."""
    if not form.files and not form.split_files:
        raise UserError(f"{path}: format {name} is read from a folder: give path: FOLDER")
    keys = require_names([*content], range(1, len(content) + 1), path, "key")
    parts = [key for key in keys if form.split_files and key not in ("format", *form.files)]
    _require_known(path, "", [key for key in keys if key not in parts], ("format", *form.files))
    named = {key: _existing(path, "", key, content[key], source) for key in form.files if content.get(key) is not None}
    splits: dict[str, dict[str, Path]] = {}
    for split, key in by_split(path, (key for key in parts if content[key] is not None)).items():
        if not isinstance(content[key], dict):
            known = ", ".join(("format", *form.files))
            raise UserError(
                f"{path}: {key}: is no key of format {name} ({known}), nor a split, such as "
                f"val: {{{', '.join(f'{one}: …' for one in form.split_files)}}}"
            )
        _require_known(path, f"{key}: ", content[key], form.split_files)
        given = {one: value for one, value in content[key].items() if value is not None}
        splits[split] = {one: _existing(path, f"{key}: ", one, value, source) for one, value in given.items()}
    if form.split_files and not splits:
        raise UserError(f"{path}: names no split; add train: or val:, with {' and '.join(form.split_files)}")
    folders = [place for some in (named, *splits.values()) for place in some.values() if place.is_dir()]
    return NamedFiles(path, named, splits, source.inside.adding(*folders))


def _require_known(path: Path, where: str, given: Collection[Any], known: Collection[str]) -> None:
    for key in given:
        if key not in known:
            raise UserError(f"{path}: {where}{unknown('key', str(key), known)}")


def _resolved(path: Path, key: str, value: Any, source: Source) -> Path:
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}: {key} must be one file or folder, not {value!r:.60}")
    return Path(os.path.abspath(beside(path.parent, value, source.inside)))


def _existing(path: Path, where: str, key: str, value: Any, source: Source) -> Path:
    place = _resolved(path, f"{where}{key}", value, source)
    if os.path.isdir(place) != (key == "images") or not os.path.exists(place):
        kind = "folder" if key == "images" else "file"
        raise UserError(f"{path}: {where}{key}: there is no {kind} {place}; it is relative to the YAML")
    return place
