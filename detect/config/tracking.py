"""Options of tracking objects through the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from detect.config.constraints import Natural, Registered, Share


@dataclass(frozen=True)
class TrackConfig:
    """How detections of consecutive frames are joined to tracks."""

    kind: Annotated[str, Registered("tracker")] = "bytetrack"
    """The tracker."""

    low: Share = 0.1
    """Least score, 0 to 1, of a detection that carries on a track; --conf is that of one that counts alone."""

    margin: Share = 0.1
    """How far above --conf a detection must score to begin a track, 0 to 1."""

    memory: Natural = 30
    """Number of frames for which a track that is out of sight is kept."""

    appearance: str = ""
    """Weights of an embedder: where several objects are near, those that look alike are then joined. Default: none."""
