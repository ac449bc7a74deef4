"""Which faces a part of a data set holds: indices as people write them, and fair halves."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo.errors import ArgumentError, OutOfRangeError

log = logging.getLogger("fer_zoo.data")
TRIES = 10  # orders of the groups


def places(indices: Any, n: int) -> Tensor:
    """Return which of `n` faces are meant, int64 `(M,)`: a slice, a mask, or indices."""
    if isinstance(indices, slice):
        try:
            return torch.arange(n)[torch.tensor(range(n)[indices], dtype=torch.long)]
        except TypeError:
            raise ArgumentError(f"a slice is of whole numbers, got {indices!r:.80}") from None
    if names_its_rows(indices):
        raise ArgumentError(
            "a column of pandas whose rows are named, or were sorted or shuffled since: faces are "
            "chosen by place, so put it in their order and pass column.to_numpy()"
        )
    indices = np.array(indices) if hasattr(indices, "iloc") else indices
    if np.ma.is_masked(indices):
        raise ArgumentError(
            f"some of {len(indices):,} indices are masked: pass "
            "indices.compressed() for the others, or of a mask indices.filled(False)"
        )
    if isinstance(indices, list | tuple) and len({*map(_is_bool, indices)}) > 1:
        raise ArgumentError(
            f"bools and numbers together choose no faces: pass either, got {indices!r:.80}"
        )
    try:
        found = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError):
        found = torch.tensor(0.5)
    if found.ndim == 1 and not len(found):
        return torch.empty(0, dtype=torch.long)
    if found.ndim != 1 or found.is_floating_point() or found.is_complex():
        raise ArgumentError(
            "faces are chosen by whole numbers, a slice, or a mask of one bool for each face, "
            f"got {indices!r:.80}"
        )
    if found.dtype == torch.bool:
        if len(found) != n:
            raise ArgumentError(f"a mask of {len(found):,} bools for {n:,} faces: one for each")
        return found.nonzero()[:, 0].cpu()
    found = found.long().cpu()
    if len(found) == n > 8 and bool(((found == 0) | (found == 1)).all()):
        raise ArgumentError(
            f"{n:,} numbers, all 0 or 1, for {n:,} faces look like a mask, and would be the first "
            "two faces again and again: of a mask pass bools, mask.bool() or mask.astype(bool)"
        )
    wrong = found[(found < -n) | (found >= n)]
    if len(wrong):
        raise OutOfRangeError(f"there is no face {int(wrong[0])}: there are {n:,}, from 0")
    return found % n


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool


def names_its_rows(values: Any) -> bool:
    """Whether it is a table of pandas, or a column of one that has a name for each row.

    Their order is another thing than that of the faces: a column by file would be taken by place.
    """
    rows: Any = getattr(values, "index", None)
    if not hasattr(values, "iloc") or not hasattr(rows, "tolist"):
        return False
    names = rows.tolist()
    if hasattr(values, "columns") or any(isinstance(name, str | tuple) for name in names):
        return True
    return any(not a < b for a, b in pairwise(names))  # sorted, shuffled or put together since


def group_ids(groups: Any, n: int) -> tuple[str, ...]:
    """Return one id for each of `n` faces as text, or say what is wrong with them."""
    odd = isinstance(groups, str | Mapping | set | frozenset)  # a mapping by file would be its keys
    if odd or names_its_rows(groups) or not hasattr(groups, "__iter__"):
        raise ArgumentError(f"groups are one id for each face, got {groups!r:.80}")
    listed = groups.tolist() if hasattr(groups, "tolist") else list(groups)
    listed = [i.item() if isinstance(i, np.generic) else i for i in listed]
    if len(listed) != n or not all(isinstance(i, str | int) for i in listed):
        kinds = sorted({type(i).__name__ for i in listed})
        raise ArgumentError(
            f"groups are one id for each of {n:,} faces, text or whole numbers, got "
            f"{len(listed):,} of {kinds}"
        )
    return tuple(map(str, listed))


def tell_shared(parts: Iterable[tuple[str, Iterable[str]]]) -> None:
    """Tell of groups that two data sets, each with its title, name alike: each is kept apart."""
    known: dict[str, str] = {}
    for title, groups in parts:
        for group in sorted({*groups}):
            if (other := known.setdefault(group, title)) != title:
                return _tell_two(other, title, group)


@cache
def _tell_two(one: str, other: str, group: str) -> None:
    """Tell it once, as data sets are joined in every call."""
    log.warning(
        "%s and %s both have a group %r, and they are taken for two persons; if they are one, pass "
        "groups= for the whole", one, other, group
    )  # fmt: skip


def part_of(
    targets: Tensor, share: float, seed: int, groups: Sequence[str] | None, classes: int
) -> Tensor:
    """Return which faces are in the smaller part, bool `(N,)`."""
    if isinstance(share, bool) or not isinstance(share, float | int) or not 0 < share < 1:
        raise ArgumentError(f"share is a number between 0 and 1, such as 0.2, got {share!r:.80}")
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ArgumentError(f"seed is a whole number from 0, got {seed!r:.80}")
    if len(targets) < 2:
        raise ArgumentError(f"{len(targets)} faces cannot be split: two are needed")
    rng = torch.Generator().manual_seed(seed)
    if groups is not None and len({*groups}) < len(groups):
        return _whole_groups(targets, share, rng, groups, classes)
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for k in range(classes):
        own = (targets == k).nonzero()[:, 0]
        count = min(max(round(share * len(own)), 1), len(own) - 1)  # a single face stays
        chosen[own[torch.randperm(len(own), generator=rng)[: max(count, 0)]]] = True
    if not chosen.any():  # one face of each class
        chosen[torch.randperm(len(targets), generator=rng)[: round(share * len(targets)) or 1]] = 1
    return chosen


def _whole_groups(
    targets: Tensor, share: float, rng: torch.Generator, groups: Sequence[str], classes: int
) -> Tensor:
    """Take groups in random order, each if it brings the classes nearer; the best of some tries."""
    numbers = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    if len(numbers) < 2:
        raise ArgumentError(f"all faces are of the group {groups[0]!r}: it cannot be split")
    member = np.array([numbers[name] for name in groups])
    table = np.zeros((len(numbers), classes))
    np.add.at(table, (member, targets.numpy()), 1)
    wanted, scale = share * table.sum(0), 1 / table.sum(0).clip(1)

    def distance(left: np.ndarray) -> float:
        return float(scale @ left**2)  # as chi-squared has it

    def attempt() -> tuple[float, np.ndarray]:
        left, taken = wanted.copy(), np.zeros(len(numbers), bool)
        order = torch.randperm(len(numbers), generator=rng).tolist()
        for i in order[:-1]:  # one is left over for the rest
            if distance(left - table[i]) < distance(left):
                left, taken[i] = left - table[i], True
        if not taken.any():
            taken[order[0]], left = True, left - table[order[0]]
        return distance(left), taken

    _, taken = min((attempt() for _ in range(TRIES)), key=lambda pair: pair[0])
    return torch.from_numpy(taken[member])
