"""Recipes: the full settings of one training run, as files that can be read and diffed."""

import difflib
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from fer_zoo.errors import ArgumentError
from fer_zoo.labels import check_labels
from fer_zoo.models import Classifier, ModelSpec
from fer_zoo.plain import from_plain, to_plain
from fer_zoo.registry import Registry
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.address import is_address

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of one training run.

    Attributes:
        name: registry name.
        description: where the settings come from.
        preset: transform the model is trained and then evaluated with; the network's own where
            nothing is said.
        epochs: passes over the data.
        batch_size: faces per step.
        optimizer: `sgd`, or `adamw` (arXiv 1711.05101).
        lr: peak learning rate.
        momentum: of SGD; AdamW's first beta (its second is 0.999).
        nesterov: Nesterov's form of SGD.
        weight_decay: on all parameters; an L2 penalty for SGD, decoupled for AdamW.
        schedule: `constant`; `cosine` down to zero at the end; `decay`, which multiplies the rate
            by `decay_rate` after epoch `decay_start` and then every `decay_every` epochs; or
            `plateau`, which does so when validation accuracy has not risen for `patience` epochs.
        layer_decay: the head learns at the full rate, each stage in front of it at this share of
            the next one's (timm's `layer_decay`); 1 for one rate.
        freeze: how many stages keep the weights and statistics they start with: 1 for the stem.
        warmup: epochs of linear warm-up from zero.
        decay_start: last epoch at the full rate, for `decay`.
        decay_every: epochs between two steps of `decay`.
        decay_rate: factor of one step of `decay` or `plateau`.
        patience: epochs without a rise that `plateau` waits for.
        label_smoothing: share of the target spread over all classes (arXiv 1512.00567).
        class_weights: how much a face counts, by its class: `none`, `balanced` (inversely to the
            number of faces, as scikit-learn's) or by name, `{"disgust": 5.0}`; a class without a
            name here has 1. Only ratios count: the mean over the training faces is 1. Votes and
            mixed faces count by their shares, a teacher's answers and the smoothed share as their
            face does.
        balanced_sampling: an epoch draws as many faces as there are, each class equally often and
            with replacement (torch's `WeightedRandomSampler`), instead of each face once.
        stop_after: end after so many epochs without a better one on the validation faces; 0 for
            never.
        targets: `labels`, or `votes`: each face's share of votes, where the data has them (FER+).
        distill: share of the loss that is taken from the teacher's answers (arXiv 1503.02531).
        distill_temperature: what teacher's and student's logits are divided by for that share.
        distill_on: `views`: the teacher sees each augmented view (arXiv 2106.05237); or `faces`: it
            is asked once for every face, under its own preset, and its scores are stored.
        ema: decay per step of the averaged weights that are evaluated and kept; 0 for none. In the
            first steps the decay is lower: step t uses at most (1 + t) / (10 + t).
        clip: largest gradient norm; 0 for none.
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 where the device computes in it.
        compile: run the network through `torch.compile`.
        seed: of initialisation, order, augmentation and dropout.
        augment: changes to the preset's training augmentation.

    Example:
        >>> recipe = Recipe(name="mine", epochs=10, schedule="cosine", lr=0.1)
        >>> round(recipe.lr_at(5), 6)
        0.05
    """

    name: str
    description: str = ""
    preset: str | None = None
    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "decay", "plateau"] = "constant"
    layer_decay: float = 1.0
    freeze: int = 0
    warmup: float = 0.0
    decay_start: int = 0
    decay_every: int = 1
    decay_rate: float = 0.5
    patience: int = 10
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] | Mapping[str, float] = "none"
    balanced_sampling: bool = False
    stop_after: int = 0
    targets: Literal["labels", "votes"] = "labels"
    distill: float = 0.0
    distill_temperature: float = 4.0
    distill_on: Literal["views", "faces"] = "views"
    ema: float = 0.0
    clip: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    seed: int = 0
    augment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):
            kind: Any = f.type
            object.__setattr__(self, f.name, from_plain(kind, getattr(self, f.name), f.name))
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ArgumentError(f"{name} must be {low} to {high}, got {getattr(self, name)}")
        if not self.lr > 0 or (self.nesterov and not self.momentum):
            raise ArgumentError("lr must be above 0, and nesterov needs momentum")
        if self.optimizer == "adamw" and self.nesterov:
            raise ArgumentError("nesterov is SGD's: set nesterov=false for AdamW")
        self._check_schedule()
        self._check_balance()
        PRESETS[self.preset or ModelSpec.preset].training.updated(self.augment)

    def _check_schedule(self) -> None:
        for name, schedules in _SCHEDULES.items():
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != default and self.schedule not in schedules:
                raise ArgumentError(
                    f"{name}={value} has no effect under schedule={self.schedule!r}: set schedule="
                    f"{schedules[0]!r}, or leave {name} at {default}"
                )
        if self.stop_after and self.stop_after > self.epochs - 2:
            raise ArgumentError(
                f"stop_after={self.stop_after} never ends a run of {self.epochs} epochs early: set "
                f"it to less than {max(self.epochs - 1, 1)}, or to 0"
            )
        if self.schedule == "plateau" and 0 < self.stop_after < self.patience + 2:
            raise ArgumentError(
                f"stop_after={self.stop_after} ends the run before the plateau's lower rate is "
                f"tried: set it to {self.patience + 2} or more, or lower patience"
            )

    def _check_balance(self) -> None:
        if isinstance(self.class_weights, str):
            named = self.class_weights != "none"
        else:
            if not self.class_weights:
                raise ArgumentError(
                    "class_weights is 'none', 'balanced' or a weight for classes by name, got none"
                )
            named = bool(check_labels([*self.class_weights]))
            if wrong := [k for k, v in self.class_weights.items() if not 1e-6 <= v <= 1e6]:
                raise ArgumentError(f"class_weights of {wrong} must be 1e-06 to 1e+06")
        if named and self.balanced_sampling:
            raise ArgumentError(
                "class_weights and balanced_sampling would balance twice: set one of them"
            )

    def updated(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return a copy with some settings changed; an unknown setting raises.

        `augment` replaces all changes to the augmentation, `augment.NAME` one of them; so for
        `class_weights`.

        Example:
            >>> RECIPES["strong"].updated({"epochs": 3, "augment.mixup": 0.2}).augment["mixup"]
            0.2
        """
        if not isinstance(changes, Mapping) or not all(isinstance(k, str) for k in changes):
            raise ArgumentError(f"changes are settings by name, got {changes!r:.80}")
        changes = dict(changes)
        for table in ("augment", "class_weights"):
            begin = f"{table}."
            one = {k.removeprefix(begin): changes.pop(k) for k in [*changes] if k.startswith(begin)}
            held = changes.get(table, getattr(self, table))
            if one and not isinstance(held, Mapping) and held != "none":
                raise ArgumentError(
                    f"{table}={held!r} and {begin}{next(iter(one))}: set one of both"
                )
            if one:
                changes[table] = one if held == "none" else {**held, **one}
        known = {f.name for f in fields(self)}
        if unknown := sorted(set(changes) - known):
            near = difflib.get_close_matches(unknown[0].replace("-", "_"), known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"it has {sorted(known)}"
            raise ArgumentError(f"a recipe has no setting {unknown}; {meant}")
        return replace(self, **changes)

    def lr_at(self, epoch: float, accuracies: Sequence[float] = ()) -> float:
        """Return the learning rate after `epoch` epochs (a fraction counts).

        Args:
            epoch: how much of the run is done.
            accuracies: validation accuracy of each finished epoch; `plateau` looks at them.
        """
        if epoch < self.warmup:
            return self.lr * min(max(epoch, 1e-3) / self.warmup, 1.0)
        if self.schedule == "decay" and epoch >= self.decay_start:
            steps = 1 + (epoch - self.decay_start) // self.decay_every
            return float(self.lr * self.decay_rate**steps)
        if self.schedule == "plateau":
            return self._lr_on_plateau(accuracies)
        if self.schedule != "cosine":
            return self.lr
        done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _lr_on_plateau(self, accuracies: Sequence[float]) -> float:
        # Torch's own schedule, replayed: nothing but the history has to be kept for a resume.
        sgd = SGD([torch.zeros(1, requires_grad=True)], lr=self.lr)
        watch = ReduceLROnPlateau(
            sgd, "max", factor=self.decay_rate, patience=self.patience, threshold=0.0
        )
        for accuracy in accuracies:
            watch.step(accuracy)
        rate: float = sgd.param_groups[0]["lr"]
        return rate

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {f.name: to_plain(getattr(self, f.name)) for f in fields(self)}


_SCHEDULES = {  # what only these schedules look at
    "decay_start": ("decay",),
    "decay_every": ("decay",),
    "decay_rate": ("decay", "plateau"),
    "patience": ("plateau",),
}
_RANGES = {
    "epochs": (1, 1_000_000),
    "batch_size": (2, 1_000_000),
    "momentum": (0.0, 0.99999),
    "weight_decay": (0.0, 1.0),
    "layer_decay": (1e-6, 1.0),
    "freeze": (0, 1_000),
    "warmup": (0.0, 1_000_000.0),
    "decay_start": (0, 1_000_000),
    "decay_every": (1, 1_000_000),
    "decay_rate": (1e-6, 1.0 - 1e-6),
    "patience": (0, 1_000_000),
    "label_smoothing": (0.0, 1.0),
    "stop_after": (0, 1_000_000),
    "distill": (0.0, 1.0),
    "distill_temperature": (0.01, 1000.0),
    "ema": (0.0, 0.999999),
    "clip": (0.0, math.inf),
    "seed": (0, 1_000_000),
}


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the TOML file at `path`, named after the file."""
    try:
        return Recipe(**{"name": path.stem, **tomllib.loads(path.read_text())})
    except (OSError, UnicodeError, tomllib.TOMLDecodeError, TypeError) as error:
        raise ArgumentError(f"{path} is no recipe: {error}") from None


RECIPES: Registry[Recipe] = Registry("recipe", "`fer-zoo recipes`")
for _path in sorted(FOLDER.glob("*.toml")):
    RECIPES.register(_path.stem, read_recipe(_path))


RecipeLike = str | os.PathLike[str] | Recipe


def default_recipe(model: Any) -> str:
    """Return the recipe's name for what training starts from: weights, or a fresh network."""
    if isinstance(model, Classifier):
        known = model.evidence
        return "finetune" if known.origin or known.started_from else "strong"
    return "finetune" if is_address(model) else "strong"


def get_recipe(recipe: RecipeLike, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe by name, from a `.toml` file, or as it is, with `changes` applied.

    Raises:
        UnknownNameError: no recipe has that name.
        ArgumentError: the file or a change is not a recipe's.

    Example:
        >>> get_recipe("finetune", {"epochs": 5, "freeze": 1}).epochs
        5
    """
    if not isinstance(recipe, Recipe):
        if not isinstance(recipe, str | os.PathLike):
            raise ArgumentError(
                f"a recipe is a name, a .toml file or a fer_zoo.training.Recipe, got {recipe!r:.80}"
            )
        name = os.fspath(recipe)
        recipe = read_recipe(Path(name)) if name.endswith(".toml") else RECIPES[name]
    return recipe if changes is None else recipe.updated(changes)
