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
    ratio = a["median_s"] / b["median_s"]
    if b["p90_s"] < a["p10_s"]:
        found = "faster"
    elif b["p10_s"] > a["p90_s"]:
        found = "slower"
    else:
        found = "same"
    times = (f"{1000 * row['p10_s']:.4g} to {1000 * row['p90_s']:.4g} ms" for row in (a, b))
    return found, f"x {ratio:.3f} ({', then '.join(times)})"


def compared(a: list[Row], b: list[Row]) -> str:
    """Return what is to be said of two lists of rows, as Markdown."""
    timed = [{identity(row): row for row in rows if "median_s" in row or "status" in row}
             for rows in (a, b)]  # fmt: skip
    first, second = timed
    lines, counts = [], dict.fromkeys(("same", "faster", "slower", "other"), 0)
    for key in first:
        if key in second:
            found, why = verdict(first[key], second[key])
            counts[found if found in counts else "other"] += 1
            if found != "same":
                lines.append([*_cell(key), found, why])
    for key in [k for k in first if k not in second]:
        lines.append([*_cell(key), "only in A", ""])
    for key in [k for k in second if k not in first]:
        lines.append([*_cell(key), "only in B", ""])
    parts = [_environments(a, b)] if a and b else []
    parts.append(
        f"{sum(counts.values())} cells in both: {counts['same']} the same within the noise, "
        f"{counts['faster']} faster in B, {counts['slower']} slower, {counts['other']} other."
    )
    if lines:
        parts.append(markdown([*IDENTITY, "verdict", "A / B"], lines))
    return "\n\n".join(part for part in parts if part)


def _cell(key: tuple[object, ...]) -> list[str]:
    return ["" if value is None else str(value) for value in key]


def _environments(a: list[Row], b: list[Row]) -> str:
    before, after = (rows[-1]["environment"] for rows in (a, b))
    names = [n for n in before if before[n] != after.get(n) and n not in ("date", "load")]
    return "\n".join(f"{name}: {before[name]} -> {after.get(name)}" for name in names)


def main(arguments: list[str] | None = None) -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    options = parser.parse_args(arguments)
    print(compared(read_rows(options.a), read_rows(options.b)))


if __name__ == "__main__":
    main()
