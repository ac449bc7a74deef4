"""How results look on a terminal."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_zoo.evaluation import Comparison, Evaluation
from fer_zoo.evaluation.card import detection, interval, p_value, percent
from fer_zoo.evaluation.report import Report
from fer_zoo.evaluation.robustness import Robustness
from fer_zoo.inference import Prediction


class _Output(Console):
    """Standard output, with the error that a closed pipe is: rich would end with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Output(highlight=False)
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


def printable(text: str, also: str = "") -> str:
    """Return `text` with what a terminal would obey, or cannot show, as escapes, but for `also`."""
    return "".join(
        c if c.isprintable() or c in also else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def cell(text: str) -> str:
    """Return `text` for a table of rich: whole, and neither markup nor anything but text."""
    return escape(printable(text))


class PredictionLines:
    """Predictions as lines of equal columns: label, bar, score, every class, and the image last.

    Nothing is cut: on a terminal on which a line would not fit the classes are left out.

    Args:
        labels: of the predictor.
        images: what the longest name of an image takes.
    """

    def __init__(self, labels: Sequence[str], images: int) -> None:
        self.labels = [printable(name) for name in labels]
        self.width = max(5, *map(cell_len, self.labels))
        self.columns = [max(3, cell_len(name)) for name in self.labels]
        whole = self.width + 23 + sum(2 + n for n in self.columns) + 2 + images
        if out.is_terminal and whole > out.width:
            self.columns = []
        full, empty = ("█", "░") if out.encoding.lower().startswith("utf") else ("#", ".")
        self.bars = [full * n + empty * (12 - n) for n in range(13)]

    def head(self) -> Text:
        """Return the names of the columns."""
        line = [set_cell_size("label", self.width), " " * 12, "  score"]
        names = zip(self.labels, self.columns, strict=False)
        line += [" " * (n - cell_len(name)) + name for name, n in names]
        return Text("  ".join([*line, "image"]), style="bold")

    def line(self, prediction: Prediction) -> Text:
        """Return a prediction's line."""
        share, label = prediction.probability or 0.0, printable(prediction.label or "")
        shares = zip(prediction.probabilities.values(), self.columns, strict=False)
        where = "" if prediction.box is None else f"  {prediction.box}"
        parts = [
            (set_cell_size(label, self.width), "bold"),
            (self.bars[round(12 * share)], "cyan"),
            (f"{100 * share:5.1f} %", ""),
            *((f"{100 * p:{n}.0f}", "dim") for p, n in shares),
            (f"{printable(prediction.source or '')}{where}", ""),
        ]
        return Text("  ").join(Text(text, style) for text, style in parts)


def print_results(results: Sequence[Evaluation]) -> None:
    """Print evaluations side by side: accuracies a line each, then all figures a column each."""
    first = results[0]
    where = f"{first.data} {first.split or ''}".strip()
    out.print(f"{cell(where)}, n = {first.n:,}; in per cent, with 95 % intervals\n")
    table = Table("", "model", "views", "accuracy", "Wilson", "bootstrap", box=None)
    for i, result in enumerate(results, 1):
        accuracy = f"[bold]{percent(result.accuracy)}[/bold]"
        bounds = interval(result.interval), interval(result.bootstrap_interval)
        table.add_row(str(i), cell(result.title), str(result.views), accuracy, *bounds)
    wide(table)
    out.print()
    table = Table("", box=None)
    for i in range(1, len(results) + 1):
        table.add_column(str(i), justify="right")
    for name, figure in DETAILS:
        table.add_row(name, *(figure(r) for r in results))
    for name in first.labels:
        recalls = (percent(r.recall[name]) for r in results)
        table.add_row(f"recall {cell(name)}", *recalls)
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
    out.print(f"\n{cell(result.title)}, {cell(result.preset)}: true classes in rows")
    table = Table("", box=None)
    for name in result.labels:
        table.add_column(cell(name), justify="right")
    for i, (name, row) in enumerate(zip(result.labels, result.confusion, strict=True)):
        cells = [f"[bold]{n}[/bold]" if i == j else str(n) for j, n in enumerate(row)]
        table.add_row(cell(name), *cells)
    wide(table)


def wide(table: RenderableType) -> None:
    """Print a table, as wide as it is where the output is no terminal."""
    (out if out.is_terminal else _Output(highlight=False, width=10_000)).print(table)


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def print_facts(facts: dict[str, Any], indent: int = 0) -> None:
    """Print facts a line each, nested ones below their name, and lists of figures as tables."""
    facts = {printable(key) or "all": value for key, value in facts.items()}
    width = max((len(key) for key, value in facts.items() if not _nested(value)), default=0)
    for key, value in facts.items():
        name = f"{' ' * indent}[bold]{escape(key)}[/bold]"
        if _nested(value) and isinstance(value, dict):
            out.print(name, soft_wrap=True)
            print_facts(value, indent + 2)
        elif _nested(value):
            _print_figures(name, value, indent + 2)
        elif value not in (None, "", [], (), {}):
            out.print(f"{name}{' ' * (width - len(key))}  {cell(_text(value))}", soft_wrap=True)


def _nested(value: Any) -> bool:
    return bool(value) and isinstance(value[0] if isinstance(value, list) else value, dict)


def _print_figures(name: str, figures: list[dict[str, Any]], indent: int) -> None:
    notes = "; ".join({str(row["selection"]): None for row in figures if "selection" in row})
    out.print(f"{name}  {cell(notes)}", soft_wrap=True)
    shown = Table(show_header=False, box=None)
    shown.add_column(no_wrap=True)
    for _ in figures:
        shown.add_column(overflow="fold")
    for key in dict.fromkeys(key for row in figures for key in row if key != "selection"):
        shown.add_row(key, *(cell(_text(row.get(key, ""))) for row in figures))
    wide(Padding(shown, (0, 0, 0, indent)))


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        numbers = len(value) == 2 and all(isinstance(v, float) for v in value)
        return (" to " if numbers else ", ").join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:g}"
    return str(value)


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
