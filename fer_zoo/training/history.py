"""What a run writes down of its epochs: a csv, and TensorBoard's event files where asked for."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fer_zoo._files import as_path, replacing
from fer_zoo.errors import ArgumentError, MissingDependencyError
from fer_zoo.evaluation.drawing import add_legend, line_look, new_figure


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the history: losses in nats, accuracies from 0 to 1.

    Attributes:
        epoch: counted from 1.
        lr: learning rate of its last step.
        train_loss: mean over the augmented training faces, while the weights change.
        train_accuracy: the same; of mixed faces, the one with the larger share counts.
        val_loss: on the validation faces, with the weights that are kept (averaged if EMA is on).
        val_accuracy: the same.
        seconds: wall time of the training part.

    Example:
        >>> Epoch(epoch=1, lr=0.1, train_loss=1.9, train_accuracy=0.2, val_loss=1.8,
        ...       val_accuracy=0.3, seconds=7.5).val_accuracy
        0.3
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


def write_history(path: Path, history: Sequence[Epoch]) -> None:
    """Write the history as csv, whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(e) for e in history)


def read_history(path: str | os.PathLike[str]) -> list[Epoch]:
    """Return the history in the csv at `path`.

    Raises:
        ArgumentError: there is none.

    Example:
        >>> import tempfile
        >>> epoch = Epoch(epoch=1, lr=0.1, train_loss=1.9, train_accuracy=0.2, val_loss=1.8,
        ...               val_accuracy=0.3, seconds=7.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_history(Path(folder, "history.csv"), [epoch])
        ...     read_history(Path(folder, "history.csv")) == [epoch]
        True
    """
    try:
        with as_path(path).open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            Epoch(epoch=int(row.pop("epoch")), **{k: float(v) for k, v in row.items()})
            for row in rows
        ]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"{path} is no history of a training run: {error}") from None


class Board:
    """TensorBoard's writer for one run, in its folder `tensorboard`; does nothing if not wanted."""

    def __init__(self, folder: Path, wanted: bool, done: int) -> None:
        self.writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "TensorBoard is not installed: pip install 'fer-zoo[tensorboard]'"
            ) from None
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def add(self, epoch: Epoch) -> None:
        """Write one epoch's figures."""
        if self.writer is None:
            return
        for name, value in asdict(epoch).items():
            if name != "epoch":
                self.writer.add_scalar(name.replace("_", "/", 1), value, epoch.epoch)
        self.writer.flush()

    def close(self) -> None:
        """End the file."""
        if self.writer is not None:
            self.writer.close()


def plot_history(runs: Any, *, fused: float | None = None) -> Any:
    """Return a `matplotlib.figure.Figure` of loss and accuracy by epoch, as the thesis draws them.

    A large marker is the epoch with the best accuracy on the validation faces.

    Args:
        runs: the history of a run (`TrainResult.history`, or the path of a `history.csv`), or
            several by name.
        fused: accuracy of the ensemble of these runs, drawn as a line across.

    Raises:
        ArgumentError: there is no run, a run has no epoch, or is something else.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> history = [Epoch(epoch=i, lr=0.1, train_loss=1.9 / i, train_accuracy=0.2 * i,
        ...                  val_loss=1.8 / i, val_accuracy=0.3 * i, seconds=7.5) for i in (1, 2)]
        >>> [axes.get_ylabel() for axes in plot_history(history).axes]
        ['accuracy %', 'loss (nats)']
    """
    named = _histories(runs)
    figure = new_figure(10, 3.6)
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    kinds = (("validation", "val", "-"), ("training", "train", ":"))
    panels = figure.subplots(1, 2)
    for axes, what, scale in zip(panels, ("accuracy", "loss"), (100, 1), strict=True):
        for i, (name, history) in enumerate(named.items()):
            look = line_look(i)
            best = max(history, key=lambda e: e.val_accuracy)
            axes.plot(best.epoch, scale * getattr(best, f"val_{what}"), ms=9, **look)
            for word, part, style in kinds:
                values = [scale * getattr(e, f"{part}_{what}") for e in history]
                # Where lines lie on each other, each run's markers are at other epochs.
                step = math.ceil(len(history) / 10)
                axes.plot(
                    [e.epoch for e in history],
                    values,
                    style,
                    fillstyle="full" if part == "val" else "none",
                    ms=5,
                    markevery=(i % step, step),
                    label=f"{name} {word}".strip(),
                    **look,
                )
        if fused is not None and what == "accuracy":
            axes.axhline(100 * fused, color="black", linewidth=1, linestyle="--", label="ensemble")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylabel({"accuracy": "accuracy %", "loss": "loss (nats)"}[what])
        axes.grid(alpha=0.3)
    entries = [(name, line_look(i)) for i, name in enumerate(named) if name]
    entries += [(word, {"color": "black", "linestyle": style}) for word, _, style in kinds]
    entries.append(("best epoch", {"color": "black", "linestyle": "", "marker": "o", "ms": 9}))
    if fused is not None:
        entries.append(("ensemble", {"color": "black", "linestyle": "--"}))
    handles = [Line2D([], [], **look) for _, look in entries]
    add_legend(figure, handles, [name for name, _ in entries])
    return figure


def _histories(runs: Any) -> dict[str, list[Epoch]]:
    """Return the epochs of each run by its name."""
    found: dict[str, list[Epoch]] = {}
    for name, run in (runs if isinstance(runs, Mapping) else {"": runs}).items():
        history = read_history(Path(run)) if isinstance(run, str | Path) else run
        if not (
            isinstance(history, Sequence) and history and all(isinstance(e, Epoch) for e in history)
        ):
            found = {}
            break
        found[str(name)] = list(history)
    if not found:
        raise ArgumentError(
            "each run needs an epoch or more: pass result.history, 'runs/mine/history.csv', or "
            "several by name: {'first': result.history, ...}"
        )
    return found
