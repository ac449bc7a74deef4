"""What a predictor says of a face and of a photograph, for programs, tables and notebooks."""

import base64
import html
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self, SupportsIndex, TypeVar, overload

from torch import Tensor

SHOWN = 24
"""Faces that a notebook draws of a list; the rest is counted."""

BOX = ("face", "left", "top", "right", "bottom")
CROP_COLUMNS = ("source", "label", "probability", "error", "reason")
FACE_COLUMNS = ("source", *BOX, *CROP_COLUMNS[1:])
"""The columns of a table of predictions, and of one of photographs; one of each class follows."""

T = TypeVar("T")


class _Results(list[T]):
    @overload
    def __getitem__(self, index: SupportsIndex, /) -> T: ...

    @overload
    def __getitem__(self, index: slice, /) -> Self: ...

    def __getitem__(self, index: Any, /) -> Any:
        part = super().__getitem__(index)
        return type(self)(part) if isinstance(index, slice) else part

    def _repr_html_(self) -> str:
        return _drawn(self)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a predictor says of one face.

    Notebooks show it as the face beside a bar for each class.

    Attributes:
        label: the most probable class; None if the image could not be used, or the predictor
            abstains.
        probability: of the most probable class.
        probabilities: of all classes, in the order of the labels, summing to one; calibrated where
            the model has a temperature.
        source: the path, where the image came from one.
        error: why the image could not be used, or that the model's answer is no number.
        reason: why there is no label though the image was used: the most probable class is under
            the predictor's threshold.
        box: left, top, right and bottom in px of the face in its photograph, where a detector
            found it; it may reach over the border.
        face: what the network was given before it cut its views: gray uint8 `(S, S)`.

    Example:
        >>> Prediction(label="happy", probability=0.9, probabilities={"happy": 0.9, "sad": 0.1})
        Prediction('happy', 90.0 %)
    """

    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    source: str | None = None
    error: str | None = None
    reason: str | None = None
    box: tuple[int, int, int, int] | None = None
    face: Tensor | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, the face left out."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "face"}
        return values | {"probabilities": dict(self.probabilities)}

    def __repr__(self) -> str:
        said = "none"
        if self.label is not None and self.probability is not None:
            said = f"{self.label!r}, {100 * self.probability:.1f} %"
        known = {"source": self.source, "box": self.box}
        known |= {"error": self.error, "reason": self.reason}
        return f"Prediction({said}{''.join(f', {k}={v!r}' for k, v in known.items() if v)})"

    def _repr_html_(self) -> str:
        """Return the face and the bars, for a notebook."""
        if not self.probabilities:
            return f"<div>{html.escape(self.error or repr(self))}</div>"
        told = filter(None, (self.source, self.box and str(self.box), self.reason))
        about = html.escape(" ".join(told))
        rows = "".join(
            f'<tr><td style="text-align:left;padding:0 .5em">{html.escape(name)}</td>'
            f'<td style="width:10em;padding:0"><div style="width:{100 * p:.1f}%;height:.8em;'
            f'background:{"#0072b2" if name == self.label else "#9aa5ae"}"></div></td>'
            f'<td style="text-align:right;padding:0 .5em">{100 * p:.1f} %</td></tr>'
            for name, p in self.probabilities.items()
        )
        return (
            '<div style="display:inline-flex;align-items:center;margin:.5em 1em .5em 0">'
            f"<div>{self._picture()}<div style='font-size:80%;max-width:12em;"
            f"overflow-wrap:anywhere'>{about}</div></div>"
            f'<table style="border-collapse:collapse;font-size:90%">{rows}</table></div>'
        )

    def _picture(self) -> str:
        if self.face is None:
            return ""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.face.numpy()).save(file, "png")
        data = base64.b64encode(file.getvalue()).decode()
        alt = html.escape(f"{self.label}")
        return f'<img src="data:image/png;base64,{data}" alt="{alt}" style="width:7em">'


class Predictions(_Results[Prediction]):
    """A list of predictions that notebooks can draw and tables can take.

    Example:
        >>> both = {"happy": 0.9, "sad": 0.1}
        >>> Predictions([Prediction(label="happy", probability=0.9, probabilities=both)]).to_dicts()
        [{'source': None, 'label': 'happy', 'probability': 0.9, 'error': None, 'reason': None, \
'p_happy': 0.9, 'p_sad': 0.1}]
    """

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each, for `pandas.DataFrame(predictions.to_dicts())`.

        The columns are source, label, probability, error, reason, and `p_` and its name for each
        class.
        """
        return _rows(((p, {}) for p in self), CROP_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """What a predictor says of one photograph.

    Attributes:
        faces: a prediction for each face that the detector found, with its `box`.
        source: the path, where the photograph came from one.
        error: why it could not be used, or what was wrong with the detector's boxes or an answer.

    Example:
        >>> Photo(source="party.jpg")
        Photo('party.jpg', faces=[])
    """

    faces: tuple[Prediction, ...] = ()
    source: str | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        faces = [face.to_dict() for face in self.faces]
        return {"source": self.source, "error": self.error, "faces": faces}

    def __repr__(self) -> str:
        said = f"faces={[face.label for face in self.faces]}"
        return f"Photo({self.source!r}, {f'error={self.error!r}' if self.error else said})"

    def _repr_html_(self) -> str:
        """Return the name and the faces, for a notebook."""
        name, error = html.escape(self.source or ""), html.escape(self.error or "")
        faces = _drawn([replace(face, source=None) for face in self.faces])
        body = faces or error or "no face found"
        title = f'<div style="overflow-wrap:anywhere"><b>{name}</b></div>'
        return f'<div style="margin:.5em 0">{title}{body}</div>'


class Photos(_Results[Photo]):
    """A list of photographs that notebooks can draw and tables can take.

    Example:
        >>> Photos([Photo(source="a.jpg"), Photo(source="b.jpg", error="damaged")]).to_dicts()
        [{'source': 'b.jpg', 'face': None, 'left': None, 'top': None, 'right': None, \
'bottom': None, 'label': None, 'probability': None, 'error': 'damaged', 'reason': None}]
    """

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return a flat row for each face, and one for each photograph with an error.

        The columns are those of predictions, with face (which one of the photograph, from 0), left,
        top, right and bottom of its box. A photograph without faces has no row.
        """
        return _rows(self._faces(), FACE_COLUMNS)

    def _faces(self) -> Iterator[tuple[Prediction, dict[str, Any]]]:
        for photo in self:
            if photo.error is not None:
                yield Prediction(source=photo.source, error=photo.error), {}
            for number, face in enumerate(photo.faces):
                yield face, dict(zip(BOX, (number, *(face.box or ())), strict=False))


def class_columns(labels: Iterable[str]) -> list[str]:
    """Return the columns of the classes: their names with `p_` before them."""
    return [f"p_{name}" for name in labels]


def _rows(
    predictions: Iterable[tuple[Prediction, dict[str, Any]]], columns: Sequence[str]
) -> list[dict[str, Any]]:
    pairs = list(predictions)
    classes = dict.fromkeys(name for prediction, _ in pairs for name in prediction.probabilities)
    rows = []
    for prediction, box in pairs:
        row = {c: box.get(c) if c in BOX else getattr(prediction, c) for c in columns}
        shares = map(prediction.probabilities.get, classes)
        rows.append(row | dict(zip(class_columns(classes), shares, strict=True)))
    return rows


def _drawn(items: Sequence[Any]) -> str:
    parts, shown = [], 0
    for index, item in enumerate(items):
        if shown >= SHOWN:
            parts.append(f"<div>and {len(items) - index:,} more</div>")
            break
        parts.append(item._repr_html_())
        shown += len(item.faces) or 1 if isinstance(item, Photo) else 1
    return "".join(parts)
