"""Faces from the web, labelled by people: RAF-DB, AffectNet, ExpW."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from fer_zoo.data.fer2013 import check_columns
from fer_zoo.data.files import log, walk
from fer_zoo.data.listed import Entry, Listed, check_split, existing, find, need
from fer_zoo.errors import DataError
from fer_zoo.labels import FER2013

MOST_BYTES = 4096  # of an annotation of one number
RAFDB_LABELS = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""The order of RAF-DB's codes, from 1."""
RAFDB_COUNTS = {
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
}
AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""The order of AffectNet's codes, from 0; 8 is none, 9 uncertain, 10 no face."""
AFFECTNET_COUNTS = {
    "train": [(74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)],
    "validation": [(500,) * 8, (500,) * 7 + (499,)],
}
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip
"""Of AffectNet's training.csv and validation.csv; the latter may lack the line that names them."""


NEEDED = (*COLUMNS[:5], "expression")


class RAFDB(Listed):
    """The basic part of the Real-world Affective Faces Database: 15,339 aligned faces, 7 classes.

    Source: Li, Deng and Du 2017, "Reliable crowdsourcing and deep locality-preserving learning for
    expression recognition in the wild". Licence: for non-commercial research only; not to be passed
    on.

    Args:
        root: a folder with `EmoLabel/list_patition_label.txt` and
            `Image/aligned/train_00001_aligned.jpg` (`basic/` of the original), or with `train/1` to
            `train/7` and `test/1` to `test/7` (as on Kaggle).
        split: `"train"` (12,271 faces) or `"test"` (3,068), which is for reporting; a part to
            validate on is cut from the first by its `split`.
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: another layout, a malformed list, or a face that is not there.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     Path(folder, "train", "4").mkdir(parents=True)
        ...     Image.new("L", (100, 100)).save(Path(folder, "train/4/train_00007_aligned.jpg"))
        ...     faces = RAFDB(folder)
        >>> faces.labels[faces.targets[0]], faces.official_split
        ('happy', 'train')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "test"] = "train",
        *,
        size: int = 48,
    ) -> None:
        check_split(split, RAFDB_COUNTS)
        base = existing(root)
        names = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
        if (listed := find(base, *names)) is not None:
            entries = _rafdb_list(listed, split)
        else:
            layout = f"EmoLabel/list_patition_label.txt or {split}/1 to {split}/7 of RAF-DB"
            folder = need(find(base, f"{split}/[1-7]"), base, layout).parent
            entries = _by_code(folder, 1, RAFDB_LABELS)
        super().__init__(
            entries,
            root=base,
            labels=RAFDB_LABELS,
            name="RAF-DB",
            size=size,
            split=split,
            official=[RAFDB_COUNTS[split]],
        )


def _rafdb_list(path: Path, split: str) -> list[Entry]:
    found = []
    for number, words in _lines(path, 2):
        name, code = words
        if not name.startswith(("train_", "test_")) or code not in set("1234567"):
            raise DataError(f"{path}, line {number}: needs train_00001.jpg 5, got {words}")
        if name.startswith(f"{split}_"):
            stem, suffix = os.path.splitext(name)
            image = path.parent.parent / "Image" / "aligned" / f"{stem}_aligned{suffix}"
            found.append(Entry(image, int(code) - 1))
    return found


def _by_code(folder: Path, first: int, labels: Sequence[str]) -> list[Entry]:
    """Return the faces in folders that are named by the codes of classes, which count from one."""
    codes = [str(first + k) for k in range(len(labels))]
    there = {p.name for p in folder.iterdir() if p.is_dir() and walk(p).images}
    for start in (first - 1, first + 1):
        own = {str(start), str(start + len(codes) - 1)}
        if own <= there and not {codes[0], codes[-1]} <= there:
            raise DataError(
                f"{folder}: its folders are numbered from {start}, the data set's from {first}: "
                f"call them {first} to {codes[-1]} if {start} holds {labels[0]}, and so on"
            )
    found = [Entry(p, k) for k, code in enumerate(codes) for p in walk(folder / code).images]
    if others := {p.name for p in folder.iterdir() if p.is_dir()} - {*codes}:
        log.warning("%s: left out the folders %s, no class has them", folder, sorted(others)[:5])
    return found


def _lines(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of a list with their numbers, split at blanks from the right."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.rsplit(None, columns - 1)
        if words and len(words) != columns:
            raise DataError(f"{path}, line {number}: needs {columns} columns, got {line!r:.80}")
        if words:
            yield number, words


class AffectNet(Listed):
    """AffectNet with its eight classes: 287,651 faces to train on, 4,000 to validate on.

    What is labelled none, uncertain or no face is left out and counted in a warning. Its test split
    was never given out; people report on the validation split.

    Source: Mollahosseini, Hasani and Mahoor 2017 (arXiv 1708.03985). Licence: for research only,
    by the agreement with the University of Denver; not to be passed on.

    Args:
        root: a folder with `train_set/` and `val_set/`, each with `images/0.jpg` and
            `annotations/0_exp.npy`; with `training.csv`, `validation.csv` and
            `Manually_Annotated_Images/`, whose faces are cut out by the boxes in the csv; or with
            `train/0` to `train/7` and `val/0` to `val/7`.
        split: `"train"` or `"validation"`.
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: another layout, an annotation that is none (pickles are never read), or a face
            that is not there.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     for part in ("images", "annotations"):
        ...         Path(folder, "val_set", part).mkdir(parents=True)
        ...     Image.new("RGB", (224, 224)).save(Path(folder, "val_set/images/7.jpg"))
        ...     np.save(Path(folder, "val_set/annotations/7_exp.npy"), "1")
        ...     faces = AffectNet(folder, "validation")
        >>> faces.labels[faces.targets[0]], faces.official_split
        ('happy', 'validation')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "validation"] = "train",
        *,
        size: int = 48,
    ) -> None:
        check_split(split, AFFECTNET_COUNTS)
        base = existing(root)
        short = {"train": ("train",), "validation": ("val", "valid", "validation")}[split]
        table = "training.csv" if split == "train" else "validation.csv"
        if (folder := find(base, f"{short[0]}_set/annotations")) is not None:
            found = _affectnet_arrays(folder)
        elif (listed := find(base, table)) is not None:
            found = _affectnet_csv(base, listed)
        else:
            layout = f"{short[0]}_set/annotations, {table} or {short[0]}/0 to 7 of AffectNet"
            codes = [f"{name}/[0-7]" for name in short]
            folder = need(find(base, *codes), base, layout).parent
            found = _by_code(folder, 0, AFFECTNET)
        entries = [entry for entry in found if entry.target < len(AFFECTNET)]
        if left := Counter(entry.target for entry in found if entry.target >= len(AFFECTNET)):
            what = ("none", "uncertain", "no face")
            told = ", ".join(f"{n:,} {what[code - 8]}" for code, n in sorted(left.items()))
            log.warning("%s: left out faces that are labelled %s", base, told)
        super().__init__(
            entries,
            root=base,
            labels=AFFECTNET,
            name="AffectNet",
            size=size,
            split=split,
            official=AFFECTNET_COUNTS[split],
        )


