"""The run-length encoding of Label Studio's brush, as `detect.labelling.label_studio` writes it.

It is a stream of bits: the number of values (32), their bits less one (5), and the bits less one of four ways to write
a length (4 each); then blocks of a flag (1), the way (2) and the length less one, and either one value, which is
repeated, or as many as the length.
"""

from __future__ import annotations

import numpy as np

WAYS = (3, 7, 11, 15)  # bits of a length, less one, of each way
WORD = 8  # bits of a value


def packed(values: np.ndarray) -> list[int]:
    """The bytes of the encoding of values (V,) uint8, all as runs."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] ^ 1)) if len(values) else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, len(values))).tolist()
    bits = [f"{len(values):032b}", f"{WORD - 1:05b}", *(f"{way:04b}" for way in WAYS)]
    longest = 1 << (WAYS[-1] + 1)
    for value, length in zip(values[starts].tolist(), lengths, strict=True):
        while length:
            part = min(length, longest)
            way = next(i for i, size in enumerate(WAYS) if part <= 1 << (size + 1))
            bits.append(f"1{way:02b}{part - 1:0{WAYS[way] + 1}b}{value:0{WORD}b}")
            length -= part
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    found: list[int] = np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()
    return found
