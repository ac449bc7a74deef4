"""How much of the training loop's time is the network: the loop against its bare arithmetic.

    python benchmarks/training.py resnet18_025 resnet18_7x7 --recipe strong
    python benchmarks/training.py resnet18 vgg19 --batch-size 128 256 512 1024 --rounds 2

Bare is forward, cross-entropy and backward of the same network on one batch that lies ready, in the
same precision and memory format. The loop is everything that `fer_zoo.train` does in an epoch but
the evaluation: gathering and augmenting faces on the device, targets, the optimizer's step, the
averaged weights. The two alternate, so what else the machine does hits both; the share is the
median of the rounds.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import tqdm

from fer_zoo.data import FaceDataset
from fer_zoo.data.fer2013 import COUNTS
from fer_zoo.errors import FerZooError
from fer_zoo.labels import FER2013
from fer_zoo.training import Recipe, get_recipe
from fer_zoo.training.distributed import joined
from fer_zoo.training.run import Run


def faces(n: int) -> FaceDataset:
    """Return random faces; speed does not depend on what they show."""
    images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
    return FaceDataset(images, torch.arange(n) % 7, labels=FER2013, name="noise")


def bare(run: Run, steps: int) -> float:
    """Return images per second of forward and backward alone."""
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
    return steps * size / (clock(run.device) - start)


def clock(device: torch.device) -> float:
    """Return the time when the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(name: str, size: int, options: argparse.Namespace) -> dict[str, object]:
    """Return one row: median images per second of both at a batch size, and the share."""
    recipe = get_recipe(options.recipe, {"batch_size": size, "epochs": 1_000})
    count = options.steps * size
    with tempfile.TemporaryDirectory() as folder, joined(options.device) as (workers, device):
        run = Run(name, faces(count), faces(7), recipe, None, Path(folder), device, workers)
        rates = []
        for number in tqdm(range(-1, options.rounds), desc=name, leave=False, disable=None):
            one = bare(run, options.steps)
            loop = count / run._epoch(number + 2)[0].seconds
            if number >= 0:  # the round before is warm-up
                rates.append((one, loop, loop / one))
        bares, loops, shares = zip(*rates, strict=True)
        return {
            "model": name,
            "recipe": recipe.name,
            "batch_size": size,
            "precision": run.precision,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "bare_images_per_s": round(statistics.median(bares), 1),
            "loop_images_per_s": round(statistics.median(loops), 1),
            "fer2013_epoch_s": round(sum(COUNTS["train"]) / statistics.median(loops), 2),
            "share": round(statistics.median(shares), 4),
            "share_lowest": round(min(shares), 4),
            "share_highest": round(max(shares), 4),
            "rounds": options.rounds,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "processor": platform.machine(),
        }


def faces_per_second(model: str, recipe: Recipe, device: str | None, enough: float = 2.0) -> float:
    """Return how many faces a second a run trains on, by training on noise for some seconds."""
    recipe, batches = recipe.updated({"distill": 0.0, "targets": "labels", "epochs": 1000}), 2
    while True:
        data = faces(batches * recipe.batch_size)
        with tempfile.TemporaryDirectory() as folder, joined(device) as (workers, place):
            run = Run(model, data, faces(7), recipe, None, Path(folder), place, workers)
            run._epoch(1)
            seconds = run._epoch(2)[0].seconds
        if seconds > enough or batches > 1000:
            return len(data) / seconds
        batches *= max(2, min(int(enough / seconds) + 1, 8))


def main() -> None:
    """Measure each model and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet18_025", "vgg19_025"])
    parser.add_argument("--recipe", default="strong")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[128])
    parser.add_argument("--steps", type=int, default=8, help="batches per round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device")
    options = parser.parse_args()
    for name, size in itertools.product(options.models, options.batch_size):
        print(json.dumps(measure(name, size, options)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except FerZooError as error:
        sys.exit(f"training.py: {error}")
