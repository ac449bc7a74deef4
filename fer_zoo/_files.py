"""Writing files so that a reader never sees half of one."""

import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_zoo.errors import ArgumentError


@contextmanager
def replacing(path: str | os.PathLike[str], *, new: bool = False) -> Iterator[Path]:
    """Yield a temporary path in `path`'s folder, moved to `path` if the block succeeds.

    A `new` file replaces none: `FileExistsError`, even for one that appeared meanwhile.
    """
    target = as_path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{target.suffix}")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the umask's
    except OSError as error:
        raise _naming(target, error) from None
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if new:
            target.touch(exist_ok=False)
        try:
            temporary.replace(target)
        except OSError as error:
            raise _naming(target, error) from None
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            raise _naming(target, error) from None
        raise


def _naming(target: Path, error: OSError) -> OSError:
    """Return the error of a temporary file with the name that the user gave."""
    return type(error)(error.errno, error.strerror, os.fspath(target))


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make `folder` and raise `OSError` unless files can be written there."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"x")


def same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths, of files that need not be there, are those of one file."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder until the block or the process ends; `BlockingIOError` says who else does.

    What processes that are dead left there half written (see `replacing`) is removed.
    """
    from filelock import FileLock, Timeout

    owner, lock = folder / ".owner", FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        told = owner.read_text() if owner.exists() else "another process"
        raise BlockingIOError(f"{told} works in {folder}") from None
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        for path in folder.glob(f".*.{'[0-9a-f]' * 8}.*"):
            # Others' hidden files may have such names, a date for one: ours have the suffix twice.
            if path.name.endswith(path.suffix, 0, -9 - len(path.suffix)) and path.is_file():
                path.unlink(missing_ok=True)
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def as_text(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be written: bytes that are no UTF-8 as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_path(value: object) -> Path:
    """Return `value` as a path, or say that it is none."""
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(f"expected a path, got {value!r:.80}")
    return Path(value)
