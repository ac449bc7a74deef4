"""What data sets of others have in common: faces that their files name and label."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.files import log, walk
from fer_zoo.errors import ArgumentError, DataError, InputError
from fer_zoo.transforms.inputs import BLANK, LEAST, to_gray
from fer_zoo.transforms.presets import Preset

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a face, in px."""
SHOWN = 20  # files that an error names


class Entry(NamedTuple):
    """One face: its file, its class, whose it is, and where in the picture."""

    path: Path
    target: int
    group: str | None = None
    box: Box | None = None


class Listed(FaceDataset):
    """Faces of a data set by others; counts per class that are not the official ones are told."""

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        root: Path,
        labels: Sequence[str],
        name: str,
        size: int,
        split: str | None = None,
        official: Sequence[Sequence[int]] = (),
    ) -> None:
        if not entries:
            raise DataError(f"{root} holds no faces of {name}{(split and f', {split!r}') or ''}")
        missing = [entry.path for entry in entries if not os.path.isfile(entry.path)]
        if missing:
            raise DataError(
                f"{root}: {len(missing):,} of {len(entries):,} files that {name} lists are not "
                f"there, the first is {missing[0]}"
            )
        files, boxes = [entry.path for entry in entries], [entry.box for entry in entries]
        groups = [entry.group for entry in entries if entry.group is not None]
        super().__init__(
            read_faces(files, size=size, name=name, boxes=boxes),
            torch.tensor([entry.target for entry in entries]),
            labels=labels,
            name=name,
            split=split,
            groups=groups or None,
        )
        self.files = files
        warn_counts(self, root, official)


def warn_counts(data: FaceDataset, root: Path, official: Sequence[Sequence[int]]) -> None:
    """Warn where the faces of each class are not as many as in any official form."""
    found = [*data.counts.values()]
    if official and found not in [[*counts] for counts in official]:
        whole = " or ".join(f"{sum(counts):,}" for counts in official)
        told = f"{root}: not the official {data.title}: {len(data):,} faces instead of {whole}, "
        warnings.warn(f"{told}or others: {data.counts}", stacklevel=4)


def read_faces(
    files: Sequence[Path], *, size: int, name: str, boxes: Sequence[Box | None] = ()
) -> Tensor:
    """Return the centre squares of images or of boxes in them, uint8 `(N, size, size)`."""
    cut = Preset(name="folder", resize=size, size=size, views="plain")
    images = torch.empty(len(files), size, size, dtype=torch.uint8)
    unusable, odd = [], list[Path]()
    for i, path in enumerate(tqdm(files, desc=name, unit="image", disable=None)):
        try:
            gray = to_gray(path)
            if boxes and (box := boxes[i]) is not None:
                left, top, right, bottom = (max(edge, 0) for edge in box)
                gray = gray[:, top:bottom, left:right]
                if not gray.numel():
                    raise InputError(f"{path}: the box {box} is outside of the picture")
            tiny = min(gray.shape[1:]) < LEAST
            images[i] = cut.square(gray[None])[0, 0].mul(255).round().byte()
            inner = images[i, size // 12 : size - size // 12, size // 12 : size - size // 12]
            if tiny or any(x.double().std(correction=0) < BLANK for x in (images[i], inner)):
                odd.append(path)
        except InputError as error:
            unusable.append(str(error))
    if unusable:
        shown = "\n  ".join(unusable[:SHOWN])
        raise DataError(
            f"{len(unusable)} of {len(files)} images are unusable; mend or remove:\n  {shown}"
        )
    if odd:
        log.warning(
            "%s: %s of %s images show nothing or are under %s px, which predictors do not label: "
            "%s first",
            name, f"{len(odd):,}", f"{len(files):,}", LEAST, odd[0]
        )  # fmt: skip
    return images


def existing(root: str | os.PathLike[str]) -> Path:
    """Return where a data set is, if there is anything."""
    path = as_path(root)
    if not os.path.exists(path):
        raise DataError(f"{path} does not exist")
    return path


def find(root: Path, *names: str) -> Path | None:
    """Return the first of `names` that is in a folder, or up to two folders below."""
    for above in ("", "*/", "*/*/") if os.path.isdir(root) else ():
        for name in names:
            if found := sorted(root.glob(above + name)):
                return found[0]
    return None


def need(found: Path | None, root: Path, layout: str) -> Path:
    """Return what was found, or say what there should be."""
    if found is None:
        raise DataError(f"{root} holds no {layout}; fer_zoo.data.ImageFolder reads other layouts")
    return found


def matching(
    root: Path, pattern: re.Pattern[str], entry: Callable[[Path, re.Match[str]], Entry | None]
) -> list[Entry]:
    """Return the faces whose file names match; other images are counted in a warning."""
    images, found, others = walk(root).images, [], []
    for path in images:
        if (named := pattern.fullmatch(path.name)) is None:
            others.append(path.name)
        elif (one := entry(path, named)) is not None:
            found.append(one)
    if others and found:
        log.warning("%s: left out %d images by their names: %s", root, len(others), others[:5])
    return found


def check_split(split: str, splits: Iterable[str]) -> None:
    """Raise unless a split is one of the official ones."""
    if split not in (known := tuple(splits)):
        raise ArgumentError(f"split must be one of {known}, got {split!r:.80}")
