"""What the benchmarks share: the environment, JSON lines, percentiles, Markdown tables."""

import argparse
import importlib.metadata
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fer_zoo._files import check_writable
from fer_zoo.errors import FerZooError

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "pillow")
IDENTITY = ("kind", "model", "mode", "dtype", "batch_size", "views", "device", "recipe")
"""The fields that tell one cell from another."""

Row = dict[str, Any]


def call(main: Callable[[], int | None]) -> None:
    """Run a script: end with its exit status, and on an error of ours with its message alone."""
    try:
        sys.exit(main())
    except FerZooError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


class TimeIsUp(KeyboardInterrupt):
    """The minutes are over; a Ctrl-C of the user's own is a plain KeyboardInterrupt."""


@contextmanager
def deadline(minutes: float | None) -> Iterator[None]:
    """Raise TimeIsUp in the block when its `minutes` are over; None or 0 sets no limit."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    # No Ctrl-C: a shell's & and nohup have a program ignore those.
    before = signal.signal(signal.SIGALRM, stop)
    here = (threading.main_thread().ident, signal.SIGALRM)
    timer = threading.Timer(60 * (minutes or 0), signal.pthread_kill, here)
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGALRM, before)


def environment(device: torch.device) -> Row:
    """Return what a figure depends on besides the code that is measured."""
    cuda = device.type == "cuda"
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "driver": _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        if cuda
        else None,
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _said("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "date": date.today().isoformat(),
    }


def results_path(device: torch.device) -> Path:
    """Return where a run's rows go unless it is told otherwise."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return RESULTS / f"{slug}-{date.today().isoformat()}.jsonl"


def positive(text: str) -> float:
    """Return a number above zero that was typed on a command line.

    >>> positive("1.5")
    1.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def positive_int(text: str) -> int:
    """Return a whole number above zero that was typed on a command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def check_output(path: Path) -> Path:
    """Return a file of results if rows can be appended to it; else end before anything is measured.

    Raises:
        SystemExit: they cannot; the message says why.
    """
    try:
        check_writable(path.parent)
        if path.exists():
            path.open("a").close()
    except OSError as error:
        raise SystemExit(f"{path} cannot be written to: {error}; choose another --output") from None
    return path


def append(path: Path, row: Row) -> None:
    """Add one line to a file of JSON lines; the line is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file; where a cell was measured again, the later one counts."""
    found: dict[tuple[Any, ...], Row] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            needed = ["kind", "environment"]
            if "median_s" in row or (row.get("status") == "ok" and row["kind"] != "accuracy"):
                needed += ["median_s", "p10_s", "p90_s"]
            if not {*needed} <= {*row}:
                raise ValueError(needed)
            found[identity(row)] = row
        except (ValueError, AttributeError, KeyError, TypeError):
            raise SystemExit(f"{path}, line {number}: not a row of these benchmarks") from None
    if not found:
        raise SystemExit(f"{path} holds no rows")
    return list(found.values())


def identity(row: Row) -> tuple[Any, ...]:
    """Return what tells this row's cell from others."""
    return tuple(({"views": 1} | row).get(field) for field in IDENTITY)


def spread(values: Iterable[float]) -> list[float]:
    """Return the 10th percentile, the median and the 90th percentile, to five digits.

    >>> spread([5.0, 1.0, 2.0, 3.0, 4.0])
    [1.4, 3.0, 4.6]
    """
    return [rounded(x) for x in np.percentile(list(values), [10, 50, 90])]


def rounded(value: float) -> float:
    """Return `value` to five significant digits."""
    return float(f"{value:.5g}")


def timing(seconds: Sequence[float]) -> Row:
    """Return the fields of a row that say how long a call takes."""
    low, median, high = spread(seconds)
    return {"median_s": median, "p10_s": low, "p90_s": high, "repeats": len(seconds)}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parent
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().partition("\n")[0] or None if done.returncode == 0 else None
