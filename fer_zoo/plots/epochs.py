"""Loss and accuracy by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fer_zoo.errors import ArgumentError
from fer_zoo.plots.looks import finish, line_look, new_figure

if TYPE_CHECKING:
    from fer_zoo.training import Epoch

KINDS = (("validation", "val", "-"), ("training", "train", ":"))


def history(
    runs: "Sequence[Epoch] | Mapping[str, Sequence[Epoch]]", *, fused: float | None = None
) -> Any:
    """Return a figure of loss and accuracy by epoch, as the thesis draws them.

    A large marker is the epoch with the best accuracy on the validation faces.

    Args:
        runs: the history of a run (`TrainResult.history`, or what `fer_zoo.training.read_history`
            returns), or several by name.
        fused: accuracy of the ensemble of these runs, drawn as a line across.

    Raises:
        ArgumentError: there is no run, a run has no epoch, or is something else.
    """
    named = {str(k): run for k, run in (runs if isinstance(runs, Mapping) else {"": runs}).items()}
    if not named or not all(map(_is_history, named.values())):
        raise ArgumentError(
            "each run needs an epoch or more: pass result.history, or "
            "fer_zoo.training.read_history('runs/mine/history.csv'), or several by name: "
            "{'first': result.history, ...}"
        )
    figure = new_figure(9, 3)
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    panels = zip(figure.subplots(1, 2), ("accuracy", "loss"), (100, 1), strict=True)
    for axes, what, scale in panels:
        for i, run in enumerate(named.values()):
            look = line_look(i)
            best = max(run, key=lambda epoch: epoch.val_accuracy)
            axes.plot(best.epoch, scale * getattr(best, f"val_{what}"), ms=9, **look)
            for _, part, style in KINDS:
                values = [scale * getattr(epoch, f"{part}_{what}") for epoch in run]
                fill = "full" if part == "val" else "none"
                # Where lines lie on each other, each run's markers are at other epochs.
                step = math.ceil(len(run) / 10)
                marked = {"markevery": (i % step, step), "ms": 5, "fillstyle": fill}
                axes.plot([epoch.epoch for epoch in run], values, style, **marked, **look)
        if fused is not None and what == "accuracy":
            axes.axhline(100 * fused, color="black", linewidth=1, linestyle="--")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylabel({"accuracy": "accuracy %", "loss": "loss (nats)"}[what])
        axes.grid(alpha=0.3)
    entries = [(name, line_look(i)) for i, name in enumerate(named) if name]
    entries += [(word, {"color": "black", "linestyle": style}) for word, _, style in KINDS]
    entries.append(("best epoch", {"color": "black", "linestyle": "", "marker": "o", "ms": 9}))
    if fused is not None:
        entries.append(("ensemble", {"color": "black", "linestyle": "--"}))
    handles = [Line2D([], [], **look) for _, look in entries]
    return finish(figure, handles=handles, names=[name for name, _ in entries])


def _is_history(run: object) -> bool:
    epochs = isinstance(run, Sequence) and not isinstance(run, str) and len(run) > 0
    return epochs and all(hasattr(epoch, "val_accuracy") for epoch in run)  # type: ignore[attr-defined]
