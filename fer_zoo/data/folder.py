"""A folder of one's own faces: one subfolder per class."""

import os

import torch

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import official_split
from fer_zoo.data.files import as_label, listed, log, walk
from fer_zoo.data.layout import check_layout
from fer_zoo.data.listed import read_faces
from fer_zoo.errors import DataError
from fer_zoo.labels import FER2013, canonical


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
            folders of splits or of persons, which hold the classes, or a class in another one.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
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
        check_layout(base, names, [parts for _, parts in inner])
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
