"""Records: everything that is known of one trained state, beside its bytes."""

import re
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from fer_zoo.errors import ArgumentError, UnknownNameError, WeightsError
from fer_zoo.labels import check_labels
from fer_zoo.models.base import check_temperature
from fer_zoo.registry import Registry
from fer_zoo.weights.reading import read_json

BUNDLED_SOURCE = "bundled"


@dataclass(frozen=True)
class WeightsRecord:
    """One trained state.

    Attributes:
        model: registry name of the model.
        tag: which training of it, e.g. `fer2013`.
        file: name of the file.
        sha256: of that file, hexadecimal.
        labels: class names of the head.
        preset: the transform it is valid with.
        metrics: figures, each with its split, views, selection rule, n and interval.
        recipe: the settings it was trained with.
        data: what it was trained on.
        licence: of the weights.
        members: for ensembles, the addresses of the members' weights.
        fusion: for ensembles, the fusion used where none is asked for.
        temperature: by fusion (`""` for a network), then by preset; see `Classifier.temperature`.
        calibration: the faces that the temperatures were fitted on.
        source: `bundled`, or `hf-hub:org/name`.
        revision: of a repository, the commit, 40 hexadecimal digits.
        size: of the file, in bytes.
        storage: what the tensors are stored in (`dtype`), and what each kind of storage costs:
            `costs`, a row for each kind and preset, with its split, n and gain in accuracy.

    Example:
        >>> record = get_weights("vgg19_025")
        >>> record.address, record.preset, record.metrics[0]["n"]
        ('vgg19_025.fer2013', 'fer40_center', 3589)
    """

    model: str
    tag: str
    file: str
    sha256: str
    labels: tuple[str, ...]
    preset: str
    metrics: list[dict[str, Any]] = field(default_factory=list)
    recipe: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    licence: str = ""
    members: tuple[str, ...] = ()
    fusion: str = "average"
    temperature: dict[str, dict[str, float]] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    source: str = BUNDLED_SOURCE
    revision: str = ""
    size: int = 0
    storage: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        bundled = self.source == BUNDLED_SOURCE
        for name, pattern in (
            ("sha256", "[0-9a-f]{64}"),
            ("file", r"[\w+.-]+"),
            ("revision", "" if bundled else "[0-9a-f]{40}"),
        ):
            if not re.fullmatch(pattern, getattr(self, name)):
                raise WeightsError(f"{self.address}: {getattr(self, name)!r} is no {name}")

    @property
    def bundled(self) -> bool:
        """Whether the file came with the package; others are on the Hub."""
        return self.source == BUNDLED_SOURCE

    @property
    def place(self) -> str:
        """The address of the bytes themselves, their revision and sha256 in it."""
        return (
            str(self.path)
            if self.bundled
            else f"{self.source}@{self.revision}#sha256={self.sha256}"
        )

    def __repr__(self) -> str:
        best = max(self.metrics, key=lambda row: row["accuracy"], default=None)
        shown = f", {_figure(best)}" if best else ""
        return f"WeightsRecord({self.address!r}, {len(self.labels)} classes{shown})"

    @property
    def address(self) -> str:
        """`model.tag`, unique among all weights."""
        return f"{self.model}.{self.tag}"

    @property
    def path(self) -> Path:
        """Where the bundled file is."""
        return BUNDLED / self.file

    def provenance(self) -> dict[str, Any]:
        """Return what a model made from these weights remembers of them."""
        names = ("metrics", "recipe", "data", "licence", "calibration", "storage")
        return {"weights": self.address} | {n: v for n in names if (v := getattr(self, n))}

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, as `fer-zoo info --json` prints it."""
        return {"address": self.address} | asdict(self)


def _figure(row: dict[str, Any]) -> str:
    fusion = f"{row['fusion']}, " if row.get("fusion") else ""
    where = f"{row.get('split', '')}, {fusion}{row.get('views', '?')} views, n = {row.get('n')}"
    return f"{100 * row['accuracy']:.2f} % ({where.removeprefix(', ')})"


BUNDLED = Path(str(resources.files("fer_zoo.weights"))) / "bundled"
WEIGHTS: Registry[WeightsRecord] = Registry("set of weights", "fer_zoo.list_weights()")


def read_record(path: Path) -> WeightsRecord:
    """Return the record in the JSON file at `path`."""

    def refuse(reason: str) -> Any:
        raise WeightsError(f"{path}: {reason}")

    values = read_json(path.read_text(), refuse)
    known = {f.name for f in fields(WeightsRecord)}
    if set(values) - known:
        raise WeightsError(f"{path}: unknown fields {sorted(set(values) - known)}")
    values["labels"] = check_labels(values["labels"])
    values["members"] = tuple(values.get("members", ()))
    try:
        values["temperature"] = {
            fusion: check_temperature(found)
            for fusion, found in values.get("temperature", {}).items()
        }
    except ArgumentError as error:
        raise WeightsError(f"{path}: {error}") from None
    return WeightsRecord(**values)


for _path in sorted(BUNDLED.glob("*.json")):
    _record = read_record(_path)
    WEIGHTS.register(_record.address, _record)


def list_weights(model: str = "*") -> list[str]:
    """Return the addresses (`model.tag`) of all weights of the models that match `model`.

    Example:
        >>> list_weights("resnet18_025")
        ['resnet18_025.fer2013']
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
        >>> get_weights("resnet18_025").labels[3]
        'happy'
        >>> get_weights("resnet18_025.fer2013").size
        1417230
    """
    if tag == "default" and model in WEIGHTS:
        return WEIGHTS[model]
    found = sorted(
        (r for a in WEIGHTS if (r := WEIGHTS[a]).model == model),
        key=lambda r: (not r.bundled, r.tag),
    )
    if not found:
        raise WeightsError(
            f"{model!r} has no trained weights here; "
            "fer_zoo.list_models(weights=True) lists the models that have"
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
