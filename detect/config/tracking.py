"""Options of tracking objects through the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from detect.config.constraints import Natural, ReadWith, Registered, Share


@dataclass(frozen=True)
class TrackConfig:
    """How detections of consecutive frames are joined to tracks."""

    kind: Annotated[str, Registered("tracker"), ReadWith("track", "true")] = "bytetrack"
    """Tracker."""
    low: Annotated[Share, ReadWith("track", "true")] = 0.1
    """Lowest score that continues a track. Only those above --conf start one. Not read by ocsort."""
    margin: Annotated[Share, ReadWith("track", "true")] = 0.1
    """Score above --conf that starts a track. Not read by ocsort."""
    memory: Annotated[Natural, ReadWith("track", "true")] = 30
    """Frames that a track out of sight is kept."""
    appearance: Annotated[str, ReadWith("track", "true")] = ""
    """Weights of an embedder, to match appearance. Where several objects are near, similar ones are joined."""
    camera_motion: Annotated[bool, ReadWith("track", "true")] = True
    """Compensate camera motion (botsort)."""
