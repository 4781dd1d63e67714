"""Options of following objects through frames."""

from __future__ import annotations

from dataclasses import dataclass

from detect.config.constraints import Natural, Share


@dataclass(frozen=True)
class TrackConfig:
    """Following objects through frames (ByteTrack): see `PredictConfig.track`.

    Detections that score from `low` up to --conf carry on tracks but begin none; those at `margin` above --conf begin
    tracks. A track that is out of sight is looked for for `memory` frames. `appearance` are the weights of an embedder:
    what a detection looks like then has a say where several are near.
    """

    low: Share = 0.1
    margin: Share = 0.1
    memory: Natural = 30
    appearance: str = ""
