"""Abstaining and groups: what a threshold would leave out, and whom a model serves worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.figures import FIGURES, interval, p_value, percent

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
"""Shares of the faces that a table of the risk-coverage curve has."""
RESAMPLES, PERMUTATIONS, BINS = 2000, 4999, 15
MEASURED = ("accuracy", "macro_f1", "ece")
GROUPS = """\
Each figure with its 95 % interval (Wilson's; bootstrap over the group's faces), and p of a \
permutation test: 4,999 random groups as large against all other grouped faces, two-sided, \
Holm-corrected for all groups and figures. Groups that differ in their classes differ in accuracy \
for that alone; a large p is no proof that they are served alike."""
Array = np.ndarray[Any, Any]


def risk_coverage(sure: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Return coverage and risk `(N,)`: the share of wrong labels among the surest 1, 2, ..., N.

    The mean of the risk is the area under the curve, AURC (Geifman, Uziel and El-Yaniv 2019, arXiv
    1805.08206). Faces that are equally sure count as in random order.

    Args:
        sure: probability of each label `(N,)`.
        right: whether it is right, bool `(N,)`.

    Example:
        >>> sure, right = torch.tensor([0.9, 0.8, 0.6]), torch.tensor([True, False, True])
        >>> risk_coverage(sure, right)[1]
        tensor([0.0000, 0.5000, 0.3333], dtype=torch.float64)
    """
    _, place, counts = torch.unique(-sure, return_inverse=True, return_counts=True)
    wrong = torch.zeros(len(counts), dtype=torch.float64)
    wrong = wrong.index_add(0, place, (~right).double()) / counts
    numbers = torch.arange(1, len(sure) + 1, dtype=torch.float64)
    return numbers / len(sure), wrong.repeat_interleave(counts).cumsum(0) / numbers


def abstention_table(sure: Tensor, right: Tensor) -> list[tuple[float, float, float]]:
    """Return, for some thresholds, the least probability, the coverage, and the risk at it."""
    falling = sure.sort(descending=True).values
    rows = []
    for share in COVERAGES:
        least = falling[max(1, round(share * len(sure))) - 1]
        given = sure >= least
        wrong = float((given & ~right).sum()) / int(given.sum())
        rows.append((float(least), float(given.double().mean()), wrong))
    return list(dict.fromkeys(rows))


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """How a model does on one group of faces; shares are from 0 to 1.

    `..._p` is of a permutation test of the group against all other grouped faces: how often a group
    of faces drawn at random (4,999 times) differs from the rest as much or more, two-sided,
    multiplied by Holm's method for all groups and all three figures. None for a single group.

    Attributes:
        classes: how many classes it has faces of; `macro_f1` is their mean F1.
        interval: 95 % Wilson interval of the accuracy.
        macro_f1_interval: 95 % percentile interval over 2,000 bootstrap resamples of its faces.
        ece: expected calibration error, 15 bins; smaller groups have larger ones by chance.
        ece_interval: 95 % basic bootstrap interval, which takes off most of that bias; from 0 where
            as large an error is chance in 2.5 % of draws from a calibrated model or more.

    Example:
        >>> GroupScore(name="young", n=200, classes=7, accuracy=0.7, interval=(0.63, 0.76),
        ...            macro_f1=0.66, macro_f1_interval=(0.6, 0.72), ece=0.05,
        ...            ece_interval=(0.0, 0.08)).name
        'young'
    """

    name: str
    n: int
    classes: int
    accuracy: float
    interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    ece: float
    ece_interval: tuple[float, float]
    accuracy_p: float | None = None
    macro_f1_p: float | None = None
    ece_p: float | None = None


