"""The command that measures."""

import re
import shlex
import sys
from pathlib import Path

import click

from fer_zoo.cli import options, show
from fer_zoo.cli.inputs import is_ferplus, open_data
from fer_zoo.cli.options import PATH, main
from fer_zoo.data.fer2013 import Split
from fer_zoo.evaluation import compare_all, measure, write_comparison, write_report
from fer_zoo.evaluation.card import COMPARISON, prepare_folder, to_json
from fer_zoo.factory import resolve
from fer_zoo.transforms import PRESETS


@main.command(short_help="Score models on one split, and compare them.")
@options.models_argument
@options.data_option
@click.option(
    "--split",
    type=options.SPLIT,
    help="Of FER2013; private is for reporting only. Needed unless the data has no splits.",
)
@options.weights_option
@options.fusion_option
@options.preset_option
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
    root: Path,
    split: Split | None,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    limit: int | None,
    device: str | None,
    groups: Path | None,
    robustness: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Score models on one split and compare them, with one view of each face and with ten.

    With --preset only that transform is measured. With --report and several models each has its
    own folder in it. --json prints an object with results, comparisons, robustness, command and
    versions.

    Example: fer-zoo evaluate resnet18_025 vgg19_025 --data fer2013.csv --split public
    --report cards
    """
    folders = [] if folder is None else [prepare_folder(f) for f in _folders(folder, models)]
    if folder is not None and len(models) > 1:
        prepare_folder(folder, *COMPARISON)
    command = shlex.join(["fer-zoo", *sys.argv[1:]])
    chosen = [resolve(name, weights=weights, fusion=fusion, device=device) for name in models]
    own = PRESETS[preset] if preset else None
    faces = [
        open_data(root, split, limit, size=(own or PRESETS[m.preset]).resize, ferplus=is_ferplus(m))
        for m in chosen
    ]
    reports = [
        measure(
            model,
            data,
            preset=own,
            corruptions=robustness,
            groups=groups,
            progress=True,
            source=name,
        )
        for name, model, data in zip(models, chosen, faces, strict=True)
    ]
    for path, report in zip(folders, reports, strict=False):
        write_report(path, report, command=command)
    if folder is not None and len(reports) > 1:
        write_comparison(folder, reports)
    for note in dict.fromkeys(report.results[0].note for report in reports):
        if note:
            click.echo(note, err=True)
    if as_json:
        show.print_json(to_json(reports, command))
        return
    show.print_results([result for report in reports for result in report.results])
    show.print_comparisons(compare_all(reports), reports)
    for report in reports:
        if preset is None and report.gain is None:
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


def _folders(folder: Path, models: tuple[str, ...]) -> list[Path]:
    """Return one folder for one model, else one in it for each, by distinct names."""
    if len(models) == 1:
        return [folder]
    folders: list[Path] = []
    for name in models:
        plain = re.sub(r"[^\w.+-]+", "_", name.removesuffix(".safetensors")).strip("._") or "model"
        names = [plain, *(f"{plain}-{i}" for i in range(2, len(models) + 2))]
        folders.append(next(folder / n for n in names if folder / n not in folders))
    return folders
