"""Expressions posed in laboratories: CK+, JAFFE, KDEF."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.fer2013 import _read_csv
from fer_zoo.data.listed import Entry, Listed, existing, find, matching, need, warn_counts
from fer_zoo.errors import ArgumentError, DataError
from fer_zoo.labels import FER2013, canonical
from fer_zoo.transforms.presets import Preset

CKPLUS = ("angry", "contempt", "disgust", "fear", "happy", "sad", "surprise")
"""The order of CK+'s codes from 1; 0 is neutral, which no sequence is labelled."""
CKPLUS_COUNTS = (45, 18, 59, 25, 69, 28, 83)
CK_CSV = (*FER2013[:6], "neutral", "contempt")
"""The order of ckextended.csv."""
JAFFE_CODES = dict(zip(("AN", "DI", "FE", "HA", "SA", "SU", "NE"), FER2013, strict=True))
KDEF_CODES = dict(zip(("AN", "DI", "AF", "HA", "SA", "SU", "NE"), FER2013, strict=True))
ANGLES = ("FL", "HL", "S", "HR", "FR")
_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.\w+")


class CKPlus(FaceDataset):
    """The extended Cohn-Kanade data set (CK+): the peaks of 327 posed sequences, 118 persons.

    There is no neutral class. Its frames show head and shoulders: cut the faces out first
    (`fer_zoo.inference.crop_faces`), in a copy of the tree, for figures that mean something; those
    of CK+48 are cut. `groups` are the persons (`S005`); there is no official split.

    Source: Lucey et al. 2010, "The Extended Cohn-Kanade Dataset (CK+)". Licence: for research
    only, by the agreement with the University of Pittsburgh; not to be passed on.

    Args:
        root: a folder with `Emotion/S005/001/S005_001_00000011_emotion.txt` and
            `cohn-kanade-images/S005/001/S005_001_00000011.png`, whose last frame is taken; `CK+48`
            with `anger/S010_004_00000017.png` (the last three frames of each sequence); or
            `ckextended.csv` (920 faces, 593 of them neutral, persons unknown).
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: another layout, a label that is none, or a frame that is not there.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     Path(folder, "anger").mkdir()
        ...     Image.new("L", (48, 48)).save(Path(folder, "anger", "S010_004_00000017.png"))
        ...     faces = CKPlus(folder)
        >>> faces.labels[faces.targets[0]], faces.groups
        ('angry', ('S010',))
    """

    def __init__(self, root: str | os.PathLike[str], *, size: int = 48) -> None:
        base = existing(root)
        if (table := _ck_csv(base)) is not None:
            arrays = _read_csv(table, classes=len(CK_CSV))
            cut = Preset(name="folder", resize=size, size=size, views="plain")
            super().__init__(
                cut.square(torch.from_numpy(arrays["images"])[:, None])[:, 0]
                .mul(255)
                .round()
                .byte(),
                torch.from_numpy(arrays["targets"]).long(),
                labels=CK_CSV,
                name="CK+",
            )
            self.rows = torch.arange(len(self))
            warn_counts(self, base, [(45, 59, 25, 69, 28, 83, 593, 18)])
            return
        if (labels := find(base, "Emotion", "Emotion_labels/Emotion")) is not None:
            entries = _ck_sequences(base, labels)
        else:
            entries = matching(base, _FRAME, _ck_48)
            need(base if entries else None, base, "Emotion/, CK+48 or ckextended.csv of CK+")
        faces = Listed(
            entries,
            root=base,
            labels=CKPLUS,
            name="CK+",
            size=size,
            official=[CKPLUS_COUNTS, [3 * n for n in CKPLUS_COUNTS]],
        )
        super().__init__(
            faces.images, faces.targets, labels=CKPLUS, name="CK+", groups=faces.groups
        )
        self.files = faces.files


def _ck_csv(base: Path) -> Path | None:
    return base if os.path.isfile(base) else find(base, "ckextended.csv", "ck_extended.csv")


def _ck_48(path: Path, named: re.Match[str]) -> Entry | None:
    label = canonical(path.parent.name)
    if label not in CKPLUS:
        raise DataError(f"{path}: {path.parent.name!r} is not one of CK+'s classes {CKPLUS}")
    return Entry(path, CKPLUS.index(label), named[1])


