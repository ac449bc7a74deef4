"""The predictor: images in, named probabilities out."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from fer_zoo._device import resolve_device
from fer_zoo.errors import ArgumentError, InputError, LabelError
from fer_zoo.factory import create, load, with_fusion
from fer_zoo.fusion import Fusion
from fer_zoo.inference.scoring import predict_scores
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset, to_gray
from fer_zoo.weights import is_file_address


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of one image.

    Attributes:
        label: the most probable class; None if the image could not be used.
        score: its probability.
        probabilities: of all classes, in the order of the labels, summing to one; calibrated where
            the model has a temperature.
        source: the path, where the image came from one.
        error: why the image could not be used.

    Example:
        >>> Prediction("happy", 0.9, {"happy": 0.9, "sad": 0.1}).to_dict()["label"]
        'happy'
    """

    label: str | None = None
    score: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    source: str | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


class Predictor:
    """A model, its preset and its labels: images in, one `Prediction` each out.

    Args:
        model: a registry name (built with `weights`), the path of a checkpoint, or a trained model.
        weights: for a name, a tag; `"default"` if not given.
        fusion: for an ensemble, another fusion than its default.
        preset: another transform than the weights' own, e.g. `"fer40_tencrop"`.
        device: for a name or path, CUDA where there is one, else the CPU; a model stays where it
            is unless this is given. It is put in evaluation mode.
        batch_size: largest number of views in one forward pass.

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
        model: str | os.PathLike[str] | Classifier,
        *,
        weights: str | None = None,
        fusion: str | Fusion | None = None,
        preset: str | Preset | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 256,
    ) -> None:
        if isinstance(model, Classifier):
            built = model
        elif isinstance(model, str | os.PathLike):
            name, device = os.fspath(model), resolve_device(device)
            if is_file_address(name):
                built = load(name)
            else:
                built = create(name, weights=weights or "default", fusion=fusion)
        else:
            raise ArgumentError(f"expected a model, a name or a path, got {model!r:.80}")
        if isinstance(model, Classifier) or is_file_address(os.fspath(model)):
            if weights is not None:
                raise ArgumentError(f"weights={weights!r} is for a model given by name")
            built = built if fusion is None else with_fusion(built, fusion)
        if built.labels is None:
            raise LabelError(
                f"{built.name!r} was not trained, so its outputs have no names; "
                "use weights (fer_zoo.list_weights() lists them), train it, or set model.labels"
            )
        place = None if device is None else resolve_device(device)
        self.model = built.to(device=place, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.labels: tuple[str, ...] = built.labels
        chosen = built.preset if preset is None else preset
        self.preset = chosen if isinstance(chosen, Preset) else PRESETS[chosen]
        self.batch_size = batch_size

    @overload
    def __call__(self, images: str | os.PathLike[str]) -> Prediction: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Any) -> Any: ...
    def __call__(self, images: Any) -> Any:
        """Label one image or many.

        Args:
            images: one image (a path, PIL image, numpy array `(H, W)`, `(H, W, 1)`, `(H, W, 3)`,
                tensor `(C, H, W)`), or many: a list of them in any mix of sizes, an array
                `(B, H, W, C)`, a tensor `(B, C, H, W)`.

        Returns:
            A `Prediction` for one image; for many a list in the same order, where an image that
            cannot be used has its `error` set.

        Raises:
            InputError: the one image that was given cannot be used.
        """
        if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
            return list(self.stream(images))
        if isinstance(images, list | tuple):
            return list(self.stream(images))
        if isinstance(images, Iterator):
            raise InputError("got an iterator: use predictor.stream(images)")
        prediction = next(self.stream([images]))
        if prediction.error is not None:
            raise InputError(prediction.error)
        return prediction

    def stream(self, images: Iterable[Any]) -> Iterator[Prediction]:
        """Yield a `Prediction` for each of any number of images, in order, in bounded memory."""
        remaining = iter(images)
        per_batch = max(1, self.batch_size // self.preset.num_views)
        while chunk := list(islice(remaining, per_batch)):
            yield from self._predict(chunk)

    def _predict(self, chunk: list[Any]) -> Iterator[Prediction]:
        squares: list[Tensor] = []
        errors: list[str | None] = []
        for image in chunk:
            try:
                if isinstance(image, np.ndarray) and image.dtype == object:
                    raise InputError("got an array of objects; expected numbers")
                squares.append(self.preset.square(to_gray(image)[None]))
                errors.append(None)
            except InputError as error:
                errors.append(str(error))
        rows: Iterator[tuple[int, list[float]]] = iter(())
        if squares:
            scores = predict_scores(
                self.model, torch.cat(squares), preset=self.preset, batch_size=self.batch_size
            )
            rows = zip(scores.argmax(1).tolist(), scores.softmax(1).tolist(), strict=True)
        for image, problem in zip(chunk, errors, strict=True):
            source = os.fspath(image) if isinstance(image, str | os.PathLike) else None
            if problem is not None:
                yield Prediction(source=source, error=problem)
                continue
            winner, row = next(rows)
            probabilities = dict(zip(self.labels, row, strict=True))
            label = self.labels[winner]
            yield Prediction(label, probabilities[label], probabilities, source)

    def __repr__(self) -> str:
        return f"Predictor({self.model.name!r}, preset={self.preset.name!r}, labels={self.labels})"
