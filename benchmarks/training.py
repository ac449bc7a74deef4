"""The training loop against its bare arithmetic, and against the way everyone trains.

    python benchmarks/training.py resnet18_025 resnet18_7x7 --recipe strong
    python benchmarks/training.py resnet18 vgg19 --batch-size 128 1024 --steps 64 --workers 4
    python benchmarks/training.py resnet18_025 --data fer2013.csv --to-accuracy 0.65

The *loop* is everything that `fer_zoo.train` does in an epoch but the evaluation: gathering and
augmenting faces on the device, targets, the optimizer's step, the averaged weights. *Bare* is
forward, cross-entropy and backward of the same network on one batch that lies ready, in the same
precision and memory format. *PIL* is what everyone writes: torchvision's transforms on PIL images
that do what the recipe does, in a DataLoader with so many workers, and the same network in float32
as built under SGD. All ways take turns, so what else the machine does hits all of them; ratios are
medians of the rounds. Rows are appended to `--output`.
"""

import argparse
import copy
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import torch
from peers import NotAvailableError, Pictures
from tables import table
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from fer_zoo._device import resolve_device
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.data.fer2013 import COUNTS
from fer_zoo.labels import FER2013 as LABELS
from fer_zoo.training import get_recipe
from fer_zoo.training.run import Run


def faces(n: int) -> FaceDataset:
    """Return random faces; speed does not depend on what they show."""
    images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
    return FaceDataset(images, torch.arange(n) % 7, labels=LABELS, name="noise")


def bare(run: Run, steps: int) -> float:
    """Return the seconds of forward and backward alone."""
    size, preset = run.recipe.batch_size, run.preset
    x = torch.rand(size, 1, preset.size, preset.size, device=run.device)
    x = x.contiguous(memory_format=torch.channels_last)
    targets = torch.arange(size, device=run.device) % 7
    run.network.train()
    start = clock(run.device)
    for _ in range(steps):
        with torch.autocast(run.device.type, torch.bfloat16, enabled=run.precision == "bf16"):
            logits = run.network(x)
        run.optimizer.zero_grad()
        F.cross_entropy(logits.float(), targets).backward()
    return clock(run.device) - start


def peers(run: Run, workers: int) -> Callable[[], float]:
    """Return what trains an epoch as everyone does and returns its seconds.

    The workers stay from one epoch to the next.
    """
    loader = DataLoader(
        Pictures(run.data, run.preset, run.augmentation),
        run.recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=run.device.type == "cuda",
    )
    network = copy.deepcopy(run.model).to(memory_format=torch.contiguous_format).train()
    optimizer = torch.optim.SGD(network.parameters(), run.recipe.lr, run.recipe.momentum)

    def epoch() -> float:
        start = clock(run.device)
        for images, targets in loader:
            x, y = (t.to(run.device, non_blocking=True) for t in (images, targets))
            optimizer.zero_grad()
            F.cross_entropy(network(x), y).backward()
            optimizer.step()
        return clock(run.device) - start

    return epoch


