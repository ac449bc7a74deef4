"""The command that converts others' files."""

from pathlib import Path

import click

import fer_zoo
from fer_zoo.cli.inputs import check_new
from fer_zoo.cli.options import MODEL, PATH, PRESET, json_option, main
from fer_zoo.cli.show import print_json


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
    names = None if labels is None else [name.strip() for name in labels.split(",")]
    made = fer_zoo.convert(path, model, labels=names, preset=preset)
    for note in made.notes:
        click.echo(note, err=True)
    written = fer_zoo.save(made.model, output)
    if as_json:
        print_json({"output": str(written), "notes": made.notes})
        return
    click.echo(written)
