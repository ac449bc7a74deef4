"""FER2013, from any form in which people have it, with its official split.

Source: Goodfellow et al. 2013, "Challenges in representation learning" (arXiv 1307.0414).
"""

import csv
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from fer_zoo._files import as_path, replacing
from fer_zoo.data.faces import FaceDataset
from fer_zoo.data.files import listed, log, walk
from fer_zoo.data.layout import how_to_train
from fer_zoo.errors import ArgumentError, DataError, LabelError
from fer_zoo.labels import FER2013 as LABELS, canonical
from fer_zoo.transforms.inputs import to_gray

Split = Literal["train", "public", "private"]
SPLITS: tuple[Split, ...] = ("train", "public", "private")
COUNTS: dict[str, tuple[int, ...]] = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "public": (467, 56, 496, 895, 653, 415, 607),
    "private": (491, 55, 528, 879, 594, 416, 626),
}
"""Faces per class, in the order of `labels.FER2013`: the fingerprint of the official data."""

USAGE = {"training": 0, "publictest": 1, "privatetest": 2}
_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
_PACKED = ("fer2013.csv.gz", "fer2013.csv.zip", "fer2013.tar.gz", "icml_face_data.csv.zip")
LONGEST = 100_000  # characters of a line
MOST_LINES = 200_000  # a small archive unpacks to any number of them
_DAMAGED = (
    *(OSError, EOFError, RuntimeError, zipfile.BadZipFile),
    *(tarfile.TarError, zlib.error, lzma.LZMAError),
)
Arrays = dict[str, np.ndarray]


class FER2013(FaceDataset):
    r"""One official split of FER2013.

    A csv or a folder is parsed once, as long as its content stays the same, and kept as one file in
    the cache folder (`FER_ZOO_CACHE`, else `~/.cache/fer_zoo`).

    Args:
        root: `fer2013.csv` or `icml_face_data.csv`, or a gz, zip or tar of it; a folder that holds
            one of them; or the folder of Kaggle's images. Its `test/` merges two splits; file names
            such as `PrivateTest_10131363.jpg` tell them apart, else asking for one is an error.
        split: `"train"` (28,709 faces), `"public"` (PublicTest, 3,589) for choosing between
            models, or `"private"` (PrivateTest, 3,589) for reporting, once.

    Raises:
        DataError: nothing usable at `root`, malformed rows, or the split is not there.

    Warns:
        UserWarning: the counts per class are not those of the official data.

    Example:
        >>> import tempfile
        >>> row = "3," + " ".join(["128"] * 2304) + ",PublicTest\n"
        >>> with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        ...     os.environ["FER_ZOO_CACHE"] = folder
        ...     _ = Path(folder, "fer2013.csv").write_text("emotion,pixels,Usage\n" + row)
        ...     faces = FER2013(folder, "public")
        >>> faces.labels[faces.targets[0]], faces.images.shape
        ('happy', torch.Size([1, 48, 48]))
    """

    def __init__(self, root: str | os.PathLike[str], split: Split = "train") -> None:
        if split not in SPLITS:
            raise ArgumentError(
                f"split must be 'train', 'public' or 'private', got {split!r:.80}: FER2013 has two "
                "test splits, 'public' (PublicTest), which validates and chooses, and 'private' "
                "(PrivateTest), for the one figure that is reported"
            )
        arrays = load_arrays(as_path(root))
        rows = np.flatnonzero(arrays["usage"] == SPLITS.index(split))
        if not len(rows):
            names = (*SPLITS, "test, which merges PublicTest and PrivateTest: use fer2013.csv")
            there = [name for i, name in enumerate(names) if (arrays["usage"] == i).any()]
            raise DataError(f"{root} has no {split!r} faces, only {there}{of_own(as_path(root))}")
        super().__init__(
            torch.from_numpy(arrays["images"][rows]),
            torch.from_numpy(arrays["targets"][rows]).long(),
            labels=LABELS,
            name="FER2013",
            split=split,
        )
        self.rows = torch.from_numpy(rows)
        pairs = zip(self.counts.items(), COUNTS[split], strict=True)
        if wrong := ", ".join(f"{name} {n} instead of {m}" for (name, n), m in pairs if n != m):
            warnings.warn(f"{root}, {split!r}: not the official FER2013: {wrong}", stacklevel=2)


def official_split(path: Path) -> Split | None:
    """Return the split that an official file name such as `PrivateTest_10131363.jpg` tells."""
    named = re.match(r"(Training|PublicTest|PrivateTest)[_-]", path.name, re.IGNORECASE)
    return SPLITS[USAGE[named[1].lower()]] if named else None


