"""The command that measures."""

import re
import shlex
import sys
from collections.abc import Iterable
from functools import cache, partial
from itertools import chain
from pathlib import Path

import click

from fer_zoo.cli import options, show
from fer_zoo.cli.inputs import classes_among, is_ferplus, open_data, parse_classes
from fer_zoo.cli.options import PATH, main
from fer_zoo.data.sets import parse_dataset
from fer_zoo.evaluation import compare_all, cross_table, measure, write_comparison, write_report
from fer_zoo.evaluation.card import COMPARISON, prepare_folder, to_json
from fer_zoo.factory import resolve
from fer_zoo.labels import canonical, regroup
from fer_zoo.transforms.presets import choose_preset


@main.command(short_help="Score models on one split, and compare them.")
@options.models_argument
@options.several_data_option
@options.map_option
@options.ignore_option
@click.option(
    "--split",
    type=click.Choice(["train", "public", "validation", "private", "test"]),
    help="Private and test are for reporting only. Needed unless the data has none or names one.",
)
@options.weights_option
@options.fusion_option
@options.preset_option
@options.views_option
@options.limit_option
@options.device_option
@click.option(
    "--groups",
    type=PATH,
    help="csv with a group per face (columns file or row, and group): figures of each, and tests.",
)
@click.option("--robustness", is_flag=True, help="Measure corrupted faces too.")
@click.option(
    "--report",
    "folder",
    type=PATH,
    help="Folder for the card, its figures as JSON, pictures and the list of errors.",
)
@options.json_option
def evaluate(
    models: tuple[str, ...],
    roots: tuple[Path, ...],
    merged: tuple[str, ...],
    ignore: tuple[str, ...],
    split: str | None,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    views: int | None,
    limit: int | None,
    device: str | None,
    groups: Path | None,
    robustness: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Score models on one split and compare them, with one view of each face, two and ten.

    With --preset or --views only that transform is measured. With --report and several models each
    has its own folder in it. With several --data one table has every model on every data set,
    with the views of its own preset. --json prints an object with results, comparisons,
    robustness, command and versions.

    Example: fer-zoo evaluate resnet18_025 vgg19_025 --data fer2013.csv --split public
    --report cards
    """
    several, wanted = len(roots) > 1, parse_classes(merged, ignore)
    folders = [] if folder is None else [prepare_folder(f) for f in _folders(folder, roots, models)]
    if folder is not None and len(models) * len(roots) > 1:
        prepare_folder(folder, *COMPARISON)
    command = shlex.join(["fer-zoo", *sys.argv[1:]])
    chosen = [resolve(name, weights=weights, fusion=fusion, device=device) for name in models]
    own = partial(choose_preset, preset=preset, views=views)
    alone = several or preset is not None or views is not None
    pairs = [
        (root, name, model) for root in roots for name, model in zip(models, chosen, strict=True)
    ]
    read = cache(partial(open_data, split=split, limit=limit))
    faces = [read(root, size=own(m.preset).resize, ferplus=is_ferplus(m)) for root, _, m in pairs]
    labels = [(*(m.labels or ()), *data.labels) for (*_, m), data in zip(pairs, faces, strict=True)]
    regroup([*dict.fromkeys(map(canonical, chain(*labels)))], **wanted)  # are they anywhere?
    reports = [
        measure(
            model,
            data,
            preset=own(model.preset) if alone else None,
            corruptions=robustness,
            groups=groups,
            progress=True,
            source=name,
            **classes_among(wanted, known),
        )
        for (_, name, model), data, known in zip(pairs, faces, labels, strict=True)
    ]
    for path, report in zip(folders, reports, strict=False):
        write_report(path, report, command=command)
    if folder is not None and len(reports) > 1:
        write_comparison(folder, reports)
    firsts = [report.results[0] for report in reports]
    for note in dict.fromkeys(f"{r.faces.name}: {r.note}" for r in firsts if r.note):
        click.echo(note, err=True)
    if as_json:
        show.print_json(to_json(reports, command))
        return
    results = [result for report in reports for result in report.results]
    if several:
        show.print_table(cross_table(results))
    else:
        show.print_results(results)
        show.print_comparisons(compare_all(reports), reports)
    for report in reports:
        if not several:
            if not alone and report.gain is None:
                name = report.results[0].preset
                click.echo(f"\n{name}: no preset differs from it in the number of views alone")
            show.print_confusion(report.results[0])
            show.print_abstention(report.results[0])
        if report.results[0].groups:
            show.print_groups(report.results[0])
        if report.robustness is not None:
            show.print_robustness(report.robustness)
    if folder is not None:
        click.echo("\n" + "\n".join(str(path / "card.md") for path in folders))


def _folders(folder: Path, roots: tuple[Path, ...], models: tuple[str, ...]) -> list[Path]:
    """Return a folder for each model on each data set, by distinct names where several are."""
    sets = [folder] if len(roots) == 1 else _named(folder, [_title(root) for root in roots])
    if len(models) == 1:
        return sets
    names = [name.removesuffix(".safetensors") for name in models]
    return [path for above in sets for path in _named(above, names)]


def _title(root: Path) -> str:
    """Return a data set's name and split, or the last part of its path."""
    named = parse_dataset(root)
    return ".".join(filter(None, (named[0].name, named[1]))) if named else root.resolve().stem


def _named(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return a folder in another for each name."""
    folders: list[Path] = []
    for name in names:
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._") or "model"
        several = [plain, *(f"{plain}-{i}" for i in range(2, len(folders) + 3))]
        folders.append(next(folder / n for n in several if folder / n not in folders))
    return folders
