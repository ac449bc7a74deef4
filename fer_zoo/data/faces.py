"""The one shape in which every dataset of the zoo comes: all faces in one uint8 tensor."""

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, DataError
from fer_zoo.evidence import Faces
from fer_zoo.labels import check_labels, index_map


class FaceDataset:
    """Gray faces of one size, their classes, and the names of the classes.

    Attributes:
        images: uint8, shape `(N, H, W)`.
        targets: int64, shape `(N,)`, indices into `labels`.
        labels: the class names in order.
        split: `"train"`, `"public"`, `"private"`, or None where no official split is known.
        name: what the data is called in logs and records.
        votes: each face's share of votes for each class, float `(N, K)`, where people voted.

    Example:
        >>> faces = FaceDataset(torch.zeros(3, 48, 48).byte(), torch.tensor([0, 1, 1]),
        ...                     labels=("calm", "tense"), name="mine")
        >>> len(faces), faces[0][0].shape, faces.counts
        (3, torch.Size([1, 48, 48]), {'calm': 1, 'tense': 2})
    """

    def __init__(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        labels: Sequence[str],
        name: str,
        split: str | None = None,
        votes: Tensor | None = None,
    ) -> None:
        tensors = [images, targets] if votes is None else [images, targets, votes]
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise DataError(f"images, targets and votes are tensors, got {[*map(type, tensors)]}")
        fitting = targets.shape == images.shape[:1] and not targets.is_complex()
        if images.dtype != torch.uint8 or images.ndim != 3 or not fitting:
            one_hot = " (of one-hot rows pass targets.argmax(1))" if targets.ndim == 2 else ""
            raise DataError(
                f"images must be uint8 (N, H, W) with one target each, got {images.dtype} "
                f"{tuple(images.shape)} and targets {tuple(targets.shape)}{one_hot}"
            )
        if split not in (None, "train", "public", "private"):
            raise ArgumentError(f"split must be train, public, private or None, got {split!r}")
        if not isinstance(name, str):
            raise ArgumentError(f"name must be text, got {name!r:.80}")
        self.labels = check_labels(labels)
        found = targets.double()
        wrong = found[(found != found.trunc()) | (found < 0) | (found >= len(self.labels))]
        if len(wrong):
            most = len(self.labels) - 1
            raise DataError(f"targets must be whole numbers, 0 to {most}, got {wrong[0]:g}")
        shape = (len(images), len(self.labels))
        if votes is not None and votes.shape != shape:
            raise DataError(f"votes must be {shape}, got {tuple(votes.shape)}")
        if votes is not None and not bool(((votes >= 0) & (votes <= 1.001)).all()):
            raise DataError("votes are shares from 0 to 1: divide each row by its sum")
        self.images, self.targets = images.cpu(), targets.cpu().long()
        self.name, self.split = name, split
        self.votes = None if votes is None else votes.cpu()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one face as uint8 `(1, H, W)`, and its class index."""
        return self.images[index][None], int(self.targets[index])

    def __repr__(self) -> str:
        side = "x".join(map(str, self.images.shape[1:]))
        return f"{self.name}(split={self.split!r}, n={len(self)}, {side} px, {self.counts})"

    @property
    def faces(self) -> Faces:
        """Which faces these are, as evidence names them."""
        return Faces(name=self.name, n=len(self), split=self.split, fingerprint=self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all images, targets, votes and labels, the same for the same faces only."""
        digest = hashlib.sha256(repr((self.labels, tuple(self.images.shape))).encode())
        for tensor in (self.images, self.targets, *([] if self.votes is None else [self.votes])):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def shared_with(self, other: "FaceDataset") -> int:
        """Return how many of these faces, pixel by pixel, are among the other's."""
        theirs = set(check_faces(other)._hashes)
        return sum(own in theirs for own in self._hashes)

    @cached_property
    def _hashes(self) -> list[bytes]:
        images = self.images.contiguous().numpy()
        return [hashlib.blake2b(i.tobytes(), digest_size=16).digest() for i in images]

    @property
    def counts(self) -> dict[str, int]:
        """The number of faces of each class."""
        found = torch.bincount(self.targets, minlength=len(self.labels)).tolist()
        return dict(zip(self.labels, found, strict=True))

    def subset(self, size: int) -> "FaceDataset":
        """Return `size` faces spread evenly over the data (the same ones every time)."""
        if type(size) is not int or size < 1:
            raise ArgumentError(f"a subset needs at least one face, got {size!r:.80}")
        if size >= len(self):
            return self
        keep = torch.arange(size) * len(self) // size
        return FaceDataset(
            self.images[keep],
            self.targets[keep],
            labels=self.labels,
            name=f"{self.name}[{size}]",
            split=self.split,
            votes=None if self.votes is None else self.votes[keep],
        )

    def targets_for(self, labels: Sequence[str]) -> Tensor:
        """Return the targets as indices into `labels`, which must name the same classes."""
        return torch.tensor(index_map(labels, self.labels))[self.targets]


def check_faces(data: FaceDataset) -> FaceDataset:
    """Return `data`, or say that it is no dataset."""
    if not isinstance(data, FaceDataset):
        raise ArgumentError(f"faces come as a fer_zoo.data dataset, got {data!r:.80}")
    return data
