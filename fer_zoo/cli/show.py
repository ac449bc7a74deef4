"""How results look on a terminal."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fer_zoo.evaluation import Comparison, Evaluation
from fer_zoo.evaluation.card import detection, interval, p_value, percent
from fer_zoo.evaluation.report import Report
from fer_zoo.evaluation.robustness import Robustness
from fer_zoo.inference import Prediction

out = Console(highlight=False)
DETAILS: list[tuple[str, Callable[[Evaluation], str]]] = [
    ("balanced accuracy", lambda r: percent(r.balanced_accuracy)),
    ("macro-F1", lambda r: percent(r.macro_f1)),
    ("detection rate", detection),
    ("NLL (nats)", lambda r: f"{r.nll:.4f}"),
    ("  uncalibrated", lambda r: f"{r.nll_uncalibrated:.4f}"),
    ("ECE", lambda r: percent(r.ece)),
    ("  uncalibrated", lambda r: percent(r.ece_uncalibrated)),
    ("temperature", lambda r: f"{r.temperature:.3f}"),
]


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
    where = "" if prediction.box is None else f" {prediction.box[:2]}"
    return [
        escape(f"{prediction.source or ''}{where}"),
        escape(prediction.label or ""),
        bar,
        f"{100 * score:.1f} %",
        *shares,
    ]


def print_results(results: Sequence[Evaluation]) -> None:
    """Print evaluations side by side: accuracies a line each, then all figures a column each."""
    first = results[0]
    where = f"{first.data} {first.split or ''}".strip()
    out.print(f"{escape(where)}, n = {first.n:,}; in per cent, with 95 % intervals\n")
    table = Table("", "model", "views", "accuracy", "Wilson", "bootstrap", box=None)
    for i, result in enumerate(results, 1):
        accuracy = f"[bold]{percent(result.accuracy)}[/bold]"
        bounds = interval(result.interval), interval(result.bootstrap_interval)
        table.add_row(str(i), escape(result.title), str(result.views), accuracy, *bounds)
    wide(table)
    out.print()
    table = Table("", box=None)
    for i in range(1, len(results) + 1):
        table.add_column(str(i), justify="right")
    for name, cell in DETAILS:
        table.add_row(name, *(cell(r) for r in results))
    for name in first.labels:
        recalls = (percent(r.recall[name]) for r in results)
        table.add_row(f"recall {escape(name)}", *recalls)
    wide(table)


def print_comparisons(comparisons: Sequence[Comparison], reports: Sequence[Report]) -> None:
    """Print McNemar's tests, naming the evaluations by the numbers of `print_results`."""
    results = [result for report in reports for result in report.results]
    numbers = {f"{r.title}, {r.preset}": str(i) for i, r in enumerate(results, 1)}
    if not comparisons:
        return
    out.print("\nMcNemar's exact test: faces that only one of two labels right")
    table = Table("", "", "gain, points", "only first", "only second", "p", box=None)
    for c in comparisons:
        counts = f"{100 * c.difference:+.2f}", str(c.only_first), str(c.only_second)
        table.add_row(numbers[c.first], f"to {numbers[c.second]}", *counts, p_value(c))
    wide(table)


def print_confusion(result: Evaluation) -> None:
    """Print the confusion matrix."""
    out.print(f"\n{escape(result.title)}, {escape(result.preset)}: true classes in rows")
    table = Table("", box=None)
    for name in result.labels:
        table.add_column(escape(name), justify="right")
    for i, (name, row) in enumerate(zip(result.labels, result.confusion, strict=True)):
        cells = [f"[bold]{n}[/bold]" if i == j else str(n) for j, n in enumerate(row)]
        table.add_row(escape(name), *cells)
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
        names = list(dict.fromkeys(name for row in figures for name in row))
        notes = {str(row.get("selection", "")): None for row in figures}
        out.print(f"\n[bold]{escape(key)}[/bold] ({escape('; '.join(notes))})")
        shown = Table(show_header=False, box=None)
        shown.add_column(no_wrap=True)
        for _ in figures:
            shown.add_column(overflow="fold")
        for name in names:
            if name != "selection":
                shown.add_row(name, *(_cell(row.get(name, "")) for row in figures))
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


def print_robustness(result: Robustness) -> None:
    """Print accuracy under each corruption at each severity."""
    low, high = (100 * x for x in result.interval)
    out.print(
        f"\naccuracy % on corrupted faces ({result.preset}, n = {result.n:,}): mean "
        f"[bold]{100 * result.overall:.2f}[/bold], clean {100 * result.clean:.2f} "
        f"({low:.2f} to {high:.2f})"
    )
    table = Table("severity", *map(str, result.severities), "mean", box=None)
    for name, found in result.accuracy.items():
        cells = [f"{100 * x:.1f}" for x in (*found, result.mean[name])]
        table.add_row(name, *cells)
    wide(table)
