"""The predictor: images in, named probabilities out."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fer_zoo._device import resolve_device
from fer_zoo.errors import ArgumentError, InputError, LabelError
from fer_zoo.factory import create
from fer_zoo.fusion import Fusion
from fer_zoo.inference.exported import SUFFIXES, Exported
from fer_zoo.inference.photographs import DECODERS, Detector, check_margin, search_photographs
from fer_zoo.inference.prediction import Prediction, Predictions
from fer_zoo.inference.runtime import Optimized, folded
from fer_zoo.models import Classifier
from fer_zoo.models.ensemble import with_fusion
from fer_zoo.saving import load
from fer_zoo.transforms import PRESETS, Preset, to_gray
from fer_zoo.weights.address import is_address

TOGETHER = 8  # photographs whose faces are labelled together


class Predictor:
    """A model, its preset and its labels: images in, one `Prediction` each out.

    The networks are folded (see `fer_zoo.optimize`) when the predictor is made; what is done to the
    model afterwards does not reach it. Once it has worked on a CPU for ten seconds, and onnxruntime
    is installed, it spends a few on trying that, and goes on with what is faster. Batches of any
    size are split, and split further where memory ends. Files are decoded in threads while the
    networks compute.

    Args:
        model: a registry name (built with `weights`), the path of a checkpoint or of an exported
            `.onnx` or `.pt2` file, a trained model, or what `fer_zoo.optimize` returned.
        weights: for a name, a tag; `"default"` if not given.
        fusion: for an ensemble, another fusion than its default.
        preset: another transform than the weights' own, e.g. `"fer40_tencrop"`.
        device: for a name or path, CUDA where there is one, else the CPU; a model stays where it
            is unless this is given. It is put in evaluation mode.
        batch_size: largest number of views in one forward pass.
        detector: for whole photographs: anything that returns the boxes of the faces in one, such
            as `fer_zoo.FaceDetector()`. It is called with a copy of the photograph as RGB, uint8
            `(H, W, 3)`, upright, and returns rows of left, top, right and bottom in px. A face that
            is turned clockwise may be `{"box": (left, top, right, bottom), "roll": degrees}`, and
            is turned back. The detector is called for one photograph at a time, in order, in the
            thread that asks for the predictions. There is then a list of predictions for each
            image, one for each face, empty where there is none.
        margin: share of a box's side that is added all round, for a detector whose boxes are
            tighter than FER2013's crops (those of `fer_zoo.FaceDetector` are not).

    Raises:
        LabelError: the model was never trained, so its outputs have no names.

    Example:
        >>> import numpy as np
        >>> predict = Predictor("resnet18_025")
        >>> prediction = predict(np.zeros((48, 48), np.uint8))
        >>> prediction.label in prediction.probabilities
        True
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier | Optimized,
        *,
        weights: str | None = None,
        fusion: str | Fusion | None = None,
        preset: str | Preset | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 256,
        detector: Detector | None = None,
        margin: float = 0.0,
    ) -> None:
        if not (detector is None or callable(detector)):
            raise ArgumentError(f"detector must be callable, got {detector!r:.80}")
        check_margin(margin)
        if margin and detector is None:
            raise ArgumentError("margin is for detector=: without one, faces are taken as they are")
        self.detector, self.margin = detector, margin
        chosen = PRESETS[preset] if isinstance(preset, str) else preset
        self.batch_size = batch_size
        self._runner: Any = model
        if isinstance(model, str | os.PathLike) and os.fspath(model).lower().endswith(SUFFIXES):
            self._runner = Exported(model)
        if isinstance(self._runner, Optimized | Exported):
            given = {"weights": weights, "fusion": fusion, "device": device}
            if wrong := [name for name, value in given.items() if value is not None]:
                raise ArgumentError(f"{wrong} cannot be changed any more in {self._runner!r}")
            self.model: Any = getattr(self._runner, "model", self._runner)
        else:
            self.model = _build(model, weights, fusion, device)
            chosen = chosen or PRESETS[self.model.preset]
            self._runner = folded(self.model, chosen)
        if self._runner.labels is None:
            raise LabelError(
                f"{self._runner.name!r} was not trained, so its outputs have no names; "
                "use weights (fer_zoo.list_weights() lists them), train it, or set model.labels"
            )
        self.labels: tuple[str, ...] = self._runner.labels
        self.preset = chosen or self._runner.preset

    def __call__(self, images: Any) -> Any:
        """Label one image or many.

        Args:
            images: one image (a path, PIL image, numpy array `(H, W)`, `(H, W, 1)`, `(H, W, 3)`,
                tensor `(C, H, W)`), or many: a list of them in any mix of sizes, an array
                `(B, H, W, C)`, a tensor `(B, C, H, W)`.

        Returns:
            A `Prediction` for one image; for many a list in the same order, where an image that
            cannot be used has its `error` set. With a `detector`, a list of predictions for one
            image, one for each face; for many a list of such lists, where an image that cannot be
            used, or of which the detector did not return boxes, has one prediction with the error.

        Raises:
            InputError: the one image that was given cannot be used, for these same reasons.
        """
        if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
            return Predictions(self.stream(images))
        if isinstance(images, list | tuple):
            return Predictions(self.stream(images))
        if isinstance(images, Iterator):
            raise InputError("got an iterator: use predictor.stream(images)")
        found = next(self.stream([images]))
        for prediction in found if self.detector else [found]:
            if prediction.error is not None:
                raise InputError(prediction.error)
        return found

    def stream(self, images: Iterable[Any]) -> Iterator[Any]:
        """Yield a `Prediction` for each of any number of images, in order, in bounded memory.

        With a `detector`, a list of them for each image. Of image files one more batch is read
        ahead, in threads, while the networks compute.

        Example:
            >>> predict = Predictor("resnet18_025")
            >>> faces = (np.full((48, 48), level, np.uint8) for level in range(256))
            >>> sum(prediction.error is None for prediction in predict.stream(faces))
            256
        """
        if self.detector is not None:
            yield from self._photographs(images, self.detector)
            return
        remaining = iter(images)
        per_batch = max(1, self.batch_size // self.preset.num_views)
        with ThreadPoolExecutor(DECODERS) as threads:
            ahead: tuple[list[Any], Iterable[Tensor | str]] | None = None
            while True:
                chunk, decoded = ahead or self._next(remaining, per_batch, threads)
                if not chunk:
                    return
                on_disk = any(isinstance(image, str | os.PathLike) for image in chunk)
                found = list(decoded)
                ahead = self._next(remaining, per_batch, threads) if on_disk else None
                yield from self._predict(chunk, found)

    def _photographs(self, images: Iterable[Any], detector: Detector) -> Iterator[Predictions]:
        # Scaled down at once: faces that wait must not take the room of photographs.
        squared = (
            (
                path,
                found if isinstance(found, str) else [(c.box, self._square(c.face)) for c in found],
            )
            for path, found in search_photographs(images, detector, self.margin)
        )
        while chunk := list(islice(squared, TOGETHER)):
            faces = [face for _, found in chunk if not isinstance(found, str) for face in found]
            labelled = self._predict([None] * len(faces), [square for _, square in faces])
            for path, found in chunk:
                if isinstance(found, str):
                    rows = [Prediction(source=path, error=found)]
                else:
                    rows = [replace(next(labelled), source=path, box=box) for box, _ in found]
                yield Predictions(rows, photograph=path or "")

    def _next(
        self, remaining: Iterator[Any], count: int, threads: ThreadPoolExecutor
    ) -> tuple[list[Any], Iterable[Tensor | str]]:
        """Return some images and their squares, or why not; several are decoded in threads."""
        chunk = list(islice(remaining, count))
        return chunk, (threads.map if len(chunk) > 1 else map)(self._square, chunk)

    def _square(self, image: Any) -> Tensor | str:
        try:
            if isinstance(image, np.ndarray) and image.dtype == object:
                raise InputError("got an array of objects; expected numbers")
            return self.preset.square(to_gray(image)[None])
        except InputError as error:
            return str(error)

    def _predict(self, chunk: list[Any], found: list[Tensor | str]) -> Iterator[Prediction]:
        squares = [square for square in found if isinstance(square, Tensor)]
        rows: Iterator[tuple[int, list[float]]] = iter(())
        if squares:
            scores = self._runner.predict_scores(
                torch.cat(squares), preset=self.preset, batch_size=self.batch_size
            )
            rows = zip(scores.argmax(1).tolist(), scores.softmax(1).tolist(), strict=True)
        for image, square in zip(chunk, found, strict=True):
            source = os.fspath(image) if isinstance(image, str | os.PathLike) else None
            if isinstance(square, str):
                yield Prediction(source=source, error=square)
                continue
            winner, row = next(rows)
            probabilities = dict(zip(self.labels, row, strict=True))
            label = self.labels[winner]
            face = square[0, 0].mul(255).round().byte().cpu()
            yield Prediction(label, probabilities[label], probabilities, source, face=face)

    def __repr__(self) -> str:
        return (
            f"Predictor({self._runner.name!r}, preset={self.preset.name!r}, labels={self.labels}"
            + (f", detector={self.detector!r})" if self.detector else ")")
        )


def _build(
    model: Any,
    weights: str | None,
    fusion: str | Fusion | None,
    device: torch.device | str | None,
) -> Classifier:
    if isinstance(model, Classifier):
        built = model
    elif isinstance(model, str | os.PathLike):
        name, device = os.fspath(model), resolve_device(device)
        if is_address(name):
            built = load(name)
        else:
            built = create(name, weights=weights or "default", fusion=fusion)
    else:
        raise ArgumentError(f"expected a model, a name or a path, got {model!r:.80}")
    if isinstance(model, Classifier) or is_address(os.fspath(model)):
        if weights is not None:
            raise ArgumentError(f"weights={weights!r} is for a model given by name")
        built = built if fusion is None else with_fusion(built, fusion)
    place = None if device is None else resolve_device(device)
    return built.to(device=place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]