def of_own(root: Path) -> str:
    """Say how faces of one's own are given, where `root` may hold such instead of FER2013's."""
    if find_csv(root) is not None or not (options := how_to_train(root)):
        return ""
    return f"\nFaces of your own are given by split: {options}"


def lacks_classes(root: Path) -> list[str]:
    """Return the classes of FER2013 that the folder `train` of its images has no face of."""
    if find_csv(root) is not None or not os.path.isdir(root / "train"):
        return []
    there = {canonical(path.parent.name) for path in walk(root / "train").images}
    return [name for name in LABELS if name not in there]


def find_csv(root: Path) -> Path | None:
    """Return the csv file at or in `root`, if there is one."""
    if os.path.isfile(root):
        return root
    places = (p for name in _CSV_NAMES + _PACKED for p in (root / name, root / "fer2013" / name))
    return next(filter(os.path.isfile, places), None)


def load_arrays(root: Path) -> Arrays:
    """Return all rows at `root`: images (N, 48, 48), targets (N,), usage (N,), all uint8.

    Usage is 0 Training, 1 PublicTest, 2 PrivateTest, 3 one of the last two.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save_file

    if not os.path.exists(root):
        raise DataError(f"{root} does not exist: give fer2013.csv or a folder that holds it")
    source = find_csv(root)
    if source is None and not os.path.isdir(root / "train"):
        raise DataError(
            f"{root} holds neither {' nor '.join(_CSV_NAMES)} nor the folders train/ and test/"
        )
    files = [source] if source else _folder_files(root, tell=True)
    content = _digest(files, source.parent if source else root)
    content += "" if source else " by the outer folder"  # how an older cache did not tell splits
    with suppress(OSError, SafetensorError), safe_open(_cache_of(source or root), "numpy") as file:
        if (file.metadata() or {}).get("content") == content:
            return {name: file.get_tensor(name) for name in file.keys()}
    arrays = _read_csv(source) if source else _read_folder(root, files)
    try:
        cache = _cache_of(source or root)
        with replacing(cache) as temporary:
            save_file(arrays, temporary, {"content": content})
        # There was one for each change; a model of the user's may have such a name, too.
        for old in cache.parent.glob(f"fer2013-{'[0-9a-f]' * 16}.safetensors"):
            old.unlink(missing_ok=True)
    except OSError as error:
        told = f"cannot write the cache: {error}; parsing again next time"
        warnings.warn(told, stacklevel=3)
    return arrays


def _digest(files: Sequence[Path], root: Path) -> str:
    """Return a hash of the content of files and of their paths under `root`."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(os.fsencode(path.relative_to(root)) + b"\0")
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return digest.hexdigest()


def _cache_of(source: Path) -> Path:
    """Return the one file that keeps what a source holds; `OSError` where there is no place."""
    try:
        folder = Path(os.environ.get("FER_ZOO_CACHE") or Path.home() / ".cache" / "fer_zoo")
    except RuntimeError:
        raise OSError("there is no home folder, set FER_ZOO_CACHE") from None
    name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:16]
    return folder / f"faces-{name}.safetensors"


@contextmanager
def _open_csv(path: Path) -> Iterator[io.TextIOBase]:
    """Open a csv, or the one that an archive holds."""

    def only(names: Sequence[str]) -> str:
        named = [name for name in names if Path(name).name in _CSV_NAMES]
        found = named or [name for name in names if name.lower().endswith(".csv")]
        if len(found) != 1:
            raise DataError(f"{path} holds {(found or names)[:5]}: unpack it, and pass fer2013.csv")
        return found[0]

    packed: IO[bytes] | None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, archive.open(only(archive.namelist())) as packed:
            yield io.TextIOWrapper(packed, "utf-8-sig", newline="")
    elif tarfile.is_tarfile(path):
        with tarfile.open(path) as files:
            packed = files.extractfile(only([m.name for m in files if m.isfile()]))
            assert packed is not None
            yield io.TextIOWrapper(packed, "utf-8-sig", newline="")
    else:
        with path.open("rb") as plain:
            opener = gzip.open if plain.read(2) == b"\x1f\x8b" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as text:
            yield text


def check_columns(path: str | os.PathLike[str], header: Sequence[str]) -> None:
    """Raise where a csv has a column twice, of which one would be taken."""
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(f"{path}: columns that come twice: {twice[:5]}; keep one of each")


def check_fields(row: Mapping[Any, Any]) -> None:
    """Raise where a csv's row has more fields than its header or fewer: which is which is open."""
    if None in row.values() or any(row.get(None) or ()):
        told = "fewer" if None in row.values() else "more"
        raise ValueError(f"it has {told} fields than the header; a field with a comma needs quotes")


