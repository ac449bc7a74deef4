"""Evaluation: metrics with their evidence, comparisons, pictures and the card."""

from fer_zoo.evaluation.card import make_card
from fer_zoo.evaluation.comparison import Comparison, compare, counterpart
from fer_zoo.evaluation.corruptions import (
    CORRUPTIONS,
    Corruption,
    Robustness,
    corrupted_examples,
    robustness,
)
from fer_zoo.evaluation.folder import write_comparison, write_report
from fer_zoo.evaluation.metrics import Evaluation, evaluate, score_metrics
from fer_zoo.evaluation.mistakes import Mistake, find_mistakes
from fer_zoo.evaluation.report import Report, compare_all, measure

__all__ = [
    "CORRUPTIONS",
    "Comparison",
    "Corruption",
    "Evaluation",
    "Mistake",
    "Report",
    "Robustness",
    "compare",
    "compare_all",
    "corrupted_examples",
    "counterpart",
    "evaluate",
    "find_mistakes",
    "make_card",
    "measure",
    "robustness",
    "score_metrics",
    "write_comparison",
    "write_report",
]
