"""Fusion: from the logits of several members to one probability per class."""

from fer_zoo.evidence import FitReport
from fer_zoo.fusion.base import FUSIONS, Fusion, create_fusion, register_fusion
from fer_zoo.fusion.fitted import Stacked, Weighted
from fer_zoo.fusion.fixed import Average, Maximum, Vote

__all__ = [
    "FUSIONS",
    "Average",
    "FitReport",
    "Fusion",
    "Maximum",
    "Stacked",
    "Vote",
    "Weighted",
    "create_fusion",
    "register_fusion",
]
