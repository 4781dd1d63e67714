"""Prediction: where frames come from, the network's answer in source pixels, drawing, and where results go."""

from detect.infer.job import Summary, predict_to
from detect.infer.predict import Predictor
from detect.infer.source import Source, open_source

__all__ = ["Predictor", "Source", "Summary", "open_source", "predict_to"]
