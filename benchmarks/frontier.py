r"""Draw accuracy against speed: our networks with one, two and ten views, and what others install.

    python benchmarks/inference.py --device cpu --modes optimized --batch-sizes 32 --views 1 2 10 \
        --models resnet18 vgg19 ensemble_r18_vgg19 resnet18_025 vgg19_025 ensemble_r18_vgg19_025
    python benchmarks/frontier.py

The accuracies are those of the records of the bundled weights, the speeds the newest rows of
benchmarks/results that have all views of a model; the picture is docs/frontier.png.
"""

import argparse
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness import RESULTS, Row, read_rows

from fer_zoo.plots import looks
from fer_zoo.weights import WEIGHTS

PICTURE = Path(__file__).parent.parent / "docs" / "frontier.png"
Point = tuple[int, float, float]  # views, faces a second, accuracy in per cent


def measured() -> list[Row]:
    """Return the newest file's rows that have several views, on a CPU in float32."""
    for path in sorted(RESULTS.glob("cpu-*.jsonl"), reverse=True):
        rows = [r for r in read_rows(path) if r["kind"] == "inference" and r["status"] == "ok"]
        rows = [r for r in rows if (r["mode"], r["dtype"]) == ("optimized", "float32")]
        sizes = {r["batch_size"] for r in rows if r.get("views", 1) > 1}
        if sizes:
            return [r for r in rows if r["batch_size"] == max(sizes)]
    raise SystemExit("no rows of several views: see the first lines of benchmarks/frontier.py")


def lines(rows: Iterable[Row]) -> dict[str, list[Point]]:
    """Return the points of each model, the fewest views first."""
    speeds = {(row["model"], row.get("views", 1)): row["images_per_s"] for row in rows}
    found: dict[str, list[Point]] = {}
    for record in WEIGHTS.values():
        for score in record.scores if record.tag == "fer2013" else ():
            rate = speeds.get((record.model, score.views))
            if score.fusion in ("", "average") and rate is not None:
                point = (score.views, rate, 100 * score.accuracy)
                found.setdefault(record.model, []).append(point)
    return {name: sorted(points) for name, points in found.items()}


def draw(rows: list[Row]) -> Any:
    """Return the figure."""
    figure = looks.new_figure(7.2, 4.6)
    axes = figure.add_subplot()
    for i, (name, points) in enumerate(lines(rows).items()):
        views, rates, accuracies = zip(*points, strict=True)
        axes.plot(rates, accuracies, label=name, linewidth=1.2, **looks.line_look(i))
        for count, rate, accuracy in zip(views, rates, accuracies, strict=True):
            axes.annotate(
                str(count), (rate, accuracy), textcoords="offset points", xytext=(5, 4), fontsize=7
            )
    peer = tomllib.loads((RESULTS / "quoted.toml").read_text())["peer"]
    label = f"{peer['name']}, measured elsewhere"
    axes.plot(peer["faces_per_s"], 100 * peer["accuracy"], "x", color="black", label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="faces a second (float32)", ylabel="accuracy on PublicTest, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower left")
    known, size = rows[-1]["environment"], rows[-1]["batch_size"]
    place = f"{known['cpu']}, {known['cores']} cores, batches of {size}"
    return looks.finish(figure, title=f"One view, two and ten: {place}")


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args()
    draw(measured()).savefig(options.output, dpi=130)
    print(options.output)


if __name__ == "__main__":
    main()
