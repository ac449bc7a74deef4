"""The command line, `fer-zoo`: one group of commands, from one file per kind of work."""

import logging
import sys

import click
import torch

from fer_zoo.cli import (  # noqa: F401 (each adds its commands)
    commands,
    data,
    evaluation,
    export,
    training,
    weights,
)
from fer_zoo.cli.options import main
from fer_zoo.errors import FerZooError
from fer_zoo.plugins import load_plugins

__all__ = ["main", "run"]


def run() -> None:
    """Run the command line: errors of ours are one line and exit code 2, an interrupt is 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from tqdm.contrib.logging import logging_redirect_tqdm

    try:
        load_plugins()
        with logging_redirect_tqdm():
            main(prog_name="fer-zoo", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except (FerZooError, OSError, torch.OutOfMemoryError) as error:
        click.echo(f"fer-zoo: {error}", err=True)
        sys.exit(2)
