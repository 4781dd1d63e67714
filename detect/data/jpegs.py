"""Whether JPEG data have all their pixels, and what libjpeg says while it decodes them.

Of data that end too early or make no sense libjpeg decodes what it can, fills the rest with grey, and warns on standard
error, without the name of a file. So another process decodes, one file at a time, and what it then finds on its own
standard error belongs to that file. That process runs this file as a script.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from queue import Empty, SimpleQueue
from typing import IO

from PIL import Image

END = b"\xff\xd9"
MOST_SCANS = 100  # of a progressive file; encoders write about ten, and each costs a pass over the whole image
_MARK = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # but for those that stand among the data of a scan
_BARE, _EOI, _SOS = (0x01, 0xD8), 0xD9, 0xDA  # marks that no length follows, of the end, of a scan
_NOISE = bytes((i * i * 89 + 41) % 251 for i in range(600))
_NOISE += b"".join(bytes([0xFF, 0xD0 + i]) + _NOISE for i in range(8))  # after each mark at which data may restart


class Decoder:
    """A process that decodes JPEG files."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", __file__]
        pipe = subprocess.PIPE
        quiet = subprocess.DEVNULL
        own = 0 if os.name == "posix" else None  # a group of its own, which no terminal sends signals to
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=quiet, process_group=own)
        self.owner = os.getpid()

    def warning(self, path: str) -> str | None:
        """Return what libjpeg warns of in a file, "" for nothing; None where it cannot decode the file at all."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(path).encode() + b"\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):  # the process has died of the file
            self.close()
            return None
        return answer if answer is None else str(answer)

    @property
    def usable(self) -> bool:
        """Whether it runs, and was started by this process, not by one that it was forked from."""
        return self.owner == os.getpid() and self.process.poll() is None

    def close(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()


_free: SimpleQueue[Decoder] = SimpleQueue()  # they are kept: starting one takes a fifth of a second


def warning(path: str) -> str | None:
    """`Decoder.warning`, by a process that is free or a new one; from any thread."""
    decoder = None
    while decoder is None or not decoder.usable:
        try:
            decoder = _free.get_nowait()
        except Empty:
            decoder = Decoder()
            atexit.register(decoder.close)
    try:
        return decoder.warning(path)
    finally:
        _free.put(decoder)


def with_end(data: bytes) -> bytes:
    """Add the end mark to the data of a JPEG that lacks it; b"" where pixels are missing too.

    They are all there if it changes none of them what follows the data, and no scan of a progressive file is missing.
    """
    bare = data.rstrip(b"\0")  # what a broken copy leaves
    if bare.endswith(b"\xff"):
        bare = bare + b"\0" if len(bare) < len(data) else bare[:-1]  # an escaped byte of data, or half an end mark
    try:
        return bare + END if _is_complete(bare) and _all_scans(bare) else b""
    except Exception:  # Pillow raises what it likes on damaged data
        return b""


def ends_early(data: bytes, filled: bool) -> bool:
    """Whether the data of a JPEG end before its pixels, though they have an end mark: libjpeg then warns, too.

    Looked at closely only where the last pixel is `filled` with grey, or scans are missing.
    """
    try:
        return (filled or not _all_scans(data)) and not _is_complete(data[: data.rfind(END)])
    except Exception:  # as above; what OpenCV has decoded is used then
        return False


def _is_complete(bare: bytes) -> bool:
    """Whether what follows the data of a JPEG, which are given without end mark, changes none of its pixels."""
    first = Image.open(io.BytesIO(bare + END), formats=("JPEG",)).tobytes()
    try:
        return first == Image.open(io.BytesIO(bare + _NOISE + END), formats=("JPEG",)).tobytes()
    except Exception:  # as above: what follows was taken for data
        return False


def _all_scans(data: bytes) -> bool:
    """Whether the scans of a JPEG, where it is progressive, say every bit of every coefficient of every component."""
    stream = io.BytesIO(data)
    opened = Image.open(stream, formats=("JPEG",))
    if "progressive" not in opened.info:
        return True
    bits: dict[int, list[int]] = {}  # component -> the lowest bit said of each coefficient
    place = data.rfind(b"\xff\xda", 0, stream.tell())
    while place >= 0 and len(data) > place + 4 + 2 * data[place + 4] + 3:
        count = data[place + 4]
        first, last, bit = data[place + 5 + 2 * count : place + 8 + 2 * count]
        for component in data[place + 5 : place + 5 + 2 * count : 2]:
            bits.setdefault(component, [16] * 64)[first : last + 1] = [bit & 15] * (last + 1 - first)
        place = data.find(b"\xff\xda", place + 2)
    return len(bits) == len(opened.getbands()) and not any(map(any, bits.values()))


def has_many_scans(data: bytes) -> bool:
    """Whether a JPEG has more than MOST_SCANS scans: a small file of thousands keeps a decoder busy for minutes."""
    if data.count(b"\xff\xda") <= MOST_SCANS:  # most of which may stand within a profile, or after the end
        return False
    place = scans = 0
    while (found := _MARK.search(data, place)) and (mark := found[1][0]) != _EOI:
        scans += mark == _SOS
        place = found.end() + (0 if mark in _BARE else int.from_bytes(data[found.end() : found.end() + 2]))
    return scans > MOST_SCANS


def silence() -> None:
    """Keep OpenCV from writing to standard error."""
    import cv2

    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4, and 5
    set_level(0)


def serve() -> None:
    """Answer every line on standard input, a path, with a line on standard output: see `Decoder.warning`."""
    import cv2
    import numpy as np

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # sent to all processes of a job, they are for the main one to answer
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    silence()
    with _log() as log:
        os.dup2(log.fileno(), 2)
        while line := lines.get():
            os.ftruncate(2, os.lseek(2, 0, os.SEEK_SET))
            try:
                with open(json.loads(line), "rb") as file:
                    data = file.read() + END
                coded = np.frombuffer(b"" if has_many_scans(data) else data, np.uint8)
                decoded = cv2.imdecode(coded, cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
            except (OSError, cv2.error):
                decoded = False
            os.lseek(2, 0, os.SEEK_SET)
            said = " ".join(os.read(2, 1000).decode(errors="replace").split())
            print(json.dumps(said if decoded else None), flush=True)


def _read(lines: SimpleQueue[str]) -> None:
    """Pass on the lines of standard input; at their end the parent has gone, and with it all use of an answer."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def _log() -> IO[bytes]:
    """An empty file, in memory where the system has such files: a full disk must not hide what libjpeg says."""
    return open(os.memfd_create("libjpeg"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


if __name__ == "__main__":
    serve()
