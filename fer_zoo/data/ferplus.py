"""FER+: ten people's votes on every face of FER2013.

Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with
crowd-sourced label distribution" (arXiv 1608.01041), whose majority rule is used here.
"""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import (
    FER2013,
    USAGE,
    Split,
    check_columns,
    check_digits,
    check_fields,
    find_csv,
    load_arrays,
)
from fer_zoo.data.listed import check_split, find, read_faces
from fer_zoo.errors import DataError
from fer_zoo.labels import FERPLUS as LABELS, canonical

FOLDERS = {"train": "FER2013Train", "public": "FER2013Valid", "private": "FER2013Test"}
VOTES_FILE = "fer2013new.csv"
MOST_VOTES = 1000  # for one class; ten people voted
WINDOW = 1000  # faces one after the other that votes must fit
OTHER_ORDER = "fits less than half of the emotions: votes are by row, and the csv has another order"
COLUMNS = (*LABELS, "unknown", "nf")
"""The votes for each class, for none of them, and for no face; the file says `happiness`, `NF`."""


class FERPlus(FaceDataset):
    r"""One split of FER2013 with FER+'s eight classes.

    As in the paper, single votes are dropped as outliers, a face counts where more than half of the
    rest agree, and faces that most call unknown or no face are left out.

    Args:
        root: folder that holds `fer2013.csv` or `icml_face_data.csv`, and `fer2013new.csv`, whose
            rows are the csv's rows; or the `data/` that the script of FER+'s repository writes:
            `FER2013Train/`, `FER2013Valid/` and `FER2013Test/`, each with `label.csv` and images.
        split: as for `FER2013`.
        votes: the vote file, if it is elsewhere.

    Attributes:
        votes: float, shape `(N, 8)`: each face's votes for the eight classes, summing to one.
        dropped: faces of the split without a majority for one of the eight.
        rows: their csv rows, int64, shape `(N,)`.

    Example:
        >>> import tempfile, warnings
        >>> row = "3," + " ".join(["128"] * 2304) + ",PublicTest\n"
        >>> head = ",".join(("Usage", "Image name", *COLUMNS))
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     os.environ["FER_ZOO_CACHE"] = folder
        ...     _ = Path(folder, "fer2013.csv").write_text("emotion,pixels,Usage\n" + row)
        ...     votes = head + "\nPublicTest,,1,9,0,0,0,0,0,0,0,0\n"
        ...     _ = Path(folder, VOTES_FILE).write_text(votes)
        ...     faces = FERPlus(folder, "public")
        >>> faces.labels[faces.targets[0]], faces.votes[0, 1].item()
        ('happy', 1.0)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        *,
        votes: str | os.PathLike[str] | None = None,
    ) -> None:
        check_split(split, FOLDERS)
        base, files = as_path(root), None
        source = find_csv(base)
        if source is None:
            listed = None if votes else find(base, f"{FOLDERS[split]}/label.csv")
            if listed is None:
                raise DataError(
                    f"{root} holds no fer2013.csv, and FER+ maps votes by csv row; nor "
                    "FER2013Train/label.csv, as FER+'s script writes it"
                )
            files, table = read_labels(listed)
            images = read_faces(files, size=48, name="FER+")
            rows = torch.tensor([_row_of(path.name) for path in files])
        else:
            arrays = load_arrays(base)
            path = source.parent / VOTES_FILE if votes is None else as_path(votes)
            found = read_votes(path, arrays["usage"])
            if found is None:
                told = f"{path} has other rows than {source}"
                raise DataError(f"{told}, which must be the official csv")
            faces = FER2013(root, split)
            assert faces.rows is not None
            images, rows, table = faces.images, faces.rows, found[faces.rows.numpy()]
            if not in_order(table, [faces.labels[k] for k in faces.targets.tolist()]):
                raise DataError(f"{path} {OTHER_ORDER}: FER+ needs the official csv")
        counted, winner = majority(table)
        keep = torch.from_numpy((winner >= 0) & (winner < len(LABELS)))
        shares = torch.from_numpy(counted[:, : len(LABELS)])[keep].float()
        super().__init__(
            images[keep],
            torch.from_numpy(winner)[keep],
            labels=LABELS,
            name="FER+",
            split=split,
            votes=shares / shares.sum(1, keepdim=True),
        )
        self.dropped, self.rows = int((~keep).sum()), rows[keep]
        self.files = files and [files[i] for i in keep.nonzero()[:, 0]]


def read_labels(path: Path) -> tuple[list[Path], np.ndarray]:
    """Return the images that a label.csv of FER+'s repository lists, and their votes (N, 10)."""
    files, votes, line = [], [], 0
    try:
        for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()):
            line += 1
            if row:
                _row_of(row[0])
                votes.append(_counts([vote for _, vote in zip(COLUMNS, row[2:], strict=True)]))
                files.append(path.parent / row[0])
    except (ValueError, csv.Error):
        raise DataError(
            f"{path}, line {line or 1}: needs fer0000000.png, a box, 10 votes"
        ) from None
    if missing := [file for file in files if not os.path.isfile(file)]:
        raise DataError(f"{len(missing):,} images of {path} are missing, the first is {missing[0]}")
    return files, np.array(votes, np.int16).reshape(-1, len(COLUMNS))


def in_order(table: np.ndarray, emotions: Sequence[str]) -> bool:
    """Whether votes (N, 10) can be of these faces: two thirds of FER2013's labels win theirs.

    Of each thousand one after the other, for a row that lacks moves those after it alone; it is
    62 % or more of the official ones, and 22 % or less of those moved by one.
    """
    winner = majority(table)[1]
    voted = winner >= 0
    won = (np.array([*LABELS, "", ""])[winner] == np.array(emotions))[voted]
    if len(won) < WINDOW:
        return True
    total = np.concatenate([[0], won.cumsum()])
    return int((total[WINDOW:] - total[:-WINDOW]).min()) >= WINDOW // 2


def _row_of(name: str) -> int:
    """Return the number in the name of an image, `fer0000000.png`."""
    return int(name.removeprefix("fer").partition(".")[0])


def _counts(texts: list[str]) -> list[int]:
    """Return the votes of a face."""
    check_digits(" ".join(texts))
    votes = [int(text) for text in texts]
    if max(votes) > MOST_VOTES:
        raise ValueError(f"{max(votes)} votes of one face")
    return votes


def majority(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the votes (N, 10) without outliers, and each row's majority (N,), -1 for none."""
    counted = np.where(table > 1, table, 0)
    return counted, np.where(2 * counted.max(1) > counted.sum(1), counted.argmax(1), -1)


def read_votes(path: Path, own: np.ndarray) -> np.ndarray | None:
    """Return the votes (N, 10) of the rows with the usage codes `own` (N,), None for others."""
    if not os.path.isfile(path):
        raise DataError(f"{path} is missing: it is {VOTES_FILE} of the FER+ repository")
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [canonical(name) for name in reader.fieldnames or ()]
            if missing := {"usage", *COLUMNS} - {*reader.fieldnames}:
                raise DataError(f"{path}: no columns {sorted(missing)}, as FER+ has them")
            check_columns(path, reader.fieldnames)
            rows, usage = [], []
            for row in reader:
                line = reader.line_num
                check_fields(row)
                rows.append(_counts([row[c] for c in COLUMNS]))
                usage.append(USAGE[row["usage"].strip().lower()])
    except (TypeError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}, line {line}: cannot be read ({error!r})") from None
    same = usage[: len(own)] == own.tolist()
    return np.array(rows, np.int16).reshape(-1, len(COLUMNS))[: len(own)] if same else None
