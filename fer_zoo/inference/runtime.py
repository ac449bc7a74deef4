"""The same answers, faster: engines tried against the model itself, the fastest kept."""

import importlib.util
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, OptimizeError
from fer_zoo.inference.engines import EagerEngine, Engine, OnnxEngine, TorchEngine
from fer_zoo.inference.scoring import BatchSize, evaluating, predict_scores
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset

log = logging.getLogger("fer_zoo.inference")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05, torch.int8: 0.25}
"""Largest difference in a probability from the model's own answer, by what is computed in."""
LEAST_INT8 = 32  # faces that int8's scales are measured on
TRIAL = 0.3  # seconds that an engine is timed for, per batch size


class Optimized:
    """A model as `optimize` returns it: uint8 faces in, calibrated probabilities out.

    The preset's arithmetic, the networks and the fusion are one call. It is a snapshot: what is
    done to the model afterwards does not reach it.

    Attributes:
        name: of the model.
        labels: its class names, or None.
        preset: its transform.
        report: `max_difference` of a probability from the model's own, and `agreement`, the share
            of faces with the same winner, both on the example; `milliseconds` of each engine by
            views at once, where there was a choice.

    Example:
        >>> import fer_zoo
        >>> fast = fer_zoo.optimize(fer_zoo.create("test_tiny").eval(),
        ...                         example=torch.zeros(2, 48, 48, dtype=torch.uint8))
        >>> fast(torch.zeros(2, 48, 48, dtype=torch.uint8)).sum(1)
        tensor([1., 1.])
    """

    def __init__(
        self, model: Classifier, preset: Preset, engines: dict[int, Engine], plain: Engine
    ) -> None:
        self.model, self.labels, self.name = model, model.labels, model.name
        self.preset = preset
        self.report: dict[str, Any] = {}
        self._engines, self._plain = engines, plain
        self._sizes: dict[int, BatchSize] = {}

    @property
    def engine(self) -> str:
        """The engine for batches as large as the example, `torch` or `onnxruntime`."""
        return self._engines[max(self._engines)].name

    def __call__(self, images: Tensor) -> Tensor:
        """Return calibrated probabilities `(B, K)`, float32, of faces.

        Args:
            images: uint8, or float in [0, 1]; gray, `(B, H, W)` or `(B, 1, H, W)`.
        """
        return self.predict_scores(images).softmax(1).float()

    def predict_scores(
        self, images: Tensor, *, preset: Preset | None = None, batch_size: int = 256
    ) -> Tensor:
        """Return calibrated scores `(B, K)`, float64; see `fer_zoo.inference.predict_scores`."""
        recipe, size = preset or self.preset, self._sizes.get(batch_size)
        if size is None:
            size = self._sizes[batch_size] = BatchSize(batch_size)
        images = images if images.ndim == 4 else images[:, None]
        engine = self._engine_for(min(len(images) * recipe.num_views, batch_size))
        # What was exported knows one transform.
        engine = engine if recipe.name == self.preset.name else self._plain
        return engine.scores(images, recipe, size)

    def _engine_for(self, views: int) -> Engine:
        """Return the engine that won at the nearest number of views, by ratio."""
        nearest = min(self._engines, key=lambda n: max(n / views, views / n) if views else n)
        return self._engines[nearest]

    def __repr__(self) -> str:
        chosen = {n: engine.name for n, engine in self._engines.items()}
        return f"Optimized({self.name!r}, preset={self.preset.name!r}, engines={chosen})"


