"""The predictor: images in, named probabilities out."""

import logging
import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar, overload

import torch
from torch import Tensor

from fer_zoo._words import answering
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, InputError, LabelError
from fer_zoo.factory import resolve
from fer_zoo.fusion import Fusion
from fer_zoo.inference.abstention import AbstainLike, read_thresholds, why_not
from fer_zoo.inference.exported import is_exported, open_exported
from fer_zoo.inference.images import Image, many_of, runs_of
from fer_zoo.inference.prediction import Photo, Prediction, Predictions
from fer_zoo.inference.runtime import Engine, Mixed, Optimized, faster
from fer_zoo.inference.scoring import merged
from fer_zoo.labels import regroup
from fer_zoo.models import Classifier
from fer_zoo.models.base import check_count
from fer_zoo.transforms import Preset
from fer_zoo.transforms.inputs import (
    BLANK,
    LEAST,
    Channels,
    as_channels,
    open_face,
    pixels_of,
    read_face,
    said_of,
)
from fer_zoo.transforms.presets import choose_preset

log = logging.getLogger("fer_zoo.inference")
NO_NUMBER = "the model's answer is no number (NaN): its weights are no good, load others"
DECODERS = 4  # threads that read image files
LARGE = 5_000_000  # pixels of a face, or a quarter of its bytes, over which no thread reads it

A = TypeVar("A", bound=Prediction | Photo)
T = TypeVar("T")
Box = tuple[int, int, int, int]
Squares = tuple[Tensor, ...]
"""One face as a square for each preset that scales it its own way: of an ensemble, several may."""
Found = tuple[str | None, list[tuple[Box | None, Squares]], str | None]
"""The path of an image, its faces as squares with their boxes, and the error."""


