"""What a model is asked on a data set whose classes are not quite its own."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fer_zoo.data.faces import FaceDataset, FacesLike, check_faces
from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.inference.scoring import merged
from fer_zoo.labels import canonical, folded, made_of, names_to_ignore, regroup
from fer_zoo.models import Classifier

CODES = "; the codes of data sets by others have names by fer_zoo.data.open_dataset (rafdb:PATH)"


@dataclass(frozen=True, kw_only=True)
class Task:
    """Faces, their classes as indices into `labels`, and what of the model each is made of."""

    faces: FaceDataset
    targets: Tensor
    source: tuple[str, ...]
    made: dict[str, list[str]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the answers."""
        return tuple(self.made)

    @property
    def merges(self) -> bool:
        """Whether an answer is a sum over several classes."""
        return any(len(names) > 1 for names in self.made.values())

    @property
    def note(self) -> str:
        """What classes have no faces, and so do not count."""
        there = set(self.targets.tolist())
        lacking = [name for k, name in enumerate(self.made) if k not in there]
        if not lacking:
            return ""
        return f"no face of {', '.join(lacking)}: means are over the other {len(there)} classes"

    def answers(self, scores: Tensor, temperature: float) -> Tensor:
        """Return scores `(N, K)` of the model as scores of these classes, at the same temperature.

        The temperature comes before the sums, as when the model is used.
        """
        if [[name] for name in self.source] == [*self.made.values()]:
            return scores
        return merged(scores, self.source, self.made, temperature) * temperature


def _expression_in(name: str, known: Iterable[str]) -> str:
    """Return the one class that is in a name beside other words, as in `0_angry`."""
    words = re.findall(r"[^\W\d_]+", folded(name))
    found = [own for own in known if canonical(own) in map(canonical, words)]
    return found[0] if len(found) == 1 and not {"not", "no", "non", "un"} & {*words} else ""


def match(
    model: Classifier,
    data: FacesLike,
    *,
    labels: Mapping[str, Sequence[str]] | None = None,
    ignore: Iterable[str] = (),
) -> Task:
    """Return what a model is asked; see `evaluate` for the arguments."""
    faces, own = check_faces(data), model.labels
    if own is None:
        raise LabelError(f"{model.name!r} has no labels: train it or load weights first")
    labels, left_out = made_of(labels), names_to_ignore(ignore)
    made = regroup(own, labels, left_out, others=faces.labels)
    made = {name: names for name, names in made.items() if names}
    if len(made) < 2:
        raise LabelError(f"one class is left, {tuple(made)}: there is nothing to tell apart")
    if labels or left_out:
        faces = faces._made_of(regroup(faces.labels, labels, left_out, others=own))
    place = {canonical(name): k for k, name in enumerate(made)}
    if unknown := [n for n, count in faces.counts.items() if count and canonical(n) not in place]:
        meant = {n: class_ for n in unknown if (class_ := _expression_in(n, [*made]))}
        if meant:
            raise LabelError(
                f"{model.name!r} knows {tuple(made)}, and {faces.name} has {unknown}, too: rename "
                f"the folders or classes, as {meant} says, or leave them out (ignore=, --ignore)"
            )
        codes = all(name.isdigit() for name in unknown)
        raise LabelError(
            f"{model.name!r} knows {tuple(made)}, and {faces.name} has {unknown}, too: leave them "
            f"out with ignore={unknown} (--ignore {','.join(unknown)}), or say with labels= "
            f"(--map) what they are part of{CODES if codes else ''}"
        )
    if not len(faces):
        raise ArgumentError(f"{faces.name} holds no faces to evaluate on")
    targets = torch.tensor([place.get(canonical(name), -1) for name in faces.labels])[faces.targets]
    return Task(faces=faces, targets=targets, source=own, made=made)
