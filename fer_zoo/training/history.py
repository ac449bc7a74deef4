"""What a run writes down of its epochs."""

import csv
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tqdm import tqdm

from fer_zoo._files import as_path, replacing
from fer_zoo.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of the history: losses in nats, accuracies from 0 to 1.

    Attributes:
        epoch: counted from 1.
        lr: learning rate of its last step.
        train_loss: mean over the augmented training faces, each counted by its class's weight,
            while the network changes.
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


def describe_epoch(epoch: Epoch, best: Epoch, epochs: int, left: float) -> str:
    """Return the line of an epoch: losses, accuracies, the best so far, and the seconds left."""
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.train_loss:.4f}, accuracy "
        f"{100 * epoch.train_accuracy:.2f} %; validation loss {epoch.val_loss:.4f}, accuracy "
        f"{100 * epoch.val_accuracy:.2f} %, best {100 * best.val_accuracy:.2f} % (epoch "
        f"{best.epoch}); {tqdm.format_interval(epoch.seconds)}, {tqdm.format_interval(left)} left"
    )


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
