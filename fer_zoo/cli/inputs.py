"""What people type, as what the library takes."""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.data import FER2013, FaceDataset, FERPlus, ImageFolder
from fer_zoo.data.fer2013 import Split, find_csv
from fer_zoo.data.files import images_in
from fer_zoo.data.sets import parse_dataset
from fer_zoo.errors import ArgumentError
from fer_zoo.labels import FERPLUS, canonical
from fer_zoo.models import Classifier


def choosing_split(root: Path) -> str | None:
    """Return the split that choices are made on; None where none is, or the address names one."""
    if (named := parse_dataset(root)) is None:
        return None if has_classes(root) else "public"
    spec, own, _ = named
    return None if own else next((s for s in ("public", "validation") if s in spec.splits), None)


def training_split(root: Path) -> str | None:
    """Return the split to train on, where a data set is given by its name; else None."""
    named = parse_dataset(root)
    return None if named is None or not named[0].splits else named[1] or "train"


def has_classes(root: Path) -> bool:
    """Whether `root` is a folder of one's own classes rather than FER2013."""
    official = find_csv(root) is not None or (root / "train").is_dir()
    return root.is_dir() and not official and any(p.is_dir() for p in root.iterdir())


def open_data(
    root: Path, split: str | None, limit: int | None, size: int = 48, ferplus: bool = False
) -> FaceDataset:
    """Return a data set by name, one split of FER2013 or FER+, or one's own faces of `size` px."""
    if (named := parse_dataset(root)) is not None:
        spec, own, path = named
        faces = spec.open(path, own or split, size)
        return faces.subset(limit) if limit else faces
    if not root.exists():
        raise ArgumentError(f"{root} does not exist")
    if has_classes(root):
        if split is not None:
            raise ArgumentError(f"{root} has no official splits; leave --split out")
        data: FaceDataset = ImageFolder(root, size=size)
    elif split is None:
        raise ArgumentError("say which split: --split public (or train; private for reporting)")
    else:
        own = cast(Split, split)  # they say if it is none
        data = FERPlus(root, own) if ferplus else FER2013(root, own)
    return data.subset(limit) if limit else data


def check_new(output: Path) -> None:
    """Raise if there is a file already: it may hold what nobody can make again."""
    if output.suffix != ".safetensors":
        raise ArgumentError(f"--output {output} must end in .safetensors")
    if os.path.lexists(output):
        raise ArgumentError(f"{output} exists: name another with --output")


def save_new(model: Classifier, output: Path) -> None:
    """Save a model where there is no file, not even one that appeared since `check_new`."""
    try:
        with replacing(output, new=True) as temporary:
            fer_zoo.save(model, temporary)
    except FileExistsError:
        check_new(output)
        raise


def expand(paths: Iterable[Path]) -> tuple[list[Path], int]:
    """Return files and the images in folders, and how many folders may not be read."""
    files: list[Path] = []
    closed = 0
    for path in paths:
        if path.is_dir():
            found = images_in(path)
            files, closed = files + found.images, closed + len(found.closed)
        else:
            files.append(path)
    return files, closed


def parse_setting(text: str) -> tuple[str, Any]:
    """Return the key and the value of KEY=VALUE, the value read as TOML, else as text."""
    key, found, value = text.partition("=")
    if not found:
        raise ArgumentError(f"--set takes KEY=VALUE, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def parse_names(text: str) -> list[str]:
    """Return names between commas, as a list of Python's writes them, too."""
    names = [name.strip().strip("'\"") for name in text.strip().strip("[]()").split(",")]
    if len(names) == 1 and re.search(r"[;|/\s]", names[0]):
        raise ArgumentError(f"--labels are names between commas, angry,disgust, got {text!r:.80}")
    if odd := [n for n in names if re.search(r"[{}]|\(\[|^\d+['\"]?\s*[:=]|[:=]\s*\d+$", n)]:
        raise ArgumentError(
            "--labels are names in the order of the classes, angry,disgust,..., without numbers "
            f"and brackets: got {odd[0]!r:.80}"
        )
    return names


def parse_classes(merged: Iterable[str], ignore: Iterable[str]) -> dict[str, Any]:
    """Return what `--map` and `--ignore` say as `labels` and `ignore`."""
    groups: dict[str, list[str]] = {}
    for text in merged:
        name, _, members = (part.strip(" ,") for part in text.partition("="))
        if not (name and members):
            raise ArgumentError(f"--map takes NAME=CLASS,CLASS, got {text!r}")
        groups.setdefault(name, []).extend(part.strip() for part in members.split(","))
    left_out = [part.strip() for text in ignore for part in text.split(",") if part.strip()]
    return {"labels": groups, "ignore": left_out}


def classes_among(classes: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return of `parse_classes` what concerns a model and its faces, of several with others."""
    names = {canonical(name) for name in known}
    groups = {k: [n for n in v if canonical(n) in names] for k, v in classes["labels"].items()}
    left_out = [n for n in classes["ignore"] if canonical(n) in names]
    return {"labels": {k: v for k, v in groups.items() if v}, "ignore": left_out}


def is_ferplus(model: Classifier) -> bool:
    """Whether a model knows FER+'s eight classes, so that it is measured on FER+."""
    return {*map(canonical, model.labels or ())} == {*map(canonical, FERPLUS)}