def _ck_sequences(base: Path, labels: Path) -> list[Entry]:
    folder = find(base, "cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
    images = need(folder, base, "cohn-kanade-images/ beside Emotion/ of CK+")
    found = []
    for path in sorted(labels.glob("S*/*/*_emotion.txt")):
        frame = path.name.removesuffix("_emotion.txt")
        try:
            code = float(path.read_text())
            person, sequence, _ = frame.split("_")
        except ValueError:
            raise DataError(f"{path}: needs a code from 1 to 7, in a file of CK+'s name") from None
        if code not in range(1, 8):
            raise DataError(f"{path}: the code {code:g} is not one of 1 to 7")
        image = images / person / sequence / f"{frame}.png"
        found.append(Entry(image, int(code) - 1, person))
    return found


class JAFFE(Listed):
    """The Japanese Female Facial Expression images: 213 of 10 women, 7 classes, 256 px.

    `groups` are the women (`KA`); there is no official split.

    Source: Lyons et al. 1998, "Coding facial expressions with Gabor wavelets" (arXiv 2009.05938);
    doi 10.5281/zenodo.3451524. Licence: for non-commercial research only; not to be passed on.

    Args:
        root: a folder that holds files such as `KA.AN1.39.tiff`, or folders of them.
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: no such file.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     Image.new("L", (256, 256)).save(Path(folder, "KA.AN1.39.tiff"))
        ...     faces = JAFFE(folder)
        >>> faces.labels[faces.targets[0]], faces.groups
        ('angry', ('KA',))
    """

    def __init__(self, root: str | os.PathLike[str], *, size: int = 48) -> None:
        base = existing(root)
        pattern = re.compile(rf"([A-Z]{{2}})\.({'|'.join(JAFFE_CODES)})\d\.\d+\.\w+", re.I)

        def entry(path: Path, named: re.Match[str]) -> Entry:
            return Entry(path, FER2013.index(JAFFE_CODES[named[2].upper()]), named[1].upper())

        super().__init__(
            matching(base, pattern, entry),
            root=base,
            labels=FER2013,
            name="JAFFE",
            size=size,
            official=[(30, 29, 32, 31, 31, 30, 30)],
        )


class KDEF(Listed):
    """The Karolinska Directed Emotional Faces: 70 persons, 7 classes, twice, from 5 angles.

    `groups` are the persons (`F01`); there is no official split.

    Source: Lundqvist, Flykt and Öhman 1998, Karolinska Institutet. Licence: for non-commercial
    research only; not to be passed on.

    Args:
        root: a folder that holds files such as `AF01ANS.JPG` (session A, woman 01, angry,
            straight), or folders of them.
        angles: of `"FL"` (full left profile), `"HL"` (half), `"S"` (straight), `"HR"`, `"FR"`.
        size: side in px of what is kept, as for `ImageFolder`.

    Raises:
        DataError: no such file.

    Example:
        >>> import tempfile, warnings
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     Image.new("RGB", (56, 76)).save(Path(folder, "AF01ANS.JPG"))
        ...     faces = KDEF(folder)
        >>> faces.labels[faces.targets[0]], faces.groups
        ('angry', ('F01',))
    """

    def __init__(
        self, root: str | os.PathLike[str], *, angles: Iterable[str] = ("S",), size: int = 48
    ) -> None:
        base, wanted = existing(root), [*angles]
        if isinstance(angles, str) or not wanted or not {*wanted} <= {*ANGLES}:
            raise ArgumentError(f"angles are some of {ANGLES}, got {angles!r:.80}")
        codes, sides = "|".join(KDEF_CODES), "|".join(ANGLES)
        pattern = re.compile(rf"[AB]([FM]\d\d)({codes})({sides})\.\w+", re.I)

        def entry(path: Path, named: re.Match[str]) -> Entry | None:
            person, code, angle = (text.upper() for text in named.groups())
            target = FER2013.index(KDEF_CODES[code])
            return Entry(path, target, person) if angle in wanted else None

        super().__init__(
            matching(base, pattern, entry),
            root=base,
            labels=FER2013,
            name="KDEF",
            size=size,
            official=[[140] * 7] if wanted == ["S"] else (),
        )
