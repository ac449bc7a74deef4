"""Pictures of results, as matplotlib figures.

The colours are cividis', which read the same in print and for colour-blind people, and where values
have a sign PuOr's. What differs by colour differs by marker or hatch too. Each function returns a
`matplotlib.figure.Figure`, and raises `MissingDependencyError` where matplotlib is not installed.

Example:
    >>> import fer_zoo
    >>> stacked = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
    >>> figure = fer_zoo.plots.fusion(stacked)
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['resnet18_025', 'vgg19_025']
    >>> figure.savefig("fusion.png")        # doctest: +SKIP
"""

from fer_zoo.plots.charts import (
    confusion,
    contact_sheet,
    fusion,
    history,
    mistakes,
    recalls,
    reliability,
    risk_coverage,
    robustness,
)
from fer_zoo.plots.timeline import timeline

__all__ = [
    "confusion",
    "contact_sheet",
    "fusion",
    "history",
    "mistakes",
    "recalls",
    "reliability",
    "risk_coverage",
    "robustness",
    "timeline",
]
