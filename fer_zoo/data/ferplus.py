"""FER+: ten people's votes on every face of FER2013.

Source: Barsoum et al. 2016, "Training deep networks for facial expression recognition with
crowd-sourced label distribution" (arXiv 1608.01041), whose majority rule is used here.
"""

import csv
import os
from pathlib import Path

import numpy as np
import torch

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import FER2013, USAGE, Split, find_csv, load_arrays
from fer_zoo.errors import DataError
from fer_zoo.labels import FERPLUS as LABELS, canonical

VOTES_FILE = "fer2013new.csv"
COLUMNS = (*LABELS, "unknown", "nf")
"""The votes for each class, for none of them, and for no face; the file says `happiness`, `NF`."""


class FERPlus(FaceDataset):
    r"""One split of FER2013 with FER+'s eight classes.

    As in the paper, single votes are dropped as outliers, a face counts where more than half of the
    rest agree, and faces that most call unknown or no face are left out.

    Args:
        root: folder that holds `fer2013.csv` or `icml_face_data.csv`, and `fer2013new.csv`, whose
            rows are the csv's rows.
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
        source = find_csv(as_path(root))
        if source is None:
            raise DataError(f"{root} holds no fer2013.csv, and FER+ maps votes by csv row")
        faces = FER2013(root, split)
        path = source.parent / VOTES_FILE if votes is None else as_path(votes)
        table, rows = read_votes(path, load_arrays(Path(root))["usage"]), faces.rows
        assert rows is not None
        if table is None:
            raise DataError(f"{path} has other rows than {source}, which must be the official csv")
        counted, winner = majority(table[rows.numpy()])
        keep = torch.from_numpy((winner >= 0) & (winner < len(LABELS)))
        shares = torch.from_numpy(counted[:, : len(LABELS)])[keep].float()
        super().__init__(
            faces.images[keep],
            torch.from_numpy(winner)[keep],
            labels=LABELS,
            name="FER+",
            split=split,
            votes=shares / shares.sum(1, keepdim=True),
        )
        self.dropped, self.rows = int((~keep).sum()), rows[keep]


def majority(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the votes (N, 10) without outliers, and each row's majority (N,), -1 for none."""
    counted = np.where(table > 1, table, 0)
    return counted, np.where(2 * counted.max(1) > counted.sum(1), counted.argmax(1), -1)


def read_votes(path: Path, own: np.ndarray) -> np.ndarray | None:
    """Return the votes (N, 10) of the rows with the usage codes `own` (N,), None for others."""
    if not path.is_file():
        raise DataError(f"{path} is missing: it is {VOTES_FILE} of the FER+ repository")
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [canonical(name) for name in reader.fieldnames or ()]
            if missing := {"usage", *COLUMNS} - {*reader.fieldnames}:
                raise DataError(f"{path}: no columns {sorted(missing)}, as FER+ has them")
            rows, usage = [], []
            for row in reader:
                line = reader.line_num
                rows.append([int(row[c]) for c in COLUMNS])
                usage.append(USAGE[row["usage"].strip().lower()])
    except (TypeError, ValueError, KeyError, csv.Error) as error:
        raise DataError(f"{path}, line {line}: cannot be read ({error!r})") from None
    same = usage[: len(own)] == own.tolist()
    return np.array(rows, np.int16).reshape(-1, len(COLUMNS))[: len(own)] if same else None