class Labeller(ABC, Generic[A]):
    """What predictors share; a subclass finds faces in images and says what it makes of them."""

    @answering
    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier | Optimized,
        *,
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
        self.batch_size = check_count("batch_size", batch_size)
        if is_exported(model):
            model = open_exported(model, allow_code=allow_code)
        if isinstance(model, Optimized):
            self._runner, chosen = model, choose_preset(model.preset, preset, views)
            given = {"weights": weights, "fusion": fusion, "device": device}
            given["engine"] = None if engine == "torch" else engine
            if wrong := [name for name, value in given.items() if value is not None]:
                raise ArgumentError(f"{wrong} cannot be changed any more in {self._runner!r}")
        else:
            if isinstance(model, Classifier) and device is not None:
                model = deepcopy(model)  # the caller's stays where it is
            network = resolve(model, weights=weights, fusion=fusion, device=device)
            chosen = choose_preset(network.preset, preset, views)
            self._runner = faster(network, chosen, engine)
        self.name: str = self._runner.name
        if self._runner.labels is None:
            raise LabelError(
                f"{self.name!r} was not trained, so its outputs have no names; "
                "use weights (fer_zoo.list_weights() lists them), train it, or set model.labels"
            )
        self._made = regroup(self._runner.labels, labels, ignore)
        self.labels, self.preset = tuple(self._made), chosen
        if len(self.labels) == 1 < len(self._runner.labels):
            raise LabelError(f"one class is left, {self.labels}: every face would have 100 % of it")
        each = [chosen]
        if isinstance(self._runner, Mixed):
            each = [member.preset for member in self._runner.members]
        self._presets = {(p.resize, p.interpolation, p.color): p for p in each}
        self._place = [[*self._presets].index((p.resize, p.interpolation, p.color)) for p in each]
        self._views = max(p.num_views for p in each)
        self._least = read_thresholds(abstain, self.labels, self.preset.name, self._runner)

    @property
    def _together(self) -> int:
        return max(1, self.batch_size // self._views)

    @property
    def _color(self) -> bool:
        """Whether any network sees colours."""
        return any(preset.color for preset in self._presets.values())

    def _squares(self, image: Tensor) -> Squares:
        """Return what each preset makes of `(C, H, W)`: of the image itself, not of a square."""
        presets = self._presets.values()
        return tuple(p.square(image[None] if p.color else _gray(image[None])) for p in presets)

    @abstractmethod
    def _faces(self, images: Iterable[Any], channels: Channels) -> Iterator[Found]: ...

    @abstractmethod
    def _say(self, source: str | None, faces: list[Prediction], error: str | None) -> A: ...

    def _answers(self, images: Iterable[Any], channels: Channels) -> Iterator[A]:
        for run in runs_of(images, self._together):
            found = self._faces(run, channels)
            while chunk := list(islice(found, self._together)):
                labelled = self._label([(s, *face) for s, faces, _ in chunk for face in faces])
                for source, faces, error in chunk:
                    told = list(islice(labelled, len(faces)))
                    no_number = (f.error for f in told if (f.error or "").endswith(NO_NUMBER))
                    yield self._say(source, told, error or next(no_number, None))

    def _answer(self, images: Any, channels: Channels) -> A | list[A]:
        """Return what is said of one image, which must be usable, or of each of many."""
        many = many_of(images)
        if isinstance(many, Iterator):
            raise InputError("got an iterator: use predictor.stream(images)")
        if many is not None:
            return list(self._answers(many, channels))
        (one,) = self._answers([images], channels)
        if one.error is not None:
            raise InputError(one.error)
        return one

    def _stream(self, images: Any, channels: Channels) -> Iterator[A]:
        many = many_of(images)
        return self._answers([images] if many is None else many, channels)

    def _blank(self, faces: Sequence[Squares]) -> list[bool]:
        """Return of which faces no view has what the data report calls something."""
        found = torch.ones(len(faces), dtype=torch.bool)
        for preset, squares in zip(self._presets.values(), zip(*faces, strict=True), strict=True):
            views = preset.cut(_gray(torch.cat(squares))).flatten(2).double()
            found &= views.mul(255).round().std(2, correction=0).amax(1).cpu() < BLANK
        told: list[bool] = found.tolist()
        return told

    def _label(
        self, faces: Sequence[tuple[str | None, Box | None, Squares]]
    ) -> Iterator[Prediction]:
        """Yield what the networks say of each face that shows something."""
        first = [_gray(square)[0, 0] for *_, (square, *_) in faces]
        pixels = [gray.mul(255).round().byte().cpu() for gray in first]
        blank = self._blank([squares for *_, squares in faces]) if faces else []
        seen = [squares for (*_, squares), no in zip(faces, blank, strict=True) if not no]
        rows: Iterator[tuple[int, list[float]]] = iter(())
        if seen:
            each = [torch.cat(squares) for squares in zip(*seen, strict=True)]
            given: Any = [each[i] for i in self._place]  # a square for each member
            scores = self._runner.predict_scores(
                given if isinstance(self._runner, Mixed) else given[0],
                preset=self.preset,
                batch_size=self.batch_size,
            )
            scores = merged(scores, self._runner.labels or (), self._made)
            rows = zip(scores.argmax(1).tolist(), scores.softmax(1).tolist(), strict=True)
        for (source, box, _), face, no in zip(faces, pixels, blank, strict=True):
            told = Prediction(source=source, box=box, face=face)
            if no:
                error = f"shows nothing: gray levels with a standard deviation under {BLANK:g}"
                yield replace(told, error=f"{source or 'the image'}: {error}")
                continue
            winner, row = next(rows)
            if math.isnan(row[winner]):
                yield replace(told, error=f"{source or 'the image'}: {NO_NUMBER}")
                continue
            label = self.labels[winner]
            reason = why_not(label, row[winner], self._least)
            yield replace(
                told,
                label=None if reason else label,
                reason=reason,
                probability=row[winner],
                probabilities=dict(zip(self.labels, row, strict=True)),
            )

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"{kind}({self.name!r}, preset={self.preset.name!r}, labels={self.labels})"


class Predictor(Labeller[Prediction]):
    """A model, its preset and its labels: face crops in, one `Prediction` each out.

    `fer_zoo.PhotoPredictor` is for whole photographs. The networks are folded (see
    `fer_zoo.optimize`) when the predictor is made; what is done to the model afterwards does not
    reach it. Batches are split where memory ends. Threads may share a predictor, and it may be
    copied, pickled, given to a new process as an argument, and inherited by a forked one. Once
    there is one, every process that is forked computes in one thread: `torch.get_num_threads()` is
    1.

    Args:
        model: a trained model, its name or address, the path of an exported `.onnx` or `.pt2` file,
            or what `fer_zoo.optimize` returned.
        weights: for a name, a tag; `"default"` if not given.
        fusion: for an ensemble, another fusion than its default.
        preset: another transform than the weights' own, e.g. `"fer40_tencrop"`.
        views: how many views of a face to average: 1, 2 (a wider crop and its mirror image) or 10,
            by the preset that is otherwise like the weights' own.
        device: for a name or path, CUDA where there is one, else the CPU; a model computes where
            it is unless this is given.
        batch_size: largest number of views in one forward pass.
        engine: `"torch"`, or `"onnxruntime"` (`fer-zoo[onnx]`), see `fer_zoo.optimize`.
        allow_code: run a `.pt2` file, which is machine code: load only your own. It needs no such
            leave where its path ends in `#sha256=` and the digest it must have.
        labels: coarser classes, each with those it is made of, `{"positive": ["happy"], "negative":
            ["sad", "angry", "fear", "disgust"]}`: their probabilities are summed. The others stay
            as they are.
        ignore: classes that are no answer; the probabilities are those given that it is none of
            them.
        abstain: the least calibrated probability of a label: a number from 0 to 1, one for each
            class by name, what `fer_zoo.inference.choose_thresholds` returned, or the path of a
            file of it. Below it the label is None, with a `reason`.

    Raises:
        LabelError: the model was never trained, so its outputs have no names; or `labels` or
            `ignore` hold a class that it does not know.

    Example:
        >>> import numpy as np
        >>> predict = Predictor("resnet18_025")
        >>> prediction = predict(np.eye(48))
        >>> prediction.label in prediction.probabilities
        True
    """

    @overload
    def __call__(self, images: Image, *, channels: Channels = "rgb") -> Prediction: ...  # type: ignore[overload-overlap]  # a string is a sequence of strings

    @overload
    def __call__(
        self, images: Sequence[Image] | FaceDataset, *, channels: Channels = "rgb"
    ) -> Predictions: ...

    def __call__(
        self, images: Image | Sequence[Image] | FaceDataset, *, channels: Channels = "rgb"
    ) -> Prediction | Predictions:
        """Label one image or many.

        Args:
            images: one image (see `fer_zoo.transforms.to_gray`), or many: a list of them in any mix
                of sizes, a `FaceDataset`, a folder, an array `(B, H, W, C)` or `(B, H, W)`, a
                tensor `(B, C, H, W)` or `(B, H, W)`. A tensor `(1, H, W)` or `(3, H, W)` is one
                image: of a few gray faces pass `data.images[:3, None]`. A type checker takes a
                folder or a batch for one image: for it, write `predict(list(batch))` and
                `Predictions(predict.stream(folder))`.
            channels: the order of the colours in arrays and tensors, `"bgr"` for OpenCV's.

        Returns:
            A `Prediction` for one image; for many `Predictions` in the same order, where an image
            that cannot be used has its `error` set; so has one that shows nothing (gray levels with
            a standard deviation below 1, as `fer_zoo.data.data_report` has it) or has a side under
            10 px.

        Raises:
            InputError: the one image cannot be used, an array may be one image or many, or more
                than images was given (a dict, `(image, label)` pairs).
        """
        found = self._answer(images, channels)
        return Predictions(found) if isinstance(found, list) else found

    def stream(
        self, images: Image | FaceDataset | Iterable[Image], *, channels: Channels = "rgb"
    ) -> Iterator[Prediction]:
        """Yield a `Prediction` for each of any number of images, in order, in bounded memory.

        What has a length (a list, a folder) is labelled in full batches. Of what has none (a
        generator, a camera) batches grow as long as images come fast, but none waits for more than
        20 ms for further ones: a slow camera is answered frame by frame.

        Example:
            >>> import numpy as np
            >>> predict = Predictor("resnet18_025")
            >>> faces = (np.eye(48, k=shift) for shift in range(9))
            >>> sum(prediction.error is None for prediction in predict.stream(faces))
            9
        """
        return self._stream(images, channels)

    def _faces(self, images: Iterable[Any], channels: Channels) -> Iterator[Found]:
        def face(image: Any, where: str) -> Squares:
            pixels = read_face(image, channels, color=self._color)
            if min(pixels.shape[1:]) < LEAST:
                size = "x".join(map(str, pixels.shape[:0:-1]))
                raise InputError(f"{where}: {size} px; a face has {LEAST} px at least")
            return self._squares(pixels)

        def read(path: Any, most: float = math.inf) -> Any:  # squares, or the partial for later
            if os.path.isfile(path) and os.path.getsize(path) > 4 * most:
                return partial(read, path)
            with open_face(path) as opened:
                large = pixels_of(opened) > most
                return partial(read, path) if large else face(opened, said_of(path))

        def begin(image: Any) -> tuple[int, Callable[[], Any]]:
            if isinstance(image, str | os.PathLike):
                return 0, partial(read, image, LARGE)
            return 0, partial(face, image, said_of(image))

        for source, squares, error in read_ahead(images, begin, most=self._together):
            yield source, [] if squares is None else [(None, squares)], error

    def _say(self, source: str | None, faces: list[Prediction], error: str | None) -> Prediction:
        if not faces:
            return Prediction(source=source, error=error)
        return replace(faces[0], error=error or faces[0].error)


def _gray(images: Tensor) -> Tensor:
    """Return gray `(B, 1, H, W)` for images that were checked."""
    return images if images.shape[1] == 1 else as_channels(images)


def read_ahead(
    images: Iterable[Any],
    begin: Callable[[Any], tuple[int, Callable[[], T]]],
    *,
    most: int,
    room: float = math.inf,
) -> Iterator[tuple[str | None, T | None, str | None]]:
    """Yield path, what is read, and error, in order; files are read ahead in threads.

    What turns out large there is returned as a `partial`, which reads it in its turn.
    """
    ahead: deque[tuple[int, str | None, Callable[[], T]]] = deque()

    def first() -> tuple[str | None, T | None, str | None]:
        _, source, read = ahead.popleft()
        try:
            found = read()
            return source, found() if isinstance(found, partial) else found, None
        except InputError as error:
            return source, None, str(error)

    with ThreadPoolExecutor(DECODERS) as threads:
        for image in images:
            source = os.fspath(image) if isinstance(image, str | os.PathLike) else None
            size, read = begin(image)
            while ahead and (len(ahead) >= most or sum(n for n, *_ in ahead) + size > room):
                yield first()
            # In its turn is read what is no path, for one PIL image must not be decoded twice at
            # once, and what is large: memory that threads gave back is not all there for others.
            alone = source is None or size > room
            ahead.append((size, source, read if alone else threads.submit(read).result))
        while ahead:
            yield first()
