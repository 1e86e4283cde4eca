"""Evaluation of models: metrics with intervals, baselines, thresholds, comparisons."""

from prospect_lib.evaluation.comparison import Comparison, compare
from prospect_lib.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_forward,
    evaluate_model,
)
from prospect_lib.evaluation.metrics import Interval, ScoredRows, score_rows
from prospect_lib.evaluation.threshold import Threshold, choose_threshold

__all__ = [
    "Comparison",
    "Evaluation",
    "Interval",
    "ScoredRows",
    "Threshold",
    "choose_threshold",
    "compare",
    "evaluate",
    "evaluate_forward",
    "evaluate_model",
    "score_rows",
]
