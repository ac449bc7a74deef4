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

import torch
from harness import (
    Row,
    append,
    check_output,
    environment,
    positive,
    positive_int,
    results_path,
    rounded,
    spread,
    timing,
)
from peers import NotAvailableError, Pictures
from tables import accuracy_table, training_table
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from fer_zoo._device import resolve_device
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.data.fer2013 import COUNTS
from fer_zoo.errors import FerZooError
from fer_zoo.labels import FER2013 as LABELS
from fer_zoo.training import Recipe, get_recipe
from fer_zoo.training.distributed import joined
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
        Pictures(run.data, run.preset, run.how),
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


def measure(name: str, size: int, options: argparse.Namespace) -> list[Row]:
    """Return one row for each way to train a network at a batch size."""
    recipe = get_recipe(options.recipe, {"batch_size": size, "epochs": 1_000_000})
    count, rng = options.steps * size, random.Random(0)
    with tempfile.TemporaryDirectory() as folder, joined(options.device) as (workers, device):
        run = Run(name, faces(count), faces(7), recipe, None, Path(folder), device, workers)
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
        common = {"recipe": recipe.name, "batch_size": size, "device": device.type}
        common["environment"] = environment(device)
    precision = {way: run.precision if way in ("loop", "bare") else "fp32" for way in ways}
    rows = []
    for way, seconds in times.items():
        over = (
            None
            if way == "loop"
            else spread(a / b for a, b in zip(seconds, times["loop"], strict=True))
        )
        rate = count / timing(seconds)["median_s"]
        rows.append(
            {
                "kind": "training",
                "model": name,
                "mode": way,
                "dtype": precision[way],
                "status": "ok",
            }
            | common
            | timing(seconds)
            | {"images_per_s": rounded(rate), "loop_over_this": over}
            | {"fer2013_epoch_s": rounded(sum(COUNTS["train"]) / rate)}
        )
    for way, row in missing.items():
        rows.append(
            {"kind": "training", "model": name, "mode": way, "dtype": "fp32"} | common | row
        )
    return rows


def to_accuracy(name: str, target: float, options: argparse.Namespace) -> Row:
    """Train on FER2013 until PublicTest reaches an accuracy; return the row of how long it took.

    The time is that of all epochs with their evaluations, without loading data or saving.
    """
    recipe = get_recipe(options.recipe, {})
    train, public = (FER2013(options.data, split) for split in ("train", "public"))
    with tempfile.TemporaryDirectory() as folder, joined(options.device) as (workers, device):
        run = Run(name, train, public, recipe, None, Path(folder), device, workers)
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
        "accuracy": rounded(run.best.val_accuracy),
        "epochs": len(run.history),
        "seconds": rounded(seconds),
        "environment": environment(device),
    }


def faces_per_second(model: str, recipe: Recipe, device: str | None, enough: float = 2.0) -> float:
    """Return how many faces a second a run trains on, by training on noise for some seconds."""
    recipe, batches = recipe.updated({"distill": 0.0, "targets": "labels", "epochs": 1000}), 2
    while True:
        data = faces(batches * recipe.batch_size)
        with tempfile.TemporaryDirectory() as folder, joined(device) as (workers, place):
            run = Run(model, data, faces(7), recipe, None, Path(folder), place, workers)
            run.begin(resume=False)
            run._epoch(1)
            seconds = run._epoch(2)[0].seconds
        if seconds > enough or batches > 1000:
            return len(data) / seconds
        batches *= max(2, min(int(enough / seconds) + 1, 8))


def main(arguments: list[str] | None = None) -> int:
    """Measure each model, append its rows and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet18_025", "vgg19_025"])
    parser.add_argument("--recipe", default="strong")
    parser.add_argument("--batch-size", type=positive_int, nargs="+", default=[128])
    parser.add_argument("--steps", type=positive_int, default=8, help="batches per round")
    parser.add_argument("--rounds", type=positive_int, default=9)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2, 4], help="of the PIL way")
    parser.add_argument("--device")
    parser.add_argument("--data", help="FER2013, for --to-accuracy")
    parser.add_argument(
        "--to-accuracy", type=positive, metavar="X", help="train until PublicTest has it"
    )
    parser.add_argument("--output", type=Path, help="benchmarks/results/<device>-<date>.jsonl")
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.to_accuracy is None):
        parser.error("--to-accuracy and --data go together")
    output = check_output(options.output or results_path(resolve_device(options.device)))
    # One figure at a time, so that Ctrl-C keeps those before.
    sizes = options.batch_size if options.to_accuracy is None else [0]
    rows: list[Row] = []
    status = 0
    try:
        for name, size in itertools.product(options.models, sizes):
            if options.to_accuracy is None:
                found = measure(name, size, options)
            else:
                found = [to_accuracy(name, options.to_accuracy, options)]
            for row in found:
                append(output, row)
            rows += found
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} rows are in {output}", file=sys.stderr)
        status = 130
    print((training_table if options.to_accuracy is None else accuracy_table)(rows))
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FerZooError as error:
        sys.exit(f"training.py: {error}")
