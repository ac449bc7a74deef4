"""The command group, and the options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import fer_zoo

DEFAULT_MODEL = "ensemble_r18_vgg19_025"


def names(lister: Callable[[str], list[str]]) -> Callable[..., list[str]]:
    """Return what completes a name in a shell, by the function that lists the names."""

    def complete(context: Any, parameter: Any, incomplete: str) -> list[str]:
        return lister(f"{incomplete}*")

    return complete


model_argument = click.argument("model", shell_complete=names(fer_zoo.list_models))
models_argument = click.argument(
    "models", nargs=-1, required=True, shell_complete=names(fer_zoo.list_models)
)
data_option = click.option(
    "--data",
    "root",
    required=True,
    type=click.Path(path_type=Path),
    help="fer2013.csv, its folder, or one folder of images per class.",
)
limit_option = click.option("--limit", type=click.IntRange(1), help="Use this many faces only.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option("--device", help="cpu, cuda, ...; CUDA where there is one.")
weights_option = click.option(
    "--weights", help="For a model given by name: a tag, file, folder or hf-hub:org/name@revision."
)
fusion_option = click.option(
    "--fusion",
    help="Another fusion than the default: fer-zoo list.",
    shell_complete=names(fer_zoo.list_fusions),
)
preset_option = click.option(
    "--preset",
    help="Another transform than the weights' own.",
    shell_complete=names(fer_zoo.list_presets),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fer_zoo.__version__, prog_name="fer-zoo")
def main() -> None:
    """Facial-expression recognition: label faces, train, fuse and evaluate.

    Example: fer-zoo predict faces/
    """
