"""How results look on a terminal."""

import json
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_zoo.evaluation import Evaluation
from fer_zoo.inference import Prediction

out = Console(highlight=False)


def prediction_table(labels: tuple[str, ...]) -> Table:
    """Return an empty table for predictions; fill it with `prediction_row`."""
    table = Table("image", "label", "", "score", box=None, header_style="bold")
    for name in labels:
        table.add_column(escape(name), justify="right", style="dim")
    return table


def prediction_row(prediction: Prediction) -> list[str]:
    """Return the cells of one prediction: a bar for the winner, then all classes in per cent."""
    score = prediction.score or 0.0
    filled = round(12 * score)
    full, empty = ("█", "░") if out.encoding.lower().startswith("utf") else ("#", ".")
    bar = full * filled + empty * (12 - filled)
    shares = [f"{100 * p:.0f}" for p in prediction.probabilities.values()]
    return [
        escape(prediction.source or ""),
        escape(prediction.label or ""),
        bar,
        f"{100 * score:.1f} %",
        *shares,
    ]


def print_evaluation(result: Evaluation) -> None:
    """Print the figures and the confusion matrix."""
    low, high = result.interval
    where = f"{result.data} {result.split or ''}".strip()
    views = f"{result.views} view{'s' if result.views > 1 else ''}"
    fusion = f" ({result.fusion})" if result.fusion else ""
    name = f"[bold]{escape(result.model)}[/bold]{fusion}"
    out.print(f"{name} on {escape(where)}, {result.preset} ({views}), n = {result.n}")
    out.print(
        f"accuracy {100 * result.accuracy:.2f} %  (95 % interval {100 * low:.2f} to "
        f"{100 * high:.2f})  balanced {100 * result.balanced_accuracy:.2f} %  macro-F1 "
        f"{100 * result.macro_f1:.2f} %  NLL {result.nll:.4f}"
    )
    names = map(escape, result.labels)
    table = Table("true \\ predicted", *names, "recall", box=None, header_style="bold")
    for name, row in zip(result.labels, result.confusion, strict=True):
        table.add_row(escape(name), *map(str, row), f"{100 * result.recall[name]:.1f} %")
    wide(table)


def wide(table: Table) -> None:
    """Print a table without cutting it where the output is no terminal."""
    (out if out.is_terminal else Console(highlight=False, width=160)).print(table)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as dotted names and text."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(item)
