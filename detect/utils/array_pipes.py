"""Values with large arrays, sent to another of our processes through a pipe: each side copies an array once.

`multiprocessing.connection`, which sends everything else, copies them several times, into memory that is new each time.
"""

from __future__ import annotations

from io import BufferedReader, BufferedWriter, BytesIO
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np


def send(pipe: BufferedWriter, value: Any) -> None:
    """Send a value of any type that `Connection.send` takes."""
    buffers, rest, head = list[Any](), BytesIO(), BytesIO()
    ForkingPickler(rest, 5, True, buffers.append).dump(value)
    arrays = [one.raw() for one in buffers]
    ForkingPickler(head).dump((rest.getvalue(), [one.nbytes for one in arrays]))
    for one in (len(head.getvalue()).to_bytes(8, "little"), head.getvalue(), *arrays):
        pipe.write(one)
    pipe.flush()


def receive(pipe: BufferedReader) -> Any:
    """Return what `send` has sent.

    Raises:
        EOFError: there is nothing more, or not all of it: the other process has ended.
    """
    rest, sizes = ForkingPickler.loads(_exactly(pipe, int.from_bytes(_exactly(pipe, 8), "little")))
    return ForkingPickler.loads(rest, buffers=[_exactly(pipe, size) for size in sizes])


def _exactly(pipe: BufferedReader, size: int) -> memoryview:
    read = np.empty(size, np.uint8).data  # NumPy fills no memory beforehand
    if pipe.readinto(read) < size:
        raise EOFError
    return read
