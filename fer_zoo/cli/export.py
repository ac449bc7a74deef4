"""The command that writes models as files for other programs."""

from pathlib import Path

import click

import fer_zoo
from fer_zoo.cli.options import fusion_option, json_option, main, model_argument, weights_option
from fer_zoo.cli.show import print_json
from fer_zoo.factory import resolve


@main.command(short_help="Write a model as an ONNX or AOTInductor file.")
@model_argument
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@weights_option
@fusion_option
@click.option("--views", is_flag=True, help="Take the transform's float views, not uint8 faces.")
@json_option
def export(
    model: str,
    output: Path,
    weights: str | None,
    fusion: str | None,
    views: bool,
    as_json: bool,
) -> None:
    """Write MODEL with its transform, fusion and calibration to OUTPUT, and check it by running it.

    OUTPUT ends in .onnx (onnxruntime runs it), or in .pt2 (AOTInductor's machine code for this kind
    of machine).

    Example: fer-zoo export ensemble_r18_vgg19_025 faces.onnx
    """
    network = resolve(model, weights=weights, fusion=fusion, device="cpu")
    path = fer_zoo.export(network, output, transform=not views)
    if as_json:
        size = path.stat().st_size
        print_json({"output": str(path), "bytes": size, "labels": network.labels})
        return
    click.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB, {network.num_classes} classes")
