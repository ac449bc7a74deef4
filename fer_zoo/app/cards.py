"""What the page says, as HTML: faces with bars, a film's faces, what it is not."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from fer_zoo.inference import Prediction
from fer_zoo.video import Film

STYLE = """
.fz-faces {display: flex; flex-wrap: wrap; gap: 1rem}
.fz-face {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .75rem;
  flex: 1 1 17rem; min-width: 0; max-width: 26rem}
.fz-face h3 {margin: 0 0 .5rem; font-size: 1.05rem; overflow-wrap: anywhere}
.fz-face figure {display: inline-block; margin: 0 .75rem .5rem 0; font-size: .8rem}
.fz-face figure img {width: 6.5rem; image-rendering: pixelated; border-radius: 4px}
.fz-row {display: grid; grid-template-columns: 6rem 1fr 3.6rem; gap: .5rem; align-items: center;
  font-size: .9rem}
.fz-row span:last-child {text-align: right; font-variant-numeric: tabular-nums}
.fz-bar {height: .8rem; background: #7f8c9844; border-radius: 2px}
.fz-bar div {height: 100%; background: #7f8c98; border-radius: 2px}
.fz-bar.fz-best div {background: #0072b2}
.fz-scroll {overflow-x: auto}
.fz-scroll table {border-collapse: collapse; font-size: .9rem}
.fz-scroll td, .fz-scroll th {padding: .2rem .8rem .2rem 0; text-align: left; white-space: nowrap}
.fz-scroll td:last-child {white-space: normal; min-width: 12rem}
.fz-film progress {width: 100%; accent-color: #0072b2}
.fz-picture {max-width: 100%; background: white; border-radius: 4px; margin-bottom: .75rem}
footer {display: none !important}
"""

LIMITS = """
**It does not read minds.** A label says which of a few words an annotator would have chosen for a
small gray picture of a face; people agree with such labels on two faces of three. What somebody
feels is another question. **It is not for decisions about people**: not for hiring, grading,
policing, insurance, lie detection or medical use; at workplaces and in education the EU's AI Act
prohibits it. **It is not measured for fairness**: nobody knows how it differs between groups of
people. **It does not know when it sees no face**, and its probabilities are calibrated on pictures
like FER2013's. Ask the people whom you film. `docs/limits.md` says more.
"""


def picture(image: np.ndarray, alt: str, form: str = "png", style: str = "") -> str:
    """Return uint8 `(H, W)` or `(H, W, 3)` as an `img` with its bytes in it.

    Example:
        >>> picture(np.zeros((2, 2), np.uint8), "a face")[:32]
        '<img src="data:image/png;base64,'
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/{form};base64,{data}" alt="{escape(alt)}" class="{style}">'


def face_cards(faces: Iterable[tuple[int, Prediction, np.ndarray | None]]) -> str:
    """Return a card for each face: its number, what is said of it, and where the network looked.

    Args:
        faces: the number, the prediction, and the heat of it, if any.

    Example:
        >>> told = Prediction(label="happy", probability=0.9, probabilities={"happy": 0.9})
        >>> "happy 90 %" in face_cards([(0, told, None)])
        True
    """
    return f'<div class="fz-faces">{"".join(_card(*face) for face in faces)}</div>'


def _card(number: int, face: Prediction, heat: np.ndarray | None) -> str:
    share = "" if face.probability is None else f" {100 * face.probability:.0f} %"
    title = f"face {number}: {face.label or '?'}{share}"
    parts = [f"<h3>{escape(title)}</h3>"]
    if face.face is not None:
        gray = face.face.numpy()
        parts.append(_figure(gray, f"face {number}", "what the network got"))
        if heat is not None:
            seen = f"where it looked for {face.label}"
            parts.append(_figure(heated(gray, heat), seen, seen))
    if said := face.error or face.reason:
        parts.append(f"<p>{escape(said)}</p>")
    best = max(face.probabilities.values(), default=0.0)
    for name, p in face.probabilities.items():
        looks = "fz-bar fz-best" if p == best else "fz-bar"
        bar = f'<div class="{looks}"><div style="width:{100 * p:.1f}%"></div></div>'
        row = f"<span>{escape(name)}</span>{bar}<span>{100 * p:.1f} %</span>"
        parts.append(f'<div class="fz-row">{row}</div>')
    return f'<div class="fz-face">{"".join(parts)}</div>'


def _figure(image: np.ndarray, alt: str, said: str) -> str:
    return f"<figure>{picture(image, alt)}<figcaption>{escape(said)}</figcaption></figure>"


def heated(gray: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return a face under its heat, in cividis' colours: blue is cold, yellow warm.

    Example:
        >>> heated(np.zeros((4, 4), np.uint8), np.ones((4, 4))).shape
        (4, 4, 3)
    """
    from matplotlib import colormaps

    colours = 255 * colormaps["cividis"](heat)[..., :3]
    mixed: np.ndarray = (0.45 * gray[..., None] + 0.55 * colours).round().astype(np.uint8)
    return mixed


def film_table(film: Film) -> str:
    """Return what becomes of each face of a film.

    Example:
        >>> from fer_zoo.video import Frame, TrackedFace
        >>> faces = (TrackedFace(track=0, label="sad", probability=0.8),)
        >>> "sad 100 %" in film_table(Film([Frame(index=0, time=0.0, faces=faces)]))
        True
    """
    rows: list[Sequence[Any]] = []
    for track in film.tracks():
        said = ", ".join(f"{label or '-'} {100 * p:.0f} %" for label, p in track.shares.items())
        rows.append(
            (track.track, f"{track.begin:.1f} s", f"{track.end:.1f} s", track.changes, said)
        )
    head = ("face", "from", "to", "changes", "share of its time")
    lines = "".join(_line(row, "td") for row in rows)
    return f'<div class="fz-scroll"><table>{_line(head, "th")}{lines}</table></div>'


def _line(cells: Sequence[Any], kind: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(str(cell))}</{kind}>' for cell in cells)}</tr>"


def progress(done: int, total: int | None, left: float | None) -> str:
    """Return how far a film is.

    Example:
        >>> progress(50, 200, 90.0)
        '<div class="fz-film"><progress value="50" max="200"></progress>frame 50 of 200, about 1.5 \
min left</div>'
    """
    many = f'value="{done}" max="{total}"' if total else ""
    said = f"frame {done}{f' of {total}' if total else ''}"
    if left is not None:
        said += f", about {left / 60:.1f} min left" if left >= 60 else f", about {left:.0f} s left"
    return f'<div class="fz-film"><progress {many}></progress>{said}</div>'
