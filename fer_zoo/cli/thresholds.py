"""The command that chooses below which probability a predictor abstains."""

import json
import os
from pathlib import Path

import click

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.cli import options, show
from fer_zoo.cli.inputs import has_classes, is_ferplus, open_data
from fer_zoo.cli.options import PATH, main
from fer_zoo.data.fer2013 import Split
from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.figures import interval, percent
from fer_zoo.factory import resolve
from fer_zoo.inference import Thresholds
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import choose_preset


@main.command(short_help="Choose thresholds for a wanted precision.")
@options.model_argument
@options.data_option
@click.option("--precision", required=True, type=float, help="Share of right labels, 0.9 say.")
@click.option("--per-class", is_flag=True, help="One threshold for each class.")
@click.option("--output", type=PATH, help="New .json, for `fer-zoo predict --abstain`.")
@options.weights_option
@options.fusion_option
@options.preset_option
@options.views_option
@options.limit_option
@options.device_option
@options.json_option
def thresholds(
    model: str,
    root: Path,
    precision: float,
    per_class: bool,
    output: Path | None,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    views: int | None,
    limit: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Choose the lowest thresholds whose labels are right as often as wanted.

    The faces are others than those that were trained on; of fer2013.csv PublicTest is used.
    Nothing is saved but what --output names.

    Example: fer-zoo thresholds resnet18_025 --data fer2013.csv --precision 0.9 --output t.json
    """
    if output is not None and os.path.lexists(output):
        raise ArgumentError(f"{output} exists: name another with --output")
    network = resolve(model, weights=weights, fusion=fusion, device=device)
    seen = choose_preset(PRESETS[network.preset], preset, views)
    size, ferplus = seen.resize, is_ferplus(network)
    split: Split | None = None if has_classes(root) else "public"
    data = open_data(root, split, limit, size=size, ferplus=ferplus)
    found = fer_zoo.inference.choose_thresholds(
        network, data, precision=precision, per_class=per_class, preset=seen, progress=True
    )
    if output is not None:
        with replacing(output, new=True) as path:
            path.write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="utf-8")
    if as_json:
        show.print_json(found.to_dict())
        return
    show.out.print(show.cell(f"{found.model} ({found.preset}) on {found.faces}"), soft_wrap=True)
    show.print_table(_rows(found))


def _rows(found: Thresholds) -> list[list[str]]:
    rows = [["class", "threshold", "labelled", "of", "precision %", "95 %", "held out %"]]
    for one in found.thresholds:
        name = one.labels[0] if len(found.thresholds) > 1 else "every class"
        value = "never said" if one.value is None else f"{one.value:.4f}"
        bounds = interval(one.interval) if one.interval else "-"
        shares = [percent(one.precision), bounds, percent(one.held_out_precision)]
        rows.append([name, value, str(one.n), str(one.of), *shares])
    return rows
