"""Class names and the mapping between their orders.

An index means nothing without the labels it belongs to: FER2013's csv files, its image folders
and FER+ each number the same expressions differently. So labels travel with weights, and two
heads are only ever compared by name.

Sources: Goodfellow et al. 2013 (arXiv 1307.0414) for FER2013, Barsoum et al. 2016
(arXiv 1608.01041) for FER+.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fer_zoo.errors import LabelError

FER2013: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The order of FER2013's csv files, where class 0 is angry and class 6 neutral."""

FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""The order of FER+'s vote columns, without its `unknown` and `NF` (no face)."""

_SPELLINGS = {
    "angry": """anger angered mad rage wut wütend zorn zornig ärger verärgert colère fâché enojo
        enojado enfado enfadado ira rabbia arrabbiato raiva zangado гнев злость злой öfke kizgin
        marah 愤怒 憤怒 生气 生氣 怒り 怒 분노 화남""",
    "disgust": """disgusted disgusting digust ekel angeekelt dégoût dégoûté asco asqueado disgusto
        disgustato nojo отвращение iğrenme tiksinti jijik 厌恶 厭惡 恶心 噁心 嫌悪 혐오""",
    "fear": """fearful fearfull afraid scared angst ängstlich furcht peur apeuré miedo asustado
        paura impaurito medo страх испуг korku takut 恐惧 恐懼 害怕 恐れ 恐怖 공포 두려움""",
    "happy": """happiness happyness joy joyful freude fröhlich glücklich joie heureux bonheur
        alegría alegre felicidad feliz felicità felice gioia felicidade радость счастье mutlu
        mutluluk bahagia senang 高兴 高興 开心 開心 快乐 快樂 喜び 幸福 기쁨 행복""",
    "sad": """sadness traurig trauer traurigkeit triste tristesse tristeza tristezza грусть
        печаль üzgün üzüntü sedih 悲伤 悲傷 伤心 傷心 难过 難過 悲しみ 슬픔""",
    "surprise": """surprised suprise suprised surprize überrascht überraschung surpris étonné
        étonnement sorpresa sorprendido sorpreso surpresa surpreso удивление şaşkin şaşkinlik
        terkejut kaget 惊讶 驚訝 吃惊 吃驚 驚き 놀람 놀라움""",
    "neutral": """neutrality neutralität neutre neutralité neutrale neutro neutralidad
        neutralidade нейтральное нейтрально нейтральный nötr netral 中性 中立 無表情 无表情 중립
        무표정""",
    "contempt": """contemptuous verachtung mépris desprecio disprezzo desprezo презрение
        küçümseme 蔑视 蔑視 轻蔑 輕蔑 軽蔑 경멸""",
}
"""How data sets, and people in their own languages, write the names of expressions."""


