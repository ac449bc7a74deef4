"""The one shape in which every dataset of the zoo comes: all faces in one uint8 tensor."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, cast, overload

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from fer_zoo.data.cutting import group_ids, part_of, places, tell_shared
from fer_zoo.errors import ArgumentError, DataError
from fer_zoo.evidence import Faces
from fer_zoo.labels import check_labels, index_map, regroup
from fer_zoo.plain import check_plain

log = logging.getLogger("fer_zoo.data")
OFFICIAL_SPLITS = ("private", "test", "train", "public", "validation")
"""Official splits, those that allow the least first."""
TEST_SPLITS = OFFICIAL_SPLITS[:2]
"""Those that are scored once, for reporting."""


class FaceDataset(Dataset[Any]):
    """Gray faces of one size, their classes, and the names of the classes.

    A slice, a mask or a list of indices gives a part of it, which is a data set again. Wherever one
    is taken, torch's `Subset` (`random_split`) and `ConcatDataset` of such data sets are, too; of
    several splits a whole has the one that allows the least.

    Attributes:
        images: uint8, shape `(N, H, W)`.
        targets: int64, shape `(N,)`, indices into `labels`.
        labels: the class names in order.
        official_split: the `split` it was made with: `"train"`; for choosing `"public"` or
            `"validation"`; for reporting `"private"` or `"test"`; None where none is known. A part
            has its whole's.
        name: what the data is called in logs and records.
        votes: each face's share of votes for each class, float `(N, K)`, where people voted.
        groups: an id for each face, equal for the faces of one person; None where unknown.
        files: the file of each face, where it has one of its own; `rows` that of its csv.

    Example:
        >>> faces = FaceDataset(torch.zeros(3, 48, 48).byte(), torch.tensor([0, 1, 1]),
        ...                     labels=("calm", "tense"), name="mine")
        >>> len(faces), faces[0][0].shape, faces.counts
        (3, torch.Size([1, 48, 48]), {'calm': 1, 'tense': 2})
        >>> faces[1:].targets, faces[faces.targets == 0]
        (tensor([1, 1]), mine[1](split=None, n=1, 48x48 px, {'calm': 1, 'tense': 0}))
    """

    files: list[Path] | None = None
    rows: Tensor | None = None
    labels: tuple[str, ...]
    groups: tuple[str, ...] | None
    _origins: frozenset[str] = frozenset()  # fingerprints of what it was cut from
    _known: tuple[Any, str, list[Tensor]] | None = None

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        labels: Sequence[str],
        name: str,
        split: str | None = None,
        votes: Tensor | None = None,
        groups: Sequence[str | int] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise ArgumentError(f"name must be text, got {name!r:.80}")
        self.images, self.targets, self.votes = images, targets, votes
        self.labels, self.groups = cast(Any, labels), cast(Any, groups)
        self.name, self.official_split = name, split
        self._settle()

    def _settle(self) -> None:
        """Raise unless all that is there, as given or as somebody wrote it since, fits together."""
        images, targets, votes = self.images, self.targets, self.votes
        tensors = [images, targets] if votes is None else [images, targets, votes]
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise DataError(f"images, targets and votes are tensors, got {[*map(type, tensors)]}")
        for tensor in tensors:
            check_plain(tensor, "one of images, targets and votes", DataError)
        fitting = targets.shape == images.shape[:1]
        if images.dtype != torch.uint8 or images.ndim != 3 or not fitting:
            two = " (of one-hot rows pass targets.argmax(1), of one number each targets.flatten())"
            hint = two if targets.ndim == 2 else ""
            raise DataError(
                f"images must be uint8 (N, H, W) with one target each, got {images.dtype} "
                f"{tuple(images.shape)} and targets {tuple(targets.shape)}{hint}"
            )
        if (split := self.official_split) not in (None, *OFFICIAL_SPLITS):
            raise ArgumentError(f"split must be one of {OFFICIAL_SPLITS} or None, got {split!r}")
        self.labels = check_labels(self.labels)
        found, most = targets.double(), len(self.labels) - 1
        wrong = found[(found != found.trunc()) | ~((found >= 0) & (found <= most))]
        if len(wrong):
            raise DataError(f"targets must be whole numbers, 0 to {most}, got {wrong[0]:.9g}")
        if targets.dtype == torch.bool and most > 1:
            raise DataError(f"targets are bools, as a mask is, and there are {most + 1} classes")
        shape = (len(images), len(self.labels))
        if votes is not None and votes.shape != shape:
            raise DataError(f"votes must be {shape}, got {tuple(votes.shape)}")
        if votes is not None and not bool(((votes >= 0) & (votes <= 1.001)).all()):
            raise DataError("votes are shares from 0 to 1: divide each row by its sum")
        if votes is not None and bool(((votes.double().sum(1) - 1).abs() > 0.01).any()):
            raise DataError(
                "the votes of a face are shares that sum to 1: divide each row by its sum"
            )
        self.images, self.targets = images.cpu(), targets.cpu().long()
        self.votes = None if votes is None else votes.detach().cpu().float()
        self.groups = None if self.groups is None else group_ids(self.groups, len(images))
        for each in (self.files, self.rows):
            if each is not None and len(each) != len(images):
                raise DataError(f"{len(each):,} files or rows for {len(images):,} faces: one each")

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | Tensor) -> "FaceDataset": ...

    def __getitem__(self, index: Any) -> Any:
        """Return one face as uint8 `(1, H, W)` with its class index, or a part as by `select`."""
        if (
            isinstance(index, bool)
            or not hasattr(index, "__index__")
            or getattr(index, "ndim", False)
        ):
            return self.select(index)
        at = int(places([index], len(self))[0])
        return self.images[at][None], int(self.targets[at])

    def __repr__(self) -> str:
        side = "x".join(map(str, self.images.shape[1:]))
        return (
            f"{self.name}(split={self.official_split!r}, n={len(self)}, {side} px, {self.counts})"
        )

    @property
    def faces(self) -> Faces:
        """Which faces these are, as evidence names them."""
        return Faces(
            name=self.name,
            n=len(self),
            split=self.official_split,
            fingerprint=self.fingerprint,
            cut_from=tuple(sorted(self._origins)),
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all images, targets, votes and labels, the same for the same faces only."""
        self._settle()
        digest = hashlib.sha256(repr((self.labels, tuple(self.images.shape))).encode())
        for tensor in self._tensors():
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def _tensors(self) -> list[Tensor]:
        return [self.images, self.targets, *([] if self.votes is None else [self.votes])]

    def _fingerprint_of_whole(self) -> str:
        """Return the fingerprint for its parts, which are many: kept until torch writes anything.

        What numpy writes into the same memory is not seen, so it is for nothing else.
        """
        tensors = self._tensors()
        if any(tensor.is_inference() for tensor in tensors):  # torch counts no writes of these
            return self.fingerprint
        now = [(id(tensor), tensor._version) for tensor in tensors], self.labels
        if self._known is None or self._known[0] != now:
            self._known = now, self.fingerprint, tensors  # which keeps their ids from others
        return self._known[1]

    def shared_with(self, other: "FacesLike") -> int:
        """Return how many of these faces, pixel by pixel, are among the other's."""
        theirs = set(check_faces(other)._hashes())
        return sum(own in theirs for own in self._hashes())

    def _hashes(self) -> list[bytes]:
        images = self.images.contiguous().numpy()
        return [hashlib.blake2b(i.tobytes(), digest_size=16).digest() for i in images]

    @property
    def counts(self) -> dict[str, int]:
        """The number of faces of each class."""
        self._settle()
        found = torch.bincount(self.targets, minlength=len(self.labels)).tolist()
        return dict(zip(self.labels, found, strict=True))

    def select(self, indices: slice | Sequence[int] | Sequence[bool] | Tensor) -> "FaceDataset":
        """Return some of the faces, of the same split; an index that comes twice counts twice.

        Args:
            indices: whole numbers (from the end if negative), a mask of N bools, or a slice.

        Raises:
            OutOfRangeError: there is no such face.
            ArgumentError: neither indices nor a mask of the right length.

        Example:
            >>> faces = FaceDataset(torch.zeros(4, 48, 48).byte(), torch.tensor([0, 1, 1, 0]),
            ...                     labels=("calm", "tense"), name="mine", split="public")
            >>> faces.select([0, -1])
            mine[2](split='public', n=2, 48x48 px, {'calm': 2, 'tense': 0})
        """
        keep = places(indices, len(self))
        rows = keep.tolist()
        part = FaceDataset(
            self.images[keep],
            self.targets[keep],
            labels=self.labels,
            name=f"{self.title}[{len(rows)}]",
            split=self.official_split,
            votes=None if self.votes is None else self.votes[keep],
            groups=None if self.groups is None else [self.groups[i] for i in rows],
        )
        part.files = None if self.files is None else [self.files[i] for i in rows]
        part.rows = None if self.rows is None else self.rows[keep]
        part._origins = self._origins | {self._fingerprint_of_whole()}
        return part

    def split(
        self, share: float, *, seed: int = 0, groups: Sequence[str | int] | None = None
    ) -> "tuple[FaceDataset, FaceDataset]":
        """Return the rest and a random part with about `share` of each class, to validate on.

        Without groups that is the rounded share of each class, but one face of it at least on each
        side; a single face is in the rest. With groups whole ones are moved while that brings the
        classes nearer to their share. A class of which one side has no face is told.

        Args:
            share: between 0 and 1.
            seed: the same one gives the same parts.
            groups: an id for each face; all faces of an id are on one side. Its own `groups` if not
                given; `range(len(data))` for none.

        Raises:
            ArgumentError: share, seed or groups are none, or all faces are of one group.

        Example:
            >>> faces = FaceDataset(torch.zeros(20, 48, 48).byte(), torch.arange(20) % 2,
            ...                     labels=("calm", "tense"), name="mine")
            >>> train, val = faces.split(0.2)
            >>> train.counts, val.counts
            ({'calm': 8, 'tense': 8}, {'calm': 2, 'tense': 2})
        """
        ids = self.groups if groups is None else group_ids(groups, len(self))
        inside = part_of(self.targets, share, seed, ids, len(self.labels))
        parts = self.select(~inside), self.select(inside)
        for part, which in zip(parts, ("rest", "part"), strict=True):
            if lacking := [k for k, n in self.counts.items() if n and not part.counts[k]]:
                log.warning("%s split: the %s has no face of %s", self.name, which, lacking)
        return parts

    def relabel(
        self, labels: Mapping[str, Sequence[str]] | None = None, *, ignore: Iterable[str] = ()
    ) -> "FaceDataset":
        """Return the faces with coarser classes, or without some; the name says what was done.

        Args:
            labels: new classes, each with those it is made of; the others stay as they are.
            ignore: classes whose faces are left out.

        Raises:
            LabelError: a class that is not there or is named twice, or none is left.

        Example:
            >>> faces = FaceDataset(torch.zeros(3, 48, 48).byte(), torch.arange(3), name="mine",
            ...                     labels=("happy", "surprise", "contempt"))
            >>> faces.relabel({"positive": ["happy", "surprise"]}, ignore=["contempt"]).counts
            {'positive': 2}
        """
        return self._made_of(regroup(self.labels, labels, ignore))

    def _made_of(self, made: Mapping[str, Sequence[str]]) -> "FaceDataset":
        """Return the faces of classes that are made of some of these, as `regroup` has it."""
        made = {name: names for name, names in made.items() if names}
        new = torch.full((len(self.labels),), -1)
        for k, names in enumerate(made.values()):
            new[[self.labels.index(name) for name in names]] = k
        part = self.select(new[self.targets] >= 0)
        told = [f"{name} = {' + '.join(old)}" for name, old in made.items() if [*old] != [name]]
        if left_out := [n for n, k in zip(self.labels, new.tolist(), strict=True) if k < 0]:
            told.append(f"without {', '.join(left_out)}")
        votes = part.votes
        if votes is not None:
            columns = [[self.labels.index(name) for name in names] for names in made.values()]
            votes = torch.stack([votes[:, column].sum(1) for column in columns], 1)
            votes = votes / votes.sum(1, keepdim=True).clamp_min(1e-9)
        found = FaceDataset(
            part.images,
            new[part.targets],
            labels=[*made],
            name=f"{self.title} ({'; '.join(told)})" if told else self.name,
            split=self.official_split,
            votes=votes,
            groups=part.groups,
        )
        found.files, found.rows, found._origins = part.files, part.rows, part._origins
        return found

    def subset(self, size: int) -> "FaceDataset":
        """Return `size` faces spread evenly over the data (the same ones every time)."""
        if type(size) is not int or size < 1:
            raise ArgumentError(f"a subset needs at least one face, got {size!r:.80}")
        if size >= len(self):
            return self
        return self.select(torch.arange(size) * len(self) // size)

    @property
    def title(self) -> str:
        """The name, without the number of faces that a part's has."""
        return self.name.removesuffix(f"[{len(self)}]")

    @property
    def fingerprints(self) -> frozenset[str]:
        """Its own fingerprint, and those of what it was cut from or put together of."""
        return self._origins | {self.fingerprint}

    def targets_for(self, labels: Sequence[str]) -> Tensor:
        """Return the targets as indices into `labels`, which must name the same classes."""
        return torch.tensor(index_map(labels, self.labels))[self.targets]


FacesLike: TypeAlias = FaceDataset | Subset[Any] | ConcatDataset[Any]
"""A data set of ours, or torch's part or whole of such."""


def as_dataset(data: Any) -> FaceDataset | None:
    """Return one data set for ours, and for torch's parts and wholes of ours; else None."""
    known = (Subset, ConcatDataset, FaceDataset)
    own = next((kind for kind in known if isinstance(data, kind)), None)
    if own and getattr(type(data), "__getitem__", None) is not own.__getitem__:
        raise ArgumentError(
            f"{type(data).__name__} has a __getitem__ of its own, which would be passed over: "
            "images and targets are read whole; make a FaceDataset of what it gives"
        )
    if isinstance(data, Subset):
        whole = as_dataset(data.dataset)
        return whole and whole.select(data.indices)
    if isinstance(data, ConcatDataset):
        found = [as_dataset(part) for part in data.datasets]
        parts = [part for part in found if part is not None]
        return _joined(parts) if len(parts) == len(found) else None
    if isinstance(data, FaceDataset):
        data._settle()
        return data
    return None


def check_faces(data: FacesLike) -> FaceDataset:
    """Return `data` as one data set, or say that it is none."""
    if (found := as_dataset(data)) is None:
        raise ArgumentError(f"faces come as a fer_zoo.data dataset, got {data!r:.80}")
    return found


def _joined(parts: list[FaceDataset]) -> FaceDataset:
    """Return one data set of several that have the same classes, in the first one's order."""
    first = parts[0]
    names = " + ".join(dict.fromkeys(part.title for part in parts))
    if len(sizes := {tuple(part.images.shape[1:]) for part in parts}) > 1:
        raise DataError(f"{names} have faces of several sizes: {sorted(sizes)}")
    if len({part.votes is None for part in parts}) > 1:
        raise DataError(f"of {names} some have votes and some none: all or none may")
    orders = [index_map(part.labels, first.labels) for part in parts]
    votes = [p.votes[:, k] for p, k in zip(parts, orders, strict=True) if p.votes is not None]
    groups = None
    if any(part.groups for part in parts):  # a face without is on its own
        tell_shared([(part.title, part.groups or ()) for part in parts])
        groups = [
            f"{part.title}/{i if part.groups is None else part.groups[i]}"
            for part in parts
            for i in range(len(part))
        ]
    splits = {part.official_split for part in parts}
    whole = FaceDataset(
        torch.cat([part.images for part in parts]),
        torch.cat([part.targets_for(first.labels) for part in parts]),
        labels=first.labels,
        name=names,
        split=next((split for split in OFFICIAL_SPLITS if split in splits), None),
        votes=torch.cat(votes) if votes else None,
        groups=groups,
    )
    files = [part.files for part in parts if part.files is not None]
    whole.files = list(chain(*files)) if len(files) == len(parts) else None
    whole._origins = frozenset().union(*(part.fingerprints for part in parts))
    return whole
