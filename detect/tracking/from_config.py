"""The tracker that the options of a command describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detect.cli.applicability import refuse_set
from detect.config.inference import InferenceConfig
from detect.config.tracking import MotionConfig
from detect.inference.box_embedder import BoxEmbedder, require_embedder
from detect.registry import REGISTRIES
from detect.tracking.video_tracker import VideoTracker

if TYPE_CHECKING:
    from detect.api import Detector


def make_tracker(
    config: InferenceConfig,
    detector: Detector,
    conf: float,
    lines: Sequence[Sequence[float]] = (),
    zones: Sequence[Sequence[float]] = (),
    motion: MotionConfig | None = None,
) -> VideoTracker | None:
    """The tracker of --track; None without.

    Args:
        config: its options.
        detector: the model.
        conf: confidence threshold; those below only carry on tracks.
        lines, zones: what counts tracks.
        motion: what is measured of them, and where.

    Raises:
        UserError: the embedder of `tracker.appearance` cannot be used, or an option is set that the tracker does not
            read.
    """
    from detect.api import Detector  # late: it imports the command, whose options these are

    embed, kind = None, config.tracker.kind
    unread = getattr(REGISTRIES["tracker"][kind], "unread", ()) if config.track else ()
    refuse_set(config, [f"tracker.{name}" for name in unread], f"is not read by the tracker {kind}")
    if config.tracker.appearance:
        embedder = Detector.load(config.tracker.appearance, config.device, config.precision)
        require_embedder(embedder, config.tracker.appearance)
        embed = BoxEmbedder(embedder)
    return VideoTracker(conf, detector.names, config.tracker, lines, zones, embed, motion) if config.track else None
