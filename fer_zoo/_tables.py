"""Tables: rows of cells, the first of which is the head."""

from collections.abc import Sequence


def markdown(rows: Sequence[Sequence[str]]) -> str:
    r"""Return rows, the first of which is the head, as a Markdown table.

    Example:
        >>> print(markdown([["class", "faces"], ["calm|tense", "3"]]))
        | class | faces |
        | --- | --- |
        | calm\|tense | 3 |
    """
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", r"\|").split("\n"))
