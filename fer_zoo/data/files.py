"""The images in folders, as people and programs leave them there."""

import logging
import os
import unicodedata
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_zoo._files import as_text
from fer_zoo.errors import InputError
from fer_zoo.transforms.inputs import IMAGE_SUFFIXES, is_image

log = logging.getLogger("fer_zoo.data")
UNREAD = frozenset(".heic .heif .jxl .psd .svg .dng .raw .cr2 .cr3 .nef .arw .ico".split())
"""Images of kinds that are not read."""
SYSTEM = {"@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
SYSTEM |= {"@recycle", "@__thumb", "@tmp", "#snapshot", "@recently-snapshot", "recycler"}
SYSTEM |= {"found.000", "network trash folder", "temporary items", "__macosx", "__pycache__"}
SYSTEM |= {"recycled", "~snapshot", "_gsdata_", "icon\r", "cvs", "node_modules", "venv", "wandb"}
SYSTEM |= {"thumbs", "thumbs.db", "ehthumbs.db", "desktop.ini"}
"""What programs put into folders, beside what is hidden."""
NAMED = 5  # files that a message names


@dataclass
class Found:
    """What folders hold and those below: images, and what is no image or is not looked into."""

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)

    def left_out(self, outside: int = 0) -> str:
        """Return what is not used, counted and named; nothing where all is."""
        kinds = Counter(s for path in self.others if (s := path.suffix.lower()) in UNREAD)
        said = [f"{n} {suffix}" for suffix, n in sorted(kinds.items())]
        said += [f"{outside} outside of the classes' folders"] * bool(outside)
        files = [path.name for path in self.others if path.suffix.lower() not in UNREAD]
        said += _named(files, "files without an image")
        said += _named([*map(str, self.closed)], "folders without permission")
        said += _named([*map(str, self.again)], "links to folders read already")
        return f"left out {', '.join(said)}" if said else ""


def _named(names: Sequence[str], what: str) -> list[str]:
    more = ", ..." if len(names) > NAMED else ""
    shown = ", ".join(map(repr, names[:NAMED]))
    return [f"{what}: {len(names)} ({shown}{more})"] if names else []


def listed(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted, without what is hidden or a system's."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    return [folder / name for name in names if name.lower() not in SYSTEM]


def walk(*folders: Path) -> Found:
    """Return what folders hold and those below; links are followed, no folder is read twice."""
    found, seen, waiting = Found(), set(), deque(reversed(folders))
    while waiting:
        folder = waiting.pop()
        try:
            at, entries = folder.stat(), listed(folder)
            if entries and not os.access(folder, os.X_OK):  # names alone, and no file can be opened
                raise PermissionError
        except OSError:
            found.closed.append(folder)
            continue
        if (at.st_dev, at.st_ino) in seen:
            found.again.append(folder)
            continue
        seen.add((at.st_dev, at.st_ino))
        for path in entries:
            if not os.path.isdir(path):
                (found.images if _is_image(path) else found.others).append(path)
            elif path.is_symlink():
                waiting.appendleft(path)  # so that files keep the names that they have themselves
            else:
                waiting.append(path)
    for paths in vars(found).values():
        paths.sort()
    return found


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in UNREAD or not os.path.isfile(path):
        return False
    return suffix in IMAGE_SUFFIXES or is_image(path)


def images_in(folder: Path) -> Found:
    """Return what a folder holds, images among it; what is left out is logged."""
    found = walk(folder)
    told = found.left_out()
    if not found.images:
        raise InputError(f"no image in {folder}{told and f': {told}'}")
    if told:
        log.warning("%s: %s", folder, told)
    return found


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files in `folder` and below, sorted, whatever their names end with.

    Linked folders are followed. Hidden files and those of systems (`Thumbs.db`, `@eaDir`) are left
    out; what else is (HEIC, text, folders without permission) is counted in a warning.

    Raises:
        InputError: there is no image.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.JPG").touch()
        ...     [path.name for path in image_files(Path(folder))]
        ['a.JPG']
    """
    return images_in(Path(folder)).images


def as_label(name: str) -> str:
    """Return a file's name as text: composed Unicode, and bytes that are no UTF-8 as escapes."""
    return unicodedata.normalize("NFC", as_text(name))