def group_scores(
    scores: Tensor, targets: Tensor, groups: Sequence[str | None]
) -> tuple[GroupScore, ...]:
    """Return each group's figures, in the order of the names, and the tests of their differences.

    Args:
        scores: calibrated, `(N, K)`.
        targets: `(N,)`.
        groups: of each face; None or empty for one that belongs to none, which does not count.

    Raises:
        ArgumentError: no face has a group, or more than 50 groups: those are persons.

    Example:
        >>> scores = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1]] * 9
        >>> one, other = group_scores(scores, torch.tensor([0, 1, 1, 1]), ["a", "a", "b", "b"])
        >>> other.accuracy, other.accuracy_p
        (0.5, 1.0)
    """
    from scipy.stats import binomtest

    names = sorted({name for name in groups if name})
    if not 0 < len(names) <= 50:
        raise ArgumentError(
            f"{len(names)} groups: evaluate takes 1 to 50, as of age or sex; faces of one person "
            "are no group to compare"
        )
    keep = torch.tensor([bool(name) for name in groups])
    owner = np.array([names.index(name) for name in groups if name])
    sure, guesses = scores[keep].double().softmax(1).max(1)
    truth, classes = targets[keep], scores.shape[1]
    edges = torch.linspace(0, 1, BINS + 1, dtype=sure.dtype)
    bins = (torch.bucketize(sure, edges, right=True) - 1).clamp(0, BINS - 1).numpy()
    surest = sure.numpy()
    gaps = ((guesses == truth).double() - sure).numpy()
    cells = (truth * classes + guesses).numpy()

    def sums(owners: Array, faces: Array, count: int) -> tuple[Array, Array]:
        """Return confusion matrices and the bins' sums of gaps of `count` sets of faces."""
        size = classes * classes
        table = np.bincount((owners * size + cells[faces]).ravel(), minlength=count * size)
        where = (owners * BINS + bins[faces]).ravel()
        gap = np.bincount(where, weights=gaps[faces].ravel(), minlength=count * BINS)
        return table.reshape(count, classes, classes), gap.reshape(count, BINS)

    own = sums(owner, np.arange(len(owner)), len(names))
    figures, found = _figures(*own), []
    rng = np.random.default_rng(0)
    tests = _holm(_permuted(sums, own, owner, rng)) if len(names) > 1 else None
    for k, name in enumerate(names):
        mine = np.flatnonzero(owner == k)
        parts, fair = [], []
        for start in range(0, RESAMPLES, 100):
            several = np.arange(min(100, RESAMPLES - start))[:, None]
            drawn = rng.choice(mine, (len(several), len(mine)))
            parts.append(_figures(*sums(several, drawn, len(several))))
            gap = (rng.random(drawn.shape) < surest[mine]) - surest[mine]
            where = (several * BINS + bins[mine]).ravel()
            gap = np.bincount(where, weights=gap.ravel(), minlength=len(several) * BINS)
            fair.append(np.abs(gap.reshape(-1, BINS)).sum(1) / len(mine))
        low, high = np.percentile(np.concatenate(parts), [2.5, 97.5], axis=0)
        right, ece = round(figures[k, 0] * len(mine)), float(figures[k, 2])
        by_chance = ece <= np.percentile(np.concatenate(fair), 97.5)
        least = 0.0 if by_chance else max(0.0, 2 * ece - float(high[2]))
        wilson = binomtest(right, len(mine)).proportion_ci(0.95, method="wilson")
        values: dict[str, Any] = dict(zip(MEASURED, figures[k].tolist(), strict=True))
        if tests is not None:
            values |= {f"{f}_p": float(p) for f, p in zip(MEASURED, tests[k], strict=True)}
        score = GroupScore(
            name=name,
            n=len(mine),
            classes=len(set(truth.numpy()[mine].tolist())),
            interval=(float(wilson.low), float(wilson.high)),
            macro_f1_interval=(float(low[1]), float(high[1])),
            ece_interval=(least, max(0.0, 2 * ece - float(low[2]))),
            **values,
        )
        found.append(score)
    return tuple(found)


def _figures(table: Array, gaps: Array) -> Array:
    """Return accuracy, macro-F1 and ECE `(S, 3)` of confusion matrices `(S, K, K)` and gaps."""
    right, support = np.diagonal(table, axis1=1, axis2=2), table.sum(2)
    n = np.maximum(support.sum(1), 1)
    f1 = 2 * right / np.maximum(support + table.sum(1), 1)
    macro = (f1 * (support > 0)).sum(1) / np.maximum((support > 0).sum(1), 1)
    return np.stack([right.sum(1) / n, macro, np.abs(gaps).sum(1) / n], 1)


def _permuted(sums: Any, own: tuple[Array, Array], owner: Array, rng: Any) -> Array:
    """Return the p-value `(G, 3)` of each group's difference from the rest."""
    table, gaps = own
    count, faces = len(table), np.arange(len(owner))

    def difference(table: Array, gaps: Array) -> Array:
        return _figures(table, gaps) - _figures(own[0].sum(0) - table, own[1].sum(0) - gaps)

    here, drawn = difference(table, gaps), []
    for start in range(0, PERMUTATIONS, 50):
        several = min(50, PERMUTATIONS - start)
        mixed = rng.permuted(np.tile(owner, (several, 1)), axis=1)
        mixed = mixed + count * np.arange(several)[:, None]
        each = sums(mixed, np.tile(faces, (several, 1)), several * count)
        drawn.append(difference(*each).reshape(several, count, 3))
    chance = np.concatenate(drawn)
    middle = chance.mean(0)  # small groups have larger calibration errors
    extreme = np.abs(chance - middle) >= np.abs(here - middle) - 1e-12
    return np.asarray((1 + extreme.sum(0)) / (1 + PERMUTATIONS))


def _holm(p: Array) -> Array:
    """Return p-values adjusted by Holm's method; two groups have one test between them."""
    tested = p[:1] if len(p) == 2 else p
    order = tested.ravel().argsort()
    steps = (tested.size - np.arange(tested.size)) * tested.ravel()[order]
    adjusted = np.empty(tested.size)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return np.broadcast_to(adjusted.reshape(tested.shape), p.shape)


def abstention_rows(table: Sequence[tuple[float, float, float]]) -> list[list[str]]:
    """Return the table of what is labelled, and how much of it wrong, at some thresholds."""
    rows = [["least probability", "labelled %", "of them wrong %"]]
    return rows + [[f"{least:.4f}", percent(share), percent(risk)] for least, share, risk in table]


def group_rows(groups: Sequence[GroupScore]) -> list[list[str]]:
    """Return the table of groups, with intervals and tests."""
    heads = (("accuracy", "interval"), ("macro_f1", "macro_f1_interval"), ("ece", "ece_interval"))
    titles = [title for name, _ in heads for title in (FIGURES[name][0], "p")]
    rows = [["group", "faces", "classes", *titles]]
    for one in groups:
        row = [one.name, f"{one.n:,}", str(one.classes)]
        for name, bounds in heads:
            p = getattr(one, f"{name}_p")
            row.append(f"{percent(getattr(one, name))} ({interval(getattr(one, bounds))})")
            row.append("-" if p is None else p_value(p))
        rows.append(row)
    return rows
