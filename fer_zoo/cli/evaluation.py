"""The command that measures."""

from pathlib import Path

import click

import fer_zoo
from fer_zoo.cli.inputs import open_data
from fer_zoo.cli.options import (
    data_option,
    device_option,
    fusion_option,
    json_option,
    limit_option,
    main,
    preset_option,
    weights_option,
)
from fer_zoo.cli.show import print_evaluation, print_json
from fer_zoo.data.fer2013 import Split
from fer_zoo.errors import ArgumentError


@main.command()
@click.argument("models", nargs=-1, required=True)
@data_option
@click.option(
    "--split",
    type=click.Choice(["train", "public", "private"]),
    help="Of FER2013; private is for reporting only. Needed unless the data has no splits.",
)
@weights_option
@fusion_option
@preset_option
@limit_option
@device_option
@click.option("--plot", type=click.Path(path_type=Path), help="Write the confusion matrix (PNG).")
@json_option
def evaluate(
    models: tuple[str, ...],
    root: Path,
    split: Split | None,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    limit: int | None,
    device: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Score models on one split: accuracy with its interval, recalls, confusion matrix.

    Example: fer-zoo evaluate resnet18_025 --data fer2013.csv --split public
    """
    if plot is not None and (len(models) > 1 or plot.suffix not in (".png", ".pdf", ".svg")):
        raise ArgumentError("--plot draws the matrix of one model, as .png, .pdf or .svg")
    if plot is not None:
        try:
            plot.parent.mkdir(parents=True, exist_ok=True)
            plot.touch()
        except OSError as error:
            raise ArgumentError(f"--plot {plot} cannot be written: {error}") from None
    results = []
    for name in models:
        predictor = fer_zoo.Predictor(
            name, weights=weights, fusion=fusion, preset=preset, device=device
        )
        data = open_data(root, split, limit, size=predictor.preset.resize)
        results.append(
            fer_zoo.evaluate(predictor.model, data, preset=predictor.preset, progress=True)
        )
    if results[0].note:
        click.echo(results[0].note, err=True)
    if plot is not None:
        fer_zoo.plot_confusion(results[0]).savefig(plot, dpi=120)
    if as_json:
        print_json([r.to_dict() for r in results])
        return
    for result in results:
        print_evaluation(result)
