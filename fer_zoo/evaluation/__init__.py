"""Evaluation: metrics with their evidence, comparisons, pictures and the card."""

from fer_zoo.evaluation.card import make_card, write_comparison, write_report
from fer_zoo.evaluation.corruptions import (
    CORRUPTIONS,
    Corruption,
    Robustness,
    robustness,
)
from fer_zoo.evaluation.metrics import Evaluation, evaluate, score_metrics
from fer_zoo.evaluation.report import (
    Comparison,
    Mistake,
    Report,
    compare,
    compare_all,
    counterpart,
    cross_table,
    find_mistakes,
    measure,
)

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
    "counterpart",
    "cross_table",
    "evaluate",
    "find_mistakes",
    "make_card",
    "measure",
    "robustness",
    "score_metrics",
    "write_comparison",
    "write_report",
]
