"""What a batch is trained towards: labels or votes, mixed or not, and a teacher's answers."""

import hashlib
import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, TrainingError
from fer_zoo.factory import resolve
from fer_zoo.inference import fuse, member_scores
from fer_zoo.labels import canonical, index_map
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.training.recipe import Recipe
from fer_zoo.training.state import hash_state
from fer_zoo.transforms import PRESETS, Augmentation
from fer_zoo.transforms.mix import mix
from fer_zoo.weights.address import is_address, parse_address
from fer_zoo.weights.checkpoint import read_checkpoint, read_config, write_checkpoint

Teacher = Classifier | str | os.PathLike[str]


class Objective:
    """The loss of a recipe on these faces, as indices into the model's labels."""

    def __init__(
        self,
        recipe: Recipe,
        data: FaceDataset,
        labels: tuple[str, ...],
        device: torch.device,
        teacher: Teacher | None,
    ) -> None:
        self.recipe = recipe
        if bool(recipe.distill) != (teacher is not None):
            raise ArgumentError(
                "a teacher and distill > 0 go together: pass teacher= (--teacher) and set distill, "
                "say distill=0.5"
            )
        targets = data.targets_for(labels)
        if recipe.targets == "votes":
            if data.votes is None:
                raise TrainingError(
                    f"{data.name} has no votes: targets='votes' is for FER+ "
                    "(fer_zoo.data.FERPlus, --ferplus)"
                )
            order = index_map(data.labels, labels)
            self.targets = data.votes[:, order].to(device)
        else:
            self.targets = F.one_hot(targets, len(labels)).float().to(device)
        counts = torch.bincount(targets, minlength=len(labels)).double()
        self.chances = 1 / counts[targets]
        self.weights = _class_weights(recipe, counts, labels)
        if self.weights is not None:
            self.weights = self.weights.to(device)
            self.weights /= (self.targets @ self.weights).mean()
        self.teacher: Classifier | None = None
        self.answers: Tensor | None = None
        self.teacher_identity: str | None = None
        if teacher is not None:
            self._read_teacher(teacher, data, labels, device)

    def _read_teacher(
        self, teacher: Teacher, data: FaceDataset, labels: tuple[str, ...], device: torch.device
    ) -> None:
        model = read_teacher(teacher, data)
        if isinstance(model, Classifier):
            if model.labels is None:
                raise LabelError("the teacher has no labels: it was not trained")
            here, there = PRESETS[self.recipe.preset or model.preset], PRESETS[model.preset]
            same = all(getattr(here, k) == getattr(there, k) for k in ("size", "mean", "std"))
            if self.recipe.distill_on == "views" and not same:
                raise ArgumentError(
                    f"the teacher's preset {model.preset!r} makes other views than the recipe's "
                    f"{self.recipe.preset!r}: set distill_on='faces'"
                )
            order = index_map(model.labels, labels)
            if self.recipe.distill_on == "views":
                self.teacher_identity = hash_state(model, head=True)
                if isinstance(model, Ensemble):
                    fusion = model.fusion
                    self.teacher_identity += f" {fusion.name} {fusion.options()}"
                model.float().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                self.teacher, self.order = model.eval(), torch.tensor(order).to(device)
                return
            # As under views, the answers are the network's own, without a temperature.
            members = member_scores(model.float().to(device), data.images, progress=True)
            scores, names = fuse(model, members), model.labels
        elif self.recipe.distill_on == "views":
            raise ArgumentError("a teacher's stored scores are for distill_on='faces': set it")
        else:
            scores, names = model
        answers = scores.float()[:, index_map(names, labels)]
        self.teacher_identity = hashlib.sha256(answers.contiguous().numpy().tobytes()).hexdigest()
        self.answers = answers.to(device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Return the rows of an epoch, `(N,)`: each once, or each class equally often."""
        count = len(self.chances)
        if not self.recipe.balanced_sampling:
            return torch.randperm(count, generator=generator)
        return torch.multinomial(self.chances, count, replacement=True, generator=generator)

    def views(
        self, x: Tensor, rows: Tensor, augmentation: Augmentation, generator: torch.Generator
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the augmented faces `x`, mixed if the recipe says so, and their targets."""
        shares = [self.targets[rows]]
        if self.answers is not None:
            shares.append((self.answers[rows] / self.recipe.distill_temperature).softmax(1))
        return mix(x, shares, augmentation, generator)

    @torch.no_grad()
    def ask(self, x: Tensor) -> Tensor | None:
        """Return the teacher's logits of a batch, `(B, K)`; None where nobody has to be asked."""
        return None if self.teacher is None else self.teacher(x)[:, self.order]

    def losses(
        self, logits: Tensor, shares: list[Tensor], teacher_logits: Tensor | None = None
    ) -> Tensor:
        """Return each row's loss `(B,)` in nats, for logits `(B, K)` and what `views` returned."""
        recipe = self.recipe
        own, weight = shares[0], torch.ones(())  # a face's weight, for its teacher's share too
        if self.weights is not None:
            own = own * self.weights
            weight = own.sum(1)
            own = own / weight[:, None]
        hard = F.cross_entropy(
            logits, own, label_smoothing=recipe.label_smoothing, reduction="none"
        )
        if not recipe.distill:
            return hard * weight
        temperature, taught = recipe.distill_temperature, shares[-1]
        if teacher_logits is not None:
            taught = (teacher_logits.float() / temperature).softmax(1)
        student = (logits / temperature).log_softmax(1)
        distilled = F.kl_div(student, taught, reduction="none").sum(1) * temperature**2
        return torch.lerp(hard, distilled, recipe.distill) * weight


def _class_weights(recipe: Recipe, counts: Tensor, labels: tuple[str, ...]) -> Tensor | None:
    """Return the recipe's weight of each class, `(K,)`; None where all count alike."""
    given = recipe.class_weights
    if isinstance(given, str):
        return None if given == "none" else (counts.sum() / (len(counts) * counts)).float()
    named = {canonical(name): value for name, value in given.items()}
    if unknown := named.keys() - set(map(canonical, labels)):
        raise LabelError(f"class_weights names {sorted(unknown)}, the classes are {labels}")
    return torch.tensor([named.get(canonical(label), 1.0) for label in labels])


def write_answers(
    path: Path, scores: Tensor, data: FaceDataset, labels: Sequence[str] | None
) -> None:
    """Store a teacher's scores `(N, K)` of all faces of `data`, for `train(teacher=path)`."""
    write_checkpoint(path, {"scores": scores}, {"scores_for": data.fingerprint, "labels": labels})


def read_teacher(
    teacher: Teacher, data: FaceDataset
) -> Classifier | tuple[Tensor, tuple[str, ...]]:
    """Return a teacher as a model, or its stored scores `(N, K)` of `data` and their labels."""
    if isinstance(teacher, Classifier):
        return deepcopy(teacher)  # the caller's stays where it is, in its mode and precision
    named = isinstance(teacher, str | os.PathLike) and is_address(teacher)
    where = parse_address(teacher) if named else None
    if where is None or where.kind != "file" or "scores_for" not in read_config(where.location):
        return resolve(teacher)
    tensors, config = read_checkpoint(where.location, sha256=where.sha256)
    if config["scores_for"] != data.fingerprint:
        raise TrainingError(f"{teacher} holds a teacher's scores of other faces than these")
    labels: Any = config["labels"]
    return tensors["scores"], tuple(labels)
