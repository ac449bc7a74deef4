"""Fusion: from the logits of several members to one probability per class."""

from fer_zoo.evidence import FitReport
from fer_zoo.fusion.base import FUSIONS, Fusion, create_fusion, register_fusion
from fer_zoo.fusion.fixed import Average, Maximum, Vote
from fer_zoo.fusion.stacked import Stacked
from fer_zoo.fusion.weighted import Weighted

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
