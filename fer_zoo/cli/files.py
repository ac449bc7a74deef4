"""The commands that make one file of another: ours of others', and others' of ours."""

from pathlib import Path

import click

import fer_zoo
from fer_zoo.cli.inputs import check_new, parse_names, save_new
from fer_zoo.cli.options import (
    MODEL,
    PATH,
    PRESET,
    fusion_option,
    json_option,
    main,
    model_argument,
    weights_option,
)
from fer_zoo.cli.show import print_json
from fer_zoo.errors import shown
from fer_zoo.factory import resolve


@main.command(short_help="Turn a pickled state dict into a checkpoint.")
@click.argument("path", type=PATH)
@click.option("--model", required=True, type=MODEL, help="The network it belongs to: fer-zoo list.")
@click.option("--output", type=PATH, help="PATH with .safetensors.")
@click.option("--labels", help="Class names of its head in order: angry,happy,...")
@click.option("--preset", type=PRESET, help="The transform it was trained with: fer-zoo list.")
@json_option
def convert(
    path: Path,
    model: str,
    output: Path | None,
    labels: str | None,
    preset: str | None,
    as_json: bool,
) -> None:
    """Turn a pickled state dict (.pth, .pt, .ckpt, .t7) into a checkpoint; nothing in it is run.

    Example: fer-zoo convert old.pth --model vgg19
    --labels angry,disgust,fear,happy,sad,surprise,neutral
    """
    output = path.with_suffix(".safetensors") if output is None else output
    check_new(output)
    names = None if labels is None else parse_names(labels)
    made = fer_zoo.convert(path, model, labels=names, preset=preset)
    for note in made.notes:
        click.echo(shown(note), err=True)
    save_new(made.model, output)
    if as_json:
        print_json({"output": str(output), "notes": made.notes})
        return
    click.echo(output)


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
