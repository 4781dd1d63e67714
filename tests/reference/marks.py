"""Marks of test parameters."""

import pytest


def slowly(*values):
    """The values as parameters that the slow tests alone take."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
