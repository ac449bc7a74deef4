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
    cross_table,
    find_mistakes,
    measure,
)
from fer_zoo.evaluation.selective import GroupScore, group_scores, risk_coverage

__all__ = [
    "CORRUPTIONS",
    "Comparison",
    "Corruption",
    "Evaluation",
    "GroupScore",
    "Mistake",
    "Report",
    "Robustness",
    "compare",
    "compare_all",
    "cross_table",
    "evaluate",
    "find_mistakes",
    "group_scores",
    "make_card",
    "measure",
    "risk_coverage",
    "robustness",
    "score_metrics",
    "write_comparison",
    "write_report",
]
