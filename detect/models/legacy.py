"""Headers of weights and settings of runs that older versions wrote, under the names of this one."""

from __future__ import annotations

from typing import Any

# Dotted names that settings had -> the last part of the name that they have now.
SETTINGS = {"log": "callbacks", "thaw": "unfreeze_every", "each": "images_per_identity"}


def current_names(header: dict[str, Any]) -> dict[str, Any]:
    """The header of a weights file or an exported one, with the keys that this version reads.

    Args:
        header: as read from the file, of format 1 or the current one.
    """
    if header.get("format") != 1 or "card" not in header:
        return header
    header = {"metadata" if key == "card" else key: value for key, value in header.items()} | {"format": 2}
    if isinstance(header["metadata"], dict):
        names = {"keypoint_names" if key == "keypoints" else key: value for key, value in header["metadata"].items()}
        header["metadata"] = names
    return _current_task(header)


def current_setting(name: str) -> str:
    """The dotted name that a setting of a run has now, such as "callbacks" for "log"."""
    above, dot, last = name.rpartition(".")
    return above + dot + SETTINGS.get(name, last)


def current_settings(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    """The nested settings of a run's config.yaml under their names of now.

    Args:
        settings: as read from the file.
        above: the dotted name, with a dot at its end, of what holds these settings.
    """
    named = {
        SETTINGS.get(above + name, name): current_settings(value, f"{above}{name}.")
        if isinstance(value, dict)
        else value
        for name, value in settings.items()
    }
    return named if above else _current_task(named)


def _current_task(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the name of now for their task, where they have one."""
    return values | {"task": "localize"} if values.get("task") == "locate" else values
