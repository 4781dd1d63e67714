"""Requests to end, by any signal and of any command."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from detect import commands
from detect.__main__ import main
from detect.errors import UserError
from detect.interrupt import ENDING, Interrupt

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def script(code):
    """A process that runs `code` and has said its first line."""
    code = "import os, signal, sys, time\nfrom detect.interrupt import *\n" + code
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", ENDING)
def test_every_signal_ends_a_command_with_its_status(monkeypatch, capsys, number):
    def asked_to_end(config):
        os.kill(os.getpid(), number)
        time.sleep(60)

    before = [signal.getsignal(one) for one in ENDING]
    monkeypatch.setattr(commands, "info", asked_to_end)
    assert main(["info", "yolo_n"]) == STATUS[number]
    assert capsys.readouterr().err == "interrupted\n"
    assert [signal.getsignal(one) for one in ENDING] == before


@pytest.mark.parametrize("error", [UserError("a rank was lost"), RuntimeError("broken off"), BrokenPipeError("tee")])
def test_what_a_request_breaks_off_may_fail_in_any_way(monkeypatch, capsys, error):
    def fails(config):
        with closing(Interrupt()) as work:
            os.kill(os.getpid(), signal.SIGTERM)
            assert work.asked
            raise error

    monkeypatch.setattr(commands, "info", fails)
    assert main(["info", "yolo_n"]) == 143
    assert capsys.readouterr().err == f"interrupted: {error}\n"


def test_nohup_is_heeded():
    process = script(
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\ni = Interrupt(at_once=True); w = Watch()\n"
        "print('ready', flush=True)\n"
        "try: time.sleep(60)\nexcept KeyboardInterrupt: os._exit(i.status)"
    )
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


@pytest.mark.parametrize("times", [2, 3])
def test_native_code_that_hears_nothing_is_ended_all_the_same(times):
    """By the second request after a while, by the third at once."""
    grace = 0.1 if times == 2 else 600
    process = script(
        f"interrupt = sys.modules['detect.interrupt']; interrupt.ECHO, interrupt.DEAF = 0.01, {grace}\n"
        "i = Interrupt(at_once=True); w = Watch()\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
        "print('ready', flush=True)\nwhile True: time.sleep(1)"
    )
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert process.wait(60) == 143
