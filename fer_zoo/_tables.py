"""Markdown: tables of cells, the first row of which is the head, and text of others in it."""

import html
import re
from collections.abc import Sequence

from fer_zoo.errors import printable


def safe(text: str) -> str:
    """Return text that others wrote as one line of Markdown without HTML or links.

    An address of mail stays one, of which GitHub makes a link.
    """
    text = html.escape(printable(text.replace("\n", " ")), quote=False)
    text = re.sub(r"\](?=[(\[:])", r"]\\", text)
    return re.sub(r"(?i)(?=://)|(?<=www)(?=\.)", r"\\", text)  # GitHub makes links of addresses


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, as a Markdown table."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    cells = [[safe(c).replace("|", r"\|") for c in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
