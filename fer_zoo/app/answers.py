"""What the page makes of a photograph, a film and a camera, without Gradio."""

import io
import queue
import re
import tempfile
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

import fer_zoo
from fer_zoo.app.cards import face_cards, film_table, picture, progress
from fer_zoo.app.heat import heat_map
from fer_zoo.errors import ArgumentError, InputError, shown
from fer_zoo.inference import PhotoPredictor, Prediction
from fer_zoo.inference.crops import open_photograph, read_pixels
from fer_zoo.models import Classifier
from fer_zoo.plots import timeline
from fer_zoo.video import Film, FilmWriter, Frame, TrackedFace, VideoPredictor, drawn
from fer_zoo.video.results import without_images
from fer_zoo.video.sources import open_source
from fer_zoo.weights import WEIGHTS

KEPT = 4  # choices whose networks stay in memory
SHOWN = 1600  # px of the longer side of a photograph on the page
MOST = 24  # faces of a photograph that get a card
RATE = 5.0  # frames a second that the page sends of a camera
TOLD = 0.5  # seconds between two words on a film's progress
NO_FACE = (
    "<p>No face found. The detector finds faces that look at the camera, upright; of a picture "
    "that is cut to one face it may find none (<code>fer-zoo predict</code> takes such).</p>"
)
SILENT = "<p>The film is without its sound, which has no place in an .mp4.</p>"
_FOLDERS = re.compile(r"(?<![\w/\\])(?:[A-Za-z]:)?[/\\](?:[^/\\\s]+[/\\])+")


