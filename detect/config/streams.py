"""Options of one of several streams that are predicted at once: an entry of a file of streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Policy = Literal["auto", "latest", "every"]


@dataclass(frozen=True)
class StreamConfig:
    """A stream, as a file of streams names it."""

    source: str
    """Video, camera number or URL; a file is relative to the file that names it."""
    policy: Policy = "auto"
    """Which frames are predicted; default: --policy."""
    lines: list[list[float]] = field(default_factory=list)
    """Lines of this stream; default: --lines."""
    zones: list[list[float]] = field(default_factory=list)
    """Zones of this stream; default: --zones."""
    homography: list[list[float]] = field(default_factory=list)
    """Homography of this stream; default: --homography."""