def optimize(
    model: Classifier,
    *,
    example: Tensor | None = None,
    dtype: torch.dtype | None = None,
    compile: bool | None = None,
    cuda_graph: bool | None = None,
) -> Optimized:
    """Return a model that gives the same answers faster, as a callable on faces.

    Batch norm is folded into the convolutions, memory is channels_last, and on a CPU with oneDNN
    the weights lie in its own layout. On a CPU, where onnxruntime is installed (`fer-zoo[onnx]`),
    it is tried beside torch, one face at a time and at the size of the example, and the faster one
    is used for such batches. Every engine's answers on the example are held against the model's
    own; one that differs is not used.

    Args:
        model: a trained network or ensemble; it is copied.
        example: faces like those to come, as many as usual: uint8 `(B, H, W)` or `(B, 1, H, W)`.
            64 random ones if not given.
        dtype: what the networks compute in; float32 if not given. `torch.bfloat16` is much faster
            on GPUs and on CPUs with matrix units, and moves probabilities in the second decimal.
            `torch.int8`, on a CPU with onnxruntime, is the fastest for single faces; its scales
            are measured on the example, which must be `LEAST_INT8` real faces or more.
        compile: run the networks through `torch.compile`; no if not given. It takes a minute, and
            pays for large batches on GPUs.
        cuda_graph: on CUDA, record the work of small batches and replay it; yes if not given.

    Raises:
        OptimizeError: no engine gives the model's answers.

    Example:
        >>> import fer_zoo
        >>> model = fer_zoo.create("resnet18_025", weights="default")
        >>> fast = optimize(model, example=torch.zeros(2, 48, 48, dtype=torch.uint8))
        >>> fast(torch.zeros(3, 48, 48, dtype=torch.uint8)).shape
        torch.Size([3, 7])
        >>> fast.report["max_difference"] < 1e-4
        True
    """
    if not isinstance(model, Classifier):
        raise ArgumentError(f"optimize takes a model of the zoo, got {type(model).__name__}")
    if dtype is not None and dtype not in TOLERANCE:
        raise ArgumentError(f"dtype must be one of {list(TOLERANCE)}, got {dtype}")
    wanted = dtype or torch.float32
    faces = _faces(64) if example is None else example
    if faces.ndim not in (3, 4) or not len(faces):
        raise ArgumentError(f"example is faces (B, H, W) or (B, 1, H, W), got {tuple(faces.shape)}")
    if wanted == torch.int8 and (example is None or len(example) < LEAST_INT8):
        raise ArgumentError(
            f"int8 is scaled for the faces to come: pass example= with {LEAST_INT8} of them or more"
        )
    preset, like = PRESETS[model.preset], next(model.parameters())
    if wanted == torch.int8 and like.device.type != "cpu":
        raise ArgumentError("int8 is for CPUs: model.cpu() first, or dtype=torch.bfloat16")
    faces = faces if faces.ndim == 4 else faces[:, None]
    compute = torch.float32 if wanted == torch.int8 else wanted
    graphs = cuda_graph is not False
    with evaluating(model):
        plain = _in_torch(model, preset, faces, compute, compile=bool(compile), cuda_graph=graphs)
        built: list[Engine] = [plain]
        if wanted == torch.int8:
            built = [OnnxEngine(model, preset, faces, int8=True)]
        elif {wanted, like.dtype} == {torch.float32} and like.device.type == "cpu":
            built += [OnnxEngine(model, preset, faces)] if _onnx_installed() else []
    kept, report = _checked(model, built, faces, preset, TOLERANCE[wanted])
    if not kept:
        raise OptimizeError(
            f"no engine gives the answers of {model.name!r}: {report} (allowed "
            f"{TOLERANCE[wanted]}); use the model as it is, or dtype=torch.float32"
        )
    count = len(faces) * preset.num_views
    best, times = {count: kept[0]}, {}
    for n in {1, len(faces)} if len(kept) > 1 else ():
        views = n * preset.num_views
        times[views] = _race(kept, faces[:n], preset)
        best[views] = min(kept, key=lambda engine: times[views][engine.name])
    trusted = plain in kept or wanted == torch.int8
    found = Optimized(model, preset, best, plain if trusted else EagerEngine(model))
    found.report = report[found.engine] | {"milliseconds": times}
    return found


def folded(model: Classifier, preset: Preset) -> Optimized:
    """Return a model in torch's engine, or as it is if that gives other answers."""
    faces, dtype = _faces(2), next(model.parameters()).dtype
    with evaluating(model):
        engine: Engine = _in_torch(model, preset, faces, dtype)
    kept, report = _checked(model, [engine], faces, preset, TOLERANCE.get(dtype, 1e-4))
    engine = kept[0] if kept else EagerEngine(model)
    found = Optimized(model, preset, {1: engine}, engine)
    found.report = report["torch"]
    return found


def _in_torch(
    model: Classifier, preset: Preset, faces: Tensor, dtype: torch.dtype, **options: bool
) -> TorchEngine:
    views = preset.evaluation_views(faces.to(next(model.parameters()).device)).flatten(0, 1)
    views = views.expand(-1, model.in_channels, -1, -1)
    return TorchEngine(model, views, dtype=dtype, **options)


def _checked(
    model: Classifier, engines: Sequence[Engine], faces: Tensor, preset: Preset, tolerance: float
) -> tuple[list[Engine], dict[str, dict[str, float]]]:
    """Return the engines that give the model's own answers, and how near each comes."""
    own = predict_scores(model, faces, preset=preset).softmax(1)
    kept, report = [], {}
    for engine in engines:
        found = engine.scores(faces, preset, BatchSize(256)).softmax(1)
        difference = float((found - own).abs().max())
        agreement = float((found.argmax(1) == own.argmax(1)).float().mean())
        report[engine.name] = {"max_difference": difference, "agreement": agreement}
        if difference <= tolerance:  # false for a NaN, too
            kept.append(engine)
        else:
            log.warning("%s differs by %.2g in %s: not used", engine.name, difference, model.name)
    return kept, report


def _race(engines: Sequence[Engine], faces: Tensor, preset: Preset) -> dict[str, float]:
    """Return the median milliseconds of each engine on these faces, taken in turn."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    begun, size = time.perf_counter(), BatchSize(256)
    while time.perf_counter() - begun < TRIAL * len(engines) or len(times[engines[0].name]) < 4:
        for engine in engines:
            start = time.perf_counter()
            engine.scores(faces, preset, size)
            times[engine.name].append(1000 * (time.perf_counter() - start))
    # The first call warms up.
    return {name: sorted(t[1:])[len(t[1:]) // 2] for name, t in times.items()}


def _faces(n: int) -> Tensor:
    """Return smooth random images, uint8 `(n, 1, 48, 48)`, the same ones every time."""
    rough = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(rough, (48, 48), mode="bicubic", align_corners=False)
    return smooth.clamp(0, 1).mul(255).byte()


def _onnx_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
