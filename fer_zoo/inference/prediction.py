"""What a predictor says of a face, for programs and for notebooks."""

import base64
import html
import io
from collections.abc import Iterator
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
        about = "" if self.source is None else html.escape(self.source)
        if self.box is not None:
            about += f" {self.box}"
        if self.error is not None:
            return f"<div>{html.escape(self.error)}</div>"
        rows = "".join(
            f'<tr><td style="text-align:left;padding:0 .5em">{html.escape(name)}</td>'
            f'<td style="width:10em;padding:0"><div style="width:{100 * p:.1f}%;height:.8em;'
            f'background:{"#0072b2" if name == self.label else "#9aa5ae"}"></div></td>'
            f'<td style="text-align:right;padding:0 .5em">{100 * p:.1f} %</td></tr>'
            for name, p in self.probabilities.items()
        )
        return (
            '<div style="display:inline-flex;align-items:center;margin:.5em 1em .5em 0">'
            f"<div>{self._picture()}<div style='font-size:80%'>{about}</div></div>"
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

    Example:
        >>> found = Predictions([Prediction("happy", 0.9, {"happy": 0.9, "sad": 0.1})])
        >>> "happy" in found._repr_html_()
        True
    """

    def _repr_html_(self) -> str:
        """Return the first predictions as HTML, and how many more there are."""
        found = list(self._flat())
        more = f"<div>and {len(found) - SHOWN:,} more</div>" if len(found) > SHOWN else ""
        return "".join(p._repr_html_() for p in found[:SHOWN]) + more

    def _flat(self) -> Iterator[Prediction]:
        for item in self:
            if isinstance(item, list):
                yield from item
            else:
                yield item
