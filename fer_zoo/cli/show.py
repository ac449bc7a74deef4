"""How results look on a terminal."""

import json
import re
from collections.abc import Sequence
from typing import Any

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fer_zoo.errors import printable
from fer_zoo.evaluation import Comparison, Evaluation, Report, Robustness
from fer_zoo.evaluation.card import comparison_rows, confusion_rows
from fer_zoo.evaluation.figures import EVALUATED, FIGURES, figure_rows, percent, points
from fer_zoo.evaluation.selective import GROUPS, abstention_rows, group_rows
from fer_zoo.evidence import Faces
from fer_zoo.inference import Prediction

NUMBER = re.compile(r"([-+]?[\d.,]+(e-\d+)?( to [\d.,]+)?|-|)")
TITLED = {**FIGURES, "gain": ("gain, points", points)}
DETAILS = (*EVALUATED, "nll_uncalibrated", "ece_uncalibrated", "cross_validated_ece")


class _Output(Console):
    """Standard output, with the error that a closed pipe is: rich would end with exit code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Output(highlight=False)


def cell(text: str) -> str:
    """Return `text` for a table of rich: whole, and neither markup nor anything but text."""
    return escape(printable(text))


class PredictionLines:
    """Predictions as lines: label, bar, probability, every class if a terminal has room, image."""

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
        line = [set_cell_size("label", self.width), f"{'probability':>21}"]
        names = zip(self.labels, self.columns, strict=False)
        line += [" " * (n - cell_len(name)) + name for name, n in names]
        return Text("  ".join([*line, "image"]), style="bold")

    def line(self, prediction: Prediction) -> Text:
        """Return a prediction's line."""
        share, label = prediction.probability or 0.0, printable(prediction.label or "-")
        shares = zip(prediction.probabilities.values(), self.columns, strict=False)
        where = "" if prediction.box is None else f"  {prediction.box}"
        where += f"  {printable(prediction.reason)}" if prediction.reason else ""
        parts = [
            (set_cell_size(label, self.width), "bold"),
            (self.bars[round(12 * share)], "cyan"),
            (f"{100 * share:5.1f} %", ""),
            *((f"{100 * p:{n}.0f}", "dim") for p, n in shares),
            (f"{printable(prediction.source or '')}{where}", ""),
        ]
        return Text("  ").join(Text(text, style) for text, style in parts)


def print_table(rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """Print rows, the head first and numbers to the right; only on a terminal cells are folded."""
    table = Table(box=None, pad_edge=False)
    for name, *column in zip(*rows, strict=True):
        numbers = all(NUMBER.fullmatch(c) for c in column)
        justify: Any = "right" if numbers and table.columns else "left"
        table.add_column(cell(name), justify=justify, overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(cell, row))
    shown = out if out.is_terminal else _Output(highlight=False, width=100_000)
    with shown.capture() as lines:
        shown.print(Padding.indent(table, indent))
    click.echo("\n".join(line.rstrip() for line in lines.get().splitlines()))


def print_results(results: Sequence[Evaluation]) -> None:
    """Print evaluations side by side, a column each; their numbers are above."""
    numbers, first = [str(i) for i in range(1, len(results) + 1)], results[0]
    out.print(f"{cell(str(first.faces))}; with 95 % intervals\n", soft_wrap=True)
    titles = ["model", *(r.title for r in results)]
    views = figure_rows(results, ["preset", "view_count"])
    print_table([*zip(["", *numbers], titles, *views, strict=True)])
    out.print()
    rows = [["", *numbers], *figure_rows(results, DETAILS)]
    rows += [[f"recall %, {n}", *(percent(r.recall[n]) for r in results)] for n in first.labels]
    print_table(rows)


def print_comparisons(comparisons: Sequence[Comparison], reports: Sequence[Report]) -> None:
    """Print McNemar's tests, naming the evaluations by the numbers of `print_results`."""
    results = [result for report in reports for result in report.results]
    numbers = {f"{r.title}, {r.preset}": str(i) for i, r in enumerate(results, 1)}
    if comparisons:
        out.print("\nMcNemar's exact test: faces that only one of two labels right")
        print_table(comparison_rows(comparisons, numbers))


def print_confusion(result: Evaluation) -> None:
    """Print the confusion matrix."""
    name = cell(f"{result.title}, {result.preset}")
    out.print(f"\n{name}: true classes in rows", soft_wrap=True)
    print_table(confusion_rows(result))


def print_abstention(result: Evaluation) -> None:
    """Print what thresholds leave unlabelled."""
    out.print(f"\nAbstaining below a probability; AURC {percent(result.aurc)} %", soft_wrap=True)
    print_table(abstention_rows(result.abstention))


def print_groups(result: Evaluation) -> None:
    """Print the figures of each group, and the tests."""
    out.print(f"\n{cell(GROUPS)}", soft_wrap=True)
    print_table(group_rows(result.groups))


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    click.echo(json.dumps(value, indent=2))


def print_facts(facts: dict[str, Any], indent: int = 0) -> None:
    """Print facts a line each, nested ones below their name, and lists of figures as tables."""
    width = max(len(printable(key)) for key in facts)
    for key, value in facts.items():
        name = printable(key) or "all"
        start = f"{' ' * indent}[bold]{escape(name)}[/bold]"
        if value in (None, "", [], (), {}):
            continue
        if isinstance(value, dict):
            out.print(start, soft_wrap=True)
            print_facts(value, indent + 2)
        elif isinstance(value, list) and isinstance(value[0], dict):
            _print_figures(start, value, indent + 2)
        else:
            out.print(f"{start}{' ' * (width - len(name))}  {cell(_text(value))}", soft_wrap=True)


def _print_figures(start: str, figures: list[dict[str, Any]], indent: int) -> None:
    notes = {f"selection: {row['selection']}": None for row in figures if "selection" in row}
    out.print(f"{start}  {cell('; '.join(notes))}".rstrip(), soft_wrap=True)
    figures = [row | {"faces": Faces(**row["faces"])} for row in figures]
    rows = [["", *map(str, range(1, len(figures) + 1))]]
    for key in dict.fromkeys(key for row in figures for key in row if key != "selection"):
        title, write = TITLED.get(key, (key, _text))
        rows.append([title, *(write(row[key]) if key in row else "-" for row in figures)])
    print_table(rows, indent=indent)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        numbers = len(value) == 2 and all(isinstance(v, float) for v in value)
        return (" to " if numbers else ", ").join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) >= 0.001 else f"{value:g}"
    return str(value)


def print_robustness(result: Robustness) -> None:
    """Print accuracy under each corruption at each severity."""
    clean = result.clean
    title = f"{clean.title}, {clean.preset}: accuracy % under each severity of a corruption"
    out.print(f"\n{cell(title)}; clean {percent(clean.accuracy)}", soft_wrap=True)
    print_table(result.rows())
