"""Requests to end, by any signal and of any command."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from fractions import Fraction

import pytest

from detect.__main__ import main
from detect.commands import info
from detect.errors import UserError
from detect.inference.source import open_source
from detect.utils import interrupt
from detect.utils.interrupt import ENDING, Caller, Interrupt, Interrupted, interruptible, uninterrupted
from tests.reference.planted import film, moving
from tests.reference.runs import apart
from tests.reference.stalled import server, watch

if sys.platform == "win32":
    pytest.skip("one process cannot send another a signal there", allow_module_level=True)
STATUS = {number: 128 + number for number in ENDING}


def script(code):
    """A process that runs `code` and has said its first line."""
    code = "import os, signal, sys, time\nfrom detect.utils.interrupt import *\n" + code
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", ENDING)
def test_every_signal_ends_a_command_with_its_status(monkeypatch, capsys, number):
    def asked_to_end(config):
        os.kill(os.getpid(), number)
        time.sleep(60)

    before = [signal.getsignal(one) for one in ENDING]
    monkeypatch.setattr(info, "info", asked_to_end)
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

    monkeypatch.setattr(info, "info", fails)
    assert main(["info", "yolo_n"]) == 143
    what = "error" if isinstance(error, UserError) else "interrupted"
    assert capsys.readouterr().err == f"{what}: {error}\n"


@pytest.mark.parametrize("number", ENDING)
def test_an_import_of_native_code_is_not_broken_off(number):
    reached = 0
    with closing(Interrupt(at_once=True)) as request:
        with pytest.raises(Interrupted), uninterrupted():
            os.kill(os.getpid(), number)
            reached += sum(range(1000)) > 0
        assert reached == 1 and request.status == 128 + number and request.at_once
        with uninterrupted():  # of what is asked already nobody is told twice
            pass
    with uninterrupted():
        pass


@pytest.mark.parametrize("early", [False, True])
def test_waiting_for_a_network_is_broken_off_even_there(early):
    with closing(Interrupt(at_once=True)) as request:
        with pytest.raises(Interrupted), uninterrupted():
            if early:
                os.kill(os.getpid(), signal.SIGINT)
            with interruptible():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
        assert request.at_once


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
        f"interrupt = sys.modules['detect.utils.interrupt']; interrupt.ECHO, interrupt.DEAF = 0, {grace}\n"
        "i = Interrupt(at_once=True); w = Watch()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('came', flush=True))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(1)"
    )
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        process.stdout.readline()  # two that wait to be delivered would become one
    assert process.wait(300) == 143


def fails():
    raise TimeoutError("its own")


def test_calls_are_made_in_order_by_another_thread_and_their_errors_come_back():
    call, threads = Caller(), []
    assert [call(lambda: threads.append(threading.get_ident())) for _ in range(3)] == [None] * 3
    assert len(set(threads)) == 1 and threading.get_ident() not in threads
    with pytest.raises(TimeoutError, match="its own"):
        call(fails)
    call.close(lambda: threads.append("closed"))
    assert threads[-1] == "closed" and call(lambda: 4) == 4
    with pytest.raises(TimeoutError, match="its own"):
        call.close(fails)


@pytest.mark.parametrize("first", [False, True])
def test_a_call_that_is_stuck_is_left_behind_and_the_next_ones_wait_for_it(monkeypatch, first):
    monkeypatch.setattr(interrupt, "PATIENCE", 0.01)
    call, stuck, made = Caller(), threading.Event(), []
    with closing(Interrupt(at_once=first)) as request:
        started = threading.Event()
        threading.Thread(target=lambda: started.wait() and os.kill(os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Interrupted):
            call(lambda: (started.set(), stuck.wait(), made.append("stuck")))
        assert request.asked
        call.close(lambda: made.append("closed"))
        call.close(lambda: made.append("closed again"))
        assert made == []
        stuck.set()
    call(lambda: made.append("later"))
    assert made == ["stuck", "closed", "closed again", "later"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The bytes of two seconds of video, as they are sent."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    film(path, moving(20)[0], [Fraction(i, 10) for i in range(20)], Fraction(10))
    return path.read_bytes()


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("connect", signal.SIGINT),
        pytest.param("head", signal.SIGHUP, marks=pytest.mark.slow),
        ("body", signal.SIGTERM),
        pytest.param("playlist", signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_stalled_source_ends_at_the_first_request_and_what_was_done_is_kept(tmp_path, clip, kind, number):
    url, asked = server(kind, clip)
    process, out = apart(watch, url, tmp_path / "out"), tmp_path / "out"
    try:
        predicts = kind in ("body", "playlist")
        while process.is_alive() and not (asked.is_set() and (not predicts or (tmp_path / "seen").exists())):
            time.sleep(0.02)
        os.kill(process.pid, number)
        process.join(600)
    finally:
        process.kill()
    assert process.exitcode == STATUS[number]
    if not predicts:
        assert not out.exists()
        return
    (film_of_it,) = out.rglob("*.mp4")
    frames = len(list(open_source(film_of_it)))
    found = json.loads((out / "detections.part.json").read_text())
    assert frames >= 1 and {one["image_id"] for one in found} <= set(range(1, frames + 1))
    assert list(out.rglob(".gridhead*")) == []
