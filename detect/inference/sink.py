"""What `detect predict` hands its results to."""

from __future__ import annotations

from typing import Any

import numpy as np

from detect.types import Frame


class Sink:
    """Base of all sinks. It is closed in any case; `finished` tells whether the run came to its end."""

    def write(self, frame: Frame, result: Any, annotated: np.ndarray) -> None:
        """Take a frame with its result and the annotated image (H, W, 3) uint8 RGB."""
        raise NotImplementedError

    def end_of_file(self) -> None:
        """Complete what belongs to the file of the source whose last frame was written; the next one may be a new run.

        Most sinks complete everything frame by frame.
        """

    def skip(self, frame: Frame) -> None:
        """Give away the names that `write` would, for a frame that the run before has written. It has no image."""

    def close(self, finished: bool = True) -> None:
        """Close what is open."""
