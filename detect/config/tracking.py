"""Options of tracking objects through the frames of a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from detect.config.constraints import Natural, Range, ReadWith, Registered, Share
from detect.config.fields import ADVANCED


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


Point = Literal["center", "bottom", "top", "left", "right", "bottom_left", "bottom_right", "top_left", "top_right"]


@dataclass(frozen=True)
class MotionConfig:
    """What is measured of tracks, and at which point of their boxes: options of `detect predict`."""

    point: Annotated[Point, ReadWith("track", "true")] = "center"
    """Point of a box that counts at lines and in zones, such as bottom, where people stand."""
    speed: Annotated[bool, ReadWith("track", "true")] = False
    """Also report the speed of tracks, in pixels a second."""
    homography: Annotated[list[list[float]], ReadWith("speed", "true"), ADVANCED] = field(default_factory=list)
    """Report speeds in metres a second, by four or more places on the ground, pixels and metres: [[x, y, X, Y], …]; or
    by a matrix of 3 x 3 from pixels to metres."""
    fps: Annotated[float, Range(0, 1000), ReadWith("track", "true"), ADVANCED] = 0.0
    """Frames a second of images in a folder, for speeds and times in zones. Default (0): none. Videos have their own
    times."""