@dataclass(frozen=True)
class Choice:
    """What is chosen on the page; `fusion` and `views` are None for the weights' own."""

    model: str = "resnet18_025.fer2013"
    fusion: str | None = None
    views: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the choice as what predictors take."""
        name, _, tag = self.model.partition(".")
        return {"model": name, "weights": tag, "fusion": self.fusion}


def models() -> list[str]:
    """Return the addresses of the weights that are in the package.

    Example:
        >>> "resnet18_025.fer2013" in models()
        True
    """
    return list(WEIGHTS)


def fusions(model: str) -> list[str]:
    """Return the fusions that a model was fitted and calibrated with; none of a single network.

    Example:
        >>> fusions("ensemble_r18_vgg19_025.fer2013")
        ['average', 'weighted', 'stacked']
        >>> fusions("resnet18_025.fer2013")
        []
    """
    record = WEIGHTS[model]
    return list(record.evidence) if record.members else []


@lru_cache(KEPT)
def network_of(choice: Choice) -> Classifier:
    """Return the network of a choice; its views do not matter."""
    told = choice.arguments()
    return fer_zoo.create(told.pop("model"), **told)


@lru_cache(KEPT)
def photo_predictor(choice: Choice) -> PhotoPredictor:
    """Return what labels photographs."""
    return PhotoPredictor(**choice.arguments(), views=choice.views)


@lru_cache(KEPT)
def video_predictor(choice: Choice) -> VideoPredictor:
    """Return what labels films and cameras."""
    return VideoPredictor(**choice.arguments(), views=choice.views)


def of_photograph(image: Any, choice: Choice, *, where: bool = True) -> tuple[np.ndarray, str]:
    """Return a photograph with its faces' boxes, and a card for each face.

    Args:
        image: a path, or what else a `fer_zoo.PhotoPredictor` takes.
        choice: what labels it.
        where: show where the network looked.

    Raises:
        InputError: it cannot be read as an image.

    Example:
        >>> image, said = of_photograph(np.zeros((90, 120, 3), np.uint8), Choice())
        >>> image.shape, said[:16]
        ((90, 120, 3), '<p>No face found')
    """
    rgb, _ = read_pixels(open_photograph(image), image)
    photo = photo_predictor(choice)(rgb)
    network = network_of(replace(choice, views=None)) if where else None
    shown = [
        (i, face, None if network is None else _heat(network, face))
        for i, face in enumerate(photo.faces[:MOST])
    ]
    if not shown:
        return _boxed(rgb, ()), NO_FACE
    more = len(photo.faces) - len(shown)
    said = f"<p>{more} more faces are in the picture only.</p>" if more else ""
    return _boxed(rgb, photo.faces), face_cards(shown) + said


def _heat(network: Classifier, face: Prediction) -> np.ndarray | None:
    if face.face is None or face.label is None:
        return None
    return heat_map(network, face.face, face.label)


def _boxed(rgb: np.ndarray, faces: tuple[Prediction, ...]) -> np.ndarray:
    """Return a photograph as it is shown: with boxes and labels, not larger than a screen."""
    from PIL import Image

    scale = min(1.0, SHOWN / max(rgb.shape))
    if scale < 1:
        size = [max(1, round(side * scale)) for side in rgb.shape[1::-1]]
        rgb = np.asarray(Image.fromarray(rgb).resize((size[0], size[1])))
    tracked = []
    for i, face in enumerate(faces):
        left, top, right, bottom = (round(v * scale) for v in face.box or (0, 0, 0, 0))
        told: dict[str, Any] = {
            "label": face.label,
            "probability": face.probability,
            "error": face.error,
        }
        tracked.append(TrackedFace(track=i, box=(left, top, right, bottom), **told))
    return drawn(Frame(index=0, time=0.0, faces=tuple(tracked), image=rgb))


@dataclass(frozen=True)
class FilmAnswer:
    """What the page shows of a film, by and by.

    Attributes:
        said: how far it is; at the end what became of each face, as HTML.
        annotated: the film with what was seen in it, once it is whole.
        timeline: the probabilities over time as HTML, at the end.
    """

    said: str
    annotated: Path | None = None
    timeline: str = ""


def of_film(path: Path, choice: Choice, output: Path) -> Generator[FilmAnswer]:
    """Yield how far the film is, and at the end what was seen in it.

    Args:
        path: the film.
        choice: what labels it.
        output: where the annotated film is written, `.mp4`.

    Raises:
        InputError: it is no film, or none of its frames can be used.
    """
    total, film, predictor = open_source(path).total, Film(), video_predictor(choice)
    try:
        writer, silent = FilmWriter(output, audio=path), ""
    except InputError:  # it is a film: its sound has no place in an .mp4
        writer, silent = FilmWriter(output), SILENT
    begun = told = time.monotonic()
    done, first = 0, (0, 0.0)
    with writer, closing(predictor.stream(path)) as frames:
        for frame in frames:
            writer.write(frame)
            film.extend(without_images([frame]))
            done = done if frame.index is None else frame.index + 1
            now = time.monotonic()
            first = first if first[1] else (done, now)
            if now - told > TOLD:
                told = now
                passed = done - first[0]
                left = (total - done) * (now - first[1]) / passed if total and passed else None
                yield FilmAnswer(progress(done, total, left))
        writer.end()
    wrong = [frame.error for frame in film if frame.error]
    if len(wrong) == len(film):
        raise InputError(wrong[-1])  # after what is wrong with each, that none is right
    seconds = time.monotonic() - begun
    count = sum(frame.index is not None for frame in film)
    length = f"{count} frames, {film[-1].time - film[0].time:.1f} s of film, in {seconds:.1f} s"
    more = f"{''.join(f'<p>{said_here(error)}</p>' for error in wrong[:3])}{silent}<p>{length}</p>"
    if not film.tracks():
        yield FilmAnswer(f"{NO_FACE}{more}", output)
        return
    yield FilmAnswer(f"{film_table(film)}{more}", output, _drawn_timeline(film))


def said_here(message: str) -> str:
    """Return a message as HTML, with the names of files but without their folders on the server.

    Example:
        >>> said_here("/tmp/gradio/5f3a/me.jpg: cannot be read as an image")
        'me.jpg: cannot be read as an image'
    """
    # The folder of what is temporary first: its name may have spaces.
    return escape(shown(_FOLDERS.sub("", message.replace(tempfile.gettempdir(), ""))))


def _drawn_timeline(film: Film) -> str:
    from PIL import Image

    file = io.BytesIO()
    try:
        timeline(film).savefig(file, format="png", dpi=130)
    except ArgumentError:  # its faces have no probabilities
        return ""
    image = np.asarray(Image.open(file).convert("RGB"))
    return picture(image, "probabilities of each face over time", style="fz-picture")


class Camera:
    """One camera while it is on: its faces are followed from picture to picture.

    Args:
        choice: what labels them.

    Example:
        >>> camera = Camera(Choice())
        >>> camera.see(np.zeros((90, 120, 3), np.uint8)).faces
        ()
        >>> camera.close()
    """

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._given: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._frames = video_predictor(choice).stream(self._pictures(), rate=RATE)

    def _pictures(self) -> Generator[np.ndarray]:
        while (image := self._given.get()) is not None:
            yield image

    def see(self, image: np.ndarray) -> Frame:
        """Return what is seen in the next picture, RGB uint8 `(H, W, 3)`."""
        self._given.put(image)
        return next(self._frames)

    def close(self) -> None:
        """End the threads that wait for the next picture."""
        self._given.put(None)
        self._frames.close()


def of_camera(camera: Camera, image: np.ndarray) -> str:
    """Return a camera's picture with boxes, and a card for each face, as HTML.

    Example:
        >>> camera = Camera(Choice())
        >>> of_camera(camera, np.zeros((90, 120, 3), np.uint8))[-4:]
        '</p>'
        >>> camera.close()
    """
    frame = camera.see(image)
    if frame.image is None:
        return f"<p>{frame.error}</p>"
    bare = tuple(replace(face, probabilities={}) for face in frame.faces)
    seen = picture(drawn(replace(frame, faces=bare)), "the camera", "jpeg", "fz-picture")
    cards = face_cards((face.track, replace(face, face=None), None) for face in frame.faces)
    return seen + (cards if frame.faces else "<p>No face found.</p>")
