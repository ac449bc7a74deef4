"""A folder of one's own faces: one subfolder per class."""

import logging
import os
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

from fer_zoo._files import as_path
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import official_split
from fer_zoo.errors import DataError, InputError
from fer_zoo.transforms.inputs import IMAGE_SUFFIXES, to_gray
from fer_zoo.transforms.presets import Preset

log = logging.getLogger("fer_zoo.data")
UNREAD = frozenset(".heic .heif .jxl .psd .svg .dng .raw .cr2 .cr3 .nef .arw".split())
"""Images of kinds that Pillow does not read by itself."""


class ImageFolder(FaceDataset):
    """Faces in `root/CLASS/*.png` (or jpg, ...), labelled by the names of the folders.

    Every image becomes gray; its shorter side is scaled to `size` px, the centre square is cut.
    Images that cannot be used, HEIC or outside of the classes' folders, are counted in a warning.
    Files named as FER2013's official ones (`PrivateTest_10131363.jpg`) keep their split.

    Args:
        root: folder that holds one folder per class.
        size: side in px of what is kept; with the preset's `resize` no pixel is scaled twice.

    Raises:
        DataError: no classes, a class without images, unreadable images, or several splits.

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
        if not base.is_dir():
            raise DataError(f"{base} does not exist or is not a folder")
        classes = sorted(p.name for p in base.iterdir() if p.is_dir() and not _is_hidden(p, base))
        files = [(p, k) for k, name in enumerate(classes) for p in image_files(base / name)]
        empty = [name for k, name in enumerate(classes) if k not in {c for _, c in files}]
        if not files or empty:
            found = f"no image in {empty}" if classes else "it holds no folder"
            raise DataError(f"{base} must hold one folder of images per class; {found}")
        tell_unused(base, [path for path, _ in files])
        splits = {official_split(path) for path, _ in files}
        if len(splits) > 1:
            raise DataError(
                f"{base} mixes files of FER2013's splits {sorted(map(str, splits))}: "
                f"fer_zoo.data.FER2013({str(base.parent)!r}, split='public') takes one of them"
            )
        cut = Preset(name="folder", resize=size, size=size, views="plain")
        images = torch.empty(len(files), size, size, dtype=torch.uint8)
        unreadable = []
        for i, (path, _) in enumerate(tqdm(files, desc=base.name, unit="image", disable=None)):
            try:
                images[i] = cut.square(to_gray(path)[None])[0, 0].mul(255).round().byte()
            except InputError as error:
                unreadable.append(str(error))
        if unreadable:
            shown = "\n  ".join(unreadable[:20])
            raise DataError(
                f"{len(unreadable)} of {len(files)} images are unusable; mend or remove:\n  {shown}"
            )
        super().__init__(
            images,
            torch.tensor([k for _, k in files]),
            labels=classes,
            name=base.resolve().name,
            split=splits.pop(),
        )
        self.files = [path for path, _ in files]


def image_files(folder: Path) -> list[Path]:
    """Return the image files in `folder` and below, sorted; hidden ones and folders are left out.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.JPG").touch()
        ...     [path.name for path in image_files(Path(folder))]
        ['a.JPG']
    """
    found = (p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(p for p in found if not _is_hidden(p, folder))


def _is_hidden(path: Path, root: Path) -> bool:
    parts = path.relative_to(root).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def tell_unused(base: Path, used: list[Path]) -> None:
    """Log which images of a folder are not used, so that none is left out silently."""
    images = {p for p in base.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES | UNREAD}
    unused = {p for p in images - {*used} if not p.is_dir() and not _is_hidden(p, base)}
    outside = {p for p in unused if p.parent == base and p.suffix.lower() in IMAGE_SUFFIXES}
    kinds = Counter(p.suffix.lower() for p in unused - outside)
    said = [f"{n} {suffix}" for suffix, n in sorted(kinds.items())]
    said += [f"{len(outside)} outside of the classes' folders"] * bool(outside)
    if said:
        log.warning("%s: left out %s", base, ", ".join(said))
