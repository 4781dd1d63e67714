"""Moving pictures: video files and streams through PyAV, cameras through OpenCV. Frames upright RGB with true times."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from detect.errors import UserError
from detect.types import Frame

NETWORK_TIMEOUT = (10.0, 10.0)  # seconds to open and to read
_TEXT_DEMUXERS = {"tty", "ansi"}  # ffmpeg plays text files as terminal recordings
_log = logging.getLogger("detect")


class Video:
    """The frames of a video file, or of a stream's URL (`live`), every `stride`-th of them.

    count is None where the container does not say; rate is the average frames a second, after the stride.
    Frame.time is the presentation time in seconds, true also where the rate varies. Frames that do not decode
    are left out and counted in one warning. Raises UserError for what is no video.
    """

    def __init__(self, address: str | Path, name: str, stride: int = 1, live: bool = False) -> None:
        self.name, self.stride, self.live = name, stride, live
        # The "file:" prefix keeps a colon in a name from being read as a protocol; the whitelist keeps a file that is
        # really a playlist from opening a socket that nobody named.
        self._url = str(address) if live else f"file:{address}"
        self._options = {"rtsp_transport": "tcp"} if live else {"protocol_whitelist": "file"}
        self._label = name if live else str(address)  # a URL may hold a password
        self._container: Any = self._open()
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self.rate: Fraction | None = Fraction(rate) / stride if rate else None
        self.count: int | None = -(-stream.frames // stride) if stream.frames else None
        if not live:  # a folder may hold thousands: each is opened again when its turn comes
            self.close()

    def _open(self) -> Any:
        try:
            container = av.open(self._url, options=self._options, timeout=NETWORK_TIMEOUT if self.live else None)
        except (av.error.FFmpegError, OSError) as error:
            kind = "a stream that can be opened" if self.live else "an image or a video that can be read"
            raise UserError(f"{self._label}: not {kind} ({error.strerror or error})") from None
        if not container.streams.video or container.format.name in _TEXT_DEMUXERS:
            container.close()
            raise UserError(f"{self._label}: holds no video")
        container.streams.video[0].thread_type = "AUTO"
        return container

    def __iter__(self) -> Iterator[Frame]:
        if self._container is None:
            self._container = self._open()
        index, broken, matrix = 0, 0, None
        try:
            for picture in self._decode():
                if picture is None or picture.is_corrupt:
                    broken += 1
                    continue
                matrix = matrix or display_matrix(picture)
                if index % self.stride == 0:
                    image = upright(picture.to_ndarray(format="rgb24"), matrix)
                    yield Frame(image, self.name, index, self._time(picture, index))
                index += 1
        finally:
            self.close()
            if broken:
                _log.warning("%s: %d broken frames left out", self._label, broken)
        if not index:
            raise UserError(f"{self._label}: no frame of it could be decoded")

    def _decode(self) -> Iterator[Any]:
        """The decoded pictures in order of presentation; None for each packet that does not decode."""
        packets = self._container.demux(self._container.streams.video[0])
        while True:
            try:
                packet = next(packets)
                pictures = [None] if packet.is_corrupt else packet.decode()
            except StopIteration:
                return
            except av.error.InvalidDataError:
                yield None
            except (av.error.FFmpegError, OSError) as error:
                _log.warning("%s: reading ended early (%s)", self._label, error.strerror or error)
                return
            else:
                yield from pictures

    def _time(self, picture: Any, index: int) -> float:
        if picture.time is not None:
            return float(picture.time)
        return float(index / (self.rate * self.stride)) if self.rate else float(index)

    def close(self) -> None:
        """Lets go of the file or connection; iterating again opens it anew."""
        container, self._container = self._container, None
        if container is not None:
            container.close()


def display_matrix(picture: Any) -> tuple[int, ...]:
    """How a picture is to be turned: a, b, c, d with x' = a x + c y and y' = b x + d y, y down (ISO 14496-12).

    It holds for the whole video. Asked of each picture, memory grows: PyAV's side data keeps its picture in a cycle.
    """
    found = next((bytes(data) for data in picture.side_data if data.type.name == "DISPLAYMATRIX"), None)
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d = (int(v) for v in np.frombuffer(found, np.int32)[:5])
    return a, b, c, d


def upright(image: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """The image turned and mirrored as its display matrix says, to the nearest quarter turn."""
    a, b, c, d = matrix
    if abs(a) < abs(b):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


class Camera:
    """The frames of a camera, timed from the first one. Raises UserError where there is no such camera."""

    count: int | None = None

    def __init__(self, index: int, stride: int = 1) -> None:
        self.name, self.stride = f"camera-{index}", stride
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise UserError(f"camera {index} cannot be opened: is it connected, and free?")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) / stride if 0 < rate < 1000 else None

    def __iter__(self) -> Iterator[Frame]:
        index, start = 0, time.monotonic()
        while self._capture.isOpened():
            good, image = self._capture.read()
            if not good:
                raise UserError(f"{self.name}: the camera gives no more pictures")
            if index % self.stride == 0:
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.name, index, time.monotonic() - start)
            index += 1

    def close(self) -> None:
        """Frees the camera."""
        self._capture.release()
