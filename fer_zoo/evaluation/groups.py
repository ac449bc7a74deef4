"""The group of each face, from a list or a csv: of which the figures are in `selective`."""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import PurePath
from typing import Any

from torch import Tensor

from fer_zoo.data import FaceDataset
from fer_zoo.data.cutting import names_its_rows
from fer_zoo.data.fer2013 import LONGEST, check_columns, check_fields
from fer_zoo.data.files import log
from fer_zoo.errors import ArgumentError, DataError

FILE = re.compile(
    "(file|path|image|img|picture|photo|face|crop)s?|(file|image|img|picture|photo|face|crop)s?"
    "(name|path|file)s?"
)
"""What people call a column of files, beside what holds names of the files that there are."""
ROW = re.compile(r"(row )?\d{1,9}")
Rows = list[dict[str, str]]


def grouped(data: FaceDataset, groups: Any) -> FaceDataset:
    """Return the same faces with these groups, so that what is left out takes its own along."""
    named = read_groups(groups, data)
    faces = copy(data)
    faces.groups = tuple(name or "" for name in named)
    return faces


def read_groups(groups: Any, data: FaceDataset) -> list[str | None]:
    """Return the group of each face, from a csv or as given."""
    if isinstance(groups, str | os.PathLike):
        return _from_csv(groups, data)
    try:
        if isinstance(groups, Mapping | set | frozenset):
            raise TypeError
        if names_its_rows(groups):
            raise ArgumentError(
                "groups of pandas that are named by row or are a table: the order of the faces is "
                "that of data.files, so pass series.loc[names].tolist() with the name of each "
                "face, or the path of a csv with the columns file and group"
            )
        listed = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    except TypeError:
        listed = []
    if len(listed) != len(data):
        raise ArgumentError(
            f"groups are one name for each of {len(data):,} faces, or the path of a csv of them, "
            f"got {len(listed):,}: {groups!r:.80}"
        )
    return [None if _is_none(name) else str(name) for name in listed]


def _is_none(name: Any) -> bool:
    """Whether a name is None, NaN, or what pandas has in their place."""
    return name is None or type(name).__name__ in ("NAType", "NaTType") or bool(name != name)


def _from_csv(path: str | os.PathLike[str], data: FaceDataset) -> list[str | None]:
    """Return the groups in a csv with a column `group`: by `file` or `row`, else in order."""
    columns, rows = _read_csv(path)
    if "group" not in columns:
        raise DataError(
            f"{path}: its first line must name a column group, and file (or row, of FER2013) "
            f"unless the rows are in the order of the faces; it has {[n[:20] for n in columns[:5]]}"
        )
    named = [row["group"] or None for row in rows]
    key = _key_column(columns, rows, data)
    if key is None:
        if len(rows) != len(data):
            raise DataError(
                f"{path} has {len(rows):,} rows for {len(data):,} faces: add a column file (of "
                "FER2013, row) that says which face each is"
            )
        if others := [name[:20] for name in columns if name != "group"]:
            log.warning(
                "%s: its rows are taken in the order of the faces; if one of %s says which face "
                "each is, call it file (of FER2013, row)", path, others[:5]
            )  # fmt: skip
        return named
    kind, hint = "row" if key == "row" else "file", ""
    if kind == "row":
        hint = _check_rows(path, {row[key] for row in rows}, len(data))
    there = getattr(data, f"{kind}s", None)
    if there is None:
        raise DataError(f"{path} names a {kind} for each face, which {data.name} does not know")
    known = dict(zip((row[key] for row in rows), named, strict=True))
    if len(known) < len(rows):
        raise DataError(f"{path} names the same {kind} twice")
    found = [_key_of(face, known) for face in there]
    if lacking := [face for face, one in zip(there, found, strict=True) if one is None]:
        raise DataError(
            f"{path} has no row for {len(lacking):,} of {len(data):,} faces, {_said(lacking[0])!r} "
            f"first, in its column {key!r:.40}; a face without a group has a row with an empty one"
            f"{hint}"
        )
    twice = len(found) - len({*found})
    if twice:
        raise DataError(f"{path}: {twice:,} faces share a {kind} with others: name its folder, too")
    return [known[one] for one in found if one is not None]


def _read_csv(path: str | os.PathLike[str]) -> tuple[list[str], Rows]:
    rows, line = Rows(), 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(iter(lambda: file.readline(LONGEST), ""))
            columns = reader.fieldnames = [n.strip().lower() for n in reader.fieldnames or ()]
            check_columns(path, columns)
            for row in reader:
                line = reader.line_num
                check_fields(row)
                rows.append({k: v.strip() for k, v in row.items() if k is not None})
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path}, line {line}: cannot be read as a csv of groups ({error})"
        ) from None
    return columns, rows


def _key_column(columns: Sequence[str], rows: Rows, data: FaceDataset) -> str | None:
    """Return the column that says which face a row is: by its name, or as it holds the files'."""
    if key := next((name for name in ("file", "row") if name in columns), None):
        return key
    tails = {tail for file in data.files or () for tail in _tails(file)}
    others = [name for name in columns if tails and name != "group"]
    holding = {name: n for name in others if (n := sum(row[name] in tails for row in rows))}
    if holding:
        return max(holding, key=lambda name: holding[name])
    return next((n for n in others if FILE.fullmatch(re.sub("[^a-z]", "", n))), None)


def _check_rows(path: str | os.PathLike[str], rows: set[str], faces: int) -> str:
    """Raise where rows are counted from 1, or from 2 as a spreadsheet shows them; else a hint."""
    numbers = {int(row.removeprefix("row ")) for row in rows if ROW.fullmatch(row)}
    first, last = min(numbers, default=0), max(numbers, default=0)
    whole = last - first + 1 == len(numbers) > faces  # a part of the faces may lack the first
    if first in (1, 2) and whole:
        raise DataError(
            f"{path}: rows are counted from 0, the first face of fer2013.csv, and its column row "
            f"begins with {first}: subtract {first} from each"
        )
    return f"; if its rows are counted from {first}, subtract {first}" if first in (1, 2) else ""


def _said(face: Any) -> str:
    return f"row {int(face)}" if isinstance(face, Tensor) else str(face)


def _tails(file: str | os.PathLike[str]) -> list[str]:
    """Return what a csv may call a file: the ends of its path, the longest first."""
    parts = PurePath(file).parts
    return [os.path.join(*parts[i:]) for i in range(len(parts))]


def _key_of(face: Any, known: dict[str, str | None]) -> str | None:
    """Return how a csv names a face: a row by its number, a file by the end of its path."""
    if isinstance(face, Tensor):
        return next((k for k in (str(int(face)), f"row {int(face)}") if k in known), None)
    return next((tail for tail in _tails(face) if tail in known), None)
