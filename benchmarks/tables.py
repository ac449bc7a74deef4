"""The tables of measured rows, for the terminal and for the documentation."""

from collections.abc import Callable, Iterable
from pathlib import Path

from harness import RESULTS, Row, markdown, read_rows

Cell = Callable[[Row], str]


def number(field: str, factor: float = 1, digits: int = 1, unit: str = "") -> Cell:
    """Return what makes a cell of a row's field."""
    return lambda row: f"{factor * row[field]:,.{digits}f}{unit}"


def milliseconds(row: Row) -> str:
    """Return the cell of how long a call takes."""
    median, low, high = (1000 * row[name] for name in ("median_s", "p10_s", "p90_s"))
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


def spread(values: list[float], digits: int = 2) -> str:
    """Return the cell of a 10th percentile, a median and a 90th percentile."""
    low, median, high = (f"{value:.{digits}f}" for value in values)
    return f"{median} ({low} to {high})"


def model(row: Row) -> str:
    """Return the cell of a model's name."""
    return f"`{row['model']}`"


NAMED: dict[str, dict[str, Cell]] = {
    "inference": {
        "model": model,
        "batch": number("batch_size", digits=0),
        "views": lambda row: str(row.get("views", 1)),
        "mode": lambda row: row["mode"] + (f" ({row['engine']})" if row.get("engine") else ""),
        "dtype": lambda row: row["dtype"],
    },
    "training": {
        "model": model,
        "recipe": lambda row: row["recipe"],
        "batch": lambda row: str(row["batch_size"]),
        "way": lambda row: row["mode"],
        "precision": lambda row: row["dtype"],
    },
    "accuracy": {"model": model, "recipe": lambda row: row["recipe"]},
    "startup": {"a fresh process does": lambda row: f"`{row['mode']}`"},
}
"""The cells that say what was measured, by the kind of row."""

MEASURED: dict[str, dict[str, Cell]] = {
    "inference": {
        "x torchvision": lambda row: spread(row["ratios"]["torchvision"]),
        "x eager": lambda row: spread(row["ratios"]["eager"]),
        "images/s": number("images_per_s"),
        "median ms (10th to 90th percentile)": milliseconds,
        "largest difference": lambda row: f"{row['max_difference']:.0e}",
        "repeats": lambda row: str(row["repeats"]),
        "peak MB": number("peak_memory_bytes", 1e-6, 0),
    },
    "training": {
        "images/s": number("images_per_s"),
        "our loop is so many times as fast (10th to 90th percentile)": lambda row: spread(
            row["loop_over_this"]
        ),
        "rounds": lambda row: str(row["repeats"]),
    },
    "accuracy": {
        "PublicTest accuracy asked for": number("target", 100, unit=" %"),
        "reached": number("accuracy", 100, unit=" %"),
        "epochs": lambda row: str(row["epochs"]),
        "minutes": number("seconds", 1 / 60),
    },
    "startup": {
        "import s": lambda row: f"{row['import_s'][1]:.2f}",
        "then, s (10th to 90th percentile)": lambda row: spread(row["then_s"], 3),
        "all of it / `import torch` alone": lambda row: spread(row["ratio"]),
        "adds to peak memory": number("added_bytes", 1e-6, unit=" MB"),
        "/ float32 size": number("size_ratio", digits=2),
    },
}
"""The cells of figures; a column that no row has a figure for is left out."""


def table(kind: str, rows: Iterable[Row]) -> str:
    """Return the table of the rows of one kind; one without figures says why instead."""
    named, measured, lines = NAMED[kind], MEASURED[kind], []
    for row in rows:
        if row["kind"] == kind:
            cells = [_cell(cell, row) for cell in measured.values()]
            if row.get("status", "ok") != "ok":
                reason = f": {row['reason']}" if row.get("reason") else ""
                cells[0] = f"{row['status']}{reason}".replace("|", "/")
            lines.append([*(cell(row) for cell in named.values()), *cells])
    head = [*named, *measured]
    shown = [i for i in range(len(head)) if i < len(named) or any(line[i] for line in lines)]
    return markdown([head[i] for i in shown], [[line[i] for i in shown] for line in lines])


def _cell(cell: Cell, row: Row) -> str:
    try:
        return cell(row)
    except (KeyError, TypeError):  # the row has no such figure, or None
        return ""


def results(folder: Path = RESULTS) -> str:
    """Return all tables of the committed results, each in a fold, newest file first."""
    parts = []
    titles = {
        "inference": "Inference",
        "training": "Training",
        "accuracy": "Time to an accuracy",
        "startup": "Start",
    }
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stem[-10:], reverse=True):
        rows = read_rows(path)
        for kind, title in titles.items():
            if own := [row for row in rows if row["kind"] == kind]:
                parts += [f":::{{dropdown}} {title}: {_where(own)}", table(kind, own), ":::"]
    return "\n\n".join(parts) or "No results have been committed yet."


def _where(rows: list[Row]) -> str:
    known = rows[-1]["environment"]
    packages = known["packages"]
    place = known["gpu"] or known["cpu"]
    text = f"{place}, {known['cores']} cores, {known['threads']} threads, {known['date']}, "
    names = ("torch", "torchvision", "timm", "onnxruntime")
    text += ", ".join(f"{name} {packages[name]}" for name in names if packages[name])
    text += f"; driver {known['driver']}" if known["driver"] else ""
    text += f"; commit `{known['commit']}`" if known["commit"] else ""
    return text
