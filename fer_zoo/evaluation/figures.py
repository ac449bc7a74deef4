"""The one table of figures: what each is called, where it is found, and how it is written."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fer_zoo.evidence import Score


def percent(share: float) -> str:
    """Return a share in per cent; `-` where it is not a number."""
    return f"{100 * share:.2f}" if share == share else "-"


def interval(bounds: tuple[float, float]) -> str:
    """Return an interval of shares in per cent."""
    return " to ".join(map(percent, bounds))


def points(difference: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * difference:+.2f}"


def p_value(p: float) -> str:
    """Return a p-value with as many digits as anyone needs."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


FIGURES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "faces": ("faces", str),
    "n": ("n", "{:,}".format),
    "preset": ("preset", str),
    "view_count": ("views", str),
    "accuracy": ("accuracy %", percent),
    "interval": ("95 % interval, Wilson", interval),
    "bootstrap_interval": ("95 % interval, bootstrap", interval),
    "balanced_accuracy": ("balanced accuracy %", percent),
    "macro_f1": ("macro-F1 %", percent),
    "macro_f1_interval": ("95 % interval of macro-F1, bootstrap", interval),
    "detection_rate": ("emotion detection rate %", percent),
    "nll": ("NLL, nats", "{:.4f}".format),
    "nll_uncalibrated": ("NLL, uncalibrated", "{:.4f}".format),
    "ece": ("ECE %", percent),
    "ece_uncalibrated": ("ECE %, uncalibrated", percent),
    "temperature": ("temperature", "{:.3f}".format),
    "cross_validated_accuracy": ("accuracy %, cross-validated", percent),
    "cross_validated_nll": ("NLL, cross-validated", "{:.4f}".format),
    "cross_validated_ece": ("ECE %, cross-validated", percent),
}
"""What each attribute of a `Score` is called, with its unit, and how it is written."""

RESULT = (
    "accuracy", "interval", "bootstrap_interval", "balanced_accuracy", "macro_f1",
    "detection_rate", "nll", "ece", "temperature",
)  # fmt: skip
EVALUATED = (*RESULT[:5], "macro_f1_interval", *RESULT[5:])
"""What an evaluation holds, too, and stored scores of earlier ones do not."""


def written(score: Score, name: str) -> str:
    """Return a figure as text, `-` where it was not measured."""
    value = getattr(score, name)
    return "-" if value is None else FIGURES[name][1](value)


def figure_rows(scores: Iterable[Score], names: Sequence[str] = RESULT) -> list[list[str]]:
    """Return a row for each figure: its title, then the figure of each score."""
    scores = list(scores)
    return [[FIGURES[name][0], *(written(score, name) for score in scores)] for name in names]
