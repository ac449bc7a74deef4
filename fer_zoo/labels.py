"""Class names and the mapping between their orders.

An index means nothing without the labels it belongs to: FER2013's csv files, its image folders
and FER+ each number the same expressions differently. So labels travel with weights, and two
heads are only ever compared by name.

Sources: Goodfellow et al. 2013 (arXiv 1307.0414) for FER2013, Barsoum et al. 2016
(arXiv 1608.01041) for FER+.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fer_zoo.errors import LabelError

FER2013: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of FER2013's csv files, where class 0 is angry and class 6 neutral."""

FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""The order of FER+'s vote columns, without its `unknown` and `NF` (no face)."""

_ALIASES = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "neutrality": "neutral",
    "contemptuous": "contempt",
}


def canonical(name: str) -> str:
    """Return the one spelling of an expression's name that fer_zoo compares by.

    Example:
        >>> canonical("Happiness"), canonical("my own class")
        ('happy', 'my own class')
    """
    key = unicodedata.normalize("NFC", name.strip().lower())
    return _ALIASES.get(key, key)


def check_labels(names: Iterable[str], num_classes: int | None = None) -> tuple[str, ...]:
    """Return `names` as a tuple, or say why they cannot label a head.

    Raises:
        LabelError: they are no names, name one class twice, or are not `num_classes`.

    Example:
        >>> check_labels(["cat", "dog"], num_classes=2)
        ('cat', 'dog')
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise LabelError(f"labels must be a sequence of names, no single string: {names!r:.80}")
    labels = tuple(names)
    if not labels or not all(isinstance(n, str) and n.strip() for n in labels):
        raise LabelError(f"labels must be non-empty names, got {labels!r}")
    seen: dict[str, str] = {}
    for name in labels:
        if (other := seen.setdefault(canonical(name), name)) != name or labels.count(name) > 1:
            raise LabelError(
                f"{other!r} and {name!r} name the same class in {labels!r}: merge them"
            )
    if num_classes is not None and len(labels) != num_classes:
        raise LabelError(f"{num_classes} classes need {num_classes} labels, got {labels!r}")
    return labels


def index_map(source: Sequence[str], target: Sequence[str]) -> list[int]:
    """Return, for each name in `target`, its index in `source`.

    `logits[:, index_map(source, target)]` reorders a head from one order to the other.

    Raises:
        LabelError: the two do not name the same classes (in any order, aliases allowed).

    Example:
        >>> index_map(["sad", "happy"], ["happiness", "sadness"])
        [1, 0]
    """
    a, b = ([canonical(name) for name in check_labels(names)] for names in (source, target))
    if set(a) != set(b) or len(a) != len(b):
        lacking = sorted(set(b) - set(a)), sorted(set(a) - set(b))
        raise LabelError(f"different classes: {source} lacks {lacking[0]}, the other {lacking[1]}")
    return [a.index(name) for name in b]


def align(
    scores: Tensor, source: Sequence[str], target: Sequence[str] | Mapping[str, Sequence[str]]
) -> Tensor:
    """Return scores for one set of labels as scores for another.

    The softmax of the result, `(..., len(target))`, is the probability of each class of `target`,
    given that it is one of them.

    Args:
        scores: logits or log-probabilities `(..., K)`, in the order of `source`.
        source: the labels of the head, e.g. `model.labels`.
        target: names in the order wanted, or coarser classes, each with its names in `source`.

    Raises:
        LabelError: a class of `target` is not in `source`, or one of `source` in two of it.

    Example:
        >>> scores = torch.tensor([0.5, 0.1, 0.4]).log()
        >>> align(scores, ["sad", "angry", "happy"], ["happiness", "sadness"]).softmax(0)
        tensor([0.4444, 0.5556])
        >>> moods = {"good": ["happy"], "bad": ["sad", "angry"]}
        >>> align(scores, ["sad", "angry", "happy"], moods).exp()
        tensor([0.4000, 0.6000])
    """
    if not isinstance(scores, Tensor) or not scores.ndim:
        raise LabelError(f"scores must be a tensor (..., classes), got {scores!r:.80}")
    known = [canonical(name) for name in check_labels(source, scores.shape[-1])]
    check_labels(target)
    groups = target if isinstance(target, Mapping) else {name: [name] for name in target}
    parts = [name for names in groups.values() for name in check_labels(names)]
    if missing := [name for name in parts if canonical(name) not in known]:
        raise LabelError(
            f"{missing} have no counterpart among {tuple(source)}: leave them out, or say which of "
            "these they are made of: {'mine': ['happy', 'surprise'], ...}"
        )
    check_labels(parts)
    columns = []
    for names in groups.values():
        members = scores[..., [known.index(canonical(name)) for name in names]]
        # Not even rounding may change a class that stays as it is.
        columns.append(members.logsumexp(-1) if len(names) > 1 else members[..., 0])
    return torch.stack(columns, -1)
