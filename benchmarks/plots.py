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
    found = []
    for name, draw in (("throughput", throughput), ("accuracy", accuracy)):
        figure = Figure(layout="constrained")
        if draw(figure, timed):
            found.append(beside.with_name(f"{beside.stem}-{name}.png"))
            figure.savefig(found[-1], dpi=120)
    return found


def throughput(figure: Any, rows: list[Row]) -> bool:
    """Draw images per second against batch size, one field per model; say whether there are any."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    if not models:
        return False
    columns = min(3, len(models))
    lines = -(-len(models) // columns)
    figure.set_size_inches(4 * columns, 3 * lines)
    fields = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, model in zip(fields, models, strict=False):
        for (mode, dtype), points in _series(r for r in rows if r["model"] == model).items():
            points.sort(key=lambda r: r["batch_size"])
            sizes = [r["batch_size"] for r in points]
            rates = [r["images_per_s"] for r in points]
            axes.plot(sizes, rates, marker="o", label=f"{mode}, {dtype}")
        axes.set(xscale="log", yscale="log", title=model, xlabel="batch size", ylabel="images/s")
        axes.set_xticks(sorted({r["batch_size"] for r in rows}), minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    for axes in fields[len(models) :]:
        axes.set_visible(False)
    fields[0].legend(fontsize=7)
    return True


def accuracy(figure: Any, rows: list[Row]) -> bool:
    """Draw recorded accuracy against the latency of the smallest batch, of models with weights."""
    trained = set(fer_zoo.list_models(weights=True))
    rows = [row for row in rows if row["model"] in trained]
    if not rows:
        return False
    smallest = min(row["batch_size"] for row in rows)
    axes = figure.add_subplot()
    figure.set_size_inches(6, 4)
    rows = [row for row in rows if row["batch_size"] == smallest]
    for (mode, dtype), points in _series(rows).items():
        x = [1000 * r["median_s"] for r in points]
        y = [100 * recorded(r["model"]) for r in points]
        axes.plot(x, y, marker="o", linestyle="none", label=f"{mode}, {dtype}")
    for model in {r["model"] for r in rows}:
        fastest = min(1000 * r["median_s"] for r in rows if r["model"] == model)
        axes.annotate(model, (fastest, 100 * recorded(model)), fontsize=7, va="bottom")
    axes.set(
        xlabel=f"ms for a batch of {smallest}",
        ylabel="accuracy in %, from the record of the weights",
    )
    axes.legend(fontsize=7)
    return True


def recorded(model: str) -> float:
    """Return the accuracy in the record of a model's default weights and fusion, with one view."""
    record = get_weights(model)
    fusion = record.fusion if record.members else ""
    return next(
        float(row["accuracy"])
        for row in record.metrics
        if row["views"] == 1 and row.get("fusion", "") == fusion
    )


def _series(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["mode"], row["dtype"]), []).append(row)
    return found
