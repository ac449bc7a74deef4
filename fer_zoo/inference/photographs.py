"""Whole photographs: the faces that a detector finds, each with its prediction."""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from fer_zoo._words import answering
from fer_zoo.errors import ArgumentError, InputError
from fer_zoo.fusion import Fusion
from fer_zoo.inference.abstention import AbstainLike
from fer_zoo.inference.crops import (
    Pixels,
    check_margin,
    cut_faces,
    open_photograph,
    read_pixels,
)
from fer_zoo.inference.detector import Detector, find_detector
from fer_zoo.inference.images import Image
from fer_zoo.inference.prediction import Photo, Photos, Prediction
from fer_zoo.inference.predictor import DECODERS, Found, Labeller, read_ahead
from fer_zoo.inference.runtime import Engine, Optimized
from fer_zoo.models import Classifier
from fer_zoo.transforms import Preset
from fer_zoo.transforms.inputs import Channels

log = logging.getLogger("fer_zoo.inference")
TOGETHER = 8  # photographs whose faces are labelled together
AHEAD = 50_000_000  # pixels read ahead at most, 8 bytes each while they are decoded


class PhotoPredictor(Labeller[Photo]):
    """A detector and a model: photographs in, one `Photo` each out, with all faces' predictions.

    Args:
        model: as for `fer_zoo.Predictor`; so are all arguments but the next two.
        detector: anything that returns the boxes of the faces in a photograph, or a name of
            `fer_zoo.inference.list_detectors()`: `"blazeface"` also finds turned faces;
            `fer_zoo.FaceDetector()` if not given. It takes RGB, uint8 `(H, W, 3)`, and returns rows
            of left, top, right and bottom in px; `fer_zoo.inference.Detector` says the rest.
        margin: share of a box's side that is added all round, see `fer_zoo.inference.crop_faces`.

    Raises:
        LabelError: the model was never trained, so its outputs have no names.
        ArgumentError: the detector cannot be called, or nothing has its name.
        MissingDependencyError: there is no detector of your own, and OpenCV is not installed.

    Example:
        >>> predict = PhotoPredictor("resnet18_025", detector=lambda rgb: [(40, 20, 80, 60)])
        >>> photo = predict(np.zeros((90, 120, 3), np.uint8))
        >>> [face.box for face in photo.faces]
        [(40, 20, 80, 60)]
    """

    @answering
    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier | Optimized,
        *,
        detector: Detector | str | None = None,
        margin: float = 0.0,
        weights: str | None = None,
        fusion: str | Fusion | None = None,
        preset: str | Preset | None = None,
        views: int | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 256,
        engine: Engine = "torch",
        allow_code: bool = False,
        labels: Mapping[str, Sequence[str]] | None = None,
        ignore: Iterable[str] = (),
        abstain: AbstainLike | None = None,
    ) -> None:
        check_margin(margin)
        self.detector, self.margin = find_detector(detector), margin
        super().__init__(
            model,
            weights=weights,
            fusion=fusion,
            preset=preset,
            views=views,
            device=device,
            batch_size=batch_size,
            engine=engine,
            allow_code=allow_code,
            labels=labels,
            ignore=ignore,
            abstain=abstain,
        )

    @overload
    def __call__(self, images: Image, *, channels: Channels = "rgb") -> Photo: ...  # type: ignore[overload-overlap]  # a string is a sequence of strings

    @overload
    def __call__(self, images: Sequence[Image], *, channels: Channels = "rgb") -> Photos: ...

    def __call__(
        self, images: Image | Sequence[Image], *, channels: Channels = "rgb"
    ) -> Photo | Photos:
        """Label the faces of one photograph or of many.

        Args:
            images: one photograph, or many, in the forms that a `fer_zoo.Predictor` takes.
            channels: the order of the colours in arrays and tensors, `"bgr"` for OpenCV's.

        Returns:
            A `Photo` for one; for many `Photos` in the same order, where one that cannot be used,
            or of which the detector did not return boxes, or raised, has its `error` set.

        Raises:
            InputError: the one photograph cannot be used, for these same reasons.
        """
        found = self._answer(images, channels)
        return Photos(found) if isinstance(found, list) else found

    def stream(
        self, images: Image | Iterable[Image], *, channels: Channels = "rgb"
    ) -> Iterator[Photo]:
        """Yield a `Photo` for each of any number of photographs, in order, in bounded memory.

        The faces of up to eight are labelled together, with no waiting, as in `Predictor.stream`.

        Example:
            >>> predict = PhotoPredictor("resnet18_025", detector=lambda rgb: [])
            >>> frames = (np.full((90, 120, 3), level, np.uint8) for level in range(3))
            >>> [len(photo.faces) for photo in predict.stream(frames, channels="bgr")]
            [0, 0, 0]
        """
        return self._stream(images, channels)

    @property
    def _together(self) -> int:
        return TOGETHER

    def _faces(self, images: Iterable[Any], channels: Channels) -> Iterator[Found]:
        def begin(image: Any) -> tuple[int, Callable[[], Pixels]]:
            try:
                opened = open_photograph(image)
            except InputError as error:
                return 0, partial(_fail, error)
            shape = opened.shape if isinstance(opened, np.ndarray | Tensor) else opened.size
            # WebP and AVIF are in memory once they are open, each byte at least once.
            held = os.path.getsize(image) // 8 if isinstance(image, str | os.PathLike) else 0
            read = partial(read_pixels, opened, image, channels, color=self._color)
            return math.prod(shape) + held, read

        for source, pixels, error in read_ahead(images, begin, most=DECODERS, room=AHEAD):
            crops = []
            if pixels is not None:
                rgb, whole = pixels
                # Not in a thread: the detector may not bear that, or keep a state, as trackers do.
                try:
                    crops = cut_faces(whole, self.detector(rgb), self.margin)
                except ArgumentError as wrong:
                    error = str(wrong)
                except Exception as wrong:  # a detector is anybody's code
                    log.info("the detector raised", exc_info=True)
                    error = f"the detector raised {type(wrong).__name__}: {wrong!s:.500}"
                if error and source is not None:
                    error = f"{source}: {error}"
                del rgb, whole
            # Scaled down at once: faces that wait must not take the room of photographs.
            del pixels
            yield source, [(crop.box, self._squares(crop.face)) for crop in crops], error

    def _say(self, source: str | None, faces: list[Prediction], error: str | None) -> Photo:
        return Photo(source=source, faces=tuple(faces), error=error)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, detector={self.detector!r})"


def _fail(error: InputError) -> Pixels:
    """Raise what was wrong with a photograph, when its turn comes."""
    raise error
