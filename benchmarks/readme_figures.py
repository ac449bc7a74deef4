"""Write the figures of the bundled weights' records into the README, between its two markers.

python benchmarks/readme_figures.py
"""

import re
from pathlib import Path

from fer_zoo.weights import WEIGHTS

README = Path(__file__).parent.parent / "README.md"


def table() -> str:
    """Return the Markdown table of all records."""
    lines = [
        "| weights | fusion | one view % | ten views % | held out, one view / ten views % "
        "| ECE, one view / ten views % |",
        "|---|---|---|---|---|---|",
    ]
    for address, record in WEIGHTS.items():
        by_fusion: dict[str, dict[int, dict]] = {}
        for row in record.metrics:
            by_fusion.setdefault(row.get("fusion", ""), {})[row["views"]] = row
        for fusion, rows in by_fusion.items():
            cells = []
            for row in (rows[1], rows[10]):
                low, high = (100 * x for x in row["interval"])
                cells.append(f"{100 * row['accuracy']:.2f} ({low:.1f} to {high:.1f})")
            held = [rows[v].get("cross_validated_accuracy") for v in (1, 10)]
            cells.append(" / ".join(f"{100 * h:.2f}" for h in held if h) or "as measured")
            cells.append(" / ".join(f"{100 * rows[v]['cross_validated_ece']:.1f}" for v in (1, 10)))
            lines.append(f"| `{address}` | {fusion or 'single network'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """Return the README `text` with the table of today's records."""
    marked = r"(<!-- figures -->\n).*?(<!-- /figures -->)"
    return re.sub(marked, lambda m: f"{m[1]}{table()}\n{m[2]}", text, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
