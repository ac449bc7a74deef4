"""The commands about data."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from fer_zoo._files import replacing
from fer_zoo.cli.options import PATH, json_option, main
from fer_zoo.cli.show import cell, out, print_json, print_table
from fer_zoo.data.report import NEAR_BITS, DataReport, Face, Group, data_report
from fer_zoo.data.sets import parse_dataset
from fer_zoo.evaluation.card import prepare_folder, write_text
from fer_zoo.plots import contact_sheet

OWN = (
    "report.json", "report.md",
    "constant.png", "conflicts.png", "near_across_splits.png", "non_faces.png",
)  # fmt: skip
"""The files of a report; the first says whose they are."""
SHEET = 96
"""Faces on a contact sheet at most: twelve rows of eight fit a page."""


@main.group()
def data() -> None:
    """Look at data before training on it.

    Example: fer-zoo data report fer2013.csv
    """


@data.command()
@click.argument("root", type=PATH)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.json, report.md and contact sheets (PNG) to this folder.",
)
@click.option(
    "--near-bits",
    type=click.IntRange(0, 16),
    default=NEAR_BITS,
    show_default=True,
    help="Bits of 64 in which the hashes of near duplicates may differ.",
)
@json_option
def report(root: Path, output: Path | None, near_bits: int, as_json: bool) -> None:
    """Find blank images, duplicates, contradicting labels and FER+ non-faces in ROOT.

    ROOT is fer2013.csv, its folder, Kaggle's image folders, one folder of images per class, or
    NAME:PATH for a data set by name (`fer-zoo list`).

    Example: fer-zoo data report fer2013.csv --output report/
    """
    if output is not None and (root.exists() or parse_dataset(root)):
        prepare_folder(output, OWN, '{\n "name":')
    found = data_report(root, near_bits=near_bits)
    if output is not None:
        _write(found, output)
    if as_json:
        print_json(found.to_dict())
        return
    out.print(f"[bold]{cell(found.name)}[/bold] at {cell(str(root))}")
    for note in found.notes:
        out.print(f"Note: {cell(note)}.")
    for title, rows in found.tables().items():
        out.print(f"\n[bold]{cell(title)}[/bold]")
        print_table(rows)
    hint = f"written to {output}" if output else "name every face: --json, or --output FOLDER"
    out.print(f"\nThe lists: {cell(hint)}")


def _write(found: DataReport, folder: Path) -> None:
    """Write the report and its sheets, and remove sheets of an earlier report."""
    write_text(folder / "report.json", json.dumps(found.to_dict(), indent=1))
    write_text(folder / "report.md", found.to_markdown())
    for name, (title, groups) in found.worst().items():
        target = folder / f"{name}.png"
        if not groups:
            target.unlink(missing_ok=True)
        else:
            with replacing(target) as path:
                _draw(found, title, groups, path)


def _draw(found: DataReport, title: str, groups: Sequence[Group], path: Path) -> None:
    """Draw the first groups, numbered where they have several faces."""
    faces: list[Face] = []
    captions: list[str] = []
    for number, group in enumerate(groups, 1):
        before = f"{number}: " if len(group.faces) > 1 else ""
        faces += group.faces
        captions += [f"{before}{f.name[-22:]}\n{f.split}, {f.label}" for f in group.faces]
    shown = found.images[[face.row for face in faces[:SHEET]]]
    told = f"{found.name}: {title}, {len(shown)} of {len(faces)} images"
    contact_sheet(shown, captions[:SHEET], title=told).savefig(path, dpi=150)
