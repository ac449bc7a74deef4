"""The command line: `fer-zoo list | info | predict | evaluate | train | fuse | recipes`."""

from fer_zoo.cli.commands import main, run

__all__ = ["main", "run"]
