"""`--tta` and `--tile` by task: several sizes and mirror images of an image, and its tiles, become one result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from detect.inference.semantic_views import SemanticViews, canvas_scores
from detect.inference.tiles import TiledPredictor
from detect.inference.tta import SCALES, VIEWS, TTAPredictor
from detect.types import Postprocess

Maker = Callable[..., Any]  # (image size, postprocessing, finish) -> a `Predictor`


def detection_views(of: Maker, side: int, keep: Postprocess, tta: bool, tile: bool) -> Any:
    """The predictor that fuses detections of several views; arguments as of `Task.views`."""
    predictor: Any = of(side, keep)
    if tta:
        # a box may score low in some of the views
        view = replace(keep, score=keep.score / VIEWS, class_scores=None)
        predictor = TTAPredictor([of(round(side * scale), view) for scale in SCALES], keep)
    return TiledPredictor(predictor, side, keep) if tile else predictor


def semantic_views(of: Maker, side: int, keep: Postprocess, tta: bool, tile: bool) -> Any:
    """The predictor that averages the probabilities of each pixel over several views; arguments as of `Task.views`."""
    scales = sorted(SCALES, reverse=True) if tta else [1.0]
    predictors = [of(round(side * scale), keep, canvas_scores) for scale in scales]
    return SemanticViews(predictors, side if tile else 0, tta, keep)
