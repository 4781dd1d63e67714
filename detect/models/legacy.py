"""Headers of files that older versions wrote, under the names of this one."""

from __future__ import annotations

from typing import Any


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
    return header
