"""The limits of postprocessing: how many boxes take part, and a count of the images that have more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detect.types import Postprocess

# How many boxes of an image, the best by score, take part in NMS: the greater of CANDIDATES and PER_DETECTION for each
# detection of `Postprocess.limit`.
CANDIDATES, PER_DETECTION = 4096, 10


@dataclass
class LimitHits:
    """Counts the images that lost detections to the limits of postprocessing.

    limited: images with more detections than `Postprocess.limit`; crowded: images with more boxes above
    `Postprocess.score` than take part in NMS.
    """

    limited: int = 0
    crowded: int = 0
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, limited: bool = False, crowded: bool = False) -> None:
        """Count an image; any thread may call it.

        Args:
            limited: whether it had more detections than `Postprocess.limit`.
            crowded: whether it had more boxes than take part in NMS.
        """
        with self.lock:
            self.limited += limited
            self.crowded += crowded

    @contextmanager
    def one_image(self) -> Iterator[None]:
        """Count several views of an image as one image."""
        limited, crowded = self.limited, self.crowded
        yield
        self.limited = min(self.limited, limited + 1)
        self.crowded = min(self.crowded, crowded + 1)

    def lines(self, keep: Postprocess) -> list[str]:
        """Lines that tell the user about it."""
        most, lines = max(CANDIDATES, PER_DETECTION * keep.limit), []
        if self.limited:
            lines.append(
                f"images with more detections than --max-det {keep.limit}: {self.limited}; those with the lowest "
                "scores were left out, raise --max-det to keep them"
            )
        if self.crowded:
            lines.append(
                f"images with more than {most:,} boxes above --conf {keep.score:g}: {self.crowded}; only the best "
                f"{most:,} took part in NMS, raise --conf, or --max-det above {most // PER_DETECTION}"
            )
        return lines
