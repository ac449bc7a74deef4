"""The same answers, faster: a model in an engine, held against the model itself."""

import logging
import os
from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, OptimizeError
from fer_zoo.evidence import Evidence
from fer_zoo.factory import resolve
from fer_zoo.inference.engines import TorchEngine
from fer_zoo.inference.programs import Program, onnx_program
from fer_zoo.inference.scoring import (
    as_faces,
    faces_for,
    in_evaluation,
    in_parts,
    is_mixed,
    predict_scores,
    tempered,
)
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.models.base import check_count
from fer_zoo.models.ensemble import label_orders
from fer_zoo.transforms import PRESETS, Preset
from fer_zoo.transforms.presets import check_shared, get_preset

Engine = Literal["torch", "onnxruntime"]
log = logging.getLogger("fer_zoo.inference")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05}
"""Largest difference in a probability from the model's own answer, by what is computed in."""
TF32 = 0.01
"""The same for float32 on GPUs, whose convolutions multiply in TF32 unless told otherwise."""
NEAR_TIE = 0.05  # a winner that leads by less may change
LEAST_AGREEMENT = 0.9  # share of the other winners that must stay
LARGE_VIEWS = 10 * 64**2  # pixels of a face's views
LEAST_BATCH = 256  # views at once, where nobody says how many


