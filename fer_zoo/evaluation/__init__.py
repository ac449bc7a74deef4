"""Evaluation: metrics with their evidence, and pictures of them."""

from fer_zoo.evaluation.metrics import Evaluation, evaluate, score_metrics
from fer_zoo.evaluation.plots import plot_confusion

__all__ = ["Evaluation", "evaluate", "plot_confusion", "score_metrics"]
