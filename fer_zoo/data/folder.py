"""A folder of one's own faces: one subfolder per class."""

import os
import re
from pathlib import Path

import torch

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import official_split
from fer_zoo.data.files import as_label, listed, log, walk
from fer_zoo.data.listed import read_faces
from fer_zoo.errors import DataError
from fer_zoo.labels import FER2013, FERPLUS, canonical

KNOWN = {*FER2013, *FERPLUS}
SPLIT = re.compile(
    r"(fer|ferplus)?(train|training|valid|validation|val|(public|private)?test|testing|dev|eval)"
    r"(set|data|class|faces|images)?"
)

NO_CLASS = re.compile(
    r"(un|not)(labell?ed|sorted|used|annotated|tagged)|augment(ed|ations?)?|aug|raw|originals?|"
    r"backup|trash|deleted|misc|others?|todo|new|tmp|temp|images?|faces?|all|data"
)
"""What people call folders beside those of classes."""


class ImageFolder(FaceDataset):
    """Faces in `root/CLASS/*.png` (or jpg, ...), labelled by the names of the folders.

    Every image becomes gray; the centre square is scaled to `size` px. What is below a class's
    folder is of that class, linked folders too. What is left out is counted in a warning: what is
    no image, HEIC, outside of the classes' folders, folders without permission. Where the classes
    are FER2013's, files named as its own (`PrivateTest_10131363.jpg`) keep their split.

    Args:
        root: folder that holds one folder per class.
        size: side in px of what is kept; with the preset's `resize` no pixel is scaled twice.

    Raises:
        DataError: no classes, a class without images, unreadable images, or several splits; or
            folders of splits or of persons, which hold the classes.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("calm", "tense"):
        ...         Path(folder, name).mkdir()
        ...         Image.new("RGB", (90, 120)).save(Path(folder, name, "a.png"))
        ...     faces = ImageFolder(folder)
        >>> faces.labels, faces.images.shape
        (('calm', 'tense'), torch.Size([2, 48, 48]))
    """

    def __init__(self, root: str | os.PathLike[str], *, size: int = 48) -> None:
        base = as_path(root)
        if not os.path.isdir(base):
            raise DataError(f"{base} does not exist or is not a folder")
        found = walk(base)
        if base in found.closed:
            raise DataError(f"{base} may not be read")
        # Those composed and those decomposed, as macOS writes them, are one class.
        names = {p.name: as_label(p.name) for p in listed(base) if os.path.isdir(p)}
        labels = sorted({*names.values()})
        inner = [(p, p.relative_to(base).parts) for p in found.images if p.parent != base]
        files = [(p, labels.index(names[parts[0]])) for p, parts in inner]
        told = found.left_out(len(found.images) - len(files))
        empty = [name for k, name in enumerate(labels) if k not in {c for _, c in files}]
        _check_layout(base, names, [parts for _, parts in inner])
        if not files or empty:
            lacking = f"no image in {empty}" if labels else "it holds no folder"
            raise DataError(
                f"{base} must hold one folder of images per class; {lacking}{told and f'; {told}'}"
            )
        if told:
            log.warning("%s: %s", base, told)
        known = {*map(canonical, labels)} <= {*FER2013}
        splits = {official_split(path) if known else None for path, _ in files}
        if len(splits) > 1:
            raise DataError(
                f"{base} mixes files of FER2013's splits {sorted(map(str, splits))}: "
                f"fer_zoo.data.FER2013({str(base.parent)!r}, split='public') takes one of them"
            )
        super().__init__(
            read_faces([path for path, _ in files], size=size, name=base.name),
            torch.tensor([k for _, k in files]),
            labels=labels,
            name=as_label(base.resolve().name),
            split=splits.pop(),
        )
        self.files = [path for path, _ in files]


def _check_layout(base: Path, names: dict[str, str], files: list[tuple[str, ...]]) -> None:
    """Raise where the folders of `base` are splits or persons; tell where they may be.

    Args:
        base: what was given.
        names: its folders, and what they are called.
        files: where the images are, as parts of their paths.
    """
    splits = [name for name in names if _named(SPLIT, name)]
    direct = {parts[0] for parts in files if len(parts) == 2}
    deep = {parts[0] for parts in files} - direct
    below = {as_label(parts[1]) for parts in files if len(parts) > 2}
    one = base / next(iter(splits or names), "")
    if splits and (len(splits) == len(names) or {*splits} <= deep):
        advice = f"pass one, {str(one)!r}"
        if not {*splits} & deep:
            advice = "each class needs a folder of its own in them"
        raise DataError(f"{base} holds splits, {sorted(splits)[:3]}, not classes: {advice}")
    _check_inside(base, files)
    known = {*map(canonical, below)} & KNOWN
    _tell_odd(base, names, files)
    if {*map(canonical, names.values())} & KNOWN or not (known or (deep and not direct)):
        return
    if known or len(names) == 1:
        raise DataError(
            f"{base} holds folders of classes, {sorted(below)[:3]}: pass one, {str(one)!r}, or let "
            f"the classes be above: {str(base / min(below) / one.name)!r}"
        )
    log.warning(
        "%s: each of its folders holds folders, and they are the classes: %s; if they are persons "
        "or splits, pass one, %r", base, sorted(names.values())[:3], str(one)
    )  # fmt: skip


def _named(pattern: re.Pattern[str], name: str) -> bool:
    return pattern.fullmatch(re.sub(r"[^a-z]", "", name.lower())) is not None


def _check_inside(base: Path, files: list[tuple[str, ...]]) -> None:
    """Raise where classes hold several splits, which would be merged; tell where they may."""
    inside = {part for parts in files for part in parts[1:-1] if _named(SPLIT, part)}
    if len(inside) > 1:
        one = next(parts for parts in files if inside & {*parts[1:-1]})
        split = next(part for part in one[1:] if part in inside)
        raise DataError(
            f"{base} holds splits in its classes, {sorted(inside)[:3]}, which would be one set: "
            f"let the classes be in them, {str(base / split / one[0])!r}, and pass one, "
            f"{str(base / split)!r}"
        )
    if inside and any(not inside & {*parts[1:-1]} for parts in files):
        log.warning(
            "%s: the faces in %s are taken with those beside; if they are a split, move them out",
            base, sorted(inside)[0]
        )  # fmt: skip


def _tell_odd(base: Path, names: dict[str, str], files: list[tuple[str, ...]]) -> None:
    """Tell of folders beside expressions that are probably no classes."""
    known = {canonical(label) for label in names.values()}
    if not known & KNOWN:
        return
    holding = {p[0] for p in files if len(p) > 2 and canonical(as_label(p[1])) in known}
    odd = [
        name
        for name, label in names.items()
        if canonical(label) not in KNOWN
        and (name in holding or _named(SPLIT, name) or _named(NO_CLASS, name))
    ]
    if odd:
        log.warning(
            "%s: taken for classes are %s, too; move them out of it if they are none", base, odd[:5]
        )