def check_digits(text: str) -> None:
    """Raise where numbers have more than digits and signs: to Python 1_28 is one."""
    if "_" in text or not text.isascii():
        odd = next(word for word in text.split() if "_" in word or not word.isascii())
        raise ValueError(f"numbers are digits alone, got {odd!r:.40}")


def _read_csv(path: Path, classes: int = 7) -> Arrays:
    images, targets, usage = bytearray(), bytearray(), bytearray()
    line = 0
    try:
        size = path.stat().st_size if path.suffix == ".csv" else None
        bar = tqdm(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True, disable=None)
        with _open_csv(path) as file, bar:
            reader = csv.DictReader(islice(iter(lambda: file.readline(LONGEST), ""), MOST_LINES))
            header = reader.fieldnames = [n.strip().lower() for n in reader.fieldnames or ()]
            if not {"emotion", "pixels", "usage"} <= {*header}:
                told = f"has {len(header)} columns, {[n[:20] for n in header[:5]]}"
                told = "has no header" if "".join(header[:1]).isdigit() else told
                raise DataError(
                    f"{path}: {told}; FER2013's first line is emotion,pixels,Usage: put it there, "
                    "the columns in its order"
                )
            check_columns(path, header)
            for row in reader:
                line = reader.line_num
                check_fields(row)
                emotion, pixels, use = (row[name] for name in ("emotion", "pixels", "usage"))
                check_digits(f"{emotion} {pixels}")
                values = np.array(pixels.split(), dtype=np.int64)
                target, code = int(emotion), USAGE.get(use.strip().lower(), -1)
                usable = values.shape == (2304,) and 0 <= values.min() <= values.max() <= 255
                if not (usable and 0 <= target < classes and code >= 0):
                    raise ValueError(
                        f"needs a class from 0 to {classes - 1}, 2304 pixels from 0 to 255 and a "
                        f"usage; got class {target}, {values.size} pixels, usage {use!r}"
                    )
                images += values.astype(np.uint8).tobytes()
                targets.append(target)
                usage.append(code)
                bar.update(len(pixels) + 20)
            if file.readline(1):
                raise ValueError(f"there are more than {MOST_LINES:,} lines, FER2013 has 35,888")
    except UnicodeDecodeError:
        told = "neither UTF-8 nor a whole gz, zip or tar of it: pass fer2013.csv itself"
        raise DataError(f"{path}, line {line or 1}: {told}") from None
    except (ValueError, AttributeError, TypeError, OverflowError, csv.Error) as error:
        raise DataError(f"{path}, line {line or 1}: cannot be read ({error!s:.200})") from None
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be unpacked ({error}): pass fer2013.csv") from None
    return {
        "images": np.frombuffer(images, np.uint8).reshape(-1, 48, 48),
        "targets": np.frombuffer(targets, np.uint8),
        "usage": np.frombuffer(usage, np.uint8),
    }


def _folder_files(root: Path, *, tell: bool = False) -> list[Path]:
    parts = [root / part for part in ("train", "test", "validation")]
    found = walk(*filter(os.path.isdir, parts))
    if tell and (told := found.left_out()):
        log.warning("%s: %s", root, told)
    others = [p for p in listed(root) if os.path.isdir(p) and p not in parts] if tell else []
    if holding := [path.name for path in others if walk(path).images]:
        log.warning("%s: only train, test and validation are read, not %s", root, holding[:5])
    return found.images


def _read_folder(root: Path, files: list[Path]) -> Arrays:
    images = np.empty((len(files), 48, 48), np.uint8)
    targets, usage = (np.empty(len(files), np.uint8) for _ in range(2))
    for i, path in enumerate(tqdm(files, desc=f"reading {root.name}", unit="image", disable=None)):
        try:
            targets[i] = LABELS.index(canonical(path.parent.name))
        except ValueError:
            raise LabelError(
                f"{path.parent}: not one of FER2013's classes {LABELS}{of_own(root)}"
            ) from None
        image = to_gray(path)[0]
        if image.shape != (48, 48):
            raise DataError(
                f"{path}: FER2013 faces are 48x48 px, this is {tuple(image.shape)}{of_own(root)}"
            )
        if image.dtype != torch.uint8:
            image = image.mul(255).round().byte()
        images[i], split = image.numpy(), official_split(path)
        unnamed = 0 if path.relative_to(root).parts[0] == "train" else 3
        usage[i] = unnamed if split is None else SPLITS.index(split)
    return {"images": images, "targets": targets, "usage": usage}
