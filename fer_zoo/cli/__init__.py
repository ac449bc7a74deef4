"""The command line, `fer-zoo`: one group of commands, from one file per kind of work."""

import io
import logging
import os
import re
import signal
import sys
import warnings
from typing import Any

import click
import torch
from tqdm import tqdm

# Each adds its commands.
from fer_zoo.cli import (  # noqa: F401
    app,
    commands,
    data,
    evaluation,
    files,
    thresholds,
    training,
    video,
)
from fer_zoo.cli.options import main
from fer_zoo.errors import FerZooError, shown
from fer_zoo.plugins import load_plugins

__all__ = ["main", "run"]


class _Terminated(KeyboardInterrupt):
    """SIGTERM: what was finished is kept, as with Ctrl-C."""


def _terminate(*_: object) -> None:
    raise _Terminated


class _Log(logging.Handler):
    """What fer_zoo says, above progress bars; others may tell URLs with secrets in them."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "fer_zoo":
            tqdm.write(shown(self.format(record)), file=sys.stderr)


def _warn(message: Any, category: Any, filename: str, *_: Any, **__: Any) -> None:
    if f"{os.sep}fer_zoo{os.sep}" in filename:
        logging.getLogger("fer_zoo").warning("%s", message)


def run() -> None:
    """Run the command line; errors of ours are one line and exit code 2.

    As a shell has it, an interrupt is 130, a SIGTERM 143, and a reader that has gone 141.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started it: nobody reads
            setattr(sys, name, open(os.devnull, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Log()])
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")  # its log has a handler of its own
    warnings.showwarning = _warn
    try:
        load_plugins()
        sys.exit(main(prog_name="fer-zoo", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt) as error:
        sys.exit(143 if _Terminated in (type(error), type(error.__cause__)) else 130)
    except (FerZooError, OSError, torch.OutOfMemoryError) as error:
        message = shown(str(error)).replace(
            "fer_zoo.list_models(trained=True)", "`fer-zoo list --trained`"
        )
        message = re.sub(r"fer_zoo\.(?:\w+\.)?list_[a-z]+\(\)", "`fer-zoo list`", message)
        click.echo(f"fer-zoo: {message}", err=True)
        sys.exit(2)
