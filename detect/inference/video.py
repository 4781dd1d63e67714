"""Reads video files and streams through PyAV, and cameras through OpenCV: upright RGB frames with true times."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from functools import partial
from io import BufferedReader
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from detect.errors import UserError
from detect.inference.demuxers import allowed
from detect.inference.timeline import Timeline
from detect.storage.fetch import local_path
from detect.storage.shards import member_of
from detect.types import Frame
from detect.utils.atomic_io import open_file
from detect.utils.interrupt import Caller

NETWORK_TIMEOUT = (10.0, 10.0)  # seconds to open and to read
# Of a frame: what the highest levels of H.264, HEVC and AV1 allow, 8192 x 4352. A decoder holds 20 frames and more.
MAX_FRAME_PIXELS = 35_651_584
_log = logging.getLogger("detect")


class DamagedError(Exception):
    """A packet or frame of a video is damaged."""


class Video:
    """The frames of a video file or of a stream.

    `count` is the number of frames that the container declares, or None; `rate` the average frames a second, after the
    stride; `has_end` tells whether it is a file, or a stream whose container declares its duration; `report` says, once
    the end is reached, what could not be read. `Frame.time` is the presentation time in seconds, true also if the rate
    varies; `Frame.index` is the number of the frame in the file. Frames that cannot be decoded are left out, and a
    warning tells how many; the others keep their numbers: see `Timeline`.

    Args:
        address: the path of a file, or the URL of a stream.
        name: what its frames are called.
        stride: every `stride`-th frame is taken.
        live: `address` is the URL of a stream.
        max_pixels: frames with more pixels are left out, and no memory is allocated for them.

    Raises:
        UserError: it is not a video, or its container declares larger frames.
    """

    number = 0
    threads = "AUTO"  # of the decoder
    strict = False  # whether anything damaged is a DamagedError

    def __init__(
        self,
        address: str | Path,
        name: str,
        stride: int = 1,
        live: bool = False,
        max_pixels: int = MAX_FRAME_PIXELS,
    ) -> None:
        self.name, self.stride, self.live, self.max_pixels = name, stride, live, max_pixels
        # The "file:" prefix keeps a colon in a name from being read as a protocol.
        self._url = str(address) if live else f"file:{local_path(address)}"
        self._member = None if live else member_of(str(address))
        self._stored: BufferedReader | None = None  # the file within a shard, where it is one
        self._limits = {"max_pixels": str(max_pixels)}
        self._options = allowed(self._url) | self._limits | {"rtsp_transport": "tcp"}
        self._label = name if live else str(address)  # a URL may hold a password
        self._ended = self._too_large = self.report = ""
        self._call = Caller()  # FFmpeg may wait for ever
        self._container: Any = self._call(self._opened)
        stream = self._container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        self.rate: Fraction | None = Fraction(rate) / stride if rate else None
        self.count: int | None = -(-stream.frames // stride) if stream.frames else None
        self.has_end = not live or bool(self._container.duration)  # a live stream declares none
        if not live:  # a folder may hold thousands: each is opened again when it is read
            self.close()

    def open(self) -> Any:
        """The container, which is opened if it is not open."""
        if self._container is None:
            self._container = self._open()
        return self._container

    def _opened(self) -> Any:
        """Open the container for the first time."""
        if not self.live:
            # Opening decodes the first frames, in some containers without our limit; without a decoder it does not.
            self._checked({"codec_whitelist": "none"}).close()
        return self._open()

    def _open(self) -> Any:
        """Open the container with a decoder that allocates no frame of more than `max_pixels`."""
        container = self._checked()
        stream = container.streams.video[0]
        if stream.codec_context is None:
            container.close()
            raise UserError(f"{self._label}: there is no decoder for its video; convert it to MP4 with H.264")
        stream.codec_context.options = self._limits | ({"err_detect": "explode"} if self.strict else {})
        stream.thread_type = self.threads
        return container

    def _checked(self, more: Mapping[str, str] = MappingProxyType({})) -> Any:
        """Open the container with `more` options; nothing is decoded if "codec_whitelist" is among them.

        Raises:
            UserError: it holds no video, or its frames are too large.
        """
        timeout = NETWORK_TIMEOUT if self.live else None
        av.logging.set_level(None)  # torchvision before 0.22 has FFmpeg's messages printed: the summary is ours
        try:
            container = av.open(self._input(), options={**self._options, **more}, timeout=timeout)
        except av.error.ArgumentError:  # FFmpeg's error for a container that is not on the list
            raise UserError(
                f"{self._label}: not an image or a video that is opened (playlists, lists of files, subtitles and "
                "rare containers are not): name the video itself, or convert it to MP4"
            ) from None
        except (av.error.FFmpegError, OSError) as error:  # or the shard cannot be read
            kind = "a stream that can be opened" if self.live else "an image or a video that can be read"
            raise UserError(f"{self._label}: not {kind} ({error.strerror or error})") from None
        try:
            if not container.streams.video:
                raise UserError(f"{self._label}: holds no video")
            if large := self._large(container.streams.video[0].codec_context):
                raise UserError(f"{self._label}: {large}: scale it down, or raise --max-pixels of detect predict")
        except UserError:
            container.close()
            raise
        return container

    def _input(self) -> Any:
        """What FFmpeg opens: an address, or the file within a shard."""
        if self._member is None:
            return self._url
        if self._stored is None:
            self._stored = open_file(self._member.path)
        self._stored.seek(0)
        return self._stored

    def _large(self, context: Any) -> str:
        """A description of the frame size of a decoder if it is too large, else ""."""
        if context is None or context.width * context.height <= self.max_pixels:
            return ""
        return f"its frames have {context.width} x {context.height} pixels where {self.max_pixels:,} are read"

    def __iter__(self) -> Iterator[Frame]:
        frames = self._frames()
        if not self.live:  # a thread would cost a tenth of a millisecond a frame
            yield from frames
            return
        try:
            while (frame := self._call(partial(next, frames, None))) is not None:
                yield frame
        finally:
            self._call.close(frames.close)

    def _frames(self) -> Generator[Frame, None, None]:
        timeline = Timeline(self.open(), self._container.streams.video[0], self.live)
        good, matrix = 0, None
        try:
            for decoded in self._decode(timeline):
                place = timeline.place(decoded)
                if place is None or decoded.is_corrupt:
                    self._damaged(timeline)
                    continue
                index, seconds = place
                good += 1
                matrix = matrix or display_matrix(decoded)
                if index % self.stride == 0:
                    image = upright(decoded.to_ndarray(format="rgb24"), matrix)
                    yield Frame(image, self.name, index, seconds, part=self.number)
            if timeline.waiting and self.strict:  # at the end decoders leave out damaged frames without an error
                raise DamagedError
            self._report(timeline, good)
        finally:
            self._close()
        if not good:
            raise UserError(f"{self._label}: no frame of it could be decoded")

    def _decode(self, timeline: Timeline) -> Iterator[Any]:
        """The decoded frames in order of presentation; the timeline is told of packets that cannot be decoded."""
        packets = self._container.demux(self._container.streams.video[0])
        while True:
            try:
                packet = next(packets)
                timeline.read(packet)
                if packet.is_corrupt:
                    self._damaged(timeline)
                if packet.is_corrupt and not timeline.joins:  # in a transport stream it may be the last one of a part
                    continue
                decoded_frames = packet.decode()
            except StopIteration:
                return
            except av.error.InvalidDataError:
                self._damaged(timeline)
                self._too_large = self._large(packet.stream.codec_context) or self._too_large
            except (av.error.FFmpegError, OSError) as error:
                self._damaged(timeline)
                self._ended = f" (reading ended early: {error.strerror or error})"
                return
            else:
                yield from decoded_frames

    def _damaged(self, timeline: Timeline) -> None:
        if self.strict:
            raise DamagedError
        timeline.damaged()

    def _report(self, timeline: Timeline, good: int) -> None:
        """Log one line if fewer frames were read than the file should hold."""
        stream, end = self._container.streams.video[0], float(timeline.end * timeline.tick)
        count = timeline.count(0 if self.live else stream.frames)
        if good < count:
            text = f"{good} of {count} frames could be read; the others are left out and keep their numbers"
        elif not self.live and end < (seconds := declared_seconds(self._container)) - 0.1 - 2 * float(
            1 / (self.rate or 1)
        ):
            text = f"{good} frames read; it ends at {end:.1f} s of {seconds:.1f} s"
        elif self._ended:
            text = f"{good} frames read"
        else:
            return
        self.report = text + (f" ({self._too_large})" if self._too_large else self._ended)
        _log.warning("%s: %s", self._label, self.report)

    def close(self) -> None:
        """Close the file or connection; iterating opens it again."""
        if self._container is not None:
            self._call.close(self._close)

    def _close(self) -> None:
        container, self._container = self._container, None
        if container is not None:
            container.close()
        if self._stored is not None:
            self._stored.close()
            self._stored = None


def _unnamed(cls: Any, value: int) -> Any:
    """A member for a type of side data that PyAV has no name for; without it, asking for any side data raises."""
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


SideDataType._missing_ = classmethod(_unnamed)  # type: ignore[assignment]


def display_matrix(decoded: Any) -> tuple[int, ...]:
    """The rotation of a decoded frame: a, b, c, d with x' = a x + c y and y' = b x + d y, y down (ISO 14496-12).

    Side data that cannot be read is ignored. The matrix holds for the whole video. Do not ask for it with every frame:
    PyAV's side data keeps its frame in a reference cycle, and memory grows.
    """
    try:
        found = decoded.side_data.get(SideDataType.DISPLAYMATRIX)
        a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(found), np.int32)[:5])
    except Exception:  # no metadata, however odd, may cost the frame
        return 1, 0, 0, 1
    return (a, b, c, d) if a * d - b * c else (1, 0, 0, 1)


def declared_seconds(container: Any) -> float:
    """The duration in seconds that a container without a table of frames declares; 0 if it declares none."""
    stream = container.streams.video[0]
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        alone = len(container.streams) == 1 and stream.duration is None
        return (container.duration or 0) / 1_000_000 if alone else 0.0


def upright(image: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """The image rotated and mirrored by its display matrix, to the nearest quarter turn."""
    a, b, c, d = matrix
    if abs(a) < abs(b):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


class Camera:
    """The frames of a camera, with times from the first one on.

    Raises:
        UserError: there is no such camera, or it stops.
    """

    count: int | None = None
    number = 0

    def __init__(self, index: int, stride: int = 1) -> None:
        self.name, self.stride = f"camera-{index}", stride
        if not 0 <= index < 2**31:  # OpenCV ends the process at a negative one
            raise UserError(f"camera {index}: give the number of one, from 0")
        self._call = Caller()
        self._capture = self._call(partial(cv2.VideoCapture, index))
        if not self._capture.isOpened():
            raise UserError(f"camera {index} cannot be opened: is it connected, and free?")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(rate).limit_denominator(1001) / stride if 0 < rate < 1000 else None

    def __iter__(self) -> Iterator[Frame]:
        index, start = 0, time.monotonic()
        while self._capture.isOpened():
            good, image = self._call(self._capture.read)
            if not good:
                raise UserError(f"{self.name}: the camera delivers no more images")
            if index % self.stride == 0:
                rgb, seconds = cv2.cvtColor(image, cv2.COLOR_BGR2RGB), time.monotonic() - start
                yield Frame(rgb, self.name, index, seconds, part=self.number)
            index += 1

    def close(self) -> None:
        """Release the camera."""
        self._call.close(self._capture.release)
