"""Whether folders are classes, by their names and by what is in them: refused, told, or taken."""

import difflib
import os
import re
from collections import Counter
from pathlib import Path

from fer_zoo.data.files import as_label, listed, log
from fer_zoo.errors import DataError
from fer_zoo.labels import FER2013, FERPLUS, canonical, folded

KNOWN = {*FER2013, *FERPLUS}
SPLIT = re.compile(
    r"(fer|ferplus|x)?(train|training|valid|validation|val|(public|private)?test|testing|dev|eval|"
    r"evaluation|holdout|validate|trn|tst)(set|data|class|faces|images)?|"
    r"(training|test|validierung)s?daten|entrenamiento|pruebas?|validacion|entrainement|"
    r"apprentissage|addestramento|convalida|treino|treinamento|testes?|validacao|"
    r"(训练|測試|訓練|测试|验证|驗證|検証)(集|数据|數據|データ)?"
)
TO_TRAIN = re.compile("train|trn|entrenam|apprent|addestr|trein|训练|訓練")
TO_VALIDATE = re.compile("val|dev|convalida|验证|驗證|検証")
PERSON = re.compile(
    r"(s|p|id|sub|subj|subjects?|persons?|people|participants?|probands?|user|actor|model|speaker|"
    r"identity|[ab][fm])[\W_]*\d+"
)
"""What data sets call the folders of persons: `S005`, `subject01`, KDEF's `AF01`."""
FOLD = re.compile(r"(k?fold|split|subset)s?")
"""Parts that together are one set, so that a class may hold several."""
NO_CLASS = re.compile(
    r"(un|not)(labell?ed|sorted|used|annotated|tagged)|augment(ed|ations?)?|aug|raw|originals?|"
    r"backup|trash|deleted|misc|others?|todo|new|tmp|temp|images?|faces?|all|data|tosort|rejects?|"
    r"datasets?|plots?|figures?|docs|assets|demo|rejected|duplicates?|dupes?|"
    r"crop(s|ped)?|aligned|resized|thumbnails?|masks?|labels?|annotations?|logs|runs|lightninglogs|"
    r"mlruns|checkpoints?|outputs?|results?|predictions?|"
    r"frames|videos?|screenshots?|samples?|previews?|discard(s|ed)?|removed|excluded?|ignored?|"
    r"skip(ped)?|archived?|blur|blurry|blurred|low(quality|res|resolution)|ambiguous|unclear|"
    r"unsure|undefined|invalid|corrupt(ed)?|broken|failed|errors?|garbage|junk|(to)?review|pending|"
    r"my|src|mix(ed)?|(to)?delete|maybe|unusable|useless|background|notaface|"
    r"none|unknown|uncertain|non?face|nf|"  # FER+ and AffectNet have these beside expressions
    r"newfolder|untitledfolder|neuerordner|nouveaudossier|nuevacarpeta|nuovacartella"
)
"""What people and programs call folders beside those of classes."""
SORTED_OUT = re.compile(rf"{NO_CLASS.pattern}|bad|wrong|old|not.+")
"""What people call a folder in that of a class, for what they take out of it."""
COPY = re.compile(
    r"(copy of )?(?P<name>.+?)(( *-)? *\b(copy|kopie|copie|copia)( *\d+)?)?( *\(\d+\))?",
    re.IGNORECASE,
)
"""What systems call the copy of a folder."""
NOT = {"not", "no", "non", "none", "nicht", "kein", "pas", "sin", "sans"}
Paths = list[tuple[str, ...]]


def check_layout(base: Path, names: dict[str, str], files: Paths) -> None:
    """Raise where the folders of `base` are splits, persons or mixed; tell where they may be.

    Args:
        base: what was given.
        names: its folders, and what they are called.
        files: where the images are, as parts of their paths.
    """
    files = [*{parts[:-1]: parts for parts in files}.values()]  # one of each folder
    _check_both(base, names)
    _check_splits(base, names, files)
    _check_inside(base, names, files)
    _check_nested(base, names, files)
    _tell_odd(base, names, files)
    _check_above(base, names, files)


def how_to_train(base: Path) -> str:
    """Return the options that train on the splits that a folder holds; nothing where none does."""
    splits = [p.name for p in listed(base) if os.path.isdir(p) and _named(SPLIT, p.name)]
    train = next((name for name in splits if TO_TRAIN.search(folded(name))), "")
    others = [name for name in splits if not TO_TRAIN.search(folded(name))]
    others.sort(key=lambda name: TO_VALIDATE.search(folded(name)) is None)
    held = repr(str(base / others[0])) if others else "0.2"
    return train and f"--data {str(base / train)!r} --validation {held}"


