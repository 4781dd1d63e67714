"""Checks that torchvision's compiled operators load, which they do only beside the torch they were built for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from anchors.nms import operator
from detect.errors import UserError


@contextmanager
def explain_torchvision_errors() -> Iterator[None]:
    """Raise a UserError if torchvision fails to load inside the block."""
    try:
        yield
    except (ImportError, RuntimeError) as error:
        if "torchvision" not in str(error):
            raise
        raise UserError(
            f"torchvision {_version('torchvision')} does not load beside torch {_version('torch')} ({error}): "
            "install both together, from the same index (see Install in the README)"
        ) from error


def require_operators() -> None:
    """Load the operators of NMS.

    Raises:
        UserError: they do not load.
    """
    with explain_torchvision_errors():
        operator()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"
