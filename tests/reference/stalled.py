"""Sources that never go on, commands that pause in the middle of their work, and what becomes of them on request."""

import atexit
import functools
import importlib
import os
import socket
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from detect.__main__ import main
from detect.utils import interrupt
from detect.utils.interrupt import Interrupt

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nclip.ts\n"  # nor does it end


def server(kind, clip):
    """The URL of a server on this machine that stalls, and an event that is set when it is first asked.

    It says nothing ("connect"), sends the beginning of a file ("head"), half of one ("body"), or a playlist that has no
    end, and one clip of it ("playlist").
    """
    listening, asked, connections = socket.create_server(("127.0.0.1", 0)), threading.Event(), []

    def answer(connection):
        expected = connection.recv(10000).split()[1:2]
        asked.set()
        content, length = clip, len(clip)
        if kind == "playlist":
            content = PLAYLIST if expected == [b"/clip.m3u8"] else clip
            length = len(content)
        elif kind != "connect":
            content, length = (clip if kind == "body" else clip[:100]), 2 * len(clip)
        if kind != "connect":
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % length + content)

    def serve():
        while True:
            connections.append(listening.accept()[0])  # kept open
            threading.Thread(target=answer, args=connections[-1:], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    name = "clip.m3u8" if kind == "playlist" else "clip.ts"
    return f"http://127.0.0.1:{listening.getsockname()[1]}/{name}", asked


def watch(url, out):
    """`predict_to` with a source, under the requests that a command follows; `seen` counts the frames beside `out`."""
    from detect.inference import Predictor, open_source, predict_to
    from detect.types import Postprocess
    from tests.reference.planted import MagentaFinder

    class Noted(MagentaFinder):
        def forward(self, images):
            (out.parent / "seen").write_text("one")
            return super().forward(images)

    with closing(Interrupt(at_once=True)) as request:
        try:
            predict_to(open_source(url), Predictor(Noted(), 128, Postprocess()), ["a", "b"], [1, 2], out)
        except KeyboardInterrupt:
            sys.exit(request.status)


def paused(folder, arguments, place):
    """Run a command in `folder` that pauses in `place`, "module:name", until it is asked to end; `pid` is written then.

    Temporary files go to `tmp` there.
    """
    os.chdir(folder)
    os.environ["TMPDIR"], tempfile.tempdir = f"{folder}/tmp", None
    module, _, names = place.partition(":")
    *classes, name = names.split(".")
    owner = functools.reduce(getattr, classes, importlib.import_module(module))
    original = getattr(owner, name)

    def pause(*given, **named):
        Path("draft").write_text(str(os.getpid()))
        Path("draft").replace("pid")
        deadline = time.monotonic() + 300
        while not interrupt._requests and time.monotonic() < deadline:
            time.sleep(0.02)
        return original(*given, **named)

    setattr(owner, name, pause)
    status = main(arguments)
    atexit._run_exitfuncs()  # which forked processes leave out: torch 2.6 has a temporary folder until then
    sys.exit(status)
