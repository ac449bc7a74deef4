"""What `benchmarks/train_zoo.py` says of its runs: expectations, figures, Markdown."""

import statistics
from typing import Any

import torch
from torch import Tensor
from zoo_plan import Job

from fer_zoo.data import FaceDataset
from fer_zoo.fusion import Average
from fer_zoo.weights.checkpoint import read_checkpoint


def training_log(zoo: Any) -> str:
    """Return what was expected and what came out, as Markdown."""
    lines, count = ["# Training log", ""], 0
    for name, stage in zoo.stages.items():
        jobs = [job for job in zoo.jobs(name) if job.result]
        if not jobs:
            continue
        changes = ", ".join(f"{k} = {v}" for k, v in stage.changes.items())
        what = f"recipe `{stage.recipe}`{' with ' + changes if changes else ''}"
        what += f", taught by {', '.join(stage.teacher)}" if stage.teacher else ""
        lines += [f"## {name}", "", f"{what}. Expected: {stage.expected}.", ""]
        lines += ["| network | seed | epochs (best) | minutes | one view % | ten views % |"]
        lines += ["|---" * 6 + "|"]
        for job in jobs:
            found, count = job.result or {}, count + 1
            cells = [job.model, job.seed, f"{found['epochs']} ({found['best_epoch']})"]
            cells += [found["minutes"], *percent(found["accuracy"].values())]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        for model in stage.models:
            own = [job.result["accuracy"].values() for job in jobs if job.model == model]
            if len(own) > 1:
                views = list(zip(*own, strict=True))
                for what, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
                    cells = percent([of(view) for view in views])
                    lines.append(f"| {model}, {what} of seeds | | | | {' | '.join(cells)} |")
        if len(jobs) > 1:
            cells = percent(together(zoo, jobs).values())
            lines.append(f"| all {len(jobs)}, averaged | | | | {' | '.join(cells)} |")
        lines.append("")
    lines += [f"{count} runs were compared on PublicTest, which also chose each one's epoch."]
    return "\n".join(lines) + "\n"


def together(zoo: Any, jobs: list[Job]) -> dict[str, float]:
    """Return the accuracy of the mean of some runs' probabilities, by preset."""
    public = zoo.faces(jobs[0].stage.data, "public")
    stored = [read_checkpoint(job.folder / "scores.safetensors") for job in jobs]
    labels = stored[0][1]["labels"]
    found = {}
    for preset in stored[0][0]:
        scores = torch.cat([tensors[preset] for tensors, _ in stored])
        found[preset] = accuracy(Average(len(jobs), len(labels))(scores), public, labels)
    return found


def ten_views(job: Job) -> float:
    """Return the accuracy of a finished run under the most views."""
    return list((job.result or {})["accuracy"].values())[-1]


def accuracy(scores: Tensor, public: FaceDataset, labels: Any) -> float:
    """Return the share of faces that scores `(N, K)` label right, from 0 to 1."""
    return float((scores.argmax(1) == public.targets_for(labels)).float().mean())


def percent(values: Any) -> list[str]:
    """Return one cell for one view and one for ten; a preset without ten views has none."""
    cells = [f"{100 * value:.2f}" for value in values]
    return [*cells, ""] if len(cells) == 1 else cells
