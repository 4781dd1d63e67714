"""Imports the libraries of the extra `export` when they are needed."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from typing import Any

from detect.errors import UserError


def require(*modules: str) -> None:
    """Raise a UserError if a library is not installed."""
    missing = [name for name in modules if name not in sys.modules and find_spec(name) is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} is not installed: pip install 'gridhead[export]'")


def load_openvino() -> Any:
    """The package openvino.

    Raises:
        UserError: it is not installed.
    """
    require("openvino")
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """OpenVINO's Core, one for the process.

    Its plugin for processors gives the thread that loads it a stack for signal handlers, and frees that stack when the
    last Core goes, but does not take it back: the next signal, such as Ctrl-C, would end the process.

    Raises:
        UserError: openvino is not installed.
    """
    return load_openvino().Core()


def load_onnxruntime() -> Any:
    """The package onnxruntime, with its telemetry off.

    Its build for Windows ignores the environment variable of `detect.utils.telemetry`, and needs this call.

    Raises:
        UserError: it is not installed.
    """
    require("onnxruntime")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime
