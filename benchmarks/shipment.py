"""Carry runs from one machine to another in a few parts of limited size.

A shipment is one tar archive cut into parts, `NAME.tar.00of03`, `NAME.tar.01of03` and so on: a
reader knows whether it has them all. A new shipment is written whole before the parts of the one
before it go, and until then that one is what `receive` finds.
"""

import io
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fer_zoo._files import replacing

MIB = 2**20
PART = re.compile(r"(.+)\.tar\.(\d\d)of(\d\d)")


def send(
    groups: Iterable[Mapping[str, Path]],
    folder: Path,
    *,
    name: str,
    part: int = 16 * MIB,
    parts: int = 8,
) -> list[str]:
    """Pack files into `folder`, the first ones first; return the names of those with no room left.

    Args:
        groups: paths by their name in the shipment, the most important first; a group goes whole
            or not at all.
        folder: where the parts go.
        name: of the shipment, later in the alphabet than the one before; the parts of every other
            shipment in `folder` are removed.
        part: most bytes of one part.
        parts: most parts, up to 99.
    """
    room, left_out, buffer = part * parts - 20 * 512, [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for group in groups:
            size = sum(path.stat().st_size + 3 * 512 for path in group.values())
            if size > room:
                left_out.extend(group)
                continue
            for inside, path in group.items():
                archive.add(path, inside)
            room -= size
    content = buffer.getbuffer()
    starts = range(0, len(content), part)
    names = [f"{name}.tar.{number:02d}of{len(starts):02d}" for number in range(len(starts))]
    for one, start in zip(names, starts, strict=True):
        with replacing(folder / one) as temporary:
            temporary.write_bytes(content[start : start + part])
    for old in folder.glob("*.tar.*"):
        if PART.fullmatch(old.name) and old.name not in names:
            old.unlink()
    return left_out


def receive(folder: Path, target: Path) -> list[str]:
    """Unpack the newest complete shipment in `folder` below `target`.

    A run that came further in the shipment than in `target` takes the place of that one, with all
    its files; of the same run, files that are missing are added. Every other file that is there
    stays.

    Returns:
        The names of the files written.

    Raises:
        tarfile.TarError: there are parts, but of no shipment all of them; or it is no archive.
    """
    parts = newest(folder)
    whole = io.BytesIO(b"".join(path.read_bytes() for path in parts))
    if not parts:
        return []
    target.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory(dir=target, prefix=".shipment-") as place:
        unpack(whole, Path(place))
        found = sorted(path for path in Path(place).rglob("*") if path.is_file())
        for shipped in sorted({path.parent for path in found}):
            own = target / shipped.relative_to(place)
            names = sorted(path.name for path in shipped.iterdir() if path.is_file())
            if "history.csv" in names and own.exists():
                if progress(shipped) > progress(own):
                    shutil.rmtree(own)
                elif not same_run(shipped, own):
                    continue
            own.mkdir(parents=True, exist_ok=True)
            for name in names:
                if not (own / name).exists():
                    (shipped / name).replace(own / name)
                    written.append((own / name).relative_to(target).as_posix())
    return sorted(written)


def newest(folder: Path) -> list[Path]:
    """Return the parts of the newest complete shipment, in order; none where there are no parts."""
    shipments: dict[tuple[str, int], list[Path]] = {}
    for path in sorted(folder.glob("*.tar.*")):
        if found := PART.fullmatch(path.name):
            shipments.setdefault((found[1], int(found[3])), []).append(path)
    complete = [key for key, parts in shipments.items() if len(parts) == key[1]]
    if shipments and not complete:
        name, count = max(shipments)
        there = len(shipments[name, count])
        raise tarfile.ReadError(f"{folder}: {name} has {there} of its {count} parts")
    return shipments[max(complete)] if complete else []


def unpack(whole: io.BytesIO, place: Path) -> None:
    """Unpack an archive of plain files into an empty folder."""
    with tarfile.open(fileobj=whole) as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member)
            if not member.isfile() or content is None or not inside(member.name):
                raise tarfile.TarError(f"{member.name!r} has no place in a shipment")
            output = place / member.name
            output.parent.mkdir(parents=True, exist_ok=True)
            with output.open("wb") as file:
                shutil.copyfileobj(content, file)


def progress(run: Path) -> tuple[bool, int]:
    """Return how far the run in a folder came: whether it has a result, and its epochs."""
    return (run / "result.json").is_file(), len(history(run).splitlines())


def same_run(a: Path, b: Path) -> bool:
    """Whether two folders hold one run at the same point."""
    return progress(a) == progress(b) and history(a) == history(b)


def history(run: Path) -> bytes:
    """Return the epochs of a run as they were written."""
    path = run / "history.csv"
    return path.read_bytes() if path.is_file() else b""


def inside(name: str) -> bool:
    """Whether a relative name stays below the folder it is joined to."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
