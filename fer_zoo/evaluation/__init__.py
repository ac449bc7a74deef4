"""Evaluation: metrics with their evidence, comparisons, pictures and the card."""

from fer_zoo.evaluation.card import make_card
from fer_zoo.evaluation.comparison import Comparison, compare, counterpart
from fer_zoo.evaluation.metrics import Evaluation, evaluate, score_metrics
from fer_zoo.evaluation.mistakes import Mistake, find_mistakes, plot_mistakes
from fer_zoo.evaluation.plots import (
    plot_confusion,
    plot_fusion,
    plot_recalls,
    plot_reliability,
)
from fer_zoo.evaluation.report import Report, compare_all, measure, write_comparison, write_report
from fer_zoo.evaluation.sheet import contact_sheet

__all__ = [
    "Comparison",
    "Evaluation",
    "Mistake",
    "Report",
    "compare",
    "compare_all",
    "contact_sheet",
    "counterpart",
    "evaluate",
    "find_mistakes",
    "make_card",
    "measure",
    "plot_confusion",
    "plot_fusion",
    "plot_mistakes",
    "plot_recalls",
    "plot_reliability",
    "score_metrics",
    "write_comparison",
    "write_report",
]