def _named(pattern: re.Pattern[str], name: str) -> bool:
    """Whether a name is one of a pattern's, or made of such and of others that are no classes'."""
    words = re.findall(r"[^\W\d_]+", folded(name))
    known = [word for word in words if pattern.fullmatch(word)]
    return pattern.fullmatch("".join(words)) is not None or (
        bool(known)
        and all(word in known or NO_CLASS.fullmatch(word) or FOLD.fullmatch(word) for word in words)
    )


def _is_split(name: str) -> bool:
    return _named(SPLIT, name) or _named(FOLD, name)


def _inner(parts: tuple[str, ...]) -> list[str]:
    """Return what the folders between a class's and a file are called, as classes are compared."""
    return [canonical(as_label(part)) for part in parts[1:-1]]


def _check_both(base: Path, names: dict[str, str]) -> None:
    """Raise where folders are called by a split and a class, as in `happy_train`."""
    both = []
    for name in names:
        words = re.findall(r"[^\W\d_]+", folded(name))
        rest = [word for word in words if not SPLIT.fullmatch(word)]
        if len(rest) < len(words) and canonical("".join(rest)) in KNOWN:
            both.append(name)
    if len(both) > 1:
        raise DataError(
            f"{base} holds splits and classes in one name, {both[:3]}: let the classes be in the "
            f"splits, such as {str(base / 'train' / 'happy')!r}, and pass one"
        )


def _check_splits(base: Path, names: dict[str, str], files: Paths) -> None:
    """Raise where all folders are splits, or those that are hold folders."""
    splits = [name for name in names if _is_split(name)]
    direct = {parts[0] for parts in files if len(parts) == 2}
    deep = {parts[0] for parts in files} - direct
    if splits and (len(splits) == len(names) or {*splits} <= deep):
        training = how_to_train(base)
        advice = f"pass one, {str(base / splits[0])!r}{training and f' (to train, {training})'}"
        held = {parts[1] for parts in files if len(parts) > 2 and parts[0] in splits}
        if all(_named(NO_CLASS, name) for name in held):
            advice = "each class needs a folder of its own in them"
        raise DataError(f"{base} holds splits, {sorted(splits)[:3]}, not classes: {advice}")


def _check_inside(base: Path, names: dict[str, str], files: Paths) -> None:
    """Raise where classes hold several splits, which would be merged; tell where they may.

    Tell, too, of what is in a class's folder and was probably taken out of it.
    """
    inside = {part for parts in files for part in parts[1:-1] if _named(SPLIT, part)}
    if len(inside) > 1:
        one = next(parts for parts in files if inside & {*parts[1:-1]})
        split = next(part for part in one[1:] if part in inside)
        below = one[one.index(split, 1) + 1 : -1]
        known = any(canonical(as_label(part)) in KNOWN for part in below)
        if canonical(names[one[0]]) not in KNOWN and (known or len(names) == 1):
            place = base.joinpath(*one[: one.index(split, 1) + 1])
            advice = f"pass one, {str(place)!r}"
            raise DataError(
                f"{place.parent} holds splits, {sorted(inside)[:3]}, not classes: "
                f"{advice if below else 'each class needs a folder of its own in them'}"
            )
        raise DataError(
            f"{base} holds splits in its classes, {sorted(inside)[:3]}, which would be one set: "
            f"let the classes be in them, {str(base / split / one[0])!r}, and pass one, "
            f"{str(base / split)!r}"
        )
    if inside and any(not inside & {*parts[1:-1]} for parts in files):
        log.warning(
            "%s: the faces in %s are taken with those beside; if they are a split, move them out",
            base, sorted(inside)[0]
        )  # fmt: skip
    odd = {
        parts: next((part for part in parts[1:-1] if _named(SORTED_OUT, part)), "")
        for parts in files
    }
    kinds = {(parts[0], re.sub(r"[\W\d_]", "", part)) for parts, part in odd.items()}
    several = Counter(own for own, _ in kinds)
    found = [parts for parts, part in odd.items() if part and several[parts[0]] > 1]
    if told := [str(base.joinpath(*parts[:-1])) for parts in found]:
        log.warning(
            "%s: what is below a class's folder is of that class, in %s too; move it out of the "
            "classes if it is not", base, sorted(told)[:5]
        )  # fmt: skip


