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
    """The package openvino. Raises UserError where it is not installed."""
    require("openvino")
    import openvino

    return openvino


def load_onnxruntime() -> Any:
    """The package onnxruntime. Raises UserError where it is not installed.

    Its build for Windows knows no environment variable (see `detect.utils.telemetry`), only this call.
    """
    require("onnxruntime")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
