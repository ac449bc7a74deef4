"""Carry files from one machine to another in a few parts of limited size.

A shipment is one tar archive cut into parts, `NAME.tar.00`, `NAME.tar.01` and so on. A new shipment
is written whole before the parts of the one before it go.
"""

import io
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from fer_zoo._files import replacing

MIB = 2**20


def send(
    groups: Iterable[Mapping[str, Path]],
    folder: Path,
    *,
    name: str,
    part: int = 16 * MIB,
    parts: int = 4,
) -> list[str]:
    """Pack files into `folder`, the first ones first; return the names of those with no room left.

    Args:
        groups: paths by their name in the shipment, the most important first; a group goes whole
            or not at all.
        folder: where the parts go.
        name: of the shipment; the parts of every other shipment in `folder` are removed.
        part: most bytes of one part.
        parts: most parts.
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
    names = []
    for number, start in enumerate(range(0, len(content), part)):
        names.append(f"{name}.tar.{number:02d}")
        with replacing(folder / names[-1]) as temporary:
            temporary.write_bytes(content[start : start + part])
    for old in folder.glob("*.tar.[0-9][0-9]"):
        if old.name not in names:
            old.unlink()
    return left_out


def receive(folder: Path, target: Path) -> list[str]:
    """Unpack the newest shipment in `folder` below `target`; files that are there stay.

    Returns:
        The names of the files written.
    """
    parts = sorted(folder.glob("*.tar.[0-9][0-9]"))
    if not parts:
        return []
    newest = parts[-1].name.rsplit(".tar.", 1)[0]
    whole = io.BytesIO(
        b"".join(p.read_bytes() for p in parts if p.name.startswith(f"{newest}.tar."))
    )
    written = []
    with tarfile.open(fileobj=whole) as archive:
        for member in archive.getmembers():
            output = target / member.name
            content = archive.extractfile(member)
            if not member.isfile() or content is None or not inside(member.name):
                raise tarfile.TarError(f"{member.name!r} has no place in a shipment")
            if output.exists():
                continue
            with replacing(output) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(content, file)
            written.append(member.name)
    return written


def inside(name: str) -> bool:
    """Whether a relative name stays below the folder it is joined to."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
