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


def print_facts(facts: dict[str, Any]) -> None:
    """Print nested facts a line each, and lists of figures as tables."""
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True, style="bold")
    rows: list[tuple[str, list[dict[str, Any]]]] = []
    for key, value in flat(facts):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows.append((key, value))
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            table.add_row(escape(key), escape(text))
    wide(table)
    for key, figures in rows:
        columns = list(dict.fromkeys(name for row in figures for name in row))
        notes = {str(row.get("selection", "")): None for row in figures}
        columns = [name for name in columns if name != "selection"]
        out.print(f"\n[bold]{escape(key)}[/bold] ({escape('; '.join(notes))})")
        shown = Table(*columns, box=None)
        for row in figures:
            shown.add_row(*(_cell(row.get(name, "")) for name in columns))
        wide(shown)


def flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values under dotted names; a recipe is one line."""
    for key, item in value.items():
        if isinstance(item, dict) and item and key != "recipe":
            yield from flat(item, f"{prefix}{key}.")
        elif isinstance(item, dict):
            yield f"{prefix}{key}", ", ".join(f"{k} {v}" for k, v in item.items() if v != {})
        else:
            yield f"{prefix}{key}", item


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(_cell(v) for v in value)
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
