"""Videos whose frames depend on the file alone, and ranges of them that are read each on its own.

How a decoder mends damage depends on its threads and on the frames before. So a video is decoded with all threads as
long as nothing is damaged; from there on it is decoded anew from its beginning, by one thread.

A range has the numbers, times and pixels of the undivided video. A video is divided where that cannot change a frame:
in containers with an index (MP4, MOV, Matroska, WebM), at key frames across which no frame refers to another (closed
groups of pictures), where every packet is one frame and the frames follow one another at a constant rate. Then the
number of a frame is the rank of its time, which the packets tell without being decoded. A range is read from its key
frame on, and each frame must come from the decoder in its turn and at its time; as soon as one does not, the video is
decoded from its beginning, and what lies before is left out.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from heapq import heappop, heappush
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from detect.errors import UserError
from detect.inference.video import MAX_FRAME_PIXELS, DamagedError, Video, declared_seconds, display_matrix, upright
from detect.storage.shards import member_of
from detect.types import Frame
from detect.utils.atomic_io import TREES

LEAST = 4096  # bytes for each frame of a range: a video of fewer is not looked into
_CONTAINERS = ("mov", "matroska")
_DECODERS = frozenset(("h264", "hevc", "av1", "libdav1d", "vp9", "mpeg4", "mjpeg"))  # of packets that are a frame each
_STRAY = 0.25  # frames by which a time may differ from the constant rate: two frames never seem one apart and two
_PROBED = 16  # frames that are decoded before a video is divided


class FrameRange(NamedTuple):
    """Frames from the number `first` on, `length` of them.

    start: the time of the first; end: that before which the last lies, None for the end of the video; decoded: where
    the packet of the first stands in the order of decoding. All three are in ticks of the video.
    """

    first: int
    length: int
    start: int
    end: int | None
    decoded: int

    def taken(self, stride: int) -> int:
        """How many of the frames have numbers that `stride` divides."""
        return -(-(self.first + self.length) // stride) + -self.first // stride


class Key(NamedTuple):
    """A key frame: its number, its time, and where its packet stands in the order of decoding, in ticks."""

    number: int
    time: int
    decoded: int


class RepeatableVideo(Video):
    """The frames of a video file, the same ones on every machine, damaged ones included."""

    def _frames(self) -> Generator[Frame, None, None]:
        self.strict, reached = True, 0
        try:
            for frame in Video._frames(self):
                reached = frame.index + 1
                yield frame
        except DamagedError:
            pass
        else:
            return
        finally:
            self.strict = False
        yield from self._mended(reached)

    def _mended(self, first: int, end: float = inf) -> Iterator[Frame]:
        """The frames from the number `first` to before `end`, damaged ones included, decoded by one thread."""
        self.threads = "NONE"
        with closing(Video._frames(self)) as frames:
            for frame in frames:
                if frame.index >= end:
                    return
                if frame.index >= first:
                    yield frame


class VideoRange(RepeatableVideo):
    """A range of the frames of a video file: those that the undivided one yields.

    Args:
        address, name, stride, max_pixels: as of `Video`.
        frames: the range.
    """

    def __init__(
        self, address: str | Path, name: str, frames: FrameRange, stride: int = 1, max_pixels: int = MAX_FRAME_PIXELS
    ) -> None:
        super().__init__(address, name, stride, max_pixels=max_pixels)
        self.frames = frames
        self.count = frames.taken(stride)

    def _frames(self) -> Generator[Frame, None, None]:
        frames, read = self.frames, 0
        reached, end = frames.first, frames.first + frames.length
        self.strict = True
        try:
            for index, image in self.sought():
                reached = index + 1
                if image is not None:
                    read += 1
                    yield image
        finally:
            self.strict = False
            self._close()
        if reached == end:
            return
        for image in self._mended(reached, inf if frames.end is None else end):
            read += 1
            yield image
        self.report = ""
        if read < frames.taken(self.stride):
            self.report = f"of its frames from {frames.first} on {read} of {frames.taken(self.stride)} could be read"

    def sought(self) -> Iterator[tuple[int, Frame | None]]:
        """The number of each frame, and the frame where the stride takes it; fewer where the decoder does otherwise."""
        stream = self.open().streams.video[0]
        tick, index = Fraction(stream.time_base), self.frames.first
        try:
            matrix = display_matrix(next(one for one in self._container.decode(stream) if not one.is_corrupt))
            for decoded in self._decoded_from_key(stream):
                odd = index == self.frames.first and not decoded.key_frame
                if odd or decoded.is_corrupt or decoded.interlaced_frame:
                    return
                image = None
                if index % self.stride == 0:
                    pixels = upright(decoded.to_ndarray(format="rgb24"), matrix)
                    image = Frame(pixels, self.name, index, float(decoded.pts * tick), part=self.number)
                yield index, image
                index += 1
                if index == self.frames.first + self.frames.length:
                    return
        except (av.error.FFmpegError, OSError, StopIteration):
            return

    def _decoded_from_key(self, stream: Any) -> Iterator[Any]:
        """The decoded frames of the range as long as each comes in its turn."""
        self._container.seek(self.frames.decoded, stream=stream)
        waiting, begun = list[int](), False  # the times of packets without a frame yet, a heap
        for packet in self._container.demux(stream):
            begun = begun or (packet.is_keyframe and packet.pts == self.frames.start)
            if not begun:
                continue
            if packet.pts is not None and self._holds(packet.pts):
                if packet.is_corrupt or packet.is_discard:
                    return
                heappush(waiting, packet.pts)
            for decoded in packet.decode():
                if decoded.pts is None:
                    return
                if self._holds(decoded.pts):
                    if not waiting or heappop(waiting) != decoded.pts:
                        return
                    yield decoded

    def _holds(self, time: int) -> bool:
        return self.frames.start <= time and (self.frames.end is None or time < self.frames.end)


def ranges_of(path: Path, size: int, max_pixels: int = MAX_FRAME_PIXELS) -> list[FrameRange]:
    """Divide a long video into ranges of `size` frames or somewhat more; nothing but a few frames is decoded.

    Returns:
        Two ranges or more; none where the video is short, in a store, cannot be read, or cannot be divided for sure.
    """
    try:
        if TREES in str(path) or _bytes_of(path) < LEAST * size:
            return []
        found = _cut(*_packets(path, max_pixels), size)
        return found if all(_begins(path, one, max_pixels) for one in found[:2]) else []
    except (UserError, OSError, av.error.FFmpegError):  # who predicts it will say so
        return []


def _bytes_of(path: Path) -> int:
    member = member_of(str(path))
    if member is None:
        return os.stat(path).st_size
    return member.size if member.is_tar else 2**40  # not known without reading it


def _packets(path: Path, max_pixels: int) -> tuple[Any, list[Key]]:
    """The times of all frames, sorted, and the key frames where the video may be divided.

    Both are empty for a video that cannot be divided.
    """
    video = Video(path, path.name, max_pixels=max_pixels)
    try:
        container = video.open()
        stream = container.streams.video[0]
        known = container.format.name.partition(",")[0] in _CONTAINERS and stream.codec_context.name in _DECODERS
        times, keys = _times(container, stream) if known else (np.empty(0, np.int64), [])
        ordered = np.sort(times)
        if len(times) and _is_steady(ordered, container, stream):
            later = np.minimum.accumulate(times[::-1])[::-1]  # the first of the frames from each packet on
            return ordered, [one for one in keys if later[one.number] == one.time == ordered[one.number]]
        return ordered[:0], []
    finally:
        video.close()


def _times(container: Any, stream: Any) -> tuple[Any, list[Key]]:
    """The times of all packets, in the order of decoding, and the key frames. Empty if a packet is odd."""
    times, keys, last = array("q"), list[Key](), None
    for packet in container.demux(stream):
        time, order = packet.pts, packet.dts
        if time is None and order is None and not packet.size:  # the end
            break
        back = None not in (order, last) and order <= last
        if time is None or back or packet.is_corrupt or packet.is_discard or not packet.size:
            return np.empty(0, np.int64), []
        last = last if order is None else order  # Matroska does not tell that of its first packets
        if packet.is_keyframe:
            keys.append(Key(len(times), time, time if order is None else order))
        times.append(time)
    return np.array(times, np.int64), keys


def _is_steady(times: Any, container: Any, stream: Any) -> bool:
    """Whether the frames follow one another at a constant rate, and are as many, or as long, as is declared."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or stream.frames not in (0, len(times)):
        return False
    frame = float(1 / Fraction(rate) / Fraction(stream.time_base))
    stray = np.abs((times - times[0]) / frame - np.arange(len(times))).max()
    end = (float(times[-1]) + frame) * float(stream.time_base)
    return bool(stray < _STRAY and end >= declared_seconds(container) - 0.1 - 2 / float(rate))


def _cut(times: Any, keys: list[Key], size: int) -> list[FrameRange]:
    """Cut at the first key frame after every `size` frames; a rest of less than half of that is not cut off."""
    begins = keys[:1] if keys and keys[0].number == 0 else []
    for key in keys if begins else ():
        if key.number - begins[-1].number >= size and len(times) - key.number >= size // 2:
            begins.append(key)
    if len(begins) < 2:
        return []
    ends = [*((one.number, one.time) for one in begins[1:]), (len(times), None)]
    return [
        FrameRange(one.number, end - one.number, one.time, time, one.decoded)
        for one, (end, time) in zip(begins, ends, strict=True)
    ]


def _begins(path: Path, frames: FrameRange, max_pixels: int) -> bool:
    """Whether the decoder makes a frame of each packet, at the beginning of a range."""
    video = VideoRange(path, path.name, frames, max_pixels=max_pixels)
    video.strict = True
    try:
        return sum(1 for _ in islice(video.sought(), _PROBED)) == min(_PROBED, frames.length)
    finally:
        video.close()
