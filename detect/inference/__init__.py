"""Prediction: where frames come from, the network's answer in source pixels, drawing, and where results go."""

from detect.inference.pipeline import Summary, predict_to
from detect.inference.predictor import Predictor
from detect.inference.source import Source, open_source

__all__ = ["Predictor", "Source", "Summary", "open_source", "predict_to"]
