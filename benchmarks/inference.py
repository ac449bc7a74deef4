"""How fast each network runs, in each way to run it; a wrong answer has no speed.

    python benchmarks/inference.py --device cpu --batch-sizes 1 128
    python benchmarks/inference.py --device cuda --models vgg19 --dtypes bfloat16 --budget 5

A cell is a model, a batch size, a way to run it (a mode) and a dtype. Before a cell is timed its
probabilities are compared with those of our network in eager float32 on the CPU. All cells of a
model and a batch size are then timed in turns, on the same batches, so what else the machine does
hits all of them, and a ratio is the median over the rounds. Rows are appended to `--output` as
they are finished; Ctrl-C keeps them. See docs/performance.md for what each field means.
"""

import argparse
import gc
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import harness
import measuring
import torch
from modes import FLOAT32_ONLY, MODES, Case
from peers import NotAvailableError
from tables import table
from torch import Tensor
from tqdm import tqdm

from fer_zoo._device import resolve_device
from fer_zoo.errors import MissingDependencyError
from fer_zoo.inference import predict_scores
from fer_zoo.models import Classifier, get_spec
from fer_zoo.transforms import PRESETS
from fer_zoo.transforms.presets import choose_preset, name_of

MODELS = ["resnet18_7x7", "resnet18", "vgg19", "resnet18_025", "vgg19_025"]
MODELS += ["ensemble_r18_vgg19_025"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Key = tuple[str, str]  # mode and dtype


def outcome(error: Exception) -> harness.Row:
    """Return the status and reason of a cell that raised."""
    text = " ".join(str(error).split())
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if memory or re.search("out of memory|allocate memory", text, re.I):
        return {"status": "out of memory"}
    if isinstance(error, NotAvailableError | MissingDependencyError | ImportError):
        return {"status": "not available", "reason": f"{text:.200}"}
    return {"status": "failed", "reason": f"{type(error).__name__}: {text:.200}"}


def prepare(
    mode: str, case: Case, batches: list[Tensor], truth: Tensor
) -> tuple[measuring.Runner, harness.Row]:
    """Build a cell and run every batch once, which warms it up; return it with its parity."""
    device = case.device
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    runner = MODES[mode](case)
    answers = [
        runner.finish(runner.call(runner.prepare(b)))[: measuring.COMPARED].cpu() for b in batches
    ]
    row: harness.Row = {"peak_memory_bytes": None}
    if device.type == "cuda":
        row["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device) - before
    row |= measuring.parity(truth, torch.cat(answers), measuring.allowed(case.dtype, device))
    return runner, row


def measure(model: Classifier, size: int, options: argparse.Namespace) -> Iterator[harness.Row]:
    """Yield the rows of one model, with the views of its preset, at one batch size."""
    device, preset = options.device, PRESETS[model.preset]
    on_cpu = measuring.pictures(size, preset.resize)
    faces = torch.cat([b[: measuring.COMPARED] for b in on_cpu])
    truth = predict_scores(model, faces).softmax(1).float()
    batches = [b.to(device) for b in on_cpu]
    runners: dict[Key, measuring.Runner] = {}
    rows: dict[Key, harness.Row] = {}
    for mode, dtype in cells(options):
        case = Case(model, device, DTYPES[dtype], batches[0])
        try:
            runner, row = prepare(mode, case, batches, truth)
            if row["status"] == "ok":
                runners[mode, dtype] = runner
            del runner
        except Exception as error:
            row = outcome(error)
        rows[mode, dtype] = row
    times, broken = measuring.take_turns(
        runners, batches, device, repeats=options.repeats, budget=options.budget
    )
    for key, row in rows.items():
        mode, dtype = key
        if key in broken:
            row.update(outcome(broken[key]))
        if key in times:
            row |= harness.timing(times[key])
            row["images_per_s"] = harness.rounded(size / row["median_s"])
            row["ratios"] = ratios(key, times)
        yield {
            "kind": "inference",
            "model": model.name,
            "mode": mode,
            "dtype": dtype,
            "batch_size": size,
            "views": preset.num_views,
            "device": device.type,
            **row,
            "environment": options.environment,
        }


def cells(options: argparse.Namespace) -> list[Key]:
    """Return the modes and dtypes that are measured for each model and batch size."""
    return [
        (mode, dtype)
        for mode in options.modes
        for dtype in (["float32"] if mode in FLOAT32_ONLY else options.dtypes)
    ]


def ratios(key: Key, times: dict[Key, list[float]]) -> dict[str, list[float]]:
    """Return how many times as fast a cell is as each float32 mode: 10th percentile, median, 90th.

    Each round gives one ratio.
    """
    return {
        mode: harness.spread(a / b for a, b in zip(times[mode, dtype], times[key], strict=True))
        for mode, dtype in times
        if dtype == "float32" and (mode, dtype) != key
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the settings of a run, with what depends on the device filled in."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--device", help="cpu or cuda; CUDA where there is one")
    parser.add_argument("--batch-sizes", type=harness.positive_int, nargs="+", default=[1, 128])
    parser.add_argument(
        "--views", type=int, nargs="+", help="1, 2, 10; those of the model's preset"
    )
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument(
        "--repeats", type=harness.positive_int, default=30, help="timed calls of a cell"
    )
    parser.add_argument(
        "--budget", type=harness.positive, default=15, help="seconds per cell for them"
    )
    parser.add_argument(
        "--minutes", type=harness.positive, help="stop after so many, as Ctrl-C would"
    )
    parser.add_argument("--output", type=Path, help="benchmarks/results/<device>-<date>.jsonl")
    options = parser.parse_args(arguments)
    for name in options.models:
        get_spec(name)  # an unknown one is told now, not when its turn comes
    options.device = resolve_device(options.device)
    options.output = harness.check_output(options.output or harness.results_path(options.device))
    options.environment = harness.environment(options.device)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Measure, append rows as they come, and print the table."""
    options = parse(arguments)
    groups = list(itertools.product(options.models, options.views or [None], options.batch_sizes))
    count, done, status = len(groups) * len(cells(options)), 0, 0
    bar = tqdm(total=count, unit="cell", disable=None)
    try:
        with harness.deadline(options.minutes), bar:
            for name, sizes in itertools.groupby(groups, lambda g: g[0]):
                model = measuring.subject(name)
                own = model.preset
                for _, views, size in sizes:
                    model.preset = name_of(choose_preset(own, views=views))
                    bar.set_description(f"{name}, {model.preset}, batch {size}")
                    for row in measure(model, size, options):
                        harness.append(options.output, row)
                        done += 1
                        bar.update()
    except KeyboardInterrupt as stopped:
        over = isinstance(stopped, harness.TimeIsUp)
        why = f"{options.minutes} minutes are over" if over else "interrupted"
        print(f"{why}: {done} of {count} cells are done", file=sys.stderr)
        status = 0 if over else 130
    rows = harness.read_rows(options.output) if options.output.exists() else []
    print(table("inference", rows))
    return status


if __name__ == "__main__":
    harness.call(main)
