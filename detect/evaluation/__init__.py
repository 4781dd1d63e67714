"""Evaluators and metrics: one for each task, and the COCO protocol behind those of boxes."""

from detect.evaluation.coco import CocoEvaluator
from detect.evaluation.coco_protocol import Records, Summary, summarize
from detect.evaluation.coco_results import evaluate_file
from detect.evaluation.protocol import NUMBERS

__all__ = ["NUMBERS", "CocoEvaluator", "Records", "Summary", "evaluate_file", "summarize"]
