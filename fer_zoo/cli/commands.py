"""The commands that look things up and label faces, each a thin layer over the library."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from rich.cells import cell_len
from tqdm import tqdm

import fer_zoo
from fer_zoo.cli.inputs import expand, parse_classes
from fer_zoo.cli.options import (
    DEFAULT_MODEL,
    MODEL,
    PATH,
    detector_option,
    device_option,
    fusion_option,
    ignore_option,
    json_option,
    main,
    map_option,
    preset_option,
    views_option,
    weights_option,
)
from fer_zoo.cli.show import PredictionLines, out, print_facts, print_json, print_table
from fer_zoo.data import list_datasets
from fer_zoo.errors import ArgumentError, printable, shown
from fer_zoo.evaluation.figures import percent
from fer_zoo.inference import (
    Photo,
    PhotoPredictor,
    Photos,
    Prediction,
    Predictions,
    Predictor,
    list_detectors,
)
from fer_zoo.inference.prediction import CROP_COLUMNS, FACE_COLUMNS, class_columns
from fer_zoo.models import Ensemble, count_parameters, get_spec
from fer_zoo.plain import to_plain
from fer_zoo.weights import WEIGHTS
from fer_zoo.weights.address import is_address
from fer_zoo.weights.hub import list_published


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--trained", is_flag=True, help="Only models with trained weights.")
@click.option("--hub", metavar="ORG", help="Ask the Hub what an organisation publishes.")
@json_option
def list_(pattern: str, trained: bool, hub: str | None, as_json: bool) -> None:
    """List models, fusions, presets, data sets and detectors.

    Example: fer-zoo list "*r18*"
    """
    if hub is not None:
        _list_hub(hub, pattern, as_json)
        return
    names = fer_zoo.list_models(pattern, trained=trained)
    if not names:
        those = ("has weights and matches", " --trained") if trained else ("matches", "")
        raise ArgumentError(f"no model {those[0]} {pattern!r}: `fer-zoo list{those[1]}` shows all")
    rows = [get_spec(n).describe() | {"weights": fer_zoo.list_weights(n)} for n in names]
    if as_json:
        others = {"fusions": fer_zoo.list_fusions(), "presets": fer_zoo.list_presets()}
        others |= {"data": list_datasets(), "detectors": list_detectors()}
        print_json({"models": rows} | others)
        return
    table = [["model", "weights", "description"]]
    for row in rows:
        tags = ", ".join(address.rsplit(".", 1)[1] for address in row["weights"])
        table.append([row["name"], tags or "-", row["description"]])
    print_table(table)
    out.print(f"\nfusions    {', '.join(fer_zoo.list_fusions())}", soft_wrap=True)
    out.print(f"presets    {', '.join(fer_zoo.list_presets())}", soft_wrap=True)
    out.print(f"data       {', '.join(list_datasets())}", soft_wrap=True)
    out.print(f"detectors  {', '.join(list_detectors())}", soft_wrap=True)


def _list_hub(org: str, pattern: str, as_json: bool) -> None:
    """Print what an organisation publishes whose name matches, by its cards."""
    found = list_published(org)
    found = [
        p for p in found if fnmatchcase(p.address.partition("/")[2].partition("@")[0], pattern)
    ]
    if not found:
        raise ArgumentError(f"{org} publishes no model of fer_zoo that matches {pattern!r}")
    if as_json:
        print_json({"published": [to_plain(one) for one in found]})
        return
    table = [["address", "accuracy %", "licence", "measured"]]
    for one in found:
        accuracy = "-" if one.accuracy is None else percent(one.accuracy)
        table.append([one.address, accuracy, one.licence or "-", one.measured or "-"])
    print_table(table)


@main.command(short_help="Say all that is known of a model or of weights.")
@click.argument("name", type=MODEL)
@json_option
def info(name: str, as_json: bool) -> None:
    """Say everything known of a model by name, or of weights by their address.

    Example: fer-zoo info ensemble_r18_vgg19_025
    """
    facts: dict[str, Any]
    if name in WEIGHTS:
        model, facts = fer_zoo.load(name), WEIGHTS[name].to_dict()
    elif is_address(name):
        model = fer_zoo.load(name)
        facts = {"address": name, "name": model.name, "preset": model.preset}
        facts |= {"labels": model.labels, "temperature": model.temperature}
        facts["evidence"] = to_plain(model.evidence)
    else:
        model = fer_zoo.create(name)
        facts = get_spec(name).describe()
        facts["weights"] = {a: WEIGHTS[a].to_dict() for a in fer_zoo.list_weights(name)}
    facts["parameters"] = count_parameters(model)
    if isinstance(model, Ensemble):
        facts["fusion"] = repr(model.fusion).splitlines()[0]
    show = print_json if as_json else print_facts
    show(facts)


@main.command(short_help="Label face crops, or whole photographs.")
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    type=MODEL,
    help="Name, address, run folder, or exported file.",
)
@weights_option
@fusion_option
@preset_option
@views_option
@click.option("--detect", is_flag=True, help="Whole photographs: find the faces first.")
@detector_option
@map_option
@ignore_option
@click.option(
    "--abstain",
    metavar="PROBABILITY|FILE",
    help="Give no label below this probability, or those in a file of `fer-zoo thresholds`.",
)
@click.option("--allow-code", is_flag=True, help="Run a .pt2 file, which is machine code.")
@device_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print a table, one row a face.")
def predict(
    paths: tuple[Path, ...],
    model: str,
    detect: bool,
    detector: str | None,
    as_json: bool,
    as_csv: bool,
    merged: tuple[str, ...],
    ignore: tuple[str, ...],
    abstain: str | None,
    **options: Any,
) -> None:
    """Label face crops: files, or folders of them; with --detect every face of photographs.

    --detector NAME implies --detect. With --json one object a line; with --detect it has a list of
    faces. With --csv the columns are those of Predictions.to_dicts and Photos.to_dicts. The exit
    code is 1 if any file could not be used, or any folder not be read; a photograph without faces
    is no error.

    Example: fer-zoo predict faces/ --fusion stacked
    """
    if as_json and as_csv:
        raise ArgumentError("--json or --csv, not both")
    options["abstain"] = _threshold(abstain)
    files, closed = expand(paths)
    options |= parse_classes(merged, ignore)
    predictor: Predictor | PhotoPredictor
    detect |= detector is not None
    if detect:
        predictor = PhotoPredictor(model, detector=detector, **options)
    else:
        predictor = Predictor(model, **options)
    if as_json:
        tell: Callable[[Prediction | Photo], None] = _tell_json
    elif as_csv:
        tell = _csv_teller([*(FACE_COLUMNS if detect else CROP_COLUMNS)], predictor.labels)
    else:
        widest = max(cell_len(printable(str(file))) for file in files) + (28 if detect else 0)
        tell = _line_teller(PredictionLines(predictor.labels, widest))
    answers: Iterator[Prediction | Photo] = predictor.stream(files)
    failed = 0
    for answer in tqdm(answers, total=len(files), unit="image", leave=False, disable=None):
        failed += answer.error is not None
        with tqdm.external_write_mode():
            tell(answer)
    if failed:
        click.echo(f"{failed} of {len(files)} files could not be used", err=True)
    if failed or closed:
        sys.exit(1)


def _tell_json(answer: Prediction | Photo) -> None:
    click.echo(json.dumps(answer.to_dict()))


def _csv_teller(columns: list[str], labels: Sequence[str]) -> Callable[[Prediction | Photo], None]:
    to: Any = sys.stdout  # in a file or a pipe names are as they are
    if sys.stdout.isatty():
        to = SimpleNamespace(write=lambda text: sys.stdout.write(printable(text, "\n")))
    writer = csv.DictWriter(to, columns + class_columns(labels), lineterminator="\n")
    writer.writeheader()

    def tell(answer: Prediction | Photo) -> None:
        rows = Photos([answer]) if isinstance(answer, Photo) else Predictions([answer])
        writer.writerows(rows.to_dicts())

    return tell


def _threshold(text: str | None) -> float | str | None:
    """Return a probability as a number, and what is none as the path of a file."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _line_teller(lines: PredictionLines) -> Callable[[Prediction | Photo], None]:
    headed = False

    def tell(answer: Prediction | Photo) -> None:
        nonlocal headed
        faces = answer.faces if isinstance(answer, Photo) else (answer,)
        if answer.error is not None:
            click.echo(shown(f"cannot use {answer.error}"), err=True)
        elif not faces:
            click.echo(printable(f"no face in {answer.source}"), err=True)
        else:
            if not headed:
                out.print(lines.head(), soft_wrap=True)
            headed = True
            for face in faces:
                if face.error is not None:
                    click.echo(printable(f"cannot use {face.error}"), err=True)
                else:
                    out.print(lines.line(face), soft_wrap=True)

    return tell
