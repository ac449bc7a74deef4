"""The first screen of docs/performance.md: a summary of the newest rows, and their picture."""

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

from harness import RESULTS, Row, read_rows

from fer_zoo.plots import looks

WAYS = {
    ("eager", "float32"): "as loaded",
    ("optimized", "float32"): "optimize",
    ("onnxruntime", "float32"): "optimize, onnxruntime",
    ("optimized", "bfloat16"): "optimize, bfloat16",
}
"""What is drawn beside torchvision's networks, by mode and dtype."""


def newest(kind: str, wanted: Callable[[Row], Any], folder: Path = RESULTS) -> list[Row]:
    """Return the rows of a kind that are wanted, of the newest file that has any."""
    for path in sorted(folder.glob("*.jsonl"), key=lambda p: p.stem[-10:], reverse=True):
        rows = [r for r in read_rows(path) if r["kind"] == kind and r.get("status", "ok") == "ok"]
        if rows := [row for row in rows if wanted(row)]:
            return rows
    return []


def compared(*, gpu: bool, folder: Path = RESULTS) -> list[Row]:
    """Return the newest rows of inference that stand beside torchvision's networks."""
    return newest(
        "inference",
        lambda row: (
            row.get("ratios", {}).get("torchvision")
            and bool(row["environment"]["gpu"]) is gpu
            and (row["mode"], row["dtype"]) in WAYS
        ),
        folder,
    )


def _span(values: Sequence[float], digits: int = 1) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _rounded_up(values: Iterable[float]) -> str:
    """Return the largest with one digit that it does not exceed."""
    return f"{Context(prec=1, rounding=ROUND_CEILING).create_decimal(max(values)):.0e}"


def _best(rows: list[Row], dtype: str) -> dict[int, list[float]]:
    """Return the best ratio of each model, by batch size, without what is as loaded."""
    best: dict[tuple[int, str], float] = {}
    for row in rows:
        if row["dtype"] == dtype and row["mode"] != "eager":
            key = row["batch_size"], row["model"]
            best[key] = max(best.get(key, 0), row["ratios"]["torchvision"][1])
    sizes = sorted({size for size, _ in best})
    return {size: [x for (n, _), x in best.items() if n == size] for size in sizes}


def summary(folder: Path = RESULTS) -> str:
    """Return what the newest rows say, a line for each kind of them."""
    lines = []
    if rows := compared(gpu=False, folder=folder):
        known = rows[-1]["environment"]
        single, half = _best(rows, "float32"), _best(rows, "bfloat16")
        said = [
            f"{_span(values)} times with batches of {n}"
            + (f" ({_span(half[n])} in bfloat16)" if n in half else "")
            for n, values in single.items()
        ]
        off = _rounded_up(row["max_difference"] for row in rows if row["dtype"] == "float32")
        lines += [
            f"**{known['cpu']}, {known['cores']} cores**: `fer_zoo.optimize` labels as many faces "
            f"as torchvision's networks {', '.join(said)}; no probability differs by more than "
            f"{off} in float32."
        ]
    if rows := compared(gpu=True, folder=folder):
        row = max(rows, key=lambda row: row["images_per_s"])
        lines += [
            f"**{row['environment']['gpu']}**: `{row['model']}`, {row['images_per_s']:,.0f} "
            f"faces/s in {row['dtype']} with batches of {row['batch_size']:,}: "
            f"{row['ratios']['torchvision'][1]:.1f} times torchvision's in float32."
        ]
    if rows := newest("training", lambda row: "loop_over_this" in row, folder):
        peers = [row for row in rows if row["mode"].startswith("PIL")]
        bare = [row["loop_over_this"][1] for row in rows if row["mode"] == "bare"]
        place = rows[-1]["environment"]
        lines += [
            f"**Training** ({place['gpu'] or place['cpu']}): an epoch's loop in "
            f"{' and '.join(sorted({row['dtype'] for row in rows} - {'fp32'})) or 'fp32'} is "
            f"{_span([row['loop_over_this'][1] for row in peers])} times as fast as PIL transforms "
            f"and a DataLoader in fp32, and has {_span(bare, 2)} of the speed of forward and "
            "backward alone."
        ]
    if rows := newest("startup", lambda row: row["mode"].endswith(")(face)"), folder):
        row = rows[-1]
        lines += [
            f"**Start**: a fresh process has its first label after "
            f"{row['import_s'][1] + row['then_s'][1]:.1f} s, {row['ratio'][1]:.1f} times what "
            "`import torch` takes alone."
        ]
    lines += ["**Films and cameras**: [](video.md)."]
    return "\n".join(f"- {line}" for line in lines)


def draw(rows: list[Row]) -> Any:
    """Return a figure: times torchvision's speed, with its range, a panel for each batch size."""
    sizes, models = (list(dict.fromkeys(r[name] for r in rows)) for name in ("batch_size", "model"))
    figure = looks.new_figure(3.4 * len(sizes), 0.62 * len(models))
    handles: list[Any] = []
    for i, size in enumerate(sizes):
        axes = figure.add_subplot(1, len(sizes), i + 1)
        handles = []
        for k, (mode, dtype) in enumerate(WAYS):
            found = {
                row["model"]: row["ratios"]["torchvision"]
                for row in rows
                if (row["batch_size"], row["mode"], row["dtype"]) == (size, mode, dtype)
            }
            spans = [found.get(name, [0, 0, 0]) for name in models]
            handles += [
                axes.barh(
                    [j + 0.2 * (k - 1.5) for j in range(len(models))],
                    [middle for _, middle, _ in spans],
                    height=0.19,
                    xerr=[[m - a for a, m, _ in spans], [b - m for _, m, b in spans]],
                    error_kw={"elinewidth": 0.7},
                    **looks.bar_look(k),
                )
            ]
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_ylim(len(models) - 0.5, -0.5)
        axes.set_yticks(range(len(models)), models if i == 0 else [""] * len(models))
        axes.set(xlabel="times torchvision's faces/s", title=f"batches of {size}")
        axes.grid(axis="x", alpha=0.3)
    known = rows[-1]["environment"]
    title = f"{known['gpu'] or known['cpu']}, {known['cores']} cores, {known['date']}"
    return looks.finish(figure, title=title, handles=handles, names=list(WAYS.values()))
