"""What all tests share."""

import asyncio
import gc
import multiprocessing.util
import os
import signal
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import settings

from tests.browser import browser, page_at  # noqa: F401

# How long an example takes says what else the machine does, not whether it is right.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

gc.disable()  # until the tests are collected: nothing of them is garbage
multiprocessing.util.get_temp_dir()  # here, as a test that has a temporary folder of its own takes it away at its end

# Under nohup the tests would inherit that SIGHUP is ignored, and so would the commands that are to end by it.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_finish():
    """Spare the garbage collector what stays to the end: it would go through them again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_event_loop(request):
    """Let a test without a browser run an event loop: that of Playwright stays marked as running in this thread."""
    running = asyncio._get_running_loop()
    if running is None or "browser" in request.fixturenames:
        yield
        return
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skip a test that itself needs what Windows lacks, such as a named pipe or SIGKILL."""
    try:
        return (yield)
    except AttributeError as error:
        asks = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if sys.platform == "win32" and error.obj in (os, signal) and asks.is_relative_to(Path(__file__).parent):
            pytest.skip(f"Windows has no {error.obj.__name__}.{error.name}")
        raise
