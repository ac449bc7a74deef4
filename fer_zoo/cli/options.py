"""The command group, and the options that several commands share."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

import fer_zoo

DEFAULT_MODEL = "ensemble_r18_vgg19_025"


def names(lister: Callable[[], Iterable[str]]) -> Callable[..., list[CompletionItem]]:
    """Return what completes a name in a shell, or else a file, by the function that lists names."""

    def complete(context: Any, parameter: Any, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in lister() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]

    return complete


def _tags() -> set[str]:
    return {"default", *(address.rpartition(".")[2] for address in fer_zoo.list_weights())}


MODEL_NAMES = names(lambda: [*fer_zoo.list_models(), *fer_zoo.list_weights()])
FUSION_NAMES = names(fer_zoo.list_fusions)
PRESET_NAMES = names(fer_zoo.list_presets)
WEIGHTS_TAGS = names(_tags)

model_argument = click.argument("model", shell_complete=MODEL_NAMES)
models_argument = click.argument("models", nargs=-1, required=True, shell_complete=MODEL_NAMES)
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
    "--weights",
    help="For a model given by name: a tag, file, folder or hf-hub:org/name@revision.",
    shell_complete=WEIGHTS_TAGS,
)
fusion_option = click.option(
    "--fusion",
    help="Another fusion than the default: fer-zoo list.",
    shell_complete=FUSION_NAMES,
)
preset_option = click.option(
    "--preset",
    help="Another transform than the weights' own.",
    shell_complete=PRESET_NAMES,
)


@contextmanager
def _reader() -> Iterator[None]:
    """End with 141 where the reader of the output has gone; click would end with 1."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(141) from None


class _Group(click.Group):
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _reader():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _reader():
            return super().invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fer_zoo.__version__, prog_name="fer-zoo")
def main() -> None:
    """Facial-expression recognition: label faces, train, fuse and evaluate.

    Example: fer-zoo predict faces/
    """
