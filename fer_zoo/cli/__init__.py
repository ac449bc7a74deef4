"""The command line, `fer-zoo`: one group of commands, from one file per kind of work."""

import io
import logging
import re
import sys

import click
import torch

# Each adds its commands.
from fer_zoo.cli import commands, data, evaluation, files, training  # noqa: F401
from fer_zoo.cli.options import main
from fer_zoo.cli.show import printable
from fer_zoo.errors import FerZooError
from fer_zoo.plugins import load_plugins

__all__ = ["main", "run"]


def run() -> None:
    """Run the command line; errors of ours are one line and exit code 2.

    An interrupt is 130, and 141 that whoever read the output has gone, as a shell has it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from tqdm.contrib.logging import logging_redirect_tqdm

    try:
        load_plugins()
        with logging_redirect_tqdm():
            sys.exit(main(prog_name="fer-zoo", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (FerZooError, OSError, torch.OutOfMemoryError) as error:
        message = str(error).replace(
            "fer_zoo.list_models(trained=True)", "`fer-zoo list --trained`"
        )
        message = re.sub(r"fer_zoo\.list_[a-z]+\(\)", "`fer-zoo list`", printable(message, "\n"))
        click.echo(f"fer-zoo: {message}", err=True)
        sys.exit(2)
