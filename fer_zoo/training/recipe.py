"""Recipes: the full settings of one training run, as files that can be read and diffed."""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from fer_zoo.errors import ArgumentError
from fer_zoo.registry import Registry
from fer_zoo.transforms import PRESETS

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """All settings of one training run.

    Attributes:
        name: registry name.
        description: where the settings come from.
        preset: transform the model is trained and then evaluated with.
        epochs: passes over the data.
        batch_size: faces per step.
        lr: peak learning rate of SGD.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        weight_decay: L2 penalty on all parameters.
        schedule: `constant`, or `cosine` down to zero at the end.
        warmup: epochs of linear warm-up from zero.
        label_smoothing: share of the target spread over all classes (arXiv 1512.00567).
        ema: decay per step of the averaged weights that are evaluated and kept; 0 for none.
        clip: largest gradient norm; 0 for none.
        precision: `fp32`, `bf16` (autocast), or `auto`: bf16 where the device computes in it.
        seed: of initialisation, order, augmentation and dropout.
        augment: changes to the preset's training augmentation.

    Example:
        >>> recipe = Recipe(name="mine", epochs=10, schedule="cosine", lr=0.1)
        >>> round(recipe.lr_at(5), 6)
        0.05
    """

    name: str
    description: str = ""
    preset: str = "thesis40"
    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 0.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    augment: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.type is float and isinstance(value, int) and not isinstance(value, bool):
                object.__setattr__(self, f.name, float(value))
            elif isinstance(f.type, type) and type(value) is not f.type:
                raise ArgumentError(f"recipe setting {f.name} must be {f.type.__name__}: {value!r}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ArgumentError(f"{name} must be {low} to {high}, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf or (self.nesterov and not self.momentum):
            raise ArgumentError("lr must be above 0, and nesterov needs momentum")
        for name, values in (("schedule", ("constant", "cosine")), ("precision", _PRECISIONS)):
            if getattr(self, name) not in values:
                raise ArgumentError(f"{name} must be one of {values}: {getattr(self, name)!r}")
        PRESETS[self.preset].training.updated(self.augment)

    def updated(self, changes: Mapping[str, Any]) -> "Recipe":
        """Return a copy with some settings changed; an unknown setting raises.

        Example:
            >>> RECIPES["thesis_20"].updated({"epochs": 3}).epochs
            3
        """
        known = {f.name for f in fields(self)}
        if unknown := sorted(set(changes) - known):
            raise ArgumentError(f"a recipe has no setting {unknown}; it has {sorted(known)}")
        return replace(self, **changes)

    def lr_at(self, epoch: float) -> float:
        """Return the learning rate after `epoch` epochs (a fraction counts)."""
        if epoch < self.warmup:
            return self.lr * max(epoch, 1e-3) / self.warmup
        if self.schedule == "constant":
            return self.lr
        done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
        return self.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return {**asdict(self), "augment": {k: _plain(v) for k, v in self.augment.items()}}


_RANGES = {
    "epochs": (1, 1_000_000),
    "batch_size": (2, 1_000_000),
    "momentum": (0.0, 1.0),
    "weight_decay": (0.0, 1.0),
    "warmup": (0.0, 1_000_000.0),
    "label_smoothing": (0.0, 1.0),
    "ema": (0.0, 0.999999),
    "clip": (0.0, math.inf),
    "seed": (0, 1_000_000),
}
_PRECISIONS = ("auto", "fp32", "bf16")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the TOML file at `path`, named after the file."""
    try:
        return Recipe(**{"name": path.stem, **tomllib.loads(path.read_text())})
    except (OSError, UnicodeError, tomllib.TOMLDecodeError, TypeError) as error:
        raise ArgumentError(f"{path} is no recipe: {error}") from None


RECIPES: Registry[Recipe] = Registry("recipe", "`fer-zoo recipes`")
for _path in sorted(FOLDER.glob("*.toml")):
    RECIPES.register(_path.stem, read_recipe(_path))


def get_recipe(
    recipe: str | os.PathLike[str] | Recipe, changes: Mapping[str, Any] | None = None
) -> Recipe:
    """Return a recipe by name, from a `.toml` file, or as it is, with `changes` applied."""
    if not isinstance(recipe, Recipe):
        name = os.fspath(recipe)
        recipe = read_recipe(Path(name)) if name.endswith(".toml") else RECIPES[name]
    return recipe.updated(changes) if changes else recipe