def _affectnet_arrays(folder: Path) -> list[Entry]:
    found = []
    for image in walk(folder.parent / "images").images:
        path = folder / f"{image.stem}_exp.npy"
        try:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES:,} bytes")
            value = np.load(path, allow_pickle=False).item()
            if (code := int(value)) != float(value):
                raise ValueError(f"{value} is no whole number")
        except FileNotFoundError:
            raise DataError(f"{path} is not there, the annotation of {image}") from None
        except Exception as error:  # numpy raises whatever it likes on damaged files
            raise DataError(f"{path}: no annotation of AffectNet ({error})") from None
        found.append(_affectnet_entry(image, code, None, str(path)))
    return found


def _affectnet_csv(base: Path, path: Path) -> list[Entry]:
    names = ("Manually_Annotated_Images", "Manually_Annotated_compressed")
    images = need(find(base, *names), base, "Manually_Annotated_Images/ beside AffectNet's lists")
    found, line, columns = [], 1, [*COLUMNS]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for row in csv.reader(file):
                if COLUMNS[0] in row:
                    columns = row
                    check_columns(path, columns)
                    if lacking := [name for name in NEEDED if name not in columns]:
                        raise DataError(f"{path}: no columns {lacking}, as AffectNet has them")
                elif row:
                    values = dict(zip(columns, row, strict=True))
                    code = int(values["expression"])
                    box = None
                    if code < len(AFFECTNET):  # where there is no face there is no box either
                        x, y, width, height = (int(values[name]) for name in COLUMNS[1:5])
                        box = (x, y, x + width, y + height)
                    where = f"{path}, line {line}"
                    found.append(_affectnet_entry(images / values[COLUMNS[0]], code, box, where))
                line += 1
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}, line {line}: cannot be read ({error})") from None
    return found


def _affectnet_entry(
    path: Path, code: int, box: tuple[int, int, int, int] | None, where: str
) -> Entry:
    if code not in range(11):
        raise DataError(f"{where}: the expression {code} is not one of 0 to 10")
    return Entry(path, code, None, box)


class ExpW(Listed):
    r"""The Expression in-the-Wild data set: 91,793 faces in photographs of the web, 7 classes.

    Faces are cut out by their boxes. There is no official split, and persons are unknown.

    Source: Zhang, Luo, Loy and Tang 2018, "From facial expression recognition to interpersonal
    relation prediction" (arXiv 1609.06426). Licence: for non-commercial research only.

    Args:
        root: a folder with `label/label.lst`, whose lines are image, face, top, left, right and
            bottom of its box, confidence and class; and `image/origin/` with the photographs.
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: another layout, a malformed list, or a photograph that is not there.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     for part in ("label", "image/origin"):
        ...         Path(folder, part).mkdir(parents=True)
        ...     Image.new("L", (200, 100)).save(Path(folder, "image/origin/a.jpg"))
        ...     _ = Path(folder, "label/label.lst").write_text("a.jpg 0 10 20 80 70 54.2 3\n")
        ...     faces = ExpW(folder)
        >>> faces.labels[faces.targets[0]], len(faces)
        ('happy', 1)
    """

    def __init__(self, root: str | os.PathLike[str], *, size: int = 48) -> None:
        base = existing(root)
        path = need(find(base, "label/label.lst", "label.lst"), base, "label/label.lst of ExpW")
        folder = find(base, "image/origin", "origin", "image")
        images, entries = need(folder, base, "image/origin/ of ExpW"), []
        for number, (name, *words) in _lines(path, 8):
            try:
                _, top, left, right, bottom = map(int, words[:5])
                float(words[5])
                target = list("0123456").index(words[6])
            except ValueError:
                raise DataError(
                    f"{path}, line {number}: needs image, face, top, left, right, bottom, "
                    f"confidence and a class from 0 to 6; got {words}"
                ) from None
            box = (left, top, right, bottom)
            entries.append(Entry(images / name, target, None, box))
        super().__init__(
            entries,
            root=base,
            labels=FER2013,  # its codes are in FER2013's order
            name="ExpW",
            size=size,
            official=[(3671, 3995, 1088, 30537, 10559, 7060, 34883)],
        )
