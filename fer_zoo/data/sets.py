"""Data sets by name: `rafdb.test:PATH` is the test split of RAF-DB at PATH."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_zoo.data.faces import OFFICIAL_SPLITS, FaceDataset
from fer_zoo.data.fer2013 import FER2013
from fer_zoo.data.ferplus import FERPlus
from fer_zoo.data.posed import JAFFE, KDEF, CKPlus
from fer_zoo.data.wild import RAFDB, AffectNet, ExpW
from fer_zoo.errors import ArgumentError
from fer_zoo.registry import Registry

_ADDRESS = re.compile(r"([A-Za-z][\w-]+)(?:\.(\w+))?:(.+)", re.DOTALL)
"""Name, split and path; one letter before a colon is a drive."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set that is known by name, with what reads it.

    Attributes:
        load: from the path, the split and the side in px to the faces; both may be ignored where
            there is one split, or one size.
        splits: the official ones, some of train, public, validation, private and test; none if
            there are none, and `load` gets None.
        description: what it holds.

    Example:
        >>> spec = DatasetSpec(name="mine", load=lambda root, split, size: KDEF(root, size=size),
        ...                    description="faces of my own")
        >>> spec.splits
        ()
    """

    name: str
    load: Callable[[Path, Any, int], FaceDataset]
    splits: tuple[str, ...] = ()
    description: str

    def __post_init__(self) -> None:
        if not callable(self.load) or not {*self.splits} <= {*OFFICIAL_SPLITS}:
            raise ArgumentError(
                f"a data set has a load and splits of {OFFICIAL_SPLITS}, got {self!r:.200}"
            )

    def open(self, root: str | os.PathLike[str], split: str | None, size: int) -> FaceDataset:
        """Return one split of it, or all of it where it has none."""
        if split is None and self.splits:
            raise ArgumentError(
                f"{self.name} has the splits {', '.join(self.splits)}: say which, as in "
                f"{self.name}.{self.splits[0]}:{os.fspath(root)}"
            )
        if split is not None and split not in self.splits:
            known = f"only {', '.join(self.splits)}" if self.splits else "no official splits"
            raise ArgumentError(f"{self.name} has {known}, no {split!r}")
        return self.load(Path(root), split, size)


DATASETS: Registry[DatasetSpec] = Registry("data set", "fer_zoo.data.list_datasets()")


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Make a data set available by name, here and on the command line (`--data NAME:PATH`).

    Raises:
        DuplicateNameError: the name is taken.

    Example:
        >>> import torch
        >>> def load(root, split, size):
        ...     return FaceDataset(torch.zeros(2, size, size).byte(), torch.tensor([0, 1]),
        ...                        labels=("calm", "tense"), name="black", split=split)
        >>> spec = DatasetSpec(name="black_doc", load=load, splits=("train", "test"),
        ...                    description="nothing to see")
        >>> register_dataset(spec).name, open_dataset("black_doc.test:.")
        ('black_doc', black(split='test', n=2, 48x48 px, {'calm': 1, 'tense': 1}))
    """
    if not isinstance(spec, DatasetSpec) or not re.fullmatch(r"[A-Za-z][\w-]+", spec.name):
        raise ArgumentError(
            f"expected a fer_zoo.data.DatasetSpec with a name of letters, got {spec!r:.80}"
        )
    return DATASETS.register(spec.name, spec)


def list_datasets(pattern: str = "*") -> list[str]:
    """Return the names of the data sets that are known by name.

    Example:
        >>> list_datasets("*net")
        ['affectnet']
    """
    return DATASETS.names(pattern)


def parse_dataset(address: str | os.PathLike[str]) -> tuple[DatasetSpec, str | None, Path] | None:
    """Return what `NAME:PATH` or `NAME.SPLIT:PATH` names; None for a plain path."""
    named = _ADDRESS.fullmatch(os.fspath(address))
    if named is None or os.path.exists(address):
        return None
    return DATASETS[named[1]], named[2], Path(named[3])


def open_dataset(address: str, *, split: str | None = None, size: int = 48) -> FaceDataset:
    """Read a data set by name.

    Args:
        address: `NAME:PATH` or `NAME.SPLIT:PATH`, e.g. `"rafdb.test:data/RAF-DB/basic"`.
        split: where the address names none.
        size: side in px of the faces, as for `ImageFolder`.

    Raises:
        UnknownNameError: no data set has the name.
        ArgumentError: a split that is missing, named twice or unknown, or a plain path.
        DataError: what is there is not the data set.

    Example:
        >>> open_dataset("rafdb:data/RAF-DB")
        Traceback (most recent call last):
        fer_zoo.errors.ArgumentError: rafdb has the splits train, test: say which, as in \
rafdb.train:data/RAF-DB
    """
    if not isinstance(address, str) or (named := parse_dataset(address)) is None:
        raise ArgumentError(
            f"a data set is NAME:PATH with one of the names {list_datasets()}, got {address!r:.80}"
        )
    spec, own, path = named
    if own and split and own != split:
        raise ArgumentError(f"{address} and the split {split!r}: name one of them")
    return spec.open(path, own or split, size)


for _spec in (
    DatasetSpec(
        name="fer2013",
        load=lambda root, split, size: FER2013(root, split),
        splits=("train", "public", "private"),
        description="FER2013: 35,887 faces of the web, 7 classes",
    ),
    DatasetSpec(
        name="ferplus",
        load=lambda root, split, size: FERPlus(root, split),
        splits=("train", "public", "private"),
        description="FER+: FER2013 labelled again by ten people each, 8 classes",
    ),
    DatasetSpec(
        name="rafdb",
        load=lambda root, split, size: RAFDB(root, split, size=size),
        splits=("train", "test"),
        description="RAF-DB, basic: 15,339 faces of the web, 7 classes",
    ),
    DatasetSpec(
        name="affectnet",
        load=lambda root, split, size: AffectNet(root, split, size=size),
        splits=("train", "validation"),
        description="AffectNet: 291,651 faces of the web, 8 classes",
    ),
    DatasetSpec(
        name="expw",
        load=lambda root, split, size: ExpW(root, size=size),
        description="ExpW: 91,793 faces of the web, 7 classes",
    ),
    DatasetSpec(
        name="ckplus",
        load=lambda root, split, size: CKPlus(root, size=size),
        description="CK+: 327 posed sequences of 118 persons, 7 classes without neutral",
    ),
    DatasetSpec(
        name="jaffe",
        load=lambda root, split, size: JAFFE(root, size=size),
        description="JAFFE: 213 posed faces of 10 women, 7 classes",
    ),
    DatasetSpec(
        name="kdef",
        load=lambda root, split, size: KDEF(root, size=size),
        description="KDEF, straight: 980 posed faces of 70 persons, 7 classes",
    ),
):
    register_dataset(_spec)
