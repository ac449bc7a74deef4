"""How one call is measured: inputs, parity, time in turns, arithmetic."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import fer_zoo
from fer_zoo.models import Classifier

FEWEST = 5  # rounds that no budget cuts away
ENOUGH = 1.0  # seconds that a cell is timed for, also where its repeats are done sooner
QUICK = 0.05  # seconds; a quicker call is made once untimed just before it is timed
COMPARED = 64  # faces of each batch whose probabilities are compared


@dataclass(frozen=True)
class Runner:
    """One way to run a network. Only `call` is timed.

    Attributes:
        call: from what `prepare` returns to what `finish` takes.
        prepare: makes of uint8 images `(B, 1, R, R)` on the device what `call` takes.
        finish: makes probabilities `(B, K)` of what `call` returns.
    """

    call: Callable[[Any], Any]
    prepare: Callable[[Tensor], Any] = lambda images: images
    finish: Callable[[Any], Tensor] = lambda answers: answers


def subject(name: str) -> Classifier:
    """Return a model in evaluation mode: its default weights, or random ones that tell faces apart.

    A fresh network answers 1/7 to everything and its batch norms do nothing, so that a wrong
    answer would look like a right one. So its norms get random values, and its head is scaled to
    logits with a mean of 0 and a standard deviation of 0.5.
    """
    if name in fer_zoo.list_models(trained=True):
        return fer_zoo.create(name, weights="default")
    torch.manual_seed(0)
    model = fer_zoo.create(name)
    views = torch.cat(pictures(11, 40)) / 255
    for network in getattr(model, "members", [model]):
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
            norm.momentum = 1.0  # the statistics become those of the one batch below
        head = network.get_classifier()
        with torch.no_grad():
            network.train()(views)
            head.weight /= 2 * network.eval()(views).std(0).mean()
            head.bias -= network(views).mean(0)
        for norm in norms:
            norm.momentum = 0.1
    model.labels = fer_zoo.labels.FER2013[: model.num_classes]
    return model.eval()


def pictures(batch_size: int, side: int = 48) -> list[Tensor]:
    """Return several random batches of smooth pictures, on which networks disagree more than noise.

    At least three, and together at least 32 pictures, uint8 `(batch_size, 1, side, side)`.
    """
    rng = torch.Generator().manual_seed(0)
    count = max(3, math.ceil(32 / batch_size))
    coarse = torch.rand(count * batch_size, 1, 6, 6, generator=rng) * 255
    smooth = F.interpolate(coarse, side, mode="bilinear")
    smooth += 20 * torch.randn(smooth.shape, generator=rng)
    return list(smooth.clamp(0, 255).byte().split(batch_size))


def parity(truth: Tensor, answers: Tensor, limit: float) -> dict[str, Any]:
    """Return the fields of a row that say whether `answers` are right.

    They are where no probability is off by more than `limit` and no face has another winner than
    in `truth`, unless it won there by less than `limit`.

    Example:
        >>> parity(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.4, 0.6]]), 0.1)["reason"]
        'probabilities differ by 0.5 (allowed 0.1), 0.0 % equal winners'
    """
    if answers.shape != truth.shape:
        return {
            "status": "failed",
            "reason": f"answers {tuple(answers.shape)} instead of {tuple(truth.shape)}",
        }
    gap = float((answers - truth).abs().max())
    gap = gap if math.isfinite(gap) else math.inf
    same = answers.argmax(1) == truth.argmax(1)
    first, second = truth.topk(2).values.unbind(1)
    agreement = float(same.double().mean())
    row = {
        "status": "ok",
        "max_difference": float(f"{gap:.2g}"),
        "agreement": round(agreement, 4),
        "faces_compared": len(truth),
    }
    if gap > limit or bool((~same & (first - second > limit)).any()):
        row["status"] = "failed"
        row["reason"] = f"probabilities differ by {gap:.2g} (allowed {limit:g}), "
        row["reason"] += f"{100 * agreement:.1f} % equal winners"
    return row


def allowed(dtype: torch.dtype, device: torch.device) -> float:
    """Return the largest difference in probability that is no error.

    Convolutions on a GPU multiply in TF32 unless told otherwise, in the baselines too.
    """
    if dtype != torch.float32:
        return 0.05
    return 0.01 if device.type == "cuda" else 1e-4


def seconds_of(call: Callable[[Any], Any], x: Any, device: torch.device) -> float:
    """Return how long one call takes: by CUDA events on a GPU, else by the clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        call(x)
        return time.perf_counter() - start
    torch.cuda.synchronize(device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call(x)
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def take_turns(
    runners: dict[Any, Runner],
    batches: list[Tensor],
    device: torch.device,
    *,
    repeats: int,
    budget: float,
) -> tuple[dict[Any, list[float]], dict[Any, Exception]]:
    """Time all runners in turns, in a new order each round, on the same batch in each round.

    It ends after `repeats` rounds and a second per runner, or when `budget` seconds per runner are
    used up, but not before the fifth round.

    Returns:
        The seconds of each round by runner, and what those that broke down raised instead.
    """
    rng, start, broken = random.Random(0), time.perf_counter(), {}
    inputs = {key: [runner.prepare(b) for b in batches] for key, runner in runners.items()}
    times: dict[Any, list[float]] = {key: [] for key in runners}
    rounds = 0
    bar = tqdm(total=repeats, desc="rounds", leave=False, disable=None)
    with bar:
        while times:
            for key in rng.sample(list(times), len(times)):
                call, x = runners[key].call, inputs[key][rounds % len(batches)]
                try:
                    if not times[key] or times[key][-1] < QUICK:
                        call(x)
                    times[key].append(seconds_of(call, x, device))
                except Exception as error:
                    broken[key] = error
                    del times[key]
            rounds += 1
            bar.update()
            each = (time.perf_counter() - start) / len(runners)
            if rounds >= repeats and each >= min(ENOUGH, budget):
                break
            if rounds >= min(FEWEST, repeats) and each >= budget:
                break
    return times, broken
