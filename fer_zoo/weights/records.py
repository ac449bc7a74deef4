"""Records: everything that is known of one trained state, beside its bytes."""

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fer_zoo.errors import ArgumentError, LabelError, UnknownNameError, WeightsError
from fer_zoo.evidence import Evidence, Score
from fer_zoo.labels import check_labels
from fer_zoo.plain import from_plain, to_plain
from fer_zoo.registry import Registry
from fer_zoo.weights.reading import read_json

BUNDLED_SOURCE = "bundled"


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """One trained state.

    Attributes:
        model: registry name of the model.
        tag: which training of it, e.g. `fer2013`.
        sha256: of the file, hexadecimal.
        preset: the transform it is valid with.
        evidence: what is known of it; for an ensemble, by fusion, for a network under `""`.
        members: for ensembles, the addresses of the members' weights.
        fusion: for ensembles, the fusion used where none is asked for.
        source: `bundled`, or `hf-hub:org/name`.
        revision: of a repository, the commit, 40 hexadecimal digits.
        size: of the file, in bytes.

    Example:
        >>> record = get_weights("vgg19_025")
        >>> record.address, record.preset, record.scores[0].n
        ('vgg19_025.fer2013', 'fer40_center', 3589)
    """

    model: str
    tag: str
    file: str
    sha256: str
    labels: tuple[str, ...]
    preset: str
    evidence: dict[str, Evidence]
    members: tuple[str, ...] = ()
    fusion: str = ""
    source: str = BUNDLED_SOURCE
    revision: str = ""
    size: int = 0

    def __post_init__(self) -> None:
        bundled = self.source == BUNDLED_SOURCE
        for name, pattern in (
            ("sha256", "[0-9a-f]{64}"),
            ("file", r"[\w+.-]+"),
            ("revision", "" if bundled else "[0-9a-f]{40}"),
        ):
            if not re.fullmatch(pattern, getattr(self, name)):
                raise WeightsError(f"{self.address}: {getattr(self, name)!r} is no {name}")
        if self.fusion not in self.evidence or bool(self.fusion) != bool(self.members):
            raise WeightsError(f"{self.address}: no evidence of its fusion {self.fusion!r}")

    @property
    def bundled(self) -> bool:
        """Whether the file came with the package; others are on the Hub."""
        return self.source == BUNDLED_SOURCE

    @property
    def location(self) -> str:
        """The address of the bytes themselves, their revision and sha256 in it."""
        return (
            str(self.path)
            if self.bundled
            else f"{self.source}@{self.revision}#sha256={self.sha256}"
        )

    @property
    def scores(self) -> tuple[Score, ...]:
        """What was measured, under every fusion."""
        return tuple(score for known in self.evidence.values() for score in known.scores)

    def __repr__(self) -> str:
        best = max(self.scores, key=lambda score: score.accuracy, default=None)
        shown = "" if best is None else f", {100 * best.accuracy:.2f} %"
        if best is not None:
            parts = [best.fusion, best.view_count, str(best.faces)]
            shown += f" ({', '.join(part for part in parts if part)})"
        return f"WeightsRecord({self.address!r}, {len(self.labels)} classes{shown})"

    @property
    def address(self) -> str:
        """`model.tag`, unique among all weights."""
        return f"{self.model}.{self.tag}"

    @property
    def path(self) -> Path:
        """Where the bundled file is."""
        return BUNDLED / self.file

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, as `fer-zoo info --json` prints it."""
        plain: dict[str, Any] = to_plain(self)
        return {"address": self.address} | plain


BUNDLED = Path(str(resources.files("fer_zoo.weights"))) / "bundled"
WEIGHTS: Registry[WeightsRecord] = Registry("set of weights", "fer_zoo.list_weights()")


def read_record(path: Path) -> WeightsRecord:
    """Return the record in the JSON file at `path`."""

    def refuse(reason: str) -> Any:
        raise WeightsError(f"{path}: {reason}")

    try:
        record = from_plain(WeightsRecord, read_json(path.read_text(), refuse), "it")
        check_labels(record.labels)
    except (ArgumentError, LabelError) as error:
        refuse(str(error))
    return record


for _path in sorted(BUNDLED.glob("*.json")):
    _record = read_record(_path)
    WEIGHTS.register(_record.address, _record)


def list_weights(model: str = "*") -> list[str]:
    """Return the addresses (`model.tag`) of all weights of the models that match `model`.

    Example:
        >>> list_weights("resnet18_025")
        ['resnet18_025.fer2013', 'resnet18_025.ferplus']
    """
    return WEIGHTS.names(f"{model}.*")


def get_weights(model: str, tag: str = "default") -> WeightsRecord:
    """Return the record of a model's weights.

    Args:
        model: registry name, or the whole address `model.tag`.
        tag: which of the model's; `default` is the first by name, bundled ones before others.

    Raises:
        WeightsError: the model has no weights.
        UnknownNameError: it has none with that tag.

    Example:
        >>> get_weights("resnet18_025.fer2013").size
        1419230
    """
    if tag == "default" and model in WEIGHTS:
        return WEIGHTS[model]
    found = sorted(
        (r for a in WEIGHTS if (r := WEIGHTS[a]).model == model),
        key=lambda r: (not r.bundled, r.tag),
    )
    if not found:
        trained = sorted({record.model for record in WEIGHTS.values()})
        near = difflib.get_close_matches(str(model), trained, n=1, cutoff=0.3)
        hint = f"the nearest name that has is {near[0]!r}, and " if near else ""
        raise WeightsError(
            f"{model!r} has no trained weights here; {hint}"
            "fer_zoo.list_models(trained=True) lists the models that have"
        )
    if tag == "default":
        return found[0]
    tag = tag.removeprefix(f"{model}.")
    if tag not in [record.tag for record in found]:
        tags = [record.tag for record in found]
        raise UnknownNameError(
            f"{model!r} has no weights {tag!r}, only {tags} and 'default'; a file ends in "
            ".safetensors, a folder begins with ./, a repository with hf-hub:"
        )
    return WEIGHTS[f"{model}.{tag}"]
