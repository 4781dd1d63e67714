"""Libraries that are there with the extra `export`, imported when they are needed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

from detect.errors import UserError


def require(*modules: str) -> None:
    """Raises UserError for a library that is not installed."""
    missing = [name for name in modules if name not in sys.modules and find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} is not installed: pip install 'gridhead[export]'")


def load_openvino() -> Any:
    """The package openvino, without its telemetry. Raises UserError where it is not installed.

    Importing it imports openvino_telemetry and reports the import, under an identifier kept in the home folder. A None
    in the place of that module makes its import fail, upon which OpenVINO goes on with an empty stand-in of its own.
    """
    require("openvino")
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino
