"""Which files a command may put another one in the place of: those of the same kind that gridhead wrote.

A slip in a flag, such as `--json annotations.json`, must not cost a file of the user's.
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
    "page": rb'<!DOCTYPE html>\n.*<title>[^<]*</title><link rel="icon" href="data:,">',
    "configuration": rb"# batches an epoch \(",  # of a run
    "weights": rb'.{8}\{"__metadata__":\{"gridhead":',
    "gallery": rb'.{8}\{"__metadata__":\{"gridhead_gallery":',
    "exported": rb".{2,12}\x12\x08gridhead",  # ONNX, by its producer
    "image": rb"(?!)",  # which does not say who made it
}
_WITHIN = {".xml": b"<gridhead value=", ".torchscript": b"extra/gridhead"}  # what other exported files hold somewhere


def require_own(path: Path, kind: str) -> None:
    """Raises UserError where something is at `path` and no file of this `kind` by gridhead. Empty files may go."""
    if os.path.exists(path) and not (os.path.isfile(path) and (not os.path.getsize(path) or _is_own(path, kind))):
        made = "an image" if kind == "image" else f"no {kind} that gridhead wrote"
        raise UserError(f"{path} is there, and {made}: remove it, or choose another name")


def _is_own(path: Path, kind: str) -> bool:
    if path.suffix == ".bin":  # which belongs to the file of OpenVINO beside it
        path = path.with_suffix(".xml")
    try:
        with path.open("rb") as file:
            if kind == "exported" and path.suffix in _WITHIN:
                return _WITHIN[path.suffix] in file.read()
            return re.match(_BEGINNINGS[kind], file.read(_HEAD), re.DOTALL) is not None
    except OSError:
        return False
