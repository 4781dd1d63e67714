"""Prediction: sources of frames, predictors, drawing, and sinks of results."""

from detect.inference.pipeline import Summary, predict_to
from detect.inference.predictor import Predictor
from detect.inference.source import Source, open_source

__all__ = ["Predictor", "Source", "Summary", "open_source", "predict_to"]
