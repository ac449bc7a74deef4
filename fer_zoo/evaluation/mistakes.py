"""The most confident errors: the thesis' "faulty images" (figure 5.10) as a list."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from fer_zoo._files import replacing
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.metrics import Evaluation


@dataclass(frozen=True, kw_only=True)
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
        >>> Mistake(index=7, source="row 7", true="fear", predicted="happy", probability=0.9,
        ...         true_probability=0.05).predicted
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
        >>> faces = FaceDataset(torch.zeros(7, 48, 48).byte(), torch.arange(7),
        ...                     labels=fer_zoo.labels.FER2013, name="black")
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> len(find_mistakes(fer_zoo.evaluate(model, faces), faces))
        6
    """
    if data.fingerprint != evaluation.faces.fingerprint:
        raise ArgumentError(f"{data.faces} is not what was evaluated: {evaluation.faces}")
    probabilities, guesses = evaluation.probabilities(), evaluation.scores.argmax(1)
    wrong = (~evaluation.correct).nonzero()[:, 0]
    order = probabilities[wrong, guesses[wrong]].argsort(descending=True, stable=True)
    triples = ((i, int(evaluation.targets[i]), int(guesses[i])) for i in wrong[order].tolist())
    return [
        Mistake(
            index=i,
            source=_source(data, i),
            true=evaluation.labels[true],
            predicted=evaluation.labels[guess],
            probability=float(probabilities[i, guess]),
            true_probability=float(probabilities[i, true]),
        )
        for i, true, guess in triples
    ]


def write_mistakes(mistakes: Sequence[Mistake], path: Path) -> None:
    """Write one line for each mistake to a csv file, which appears whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Mistake)])
        writer.writeheader()
        writer.writerows(map(asdict, mistakes))


def _source(data: FaceDataset, index: int) -> str:
    files, rows = getattr(data, "files", None), getattr(data, "rows", None)
    if files is not None:
        return str(files[index])
    return f"row {int(rows[index])}" if rows is not None else ""