class Optimized:
    """A model as `optimize` returns it: uint8 faces in, calibrated probabilities out.

    The preset's arithmetic, the networks and the fusion are one call. It is a snapshot: what is
    done to the model afterwards does not reach it.

    Attributes:
        name: of the model.
        labels: its class names, or None.
        preset: its transform.
        engine: `"torch"` or `"onnxruntime"`.
        report: `max_difference` of a probability from the model's own, and `agreement`, the share
            of faces with the same winner, both on the example.
        state: the digest of the model's tensors; empty where it is not known.
        temperature: of the probabilities, by preset; other presets' is that of the model's own.

    Example:
        >>> import fer_zoo
        >>> fast = fer_zoo.optimize(fer_zoo.create("test_tiny").eval(),
        ...                         example=torch.zeros(2, 48, 48, dtype=torch.uint8))
        >>> fast(torch.zeros(2, 48, 48, dtype=torch.uint8)).sum(1)
        tensor([1., 1.])
    """

    state: str = ""
    _own: str = ""  # the model's preset
    temperature: Mapping[str, float] = MappingProxyType({})

    def __init__(
        self,
        name: str,
        labels: tuple[str, ...] | None,
        preset: Preset,
        scoring: TorchEngine | Program,
        most: int = 0,
    ) -> None:
        self.name, self.labels, self.preset = name, labels, preset
        self.engine, self.report = scoring.name, dict[str, float]()
        self._scoring, self._batch_size = scoring, max(LEAST_BATCH, most)

    def __call__(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities `(B, K)`, float32, of faces.

        Args:
            images: uint8, or float in [0, 1]; gray, `(B, H, W)` or `(B, 1, H, W)`; for networks
                that see colours RGB, `(B, 3, H, W)`, too.
        """
        return self.predict_scores(images).softmax(1).float()

    def predict_scores(
        self, images: Tensor, *, preset: Preset | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Return calibrated scores `(B, K)`, float64; see `fer_zoo.inference.predict_scores`.

        Args:
            images: as for a call.
            preset: another transform, which onnxruntime's engine cannot do.
            batch_size: largest number of views at once; 256, or as many as the example had.
        """
        preset = preset or self.preset
        faces = as_faces(images, color=preset.color)
        most = self._batch_size if batch_size is None else check_count("batch_size", batch_size)
        run = partial(self._scoring.scores, preset=preset)
        return torch.cat(in_parts(faces, run, batch_size=most, views=preset.num_views))

    def _come_from(self, model: Classifier) -> "Optimized":
        """Note the model whose answers these are, so that thresholds of another one are refused."""
        self.state, self._own = model.state, model.preset
        self.temperature = model.temperature
        return self

    def temperature_for(self, preset: str) -> float:
        """Return a preset's temperature, as `Classifier.temperature_for` does."""
        return self.temperature.get(preset, self.temperature.get(self._own, 1.0))

    def __repr__(self) -> str:
        return f"Optimized({self.name!r}, preset={self.preset.name!r}, engine={self.engine!r})"


class Mixed(Optimized):
    """An ensemble whose members see each their own view, each of them in an engine."""

    def __init__(self, model: Ensemble, members: Sequence[Optimized]) -> None:
        self.name, self.labels, self.preset = model.name, model.labels, PRESETS[model.preset]
        self.engine, self.report, self.members = members[0].engine, {}, [*members]
        self._fusion = deepcopy(model.fusion).cpu().float().eval()
        self._orders = label_orders(model.members)
        self._come_from(model)

    def predict_scores(
        self,
        images: Tensor | Sequence[Tensor],
        *,
        preset: Preset | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return calibrated scores `(B, K)`, float64.

        Args:
            images: faces for all members, or a tensor of the same faces for each of them.
            preset: the ensemble's own.
            batch_size: largest number of views at once.
        """
        if preset not in (None, self.preset):
            check_shared(self.preset)
        given = [images] * len(self.members) if isinstance(images, Tensor) else images
        scores = [
            member.predict_scores(faces_for(member.preset, faces), batch_size=batch_size)[:, order]
            for member, faces, order in zip(self.members, given, self._orders, strict=True)
        ]
        with torch.inference_mode():
            fused = self._fusion(torch.stack(scores).float())
            return tempered(fused, self.temperature_for(self.preset.name))


def uncalibrated(member: Classifier) -> Classifier:
    """Return a member, not copied, without its temperatures: inside an ensemble none counts."""
    bare = copy(member)
    bare._hold(Evidence())
    return bare


def optimize(
    model: Classifier | str | os.PathLike[str],
    *,
    engine: Engine = "torch",
    example: Tensor | None = None,
    dtype: torch.dtype | None = None,
    compile: bool = False,
    preset: Preset | str | None = None,
) -> Optimized:
    """Return a model that gives the same answers faster, as a callable on faces.

    Batch norm is folded into the convolutions, memory is channels_last or oneDNN's own. The
    engine's answers on the example are held against the model's own.

    Args:
        model: a trained network or ensemble, or its name or address; it is copied.
        engine: `"torch"`, or `"onnxruntime"` (`fer-zoo[onnx]`), which on CPUs is faster for single
            faces and takes a few seconds to get ready; `benchmarks/inference.py` compares them.
        example: faces like those to come, as many as usual: uint8 `(B, H, W)` or `(B, 1, H, W)`.
            64 random ones if not given.
        dtype: what the networks compute in; the model's own if not given. `torch.bfloat16` is much
            faster on GPUs and on CPUs with bfloat16 arithmetic, and moves probabilities in the
            second decimal.
        compile: run the networks through `torch.compile`. It takes a minute, and pays on GPUs.
        preset: the transform; the model's own if not given.

    Raises:
        OptimizeError: the engine's probabilities, or winners by more than a little, are others.
        MissingDependencyError: onnxruntime is asked for, and not installed.

    Example:
        >>> fast = optimize("resnet18_025")
        >>> fast(torch.zeros(3, 48, 48).byte()).shape, fast.report["max_difference"] < 1e-4
        (torch.Size([3, 7]), True)
    """
    own = in_evaluation(resolve(model))
    preset = get_preset(own.preset if preset is None else preset)
    if isinstance(own, Ensemble) and is_mixed(own, preset):
        how: dict[str, Any] = {"engine": engine, "dtype": dtype, "compile": compile}
        members = [optimize(uncalibrated(m), example=example, **how) for m in own.members]
        mixed = Mixed(own, members)
        mixed.report = _checked(own, mixed, smooth_faces(64) if example is None else example, dtype)
        return mixed
    like = next(own.parameters())
    wanted = like.dtype if dtype is None else dtype
    if not isinstance(wanted, torch.dtype) or wanted not in TOLERANCE:
        raise ArgumentError(f"dtype must be one of {list(TOLERANCE)}, got {wanted!r:.80}")
    faces = as_faces(smooth_faces(64) if example is None else example, color=preset.color)
    if not len(faces):
        raise ArgumentError("example is one face at least, as many as usual")
    scoring: TorchEngine | Program
    if engine == "onnxruntime":
        if like.device.type != "cpu" or like.dtype != torch.float32 or compile:
            raise ArgumentError(
                "onnxruntime takes a float32 model on the CPU, which it does not compile: "
                "model.cpu().float() first, or use engine='torch'"
            )
        if wanted != torch.float32:
            raise ArgumentError(f"onnxruntime computes in float32, not in {wanted}")
        scoring = onnx_program(own, preset, faces)
    elif engine == "torch":
        scoring = TorchEngine(own, preset, faces, dtype=wanted, compile=compile)
    else:
        raise ArgumentError(f"engine is 'torch' or 'onnxruntime', got {engine!r}")
    fast = Optimized(own.name, own.labels, preset, scoring, len(faces) * preset.num_views)
    fast.report = _checked(own, fast, faces, wanted)
    return fast._come_from(own)


def _checked(
    model: Classifier, fast: Optimized, faces: Tensor, dtype: torch.dtype | None
) -> dict[str, float]:
    wanted = next(model.parameters()).dtype if dtype is None else dtype
    otherwise = "use the model as it is, or another dtype"
    return check_answers(model, fast, faces, dtype=wanted, otherwise=otherwise)


def faster(model: Classifier, preset: Preset, engine: Engine) -> Optimized:
    """Return a model in an engine, or in torch as it is where folding gives other answers."""
    if isinstance(model, Ensemble) and is_mixed(model, preset):
        members = [faster(uncalibrated(m), PRESETS[m.preset], engine) for m in model.members]
        return Mixed(model, members)
    # A file says how large its faces are: where that is large, one view of one is example enough.
    large = preset.num_views * preset.size**2 > LARGE_VIEWS
    lean = replace(preset, views="center") if large and engine == "torch" else preset
    try:
        fast = optimize(model, engine=engine, preset=lean, example=smooth_faces(1 if large else 2))
        fast.preset = preset
        return fast
    except OptimizeError as error:
        if engine != "torch":
            raise
        log.warning("%s is used as it is: %s", model.name, error)
        slow = Optimized(model.name, model.labels, preset, TorchEngine(model, preset))
        return slow._come_from(model)


def smooth_faces(n: int) -> Tensor:
    """Return smooth random images, uint8 `(n, 1, 48, 48)`, the same ones every time."""
    rough = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(rough, (48, 48), mode="bicubic", align_corners=False)
    return smooth.clamp(0, 1).mul(255).byte()


def check_answers(
    model: Classifier, fast: Optimized, faces: Tensor, *, dtype: torch.dtype, otherwise: str
) -> dict[str, float]:
    """Return how near a faster form comes to the answers of its model, if that is near enough."""
    like = next(model.parameters())
    allowed = max(TOLERANCE.get(kind, 1e-4) for kind in (dtype, like.dtype))
    if like.device.type == "cuda":
        allowed = max(allowed, TF32)
    truth = predict_scores(model, faces, preset=fast.preset).softmax(1)
    answers = fast.predict_scores(faces).softmax(1)
    difference, same = float((answers - truth).abs().max()), answers.argmax(1) == truth.argmax(1)
    report = {"max_difference": difference, "agreement": float(same.double().mean())}
    first, second = truth.topk(2).values.unbind(1) if truth.shape[1] > 1 else (truth[:, 0], 0.0)
    clear = same[first - second > NEAR_TIE].double()
    if not difference <= allowed or clear.mean() < LEAST_AGREEMENT:  # true for a NaN, too
        raise OptimizeError(
            f"{fast.engine} does not give the answers of {model.name!r}: {report} (a difference of "
            f"{allowed} is allowed); {otherwise}"
        )
    return report
