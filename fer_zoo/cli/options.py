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

DEFAULT_MODEL = "resnet18"


class Name(click.types.StringParamType):
    """A name, or else a file: a shell completes it by the function that lists names."""

    def __init__(self, name: str, lister: Callable[[], Iterable[str]]) -> None:
        self.name, self.lister = name, lister

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that begin so."""
        found = [CompletionItem(name) for name in self.lister() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


def _tags() -> set[str]:
    return {"default", *(address.rpartition(".")[2] for address in fer_zoo.list_weights())}


MODEL = Name("model", lambda: [*fer_zoo.list_models(), *fer_zoo.list_weights()])
FUSION = Name("fusion", fer_zoo.list_fusions)
PRESET = Name("preset", fer_zoo.list_presets)
WEIGHTS = Name("weights", _tags)
DETECTOR = Name("detector", lambda: fer_zoo.inference.list_detectors())
PATH = click.Path(path_type=Path)

model_argument = click.argument("model", type=MODEL)
models_argument = click.argument("models", nargs=-1, required=True, type=MODEL)
_DATA: dict[str, Any] = {
    "required": True,
    "type": PATH,
    "help": "fer2013.csv, its folder, one folder of images per class, or NAME:PATH for a data set "
    "by name, NAME.SPLIT:PATH for one split of it; `list` names them.",
}
data_option = click.option("--data", "root", **_DATA)
several_data_option = click.option("--data", "roots", multiple=True, **_DATA)
limit_option = click.option("--limit", type=click.IntRange(1), help="Use this many faces only.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option("--device", help="cpu, cuda, ...; CUDA where there is one.")
weights_option = click.option(
    "--weights",
    type=WEIGHTS,
    help="For a model given by name: a tag, file, folder or hf-hub:org/name@revision.",
)
map_option = click.option(
    "--map",
    "merged",
    multiple=True,
    metavar="NAME=CLASS,...",
    help="A coarser class: positive=happy,surprise.",
)
ignore_option = click.option(
    "--ignore", multiple=True, metavar="CLASS,...", help="Classes to leave out: contempt."
)
fusion_option = click.option("--fusion", type=FUSION, help="Another than the default, see `list`.")
detector_option = click.option(
    "--detector", type=DETECTOR, help="What finds faces, see `list`: blazeface finds turned ones."
)
preset_option = click.option("--preset", type=PRESET, help="Another than the weights' own.")
views_option = click.option(
    "--views",
    type=click.IntRange(1),
    help="Instead of --preset: average 1, 2 or 10 views of a face.",
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
