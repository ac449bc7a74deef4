"""How far long work is: bars on terminals and in notebooks, and lines that stay."""

import logging
import sys
from typing import Any

from tqdm.auto import tqdm

from fer_zoo.errors import shown


def in_notebook() -> bool:
    """Whether this runs in Jupyter's kernel, whose output is no terminal and yet shows bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})


def progress_bar(*args: Any, show: bool, **options: Any) -> Any:
    """Return tqdm's bar; it is drawn, if `show`, on a terminal and in a notebook."""
    show = show and (sys.stderr is not None or "file" in options)
    hidden = None if show else True
    return tqdm(*args, disable=False if show and in_notebook() else hidden, **options)


def tell(log: logging.Logger, line: str, *, show: bool) -> None:
    """Write a line above the bars wherever this runs: on stderr, in a notebook as its output.

    Without `show` it goes to the log, which says nothing unless it is asked to.
    """
    file = sys.stdout if in_notebook() else sys.stderr
    if show and file is not None:
        tqdm.write(shown(line), file=file)
    else:
        log.info("%s", line)
