"""What a predictor says of a face, for programs and for notebooks."""

import base64
import html
import io
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

SHOWN = 24
"""Predictions that a notebook draws of a list; the rest is counted."""


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one face.

    Notebooks show it as the face beside a bar for each class.

    Attributes:
        label: the most probable class; None if the image could not be used.
        score: its probability.
        probabilities: of all classes, in the order of the labels, summing to one; calibrated where
            the model has a temperature.
        source: the path, where the image came from one.
        error: why the image could not be used.
        box: left, top, right and bottom in px of the face in its photograph, where a detector
            found it; it may reach over the border.
        face: what the network was given before it cut its views: gray uint8 `(S, S)`.

    Example:
        >>> prediction = Prediction("happy", 0.9, {"happy": 0.9, "sad": 0.1})
        >>> prediction
        Prediction('happy', 90.0 %)
        >>> prediction.to_dict()["label"]
        'happy'
    """

    label: str | None = None
    score: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    source: str | None = None
    error: str | None = None
    box: tuple[int, int, int, int] | None = None
    face: Tensor | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, the face left out."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "face"}
        return found | {"probabilities": dict(self.probabilities)}

    def __repr__(self) -> str:
        said = "none" if self.score is None else f"{self.label!r}, {100 * self.score:.1f} %"
        known = {"source": self.source, "box": self.box, "error": self.error}
        return f"Prediction({said}{''.join(f', {k}={v!r}' for k, v in known.items() if v)})"

    def _repr_html_(self) -> str:
        """Return the face and the bars, for a notebook."""
        return self._html(self.source or "")

    def _html(self, name: str) -> str:
        if not self.probabilities:
            return f"<div>{html.escape(self.error or repr(self))}</div>"
        about = html.escape(name if self.box is None else f"{name} {self.box}")
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
        alt = html.escape(f"{self.label}", quote=True)
        return f'<img src="data:image/png;base64,{data}" alt="{alt}" style="width:7em">'


class Predictions(list[Any]):
    """A list of predictions, or of one such list for each photograph, that notebooks can draw.

    Args:
        found: the predictions, or lists of them.
        photograph: the path of the photograph whose faces these are, `""` if it has none; None if
            these are not the faces of one photograph.

    Example:
        >>> found = Predictions([Prediction("happy", 0.9, {"happy": 0.9, "sad": 0.1})])
        >>> "happy" in found._repr_html_()
        True
    """

    def __init__(self, found: Iterable[Any] = (), *, photograph: str | None = None) -> None:
        super().__init__(found)
        self.photograph = photograph

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        is_part = isinstance(index, slice)
        return Predictions(found, photograph=self.photograph) if is_part else found

    def _repr_html_(self) -> str:
        """Return the first predictions as HTML, by photograph, and how many more there are."""
        parts, shown = [], 0
        for index, item in enumerate(self):
            if shown >= SHOWN:
                parts.append(f"<div>and {len(self) - index:,} more</div>")
                break
            in_photograph = self.photograph is not None and isinstance(item, Prediction)
            parts.append(item._html("") if in_photograph else item._repr_html_())
            shown += len(item) or 1 if isinstance(item, Predictions) else 1
        if self.photograph is None:
            return "".join(parts)
        name = html.escape(self.photograph)
        title = f'<div style="overflow-wrap:anywhere"><b>{name}</b></div>' if name else ""
        body = "".join(parts) or "no face found"
        return f'<div style="margin:.5em 0">{title}{body}</div>'
