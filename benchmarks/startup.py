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

import torch
from harness import (
    Row,
    append,
    check_output,
    environment,
    positive_int,
    results_path,
    rounded,
    spread,
    timing,
)
from tables import startup_table
from tqdm import tqdm

import fer_zoo
from fer_zoo.errors import FerZooError

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
    return parse(done.stdout)


def parse(printed: str) -> Start:
    """Return what a process printed in its last line."""
    return Start(*json.loads(printed.strip().rpartition("\n")[2]))


def rows(found: dict[str, list[Start]], broken: dict[str, str]) -> list[Row]:
    """Return a row for each case with a start; of `found`, entry i of each list is of round i."""
    known, place = environment(torch.device("cpu")), []
    found = {name: starts for name, starts in found.items() if starts}
    base = statistics.median(s.peak for s in found[OURS]) if OURS in found else None
    for name in [*found, *broken]:
        row: Row = {"kind": "startup", "mode": name, "device": "cpu", "environment": known}
        if name in broken:
            place.append(row | {"status": "failed", "reason": broken[name]})
            continue
        starts = found[name]
        whole = [s.imports + s.then for s in starts]
        row |= {"status": "ok", **timing(whole), "import_s": spread(s.imports for s in starts)}
        row["then_s"] = None if name in (BASE, OURS) else spread(s.then for s in starts)
        pairs = zip(whole, found.get(BASE, []), strict=False)
        ratios = [mine / theirs.imports for mine, theirs in pairs]
        row["ratio"] = spread(ratios) if ratios and name != BASE else None
        peak, size = statistics.median(s.peak for s in starts), starts[0].size
        added = None if base is None or row["then_s"] is None else peak - base
        row |= {"peak_bytes": peak, "added_bytes": added, "float32_bytes": size or None}
        row["size_ratio"] = rounded(added / size) if size and added is not None else None
        place.append(row)
    return place


def main(arguments: list[str] | None = None) -> int:
    """Measure all cases, append their rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=fer_zoo.list_models(exclude="test_*"))
    parser.add_argument("--repeats", type=positive_int, default=7)
    parser.add_argument("--output", type=Path, help="benchmarks/results/cpu-<date>.jsonl")
    options = parser.parse_args(arguments)
    output = check_output(options.output or results_path(torch.device("cpu")))
    status = 0
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = fer_zoo.save(fer_zoo.create("vgg19"), Path(folder) / "vgg19.safetensors")
        todo = cases(options.models, path)
        found: dict[str, list[Start]] = {name: [] for name in todo}
        broken: dict[str, str] = {}
        bar = tqdm(total=len(todo) * (options.repeats + 1), unit="process", disable=None)
        with bar:
            try:
                for number in range(-1, options.repeats):
                    for name in rng.sample(list(found), len(found)):
                        try:
                            start = run(*todo[name])
                        except RuntimeError as error:
                            broken[name] = str(error)
                            del found[name]
                            continue
                        if number >= 0:
                            found[name].append(start)
                        bar.update()
            except KeyboardInterrupt:
                rounds = min(map(len, found.values()), default=0)
                print(f"interrupted: {rounds} whole rounds count", file=sys.stderr)
                status = 130
    measured = rows(found, broken)
    for row in measured:
        append(output, row)
    print(startup_table(measured))
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FerZooError as error:
        sys.exit(f"startup.py: {error}")