def folded(name: str) -> str:
    """Return a name without what keyboards and file systems lose: accents, composition, case."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("\u0131", "i"))  # Turkish
    return "".join(c for c in letters if not unicodedata.combining(c))


_ALIASES = {folded(word): name for name in _SPELLINGS for word in _SPELLINGS[name].split()}
_ALIASES |= {name: name for name in _SPELLINGS}


def canonical(name: str) -> str:
    """Return the one spelling of an expression's name that fer_zoo compares by.

    What cannot be seen (Unicode's format characters, variation selectors) does not count.

    Example:
        >>> canonical("Happiness"), canonical("Überraschung"), canonical("my own class")
        ('happy', 'surprise', 'my own class')
    """
    seen = "".join(c for c in name if unicodedata.category(c) != "Cf" and not _is_variation(c))
    key = unicodedata.normalize("NFC", seen.strip().lower())
    key = key.rstrip(" .") or key  # which Windows drops
    return _ALIASES.get(folded(key), key)


def is_expression(name: str) -> bool:
    """Whether a name, in any spelling of the table, is that of an expression."""
    return canonical(name) in _SPELLINGS


def _is_variation(letter: str) -> bool:
    """Whether a letter is none, but says how the one before it looks."""
    return unicodedata.name(letter, "").startswith("VARIATION SELECTOR")


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
    if isinstance(names, Mapping):
        by_index = all(str(key).isdigit() for key in names)
        how = "[labels[i] for i in sorted(labels, key=int)]"
        how = how if by_index else "sorted(labels, key=labels.get)"
        raise LabelError(
            f"labels are names in the order of the classes, got a mapping {names!r:.80}: of "
            f"{'names by index' if by_index else 'indices by name'} pass {how}"
        )
    if isinstance(names, set | frozenset):
        raise LabelError(
            f"a set has no order, and labels are by index: pass a list, got {names!r:.80}"
        )
    # numpy's text and an Enum's are text, but show themselves otherwise: `Emotion.HAPPY`.
    labels = tuple(str.__str__(name) if isinstance(name, str) else name for name in names)
    if not labels or not all(isinstance(n, str) and canonical(n) for n in labels):
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


def names_to_ignore(ignore: Iterable[str]) -> list[str]:
    """Return the classes to leave out, one or several, as a list."""
    if isinstance(ignore, str):
        return [ignore]
    if not isinstance(ignore, Iterable):
        raise LabelError(f"ignore is the names of classes to leave out, got {ignore!r:.80}")
    return [*ignore]


def made_of(labels: Mapping[str, Iterable[str]] | None) -> dict[str, tuple[str, ...]]:
    """Return coarser classes, each with its names, which may be an iterator, to be read again."""
    if labels is not None and not isinstance(labels, Mapping):
        raise LabelError(
            f"labels map new classes to those they are made of, {{'good': ['happy']}}, got "
            f"{labels!r:.80}"
        )
    if odd := [name for name in labels or () if not isinstance(name, str)]:
        raise LabelError(f"classes are called by names, got {odd}")
    return {name: check_labels(names) for name, names in (labels or {}).items()}


def regroup(
    source: Sequence[str],
    labels: Mapping[str, Sequence[str]] | None = None,
    ignore: Iterable[str] = (),
    *,
    others: Sequence[str] = (),
) -> dict[str, list[str]]:
    """Return the classes that `source` becomes, each with the names of `source` it is made of.

    Those of `labels` come first, and may be made of none. What no one of them has stays a class of
    its own.

    Args:
        source: the names that there are.
        labels: coarser classes, each with its names.
        ignore: names to leave out.
        others: names that `labels` and `ignore` may hold, too.

    Raises:
        LabelError: a name that is nowhere, or twice, or all are left out.

    Example:
        >>> regroup(["sad", "happy", "contempt"], {"low": ["sadness"]}, ["contempt"])
        {'low': ['sad'], 'happy': ['happy']}
    """
    groups, left_out = made_of(labels), names_to_ignore(ignore)
    named = [name for names in groups.values() for name in names] + left_out
    places = Counter(map(canonical, named))
    if odd := next((key for key, n in places.items() if n > 1), None):
        same = [name for name in named if canonical(name) == odd]
        raise LabelError(f"{same} name the same class, which is merged or left out once")
    known = {canonical(name) for name in (*source, *others)}
    if unknown := [name for name in named if canonical(name) not in known]:
        raise LabelError(f"{unknown} are none of the classes {tuple(source)}")
    owner = {canonical(name): name for name in groups}
    owner |= {canonical(n): name for name, names in groups.items() for n in names}
    made: dict[str, list[str]] = {name: [] for name in groups}
    for name in source:
        if canonical(name) not in map(canonical, left_out):
            made.setdefault(owner.get(canonical(name), name), []).append(name)
    if not any(made.values()):
        raise LabelError(f"all of {tuple(source)} are left out")
    check_labels([*made])
    return made


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
    if isinstance(target, Mapping):
        groups = made_of(target)
    else:
        groups = {name: (name,) for name in check_labels(target)}
    check_labels([*groups])
    parts = [name for names in groups.values() for name in names]
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
