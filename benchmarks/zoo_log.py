"""What `benchmarks/train_zoo.py` says of its runs: expectations, figures, Markdown."""

import statistics
from typing import Any

import torch
from harness import markdown
from torch import Tensor
from zoo_plan import Job

from fer_zoo.data import FaceDataset
from fer_zoo.fusion import Average
from fer_zoo.weights.checkpoint import read_checkpoint


def training_log(zoo: Any) -> str:
    """Return what was expected and what came out, as Markdown."""
    parts, count = ["# Training log"], 0
    for name, stage in zoo.stages.items():
        jobs = [job for job in zoo.jobs(name) if job.result]
        if not jobs:
            continue
        count += len(jobs)
        changes = ", ".join(f"{k} = {v}" for k, v in stage.changes.items())
        what = f"recipe `{stage.recipe}`{' with ' + changes if changes else ''}"
        what += f", taught by {', '.join(stage.teacher)}" if stage.teacher else ""
        rows = []
        for job in jobs:
            found = job.result or {}
            epochs = f"{found['epochs']} ({found['best_epoch']})"
            minutes = str(found["minutes"])
            rows.append([job.model, str(job.seed), epochs, minutes, *percent(accuracies(job))])
        for model in stage.models:
            own = [accuracies(job) for job in jobs if job.model == model]
            if len(own) > 1:
                for what_of, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
                    cells = percent([of(view) for view in zip(*own, strict=True)])
                    rows.append([f"{model}, {what_of} of seeds", "", "", "", *cells])
        if len(jobs) > 1:
            rows.append([f"all {len(jobs)}, averaged", "", "", "", *percent(together(zoo, jobs))])
        head = [
            "network",
            "seed",
            "epochs (best)",
            "minutes",
            "one view %",
            "two views %",
            "ten views %",
        ]
        parts += [f"## {name}", f"{what}. Expected: {stage.expected}.", markdown(head, rows)]
    parts += [f"{count} runs were compared on PublicTest, which also chose each one's epoch."]
    return "\n\n".join(parts) + "\n"


def together(zoo: Any, jobs: list[Job]) -> list[float]:
    """Return the accuracy of the mean of some runs' probabilities, by preset."""
    public = zoo.faces(jobs[0].stage.data, "public")
    stored = [read_checkpoint(job.folder / "scores.safetensors") for job in jobs]
    labels = stored[0][1]["labels"]
    average = Average(len(jobs), len(labels))
    return [
        accuracy(average(torch.cat([tensors[preset] for tensors, _ in stored])), public, labels)
        for preset in stored[0][0]
    ]


def accuracies(job: Job) -> list[float]:
    """Return the accuracy of a finished run by preset, the most views last."""
    return list((job.result or {})["accuracy"].values())


def accuracy(scores: Tensor, public: FaceDataset, labels: Any) -> float:
    """Return the share of faces that scores `(N, K)` label right, from 0 to 1."""
    return float((scores.argmax(1) == public.targets_for(labels)).float().mean())


def percent(values: list[float]) -> list[str]:
    """Return a cell for one view, two and ten; a preset without others has those empty."""
    return [*(f"{100 * value:.2f}" for value in values), "", ""][:3]
