"""The plan of `benchmarks/train_zoo.py`: what `zoo.toml` may say, and the runs of it."""

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fer_zoo.errors import ArgumentError
from fer_zoo.training import Recipe, get_recipe


@dataclass(frozen=True)
class Stage:
    """Networks that are trained alike; see the comments in zoo.toml."""

    name: str
    models: list[str]
    recipe: str
    expected: str
    seeds: list[int] = field(default_factory=lambda: [0])
    data: str = "fer2013"
    teacher: list[str] = field(default_factory=list)
    teacher_preset: str | None = None
    starts: str = ""
    continues: str = ""
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self, seed: int = 0) -> Recipe:
        """Return the recipe of one run, with all its epochs."""
        return get_recipe(self.recipe, {**self.changes, "seed": seed})


@dataclass(frozen=True)
class Job:
    """One run of one stage."""

    stage: Stage
    model: str
    seed: int
    folder: Path

    @property
    def network(self) -> Path:
        """Its best epoch."""
        return self.folder / "best.safetensors"

    @property
    def result(self) -> dict[str, Any] | None:
        """What it came to, once it is finished and measured."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.is_file() else None


@dataclass(frozen=True)
class Product:
    """An ensemble to bundle, from the best runs of some stages."""

    model: str
    stages: list[str]
    tag: str = "fer2013"
    dtype: str = "float16"


def read_plan(path: Path) -> tuple[list[Stage], list[Product]]:
    """Return the stages and products of a plan; a name that is not there raises."""
    try:
        content = tomllib.loads(path.read_text())
        stages = [Stage(**entry) for entry in content.pop("stage")]
        products = [Product(**entry) for entry in content.pop("product", [])]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ArgumentError(f"{path} is no plan: {error}") from None
    before: list[str] = []
    for stage in stages:
        stage.settings()
        same = [*stage.teacher, *filter(None, [stage.continues])]
        needed = [*same, *filter(None, [stage.starts])]
        if stage.name in before or not set(needed) <= set(before):
            raise ArgumentError(f"{path}: {stage.name!r} stands twice, or before one of {needed}")
        if others := {s.data for s in stages if s.name in same} - {stage.data}:
            raise ArgumentError(f"{path}: {stage.name!r} learns of {stage.data} from {others}")
        before.append(stage.name)
    for product in products:
        if not set(product.stages) <= set(before) or content:
            raise ArgumentError(f"{path}: {product.stages} or {sorted(content)} are not known")
    return stages, products
