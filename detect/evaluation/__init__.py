"""How good the detections are: the COCO protocol on the annotation store."""

from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import NUMBERS, Records, Summary, summarize
from detect.evaluation.coco_results import evaluate_file

__all__ = ["NUMBERS", "CocoEvaluator", "Records", "Summary", "evaluate_file", "summarize"]
