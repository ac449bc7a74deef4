"""What is odd in a dataset of faces: blank images, duplicates, contradicting labels."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo._files import as_path, as_text
from fer_zoo._progress import progress_bar
from fer_zoo._tables import markdown, safe
from fer_zoo.data.faces import FaceDataset, FacesLike, as_dataset
from fer_zoo.data.fer2013 import COUNTS, SPLITS, _folder_files, find_csv, load_arrays
from fer_zoo.data.ferplus import COLUMNS, OTHER_ORDER, VOTES_FILE, in_order, majority, read_votes
from fer_zoo.data.folder import ImageFolder
from fer_zoo.data.near import near_pairs
from fer_zoo.data.sets import parse_dataset
from fer_zoo.errors import ArgumentError, DataError, needing
from fer_zoo.labels import FER2013 as LABELS
from fer_zoo.transforms.inputs import BLANK

NEAR_BITS = 8
"""Bits of 64 in which the hashes of near duplicates may differ; docs/data.md says why."""
USAGES = (*SPLITS, "test")
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Face:
    """Where a face is found, and what it is labelled.

    Attributes:
        row: its index in `DataReport.images`; of a csv its row, 0 for the line after the header.
        file: its path under the root, for folders; else empty.

    Example:
        >>> Face(row=7, split="train", label="happy").name
        'row 7'
    """

    row: int
    split: str
    label: str
    file: str = ""

    @property
    def name(self) -> str:
        """The file, or the row of the csv."""
        return self.file or f"row {self.row}"


@dataclass(frozen=True, kw_only=True)
class Group:
    """Faces that are copies of one photograph, in the order of the data.

    Example:
        >>> pair = Group(faces=(Face(row=1, split="train", label="sad"),
        ...                     Face(row=9, split="public", label="fear")))
        >>> pair.splits, pair.labels
        (('train', 'public'), ('sad', 'fear'))
    """

    faces: tuple[Face, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that its faces are in."""
        return tuple(dict.fromkeys(face.split for face in self.faces))

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that its faces have; more than one is a conflict."""
        return tuple(dict.fromkeys(face.label for face in self.faces))


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What `data_report` found; every list is complete.

    Attributes:
        name: `"FER2013"`, or the folder's name.
        counts: faces per split and class.
        constant: blank images; they are in none of the groups.
        exact: groups of faces with equal pixels.
        near: groups of faces linked by near duplicates, exact copies of them included.
        links: near duplicates pair by pair: both rows (the first of each set of exact copies), the
            distance of their hashes in bits, and their correlation.
        non_faces: faces that most of FER+'s voters call no face, or None without FER+'s votes.
        doubted: faces that at least one of its ten voters calls no face, likewise.
        images: all faces, uint8, shape `(N, H, W)`.

    Example:
        >>> DataReport(name="mine", root=".", counts={}, near_bits=8, images=torch.zeros(2, 48, 48))
        DataReport('mine', n = 2; print(it.to_markdown()) tells)
    """

    name: str
    root: str
    counts: dict[str, dict[str, int]]
    near_bits: int
    constant: tuple[Face, ...] = ()
    exact: tuple[Group, ...] = ()
    near: tuple[Group, ...] = ()
    links: tuple[tuple[int, int, int, float], ...] = ()
    non_faces: tuple[Face, ...] | None = None
    doubted: tuple[Face, ...] | None = None
    notes: tuple[str, ...] = ()
    images: Tensor = field(repr=False, compare=False)

    def __repr__(self) -> str:
        return f"DataReport({self.name!r}, n = {len(self.images)}; print(it.to_markdown()) tells)"

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the images as plain values, ready for JSON."""
        plain = asdict(replace(self, images=self.images[:0]))
        del plain["images"]
        return {**plain, "tables": self.tables()}

    def tables(self) -> dict[str, list[list[str]]]:
        """Return the figures as tables of cells under their titles, heads first."""
        classes = next(iter(self.counts.values()))
        rows = [[s, *map(str, (sum(n.values()), *n.values()))] for s, n in self.counts.items()]
        tables = {"Faces": [["split", "faces", *classes], *rows]}
        odd = [["images that show nothing", *self._by_split(self.constant)]]
        if self.non_faces is not None and self.doubted is not None:
            odd += [["no face, by most of FER+'s voters", *self._by_split(self.non_faces)]]
            odd += [["no face, by one voter or more", *self._by_split(self.doubted)]]
        tables["Images without a face"] = [["", *self.counts], *odd]
        head = ["splits", "groups", "faces", "groups with several labels", "faces in those"]
        for title, groups in (("Exact duplicates", self.exact), ("Near duplicates", self.near)):
            kinds = dict.fromkeys(group.splits for group in groups)
            tables[title] = [head, *(_group_row(k, groups) for k in sorted(kinds, key=len))]
        nearly = {face.row for group in self.near for face in group.faces}
        both = (*self.near, *(g for g in self.exact if g.faces[0].row not in nearly))
        differing = "with another label"
        rows = [["faces of", "also in", "exactly", differing, "exactly or nearly", differing]]
        for a, b in permutations(self.counts, 2):
            rows.append([a, b, *map(str, (*_shared(self.exact, a, b), *_shared(both, a, b)))])
        tables["Faces that another split holds too"] = rows
        return {title: table for title, table in tables.items() if len(table) > 1}

    def worst(self) -> dict[str, tuple[str, list[Group]]]:
        """Return what to look at, by the name of its contact sheet: its title, and the groups."""
        conflicts = [group for group in self.exact if len(group.labels) > 1]
        across = [group for group in self.near if len(group.splits) > 1]
        return {
            "constant": ("Images that show nothing", [Group(faces=(f,)) for f in self.constant]),
            "conflicts": ("Exact duplicates with several labels", conflicts),
            "near_across_splits": ("Near duplicates across splits", across),
            "non_faces": ("FER+ non-faces", [Group(faces=(f,)) for f in self.non_faces or ()]),
        }

    def to_markdown(self) -> str:
        """Return the tables and the beginning of each list as Markdown."""
        parts = [f"# {safe(self.name)}", *(safe(f"Note: {note}.") for note in self.notes)]
        for title, table in self.tables().items():
            parts += [f"## {title}", markdown(table)]
        for title, found in self.worst().values():
            parts += [f"## {title}"] * bool(found)
            for group in found[:SHOWN]:
                names = (f"{face.name} ({face.split}, {face.label})" for face in group.faces)
                parts.append("- " + safe("; ".join(names)))
            if len(found) > SHOWN:
                parts.append(f"- and {len(found) - SHOWN} more, in the JSON")
        return "\n\n".join(parts) + "\n"

    def _by_split(self, faces: Sequence[Face]) -> list[str]:
        return [str(sum(face.split == split for face in faces)) for split in self.counts]


def data_report(
    root: str | os.PathLike[str] | FacesLike, *, near_bits: int = NEAR_BITS, progress: bool = True
) -> DataReport:
    """Find what is odd in FER2013, in any form that `FER2013` takes, or in other faces.

    Exact duplicates have equal pixels (after scaling to 48 px, for one's own faces). Near
    duplicates are crops, scalings and recompressions of one photograph: their perceptual hashes
    (the DCT hash of ImageHash, 64 bits) differ in at most `near_bits`, and their pixels correlate
    by 0.9 or more after the best shift of up to 3 px. Groups join all that such pairs link; they
    are a lower bound. Blank images have gray levels with a standard deviation below 1.

    Args:
        root: as for `FER2013`, a folder of one folder of images per class, `NAME:PATH` for a data
            set of `list_datasets` (all its splits, or one of them), or a data set itself. The votes
            of FER+ are read where `fer2013new.csv` lies beside the csv.
        near_bits: 0 to 16; more finds more pairs, and more that are none.
        progress: show bars on a terminal.

    Raises:
        DataError: nothing usable at `root`.
        MissingDependencyError: ImageHash is not installed.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("calm", "tense"):
        ...         Path(folder, name).mkdir()
        ...         Image.linear_gradient("L").save(Path(folder, name, "a.png"))
        ...     report = data_report(folder, progress=False)
        >>> report.exact[0].labels
        ('calm', 'tense')
    """
    if type(near_bits) is not int or not 0 <= near_bits <= 16:
        raise ArgumentError(f"near_bits must be 0 to 16, got {near_bits!r:.80}")
    with needing("the data report needs ImageHash", "train"):
        import imagehash
    import scipy.sparse.csgraph
    from PIL import Image

    found, place = _opened(root)
    name, labels, images, faces, notes = _read_data(found, place) if found else _read(place)
    non_faces, doubted = (None, None) if found else _votes(place, faces, notes)
    deviation = np.array([image.std() for image in images])
    copies: dict[bytes, list[int]] = {}
    for row in np.flatnonzero(deviation >= BLANK).tolist():
        copies.setdefault(hashlib.blake2b(images[row].tobytes()).digest(), []).append(row)
    firsts = np.array([rows[0] for rows in copies.values()], dtype=np.int64)
    shown = progress_bar(images[firsts], desc="hashing", unit="face", show=progress)
    phashes = [imagehash.phash(Image.fromarray(image)).hash.ravel() for image in shown]
    hashes = np.packbits(np.array(phashes, bool).reshape(-1, 64), axis=1).view(np.uint64).ravel()
    i, j, bits, likeness = near_pairs(images[firsts], hashes, near_bits, progress)
    linked = scipy.sparse.csr_array((np.ones(len(i)), (i, j)), shape=(len(firsts),) * 2)
    member = scipy.sparse.csgraph.connected_components(linked, directed=False)[1]
    families: dict[int, list[list[int]]] = {}
    for rows, family in zip(copies.values(), member.tolist(), strict=True):
        families.setdefault(family, []).append(rows)
    links = firsts[i], firsts[j], bits, likeness.round(4)
    near = [sorted(chain.from_iterable(f)) for f in families.values() if len(f) > 1]
    counts: dict[str, dict[str, int]] = {}
    for face in faces:
        counts.setdefault(face.split, dict.fromkeys(labels, 0))[face.label] += 1
    return DataReport(
        name=name,
        root=str(place),
        counts=counts,
        near_bits=near_bits,
        constant=tuple(faces[row] for row in np.flatnonzero(deviation < BLANK)),
        exact=_groups(faces, [rows for rows in copies.values() if len(rows) > 1]),
        near=_groups(faces, near),
        links=tuple(zip(*(column.tolist() for column in links), strict=True)),
        non_faces=non_faces,
        doubted=doubted,
        notes=tuple(notes),
        images=torch.from_numpy(images),
    )


def _opened(root: str | os.PathLike[str] | FacesLike) -> tuple[list[FaceDataset], Path]:
    """Return the data sets that are given or named, none for a path; and where they are."""
    if (data := as_dataset(root)) is not None:
        return [data], Path()
    place = as_path(root)
    named = parse_dataset(place)
    if named is None or (named[0].name == "fer2013" and not named[1]):
        return [], place if named is None else named[2]
    spec, split, path = named
    found, errors = [], []
    for one in [split] if split or not spec.splits else spec.splits:
        try:
            found.append(spec.open(path, one, 48))
        except DataError as error:  # a split that is not there
            errors.append(error)
    if not found:
        raise errors[0]
    return found, path


def _read_data(
    found: list[FaceDataset], root: Path
) -> tuple[str, tuple[str, ...], np.ndarray, list[Face], list[str]]:
    """Return what `_read` does of data sets, which are the splits of one."""
    faces: list[Face] = []
    for data in found:
        split, paths = data.official_split or "all", data.files or [Path()] * len(data)
        for target, path in zip(data.targets.tolist(), paths, strict=True):
            inside = path.relative_to(root) if path.is_relative_to(root) else path
            file = as_text(inside.as_posix()) if data.files else ""
            faces.append(Face(row=len(faces), split=split, label=data.labels[target], file=file))
    images = np.concatenate([data.images.numpy() for data in found])
    return found[0].name, found[0].labels, images, faces, []


def _read(root: Path) -> tuple[str, tuple[str, ...], np.ndarray, list[Face], list[str]]:
    """Return the data's name, its classes, its images, where each is found, and notes."""
    source = find_csv(root)
    if source is None and not os.path.isdir(root / "train"):
        return _read_data([ImageFolder(root)], root)
    arrays = load_arrays(root)
    if not len(arrays["images"]):
        raise DataError(f"{root} holds no faces")
    files = [""] * len(arrays["images"])
    if source is None:
        files = [as_text(path.relative_to(root).as_posix()) for path in _folder_files(root)]
    rows = enumerate(zip(arrays["usage"].tolist(), arrays["targets"].tolist(), files, strict=True))
    faces = [Face(row=i, split=USAGES[u], label=LABELS[k], file=f) for i, (u, k, f) in rows]
    notes = []
    for usage, (split, official) in enumerate(COUNTS.items()):
        found = np.bincount(arrays["targets"][arrays["usage"] == usage], minlength=7)
        if not any(found):
            notes.append(f"there are no {split!r} faces")
        elif tuple(found) != official:
            notes.append(f"{split!r} has not the counts of the official FER2013")
    return "FER2013", LABELS, arrays["images"], faces, notes


def _votes(root: Path, faces: list[Face], notes: list[str]) -> Sequence[tuple[Face, ...] | None]:
    """Return the faces that most voters, and that any voter, call none; None without votes."""
    source = find_csv(root)
    path = source.parent / VOTES_FILE if source else None
    if path is None or not os.path.isfile(path):
        return None, None
    table = read_votes(path, np.array([USAGES.index(face.split) for face in faces]))
    if table is None:
        notes.append(f"the rows of {path.name} are not those of the csv: its votes are left out")
        return None, None
    if not in_order(table, [face.label for face in faces]):
        notes.append(f"{path.name} {OTHER_ORDER}: its votes are left out")
        return None, None
    none, winner = COLUMNS.index("nf"), majority(table)[1]
    kinds = winner == none, table[:, none] > 0
    return [tuple(faces[row] for row in np.flatnonzero(kind)) for kind in kinds]


def _groups(faces: list[Face], found: list[list[int]]) -> tuple[Group, ...]:
    """Return groups, those with the most labels and then the most faces first."""
    groups = [Group(faces=tuple(faces[row] for row in rows)) for rows in found]
    return tuple(sorted(groups, key=lambda g: (-len(g.labels), -len(g.faces), g.faces[0].row)))


def _group_row(kind: tuple[str, ...], groups: tuple[Group, ...]) -> list[str]:
    row, own = [" and ".join(kind)], [group for group in groups if group.splits == kind]
    for found in (own, [group for group in own if len(group.labels) > 1]):
        row += [str(len(found)), str(sum(len(group.faces) for group in found))]
    return row


def _shared(groups: tuple[Group, ...], split: str, other: str) -> tuple[int, int]:
    """Return how many faces of `split` are in `other` too, and how many with another label."""
    total = differ = 0
    for group in groups:
        theirs = {face.label for face in group.faces if face.split == other}
        ours = [face for face in group.faces if face.split == split]
        total += len(ours) if theirs else 0
        differ += sum(bool(theirs - {face.label}) for face in ours)
    return total, differ
