"""Tells which files a command may overwrite: those of the same kind that gridhead wrote.

A slip in a flag, such as `--json annotations.json`, must not cost the user a file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from detect.errors import UserError

_HEAD = 1 << 16  # bytes
_BEGINNINGS = {
    "results": rb'\s*\{\s*"(AP|top1|localized|nme|auc|anchors)":'  # of evaluate and anchors
    rb'|\s*\{\s*"counts":\s*\{'  # of check
    rb'|\s*\{\s*"name":\s*"[^"]*",\s*"imgsz":'  # of info
    rb'|\s*\[\s*(\]|\{\s*"image_id":)',  # detections
    "selection": rb'\s*\{\s*"budget":',  # of next
    "page": rb'<!DOCTYPE html>\n.*<title>[^<]*</title><link rel="icon" href="data:,">',
    "configuration": rb"# batches an epoch \(",  # of a run
    "weights": rb'.{8}\{"__metadata__":\{"gridhead":',
    "gallery": rb'.{8}\{"__metadata__":\{"gridhead_gallery":',
    "exported": rb".{2,12}\x12\x08gridhead",  # ONNX, by its producer
    "image": rb"(?!)",  # images do not tell who made them
}
_WITHIN = {".xml": b"<gridhead value=", ".torchscript": b"extra/gridhead"}  # bytes that other exported files contain


def require_own(path: Path, kind: str) -> None:
    """Raise a UserError if `path` exists and is not a file of this `kind` by gridhead; empty files may be replaced."""
    if os.path.exists(path) and not (os.path.isfile(path) and (not os.path.getsize(path) or _is_own(path, kind))):
        made = "an image" if kind == "image" else f"not a {kind} file that gridhead wrote"
        raise UserError(f"{path} exists and is {made}: remove it, or choose another name")


def _is_own(path: Path, kind: str) -> bool:
    if path.suffix == ".bin":  # it belongs to the OpenVINO file beside it
        path = path.with_suffix(".xml")
    try:
        with path.open("rb") as file:
            if kind == "exported" and path.suffix in _WITHIN:
                return _WITHIN[path.suffix] in file.read()
            return re.match(_BEGINNINGS[kind], file.read(_HEAD), re.DOTALL) is not None
    except OSError:
        return False
