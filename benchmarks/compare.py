"""What changed between two files of results, beyond the noise.

    python benchmarks/compare.py benchmarks/results/cpu-2026-11-24.jsonl new.jsonl

A cell is faster or slower in B where the ranges from the 10th to the 90th percentile of its times
do not overlap; else it is the same. Its ratio is A's median over B's, above 1 where B is faster.
Two runs on one machine can still differ by what else it did: before you believe a verdict, look at
the ratios to a baseline within each run (`ratios` in the rows, `x torchvision` in the tables).
"""

import argparse
from pathlib import Path

from harness import IDENTITY, Row, identity, markdown, read_rows


def verdict(a: Row, b: Row) -> tuple[str, str]:
    """Return what became of a cell from `a` to `b`, and the numbers behind it."""
    before, after = (row.get("status", "ok") for row in (a, b))
    if before != after:
        return f"{before} -> {after}", b.get("reason", a.get("reason", ""))
    if before != "ok":
        return "same", before
    times = (f"{1000 * row['p10_s']:.4g} to {1000 * row['p90_s']:.4g} ms" for row in (a, b))
    numbers = f"x {a['median_s'] / b['median_s']:.3f} ({', then '.join(times)})"
    if b["p90_s"] < a["p10_s"]:
        return "faster", numbers
    return "slower" if b["p10_s"] > a["p90_s"] else "same", numbers


def compared(a: list[Row], b: list[Row]) -> str:
    """Return what is to be said of two lists of rows, as Markdown."""
    first, second = (
        {identity(row): row for row in rows if "median_s" in row or "status" in row}
        for rows in (a, b)
    )
    lines, counts = [], dict.fromkeys(("same", "faster", "slower", "other"), 0)
    for key in first | second:
        if key not in second:
            found, why = "only in A", ""
        elif key not in first:
            found, why = "only in B", ""
        else:
            found, why = verdict(first[key], second[key])
            counts[found if found in counts else "other"] += 1
        if found != "same":
            cells = ["" if value is None else str(value) for value in key]
            lines.append([*cells, found, why])
    before, after = (rows[-1]["environment"] for rows in (a, b))
    names = [n for n in before if before[n] != after.get(n) and n not in ("date", "load")]
    parts = ["\n".join(f"{name}: {before[name]} -> {after.get(name)}" for name in names)]
    parts.append(
        f"{sum(counts.values())} cells in both: {counts['same']} the same within the noise, "
        f"{counts['faster']} faster in B, {counts['slower']} slower, {counts['other']} other."
    )
    if lines:
        parts.append(markdown([*IDENTITY, "verdict", "A / B"], lines))
    return "\n\n".join(filter(None, parts))


def main(arguments: list[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    options = parser.parse_args(arguments)
    print(compared(read_rows(options.a), read_rows(options.b)))


if __name__ == "__main__":
    main()
