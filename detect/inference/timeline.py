"""Frame numbers and times of a video, true also if frames are lost or time stamps start again."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from heapq import heappop, heappush
from typing import Any

from av.format import Flags

GAP = 10  # seconds; a longer step in a transport stream joins two recordings, as for the ffmpeg command
DOUBT = 64  # frames after a sign of damage for which a gap in time counts as lost frames


class Timeline:
    """Numbers every frame by its place in the file, and puts all time stamps on one axis that never runs back.

    Every packet is read before the frames that the decoder makes of it. A packet that gave no frame, with an earlier
    time than a decoded frame, is a lost frame and keeps its number. If packets themselves are missing, the gap in time
    tells how many; it only counts for a while after a sign of damage, such as a hole in the file, since many videos
    have no constant rate. Packets that are never shown (VP8, fields) leave no gap and are not counted.

    AVI stores no presentation times. Its packets are numbered by their place in the file's index, and frames take the
    numbers in order; a key frame settles which of them was lost.
    """

    def __init__(self, container: Any, stream: Any, live: bool = False) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.tick, self.rate = Fraction(stream.time_base or 1), Fraction(rate) if rate else None
        self.frame = 1 / self.rate / self.tick if self.rate else Fraction(0)  # ticks
        self.joins = bool(container.format.flags & Flags.ts_discont.value)  # recordings may follow one another
        self.longest = GAP / self.tick if self.joins and not live else None
        self.entries: Any = getattr(stream, "index_entries", ()) if container.format.name == "avi" else None
        self.waiting: list[tuple[int, int, int]] = []  # heap of (place on the axis, time, stamp) without a frame yet
        self.places: dict[int, deque[int]] = {}  # of each stamp in `waiting`
        self.shift, self.end = 0, 0
        self.order: int | None = None  # the decoding time of the last packet
        self.index = self.entry = self.doubt = self.failed = self.discarded = 0
        self.reached = self.packets = 0  # where the last packet ends in the file, and how many there were
        self.shown: Any = None  # the place of the last frame
        self.time = 0.0

    def read(self, packet: Any) -> None:
        """Take a packet, before it is decoded."""
        stamp = packet.dts if packet.pts is None else packet.pts
        if stamp is None:
            return
        if packet.is_discard:
            self.discarded += 1
            return
        if self.entries is not None:
            place, time = self._numbered(stamp if packet.dts is None else packet.dts, packet.pos)
        else:
            step = 0 if self.order is None or packet.dts is None else packet.dts - self.order
            if step < -2 * self.frame or (self.longest is not None and step > self.longest):
                self.shift = self.end - stamp
            self.order = packet.dts if packet.dts is not None else self.order
            place = time = stamp + self.shift
            self._watch(packet, place)
        self.end = max(self.end, time + int(packet.duration or self.frame))
        heappush(self.waiting, (place, time, stamp))
        self.places.setdefault(stamp, deque()).append(place)

    def _numbered(self, time: int, position: int | None) -> tuple[int, int]:
        """The number and time of an AVI's packet: those of the index of the file, if its position is there."""
        entries, at = (
            self.entries,
            (position or 0) - 8,
        )  # the position is that of the content, after a header of 8 bytes
        entry = self.entry
        while entry < len(entries) and entries[entry].pos < at:
            entry += 1
        if entry < len(entries) and entries[entry].pos == at:
            self.entry, time = entry, entries[entry].timestamp
        self.entry += 1
        return self.entry - 1, time

    def _watch(self, packet: Any, place: int) -> None:
        """Take a hole in the file for damage if the time goes on by more than a frame as well.

        Other streams leave holes too; so it must be at least a quarter of the size of the missing frames.
        """
        if packet.pos is None or packet.pos < self.reached:
            return
        missing = round((place - self.end) / self.frame) if self.frame and self.packets else 0
        if missing > 0 and packet.pos - self.reached > missing * self.reached / self.packets / 4:
            self.damaged()
        self.reached, self.packets = packet.pos + packet.size, self.packets + 1

    def damaged(self) -> None:
        """Take note of a broken packet or frame."""
        self.doubt, self.failed = DOUBT, self.failed + 1

    def place(self, decoded: Any) -> tuple[int, float] | None:
        """The number and the time, in seconds, of the next decoded frame; None if it comes too late to be shown."""
        places = self.places.get(decoded.pts)
        own, lost = places[0] if places else None, 0
        known = self.doubt and self.entries is None and None not in (self.shown, decoded.pts)
        if own is None and known and decoded.pts + self.shift < self.shown:  # after damage decoders give frames late
            return None
        if own is not None and (self.entries is None or decoded.key_frame):
            while self.waiting[0][0] < own:
                self._take()
                lost += 1
        at, time = self._take() if self.waiting else (None, None)
        if at is None:
            lost = self.failed
        elif self.entries is not None:
            lost = max(at - self.index, 0)
        else:
            lost = self._believed(lost, at, decoded)
        number = self.index + lost
        seconds = float(number / self.rate if self.rate else number) if time is None else float(time * self.tick)
        self.time = max(self.time, seconds) if number else seconds
        self.index, self.shown, self.failed, self.doubt = number + 1, at, 0, max(self.doubt - 1, 0)
        return number, self.time

    def _believed(self, lost: int, at: int, decoded: Any) -> int:
        """How many frames were lost before the one at `at`, given `lost` packets without a frame."""
        step = at - self.shown if self.shown is not None else 0
        if self.doubt and self.frame and not decoded.interlaced_frame:
            return max(lost, round(step / self.frame) - 1)
        return lost if self.doubt or (step > 1.5 * self.frame and not decoded.interlaced_frame) else 0

    def _take(self) -> tuple[int, int]:
        place, time, stamp = heappop(self.waiting)
        places = self.places[stamp]
        places.remove(place)
        if not places:
            del self.places[stamp]
        return place, time

    def count(self, declared: int) -> int:
        """The number of frames, those lost at the end included, given the number that the container declares."""
        if self.entries and self.entries[len(self.entries) - 1].timestamp + 1 != len(self.entries):
            declared = len(self.entries)  # what an AVI declares includes the times at which no new frame is shown
        return max(self.index + (len(self.waiting) if self.doubt else 0), declared - self.discarded)
