"""Pictures of results, as matplotlib figures.

The colours are cividis', which read the same in print and for colour-blind people, and where values
have a sign PuOr's. What differs by colour differs by marker or hatch too.
"""

from fer_zoo.plots.epochs import history
from fer_zoo.plots.heads import fusion
from fer_zoo.plots.scores import confusion, recalls, reliability, robustness
from fer_zoo.plots.sheets import contact_sheet, mistakes

__all__ = [
    "confusion",
    "contact_sheet",
    "fusion",
    "history",
    "mistakes",
    "recalls",
    "reliability",
    "robustness",
]
