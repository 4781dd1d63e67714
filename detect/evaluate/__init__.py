"""How good the detections are: the COCO protocol on the annotation store."""

from detect.evaluate.coco import CocoEvaluator
from detect.evaluate.protocol import NUMBERS, Records, Summary, summarize
from detect.evaluate.results import evaluate_file

__all__ = ["NUMBERS", "CocoEvaluator", "Records", "Summary", "evaluate_file", "summarize"]
