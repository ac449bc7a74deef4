"""How long a fresh process takes until it can be used, against `import torch` alone.

    python benchmarks/startup.py
    python benchmarks/startup.py --models resnet18 vgg19 --repeats 9

Each case is a fresh process of its own; the cases take turns, after one round that is thrown away
(it fills the file cache). Times are those of the statements themselves, without the interpreter's
own start. A ratio is the median over the rounds of all of a case's time over that of
`import torch` in the same round. Memory is the peak of the process less that of one that only
takes `fer_zoo.create`, over the size of the model's tensors in float32. It needs Linux. Rows are
appended to `--output` at the end, which Ctrl-C brings about early: the starts until then count.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import harness
import torch
from tables import table
from tqdm import tqdm

import fer_zoo

ROOT = Path(__file__).parent.parent
ENSEMBLE = "ensemble_r18_vgg19_025"
LONGEST = 600
# A bare `import fer_zoo` imports nothing yet, torch included: each name is imported at first use.
BASE, OURS = "import torch", "import fer_zoo; fer_zoo.create"

# VmHWM is the peak of this program; ru_maxrss would also be the parent's, which has torch loaded.
PROGRAM = """
import json, re, time
start = time.perf_counter()
{imports}
imported = time.perf_counter()
made = {then}
end = time.perf_counter()
status = open("/proc/self/status").read()
tensors = made.state_dict().values() if hasattr(made, "state_dict") else []
print(json.dumps([imported - start, end - imported,
    1024 * int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]), sum(4 * t.numel() for t in tensors)]))
"""


@dataclass(frozen=True)
class Start:
    """What one process took: seconds of imports and of the rest, peak bytes, bytes in float32."""

    imports: float
    then: float
    peak: int
    size: int


def cases(models: list[str], checkpoint: Path) -> dict[str, tuple[str, str]]:
    """Return what is imported and then done, by the name of the case."""
    creations = [f'fer_zoo.create("{name}")' for name in models]
    creations.append(f'fer_zoo.create("{ENSEMBLE}", weights="default")')
    found = {BASE: (BASE, "None"), OURS: (OURS, "None")}
    found |= {code: (OURS, code) for code in creations}
    found[f'fer_zoo.load("{checkpoint.name}")'] = (OURS, f"fer_zoo.load({str(checkpoint)!r})")
    face = "numpy.zeros((48, 48), numpy.uint8)"
    predict = f'fer_zoo.Predictor("{ENSEMBLE}")'
    found[f"{predict}(face)"] = (f"import numpy; {OURS}", f"{predict}({face})")
    return found


def run(imports: str, then: str) -> Start:
    """Start a process, and return what it took.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    program = PROGRAM.format(imports=imports, then=then)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {LONGEST} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip().rpartition("\n")[2] or f"exit {done.returncode}")
    return Start(*json.loads(done.stdout.strip().rpartition("\n")[2]))


def rows(found: dict[str, list[Start]], broken: dict[str, str]) -> list[harness.Row]:
    """Return a row for each case with a start; of `found`, entry i of each list is of round i."""
    common: harness.Row = {
        "kind": "startup",
        "device": "cpu",
        "environment": harness.environment(torch.device("cpu")),
    }
    measured = []
    for name, starts in found.items():
        whole = [s.imports + s.then for s in starts]
        row = common | {"mode": name, "status": "ok"} | harness.timing(whole)
        row["import_s"] = harness.spread(s.imports for s in starts)
        row["then_s"] = None if name in (BASE, OURS) else harness.spread(s.then for s in starts)
        pairs = zip(whole, found.get(BASE, []), strict=False)
        ratios = [mine / theirs.imports for mine, theirs in pairs]
        row["ratio"] = harness.spread(ratios) if ratios and name != BASE else None
        row["peak_bytes"] = statistics.median(s.peak for s in starts)
        row |= {"added_bytes": None, "float32_bytes": starts[0].size or None, "size_ratio": None}
        if OURS in found and row["then_s"] is not None:
            added = row["peak_bytes"] - statistics.median(s.peak for s in found[OURS])
            row["added_bytes"] = added
            row["size_ratio"] = harness.rounded(added / starts[0].size) if starts[0].size else None
        measured.append(row)
    failed = {"status": "failed"}
    return measured + [common | failed | {"mode": m, "reason": why} for m, why in broken.items()]


def measure(todo: dict[str, tuple[str, str]], repeats: int) -> tuple[list[harness.Row], bool]:
    """Return the rows of all cases, and whether Ctrl-C cut them short."""
    found: dict[str, list[Start]] = {name: [] for name in todo}
    broken: dict[str, str] = {}
    rng, cut_short = random.Random(0), False
    with tqdm(total=len(todo) * (repeats + 1), unit="process", disable=None) as bar:
        try:
            for number in range(-1, repeats):
                for name in rng.sample(list(found), len(found)):
                    bar.update()
                    try:
                        start = run(*todo[name])
                    except RuntimeError as error:
                        broken[name] = str(error)
                        del found[name]
                        continue
                    if number >= 0:
                        found[name].append(start)
        except KeyboardInterrupt:
            cut_short = True
    return rows({name: starts for name, starts in found.items() if starts}, broken), cut_short


def main(arguments: list[str] | None = None) -> int:
    """Measure all cases, append their rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=fer_zoo.list_models(exclude="test_*"))
    parser.add_argument("--repeats", type=harness.positive_int, default=7)
    parser.add_argument("--output", type=Path, help="benchmarks/results/cpu-<date>.jsonl")
    options = parser.parse_args(arguments)
    output = harness.check_output(options.output or harness.results_path(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        path = fer_zoo.save(fer_zoo.create("vgg19"), Path(folder) / "vgg19.safetensors")
        measured, cut_short = measure(cases(options.models, path), options.repeats)
    for row in measured:
        harness.append(output, row)
    print(table("startup", measured))
    if cut_short:
        print("interrupted: the starts until then count", file=sys.stderr)
    return 130 if cut_short else 0


if __name__ == "__main__":
    harness.call(main)