def clock(device: torch.device) -> float:
    """Return the time when the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(name: str, size: int, options: argparse.Namespace) -> list[harness.Row]:
    """Return one row for each way to train a network at a batch size."""
    recipe = get_recipe(options.recipe, {"batch_size": size, "epochs": 1_000_000})
    count, rng = options.steps * size, random.Random(0)
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(name, faces(count), faces(7), recipe, None, Path(folder), device)
        run.begin(resume=False)
        numbers = itertools.count(1)
        ways: dict[str, Callable[[], float]] = {
            "loop": lambda: run._epoch(next(numbers))[0].seconds,
            "bare": lambda: bare(run, options.steps),
        }
        missing = {}
        for n in options.workers:
            way = f"PIL, {n or 'no'} worker{'' if n == 1 else 's'}"
            try:
                ways[way] = peers(run, n)
            except NotAvailableError as error:
                missing[way] = {"status": "not available", "reason": str(error)}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for number in tqdm(range(-1, options.rounds), desc=name, leave=False, disable=None):
            for way in rng.sample(list(ways), len(ways)):
                seconds = ways[way]()
                if number >= 0:  # the round before is warm-up
                    times[way].append(seconds)
        common = {"kind": "training", "model": name, "recipe": recipe.name, "batch_size": size}
        common |= {"device": device.type, "environment": harness.environment(device)}
    rows = []
    for way, all_seconds in times.items():
        row = common | {"mode": way, "status": "ok"} | harness.timing(all_seconds)
        row["dtype"] = run.precision if way in ("loop", "bare") else "fp32"
        rate = count / row["median_s"]
        row |= {"images_per_s": harness.rounded(rate), "loop_over_this": None}
        row["fer2013_epoch_s"] = harness.rounded(sum(COUNTS["train"]) / rate)
        if way != "loop":
            pairs = zip(all_seconds, times["loop"], strict=True)
            row["loop_over_this"] = harness.spread(a / b for a, b in pairs)
        rows.append(row)
    return rows + [common | {"mode": way, "dtype": "fp32"} | why for way, why in missing.items()]


def to_accuracy(name: str, target: float, options: argparse.Namespace) -> harness.Row:
    """Train on FER2013 until PublicTest reaches an accuracy; return the row of how long it took.

    The time is that of all epochs with their evaluations, without loading data or saving.
    """
    recipe = get_recipe(options.recipe, {})
    train, public = (FER2013(options.data, split) for split in ("train", "public"))
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(name, train, public, recipe, None, Path(folder), device)
        run.begin(resume=False)
        run.progress, start = True, clock(device)
        while len(run.history) < recipe.epochs:
            run.history.append(run._epoch(len(run.history) + 1)[0])
            if run.best.val_accuracy >= target:
                break
        seconds = clock(device) - start
    return {
        "kind": "accuracy",
        "model": name,
        "mode": f"to {target}",
        "dtype": run.precision,
        "recipe": recipe.name,
        "batch_size": recipe.batch_size,
        "device": device.type,
        "target": target,
        "accuracy": harness.rounded(run.best.val_accuracy),
        "epochs": len(run.history),
        "seconds": harness.rounded(seconds),
        "environment": harness.environment(device),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure each model, append its rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet18_025", "vgg19_025"])
    parser.add_argument("--recipe", default="strong")
    parser.add_argument("--batch-size", type=harness.positive_int, nargs="+", default=[128])
    parser.add_argument("--steps", type=harness.positive_int, default=8, help="batches per round")
    parser.add_argument("--rounds", type=harness.positive_int, default=9)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, 4], help="of the PIL way")
    parser.add_argument("--device")
    parser.add_argument("--data", help="FER2013, for --to-accuracy")
    parser.add_argument(
        "--to-accuracy", type=harness.positive, metavar="X", help="train until PublicTest has it"
    )
    parser.add_argument("--output", type=Path, help="benchmarks/results/<device>-<date>.jsonl")
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.to_accuracy is None):
        parser.error("--to-accuracy and --data go together")
    output = harness.check_output(
        options.output or harness.results_path(resolve_device(options.device))
    )
    rows: list[harness.Row] = []
    status = 0
    try:
        # One figure at a time, so that Ctrl-C keeps those before.
        for name in options.models:
            if options.to_accuracy is not None:
                rows.append(to_accuracy(name, options.to_accuracy, options))
                harness.append(output, rows[-1])
                continue
            for size in options.batch_size:
                for row in measure(name, size, options):
                    rows.append(row)
                    harness.append(output, row)
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} rows are in {output}", file=sys.stderr)
        status = 130
    print(table("training" if options.to_accuracy is None else "accuracy", rows))
    return status


if __name__ == "__main__":
    harness.call(main)
