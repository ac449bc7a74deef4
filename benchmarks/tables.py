"""The tables of measured rows, for the terminal and for the documentation."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import RESULTS, Row, markdown, read_rows


def inference_table(rows: Iterable[Row]) -> str:
    """Return one line per cell of `benchmarks/inference.py`."""
    head = ["model", "batch", "mode", "dtype", "images/s", "median ms (10th to 90th percentile)"]
    head += ["x torchvision", "x eager", "% of peak", "largest difference", "repeats"]
    rows = [row for row in rows if row["kind"] == "inference"]
    extra = {
        "peak MB": lambda row: _number(row.get("peak_memory_bytes"), 1e-6, 0),
        "mJ/image": lambda row: _number(row.get("joules_per_image"), 1e3, 3),
    }
    fields = {"peak MB": "peak_memory_bytes", "mJ/image": "joules_per_image"}
    shown = [name for name in extra if any(row.get(fields[name]) for row in rows)]
    lines = []
    for row in rows:
        line = [f"`{row['model']}`", str(row["batch_size"]), _mode(row), row["dtype"]]
        if row["status"] == "ok":
            line += [_number(row["images_per_s"], 1, 1), _milliseconds(row)]
            line += [_ratio(row["ratios"].get(mode)) for mode in ("torchvision", "eager")]
            line += [_number(row["share_of_peak"], 100, 1), f"{row['max_difference']:.0e}"]
            line += [str(row["repeats"])]
        else:
            reason = f": {row['reason']}" if row.get("reason") else ""
            gap = row.get("max_difference")
            line += [f"{row['status']}{reason}".replace("|", "/"), "", "", "", ""]
            line += ["" if gap is None else f"{gap:.0e}", ""]
        lines.append(line + [extra[name](row) for name in shown])
    return markdown([*head, *shown], lines)


def training_table(rows: Iterable[Row]) -> str:
    """Return one line per way to train of `benchmarks/training.py`."""
    head = ["model", "recipe", "batch", "way", "precision", "images/s"]
    head += ["our loop is so many times as fast (10th to 90th percentile)", "rounds"]
    lines = []
    for row in rows:
        if row["kind"] != "training":
            continue
        line = [f"`{row['model']}`", row["recipe"], str(row["batch_size"]), row["mode"]]
        line += [row["dtype"]]
        if row["status"] == "ok":
            line += [_number(row["images_per_s"], 1, 1), _ratio(row["loop_over_this"])]
            line += [str(row["repeats"])]
        else:
            line += [f"{row['status']}: {row['reason']}", "", ""]
        lines.append(line)
    return markdown(head, lines)


def accuracy_table(rows: Iterable[Row]) -> str:
    """Return one line per run to a given accuracy."""
    head = ["model", "recipe", "PublicTest accuracy asked for", "reached", "epochs", "minutes"]
    lines = [
        [
            f"`{row['model']}`",
            row["recipe"],
            f"{100 * row['target']:.1f} %",
            f"{100 * row['accuracy']:.1f} %",
            str(row["epochs"]),
            f"{row['seconds'] / 60:.1f}",
        ]
        for row in rows
        if row["kind"] == "accuracy"
    ]
    return markdown(head, lines)


def startup_table(rows: Iterable[Row]) -> str:
    """Return one line per thing that a fresh process does of `benchmarks/startup.py`."""
    head = ["a fresh process does", "import s", "then, s (10th to 90th percentile)"]
    head += ["all of it / `import torch` alone", "adds to peak memory", "/ float32 size"]
    lines = []
    for row in rows:
        if row["kind"] != "startup":
            continue
        line = [f"`{row['mode']}`"]
        if row["status"] == "ok":
            low, median, high = row["then_s"] or (0, 0, 0)
            line.append(f"{row['import_s'][1]:.2f}")
            line.append(f"{median:.3f} ({low:.3f} to {high:.3f})" if row["then_s"] else "")
            line += [_ratio(row["ratio"]), _number(row["added_bytes"], 1e-6, 1, " MB")]
            line.append(_number(row["size_ratio"], 1, 2))
        else:
            line += [f"{row['status']}: {row['reason']}", "", "", "", ""]
        lines.append(line)
    return markdown(head, lines)


def results(folder: Path = RESULTS) -> str:
    """Return all tables of the committed results, newest file first."""
    parts = []
    kinds = {
        "inference": ("Inference", inference_table),
        "training": ("Training", training_table),
        "accuracy": ("Time to an accuracy", accuracy_table),
        "startup": ("Start", startup_table),
    }
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stem[-10:], reverse=True):
        rows = read_rows(path)
        for kind, (title, table) in kinds.items():
            if own := [row for row in rows if row["kind"] == kind]:
                parts += [f"**{title}**: {_where(own)}", table(own)]
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
    peaks = {row["dtype"]: row["peak_flops_per_s"] for row in rows if "peak_flops_per_s" in row}
    if peaks:
        measured = (f"{peak / 1e12:.3g} TFLOP/s in {dtype}" for dtype, peak in peaks.items())
        text += f"; measured peak {' and '.join(measured)}"
        text += f", copy {rows[-1]['copy_bytes_per_s'] / 1e9:.3g} GB/s"
    return text


def _mode(row: Row) -> str:
    engine = row.get("engine")
    return f"{row['mode']} ({engine})" if engine else str(row["mode"])


def _milliseconds(row: Row) -> str:
    median, low, high = (1000 * row[name] for name in ("median_s", "p10_s", "p90_s"))
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


def _ratio(values: list[float] | None) -> str:
    return "" if values is None else f"{values[1]:.2f} ({values[0]:.2f} to {values[2]:.2f})"


def _number(value: Any, factor: float, digits: int, unit: str = "") -> str:
    return "" if value is None else f"{factor * value:,.{digits}f}{unit}"
