"""The most confident errors: the thesis' "faulty images" (figure 5.10) as a list."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fer_zoo._files import replacing
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.metrics import Evaluation
from fer_zoo.evaluation.sheet import contact_sheet


@dataclass(frozen=True)
class Mistake:
    """One face that was labelled wrong.

    Attributes:
        index: of the face in the data.
        source: its file, or its place among all rows of FER2013 (0 is the one below the header).
        true: the class it is labelled as in the data.
        predicted: the class the model says.
        probability: what the model gives to that.
        true_probability: what the model gives to the class in the data.

    Example:
        >>> Mistake(7, "row 7", "fear", "happy", 0.9, 0.05).predicted
        'happy'
    """

    index: int
    source: str
    true: str
    predicted: str
    probability: float
    true_probability: float


def find_mistakes(evaluation: Evaluation, data: FaceDataset) -> list[Mistake]:
    """Return all faces that were labelled wrong, the most confident first.

    Raises:
        ArgumentError: `data` is not what was evaluated.

    Example:
        >>> import torch, fer_zoo
        >>> faces = FaceDataset(torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> len(find_mistakes(fer_zoo.evaluate(model, faces), faces))
        6
    """
    if data.fingerprint != evaluation.fingerprint:
        raise ArgumentError(
            f"{data.name} (n = {len(data)}) is not what was evaluated: {evaluation.data} "
            f"(n = {evaluation.n})"
        )
    probabilities, guesses = evaluation.probabilities(), evaluation.scores.argmax(1)
    wrong = (~evaluation.correct).nonzero()[:, 0]
    order = probabilities[wrong, guesses[wrong]].argsort(descending=True, stable=True)
    found = []
    for i in wrong[order].tolist():
        true, guess = int(evaluation.targets[i]), int(guesses[i])
        found.append(
            Mistake(
                index=i,
                source=_source(data, i),
                true=evaluation.labels[true],
                predicted=evaluation.labels[guess],
                probability=float(probabilities[i, guess]),
                true_probability=float(probabilities[i, true]),
            )
        )
    return found


def write_mistakes(mistakes: Sequence[Mistake], path: Path) -> None:
    """Write one line for each mistake to a csv file, which appears whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Mistake)])
        writer.writeheader()
        for mistake in mistakes:
            row = asdict(mistake)
            for name in ("probability", "true_probability"):
                row[name] = f"{row[name]:.6f}"
            writer.writerow(row)


def plot_mistakes(mistakes: Sequence[Mistake], data: FaceDataset, *, count: int = 40) -> Any:
    """Return a `matplotlib.figure.Figure` of the first `count` mistakes.

    Under each face stand where it is from, the class in the data, and what the model says.

    Raises:
        ArgumentError: there are none.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> import torch, fer_zoo
        >>> faces = fer_zoo.data.FaceDataset(
        ...     torch.zeros(7, 48, 48, dtype=torch.uint8), torch.arange(7),
        ...     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> mistakes = find_mistakes(fer_zoo.evaluate(model, faces), faces)
        >>> len(plot_mistakes(mistakes, faces).axes) >= len(mistakes)
        True
    """
    shown = list(mistakes)[:count]
    if not shown:
        raise ArgumentError("no mistakes to plot: pass some of what find_mistakes returns")
    captions = [
        f"{Path(m.source).name or f'face {m.index}'}\n{m.true} in the data\n"
        f"{m.predicted} {100 * m.probability:.0f} %"
        for m in shown
    ]
    title = f"the {len(shown)} most confident of {len(mistakes)} errors on {data.name}, n = "
    images = data.images[[m.index for m in shown]]
    return contact_sheet(images, captions, title=f"{title}{len(data)}", columns=8)


def _source(data: FaceDataset, index: int) -> str:
    files, rows = getattr(data, "files", None), getattr(data, "rows", None)
    if files is not None:
        return str(files[index])
    return f"row {int(rows[index])}" if rows is not None else ""
