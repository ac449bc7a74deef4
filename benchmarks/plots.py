"""Pictures of measured rows: throughput against batch size, accuracy against latency."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import Row

import fer_zoo
from fer_zoo.weights import get_weights


def save_plots(rows: Iterable[Row], beside: Path) -> list[Path]:
    """Write the plots of inference rows beside a file of results and return their paths."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plots: matplotlib is not installed (pip install 'fer-zoo[bench]')")
        return []
    timed = [r for r in rows if r["kind"] == "inference" and r["status"] == "ok"]
    trained = [r for r in timed if r["model"] in fer_zoo.list_models(weights=True)]
    paths = []
    for name, draw, shown in (("throughput", throughput, timed), ("accuracy", accuracy, trained)):
        if shown:
            figure = Figure(layout="constrained")
            draw(figure, shown)
            paths.append(beside.with_name(f"{beside.stem}-{name}.png"))
            figure.savefig(paths[-1], dpi=120)
    return paths


def throughput(figure: Any, rows: list[Row]) -> None:
    """Draw images per second against batch size, one field per model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    figure.set_size_inches(4 * columns, 3 * lines)
    fields = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, model in zip(fields, models, strict=False):
        plot(axes, [r for r in rows if r["model"] == model], "batch_size", "images_per_s", "o-")
        axes.set(xscale="log", yscale="log", title=model, xlabel="batch size", ylabel="images/s")
    for axes in fields[len(models) :]:
        axes.set_visible(False)
    fields[0].legend(fontsize=7)


def accuracy(figure: Any, rows: list[Row]) -> None:
    """Draw recorded accuracy against the latency of the smallest batch."""
    smallest = min(row["batch_size"] for row in rows)
    rows = [
        row | {"ms": 1000 * row["median_s"], "accuracy": 100 * recorded(row["model"])}
        for row in rows
        if row["batch_size"] == smallest
    ]
    axes = figure.subplots()
    plot(axes, rows, "ms", "accuracy", "o")
    for row in {row["model"]: row for row in rows}.values():
        axes.annotate(row["model"], (row["ms"], row["accuracy"]), fontsize=7, va="bottom")
    axes.set(xlabel=f"ms for a batch of {smallest}", ylabel="recorded accuracy in %")
    axes.legend(fontsize=7)


def plot(axes: Any, rows: list[Row], x: str, y: str, look: str) -> None:
    """Draw two fields of rows against each other, one line for each way to run the network."""
    ways: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        ways.setdefault(f"{row['mode']}, {row['dtype']}", []).append((row[x], row[y]))
    for way, points in ways.items():
        axes.plot(*zip(*sorted(points), strict=True), look, label=way)


def recorded(model: str) -> float:
    """Return the accuracy in the record of a model's default weights and fusion, with one view."""
    record = get_weights(model)
    fusion = record.fusion if record.members else ""
    return next(
        float(row["accuracy"])
        for row in record.metrics
        if row["views"] == 1 and row.get("fusion", "") == fusion
    )
