"""How much of the training loop's time is the network: the loop against its bare arithmetic.

    python benchmarks/training.py resnet18_025 resnet18_7x7 --recipe strong

Bare is forward, cross-entropy and backward of the same network on one batch that lies ready, in the
same precision and memory format. The loop is everything that `fer_zoo.train` does in an epoch but
the evaluation: gathering and augmenting faces on the device, targets, the optimizer's step, the
averaged weights. The two alternate, so what else the machine does hits both; the share is the
median of the rounds.
"""

import argparse
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
from fer_zoo.errors import FerZooError
from fer_zoo.labels import FER2013
from fer_zoo.training import get_recipe
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


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Return one row: median images per second of both, and the share."""
    recipe = get_recipe(options.recipe, {"batch_size": options.batch_size, "epochs": 1_000})
    count = options.steps * options.batch_size
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
            "batch_size": options.batch_size,
            "precision": run.precision,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "bare_images_per_s": round(statistics.median(bares), 1),
            "loop_images_per_s": round(statistics.median(loops), 1),
            "share": round(statistics.median(shares), 4),
            "share_lowest": round(min(shares), 4),
            "share_highest": round(max(shares), 4),
            "rounds": options.rounds,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "processor": platform.machine(),
        }


def main() -> None:
    """Measure each model and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet18_025", "vgg19_025"])
    parser.add_argument("--recipe", default="strong")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=8, help="batches per round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device")
    options = parser.parse_args()
    for name in options.models:
        print(json.dumps(measure(name, options)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except FerZooError as error:
        sys.exit(f"training.py: {error}")
