"""How this package is had: the one place that messages, pages and cards take it from."""

import json
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import urlsplit
from urllib.request import url2pathname

PUBLISHED = ""
"""What `pip install` takes, set by whoever publishes it: `fer-zoo` once it is on PyPI, or
`git+https://host/org/fer_zoo`; nothing while it is had as a checkout or a wheel only."""


def requirement(extra: str = "", published: str | None = None) -> str:
    """Return what `pip install` takes to get this package anew, as pages and cards say it.

    Example:
        >>> requirement("hf", "git+https://example.org/fer_zoo")
        "'fer-zoo[hf] @ git+https://example.org/fer_zoo'"
        >>> requirement("hf", "")  # in a checkout
        "'.[hf]'"
    """
    published = PUBLISHED if published is None else published
    extras = f"[{extra}]" if extra else ""
    if "://" in published:
        return f"'fer-zoo{extras} @ {published}'"
    named = f"{published or '.'}{extras}"
    return f"'{named}'" if extras else named


def said(extra: str) -> str:
    """Return how strangers get an extra, in Markdown."""
    where = "" if PUBLISHED else " in a checkout of fer_zoo"
    return f"`pip install {requirement(extra)}`{where}"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to the installation that runs.

    It takes the package from where it came (PEP 610): the checkout, the wheel, the repository, or
    else the index.
    """
    try:
        origin = json.loads(distribution("fer-zoo").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        origin = {}
    url = origin.get("url", "")
    if "dir_info" in origin:
        path = url2pathname(urlsplit(url).path)
        editable = "-e " if origin["dir_info"].get("editable") else ""
        return f"pip install {editable}'{path}[{extra}]'"
    if vcs := origin.get("vcs_info"):
        return f"pip install 'fer-zoo[{extra}] @ {vcs['vcs']}+{url}@{vcs['commit_id']}'"
    if url:
        return f"pip install 'fer-zoo[{extra}] @ {url}'"
    return f"pip install {requirement(extra, PUBLISHED or 'fer-zoo')}"
