"""Whether the data of a PNG have all its rows: decoders fill what is missing with black, and say nothing of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PIECE = 1 << 20  # bytes
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # of Adam7


def rows_missing(data: bytes) -> bool:
    """Whether a PNG that has its end unpacks to fewer bytes than its header says."""
    width, height = (int.from_bytes(data[place : place + 4]) for place in (16, 20))
    bits, passes = data[24] * _CHANNELS.get(data[25], 1), _PASSES if data[28] else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        missing += rows * (1 + -(-columns * bits // 8)) if columns else 0
    unpack = zlib.decompressobj()
    try:
        for packed in _parts(data):
            while packed and missing > 0:
                missing -= len(unpack.decompress(packed, _PIECE))
                packed = unpack.unconsumed_tail
    except zlib.error:  # damaged: the decoder says so, or has used what there is
        return False
    return missing > 0


def _parts(data: bytes) -> Iterator[bytes]:
    """What the IDAT chunks hold, one after the other."""
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            yield data[place + 8 : place + 8 + length]
        place += 12 + length