def _check_nested(base: Path, names: dict[str, str], files: Paths) -> None:
    """Raise where an expression's folder holds another one that is a class, too; tell of others."""
    classes = {canonical(label) for label in names.values()}
    told = set[str]()
    for parts in files:
        own = canonical(names[parts[0]])
        other = next((name for name in _inner(parts) if name in KNOWN and name != own), None)
        if own not in KNOWN or other is None:
            continue
        where = str(base.joinpath(*parts[:-1]))
        if other in classes:
            raise DataError(
                f"{where!r} is in the folder of {own}, and {other} is another class: move it there "
                "or elsewhere, its faces would be of the outer one"
            )
        told.add(where)
    if told:
        log.warning(
            "%s: what is below a class's folder is of that class, in %s too; move it if it is not",
            base, sorted(told)[:5]
        )  # fmt: skip


def _tell_odd(base: Path, names: dict[str, str], files: Paths) -> None:
    """Tell of folders that are probably no classes; raise where the only one is none."""
    classes = {canonical(label) for label in names.values()}
    holding = {parts[0] for parts in files if classes & {*_inner(parts)}}
    held = {parts[0] for parts in files}
    kinds = {name: _kind_of(label, len(names) < 4) for name, label in names.items()}
    several = [kind for kind, n in Counter(kinds.values()).items() if kind and n > 1]
    odd_kinds = several if len(several) == 1 else []  # of several it is how they were made
    if (
        len(held) == 1
        and len(min(files, key=len)) == 2
        and all(_named(NO_CLASS, name) for name in names)
    ):
        raise DataError(
            f"{base} holds {sorted(names)[:3]}, not classes: each class needs a folder of its own, "
            f"such as {str(base / 'happy')!r}"
        )
    odd = [
        name
        for name, label in names.items()
        if canonical(label) not in KNOWN
        and (
            name in holding
            or _is_split(name)
            or _named(NO_CLASS, name)
            or PERSON.fullmatch(folded(name))
            or _is_copy(label, classes)
            or kinds[name] in odd_kinds
            or len(names) == 1
        )
    ]
    if odd:
        log.warning(
            "%s: taken for classes are %s%s; move them out of it if they are none",
            base, odd[:5], ", too" * (len(odd) < len(names))
        )  # fmt: skip


def _kind_of(label: str, few: bool) -> str:
    """Return the one expression that is in a name, if misspelt, or the number that it is.

    Among few folders an opposite, `not_happy`, is a class.
    """
    words = re.findall(r"[^\W\d_]+", folded(label))
    if not words:
        return str(int(label)) if label.isdecimal() else ""
    found = {canonical(word) for word in words} & KNOWN
    found |= {n for word in words for n in difflib.get_close_matches(word, KNOWN, 1, 0.81)}
    opposite = few and (NOT.intersection(words) or words[0].startswith("un"))
    mixed = len(found) > 1 or any(word.endswith("ly") for word in words)  # happily surprised
    return "" if opposite or mixed or not found else found.pop()


def _is_copy(label: str, classes: set[str]) -> bool:
    """Whether a folder is called as the copy of a class's is: `happy - Copy`, `happy (1)`."""
    found = COPY.fullmatch(label)
    return found is not None and found["name"] != label and canonical(found["name"]) in classes


def _check_above(base: Path, names: dict[str, str], files: Paths) -> None:
    """Raise where expressions are below what would be classes; tell where others may be."""
    if {canonical(label) for label in names.values()} & KNOWN:
        return
    below = {as_label(parts[1]) for parts in files if len(parts) > 2}
    first = next((name for name in names if any(len(p) > 2 and p[0] == name for p in files)), "")
    one = base / first
    for parts in files:
        if known := next((i for i, name in enumerate(_inner(parts), 1) if name in KNOWN), 0):
            one = base.joinpath(*parts[:known])
            below = {as_label(p[known]) for p in files if len(p) > known + 1}
            break
    else:
        if not below or any(len(parts) == 2 for parts in files):
            return
        if len(names) > 1:
            log.warning(
                "%s: each of its folders holds folders, and they are the classes: %s; if they are "
                "persons or splits, pass one, %r", base, sorted(names.values())[:3], str(one)
            )  # fmt: skip
            return
    raise DataError(
        f"{base} holds folders of classes, {sorted(below)[:3]}: pass one, {str(one)!r}, or let the "
        f"classes be above: {str(base / min(below) / one.relative_to(base))!r}"
    )
