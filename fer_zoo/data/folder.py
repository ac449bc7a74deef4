"""A folder of one's own faces: one subfolder per class."""

import os
from pathlib import Path

import torch
from tqdm import tqdm

from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import DataError, InputError
from fer_zoo.transforms.inputs import IMAGE_SUFFIXES, to_gray
from fer_zoo.transforms.presets import Preset


class ImageFolder(FaceDataset):
    """Faces in `root/CLASS/*.png` (or jpg, ...), labelled by the names of the folders.

    Every image becomes gray; its shorter side is scaled to `size` px and the centre square cut.

    Args:
        root: folder that holds one folder per class.
        size: side in px of what is kept.
        split: a name of the official split it is, if it is one.

    Raises:
        DataError: no classes, a class without images, or images that cannot be read: all of them
            are named, none is left out silently.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, size: int = 48, split: str | None = None
    ) -> None:
        base = Path(root)
        if not base.is_dir():
            raise DataError(f"{base} is not a folder")
        classes = sorted(p.name for p in base.iterdir() if p.is_dir() and p.name[0] not in "._")
        files = [(p, k) for k, name in enumerate(classes) for p in image_files(base / name)]
        empty = [name for k, name in enumerate(classes) if k not in {c for _, c in files}]
        if not files or empty:
            raise DataError(
                f"{base} must hold one folder of images per class; "
                + (f"no image in {empty}" if classes else "it holds no folder")
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
            split=split,
        )
        self.files = [path for path, _ in files]


def image_files(folder: Path) -> list[Path]:
    """Return the image files in `folder` and below, sorted."""
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()
    )
