"""The same answers, faster: engines tried against the model itself, the fastest kept."""

import importlib.util
import logging
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, OptimizeError
from fer_zoo.inference.engines import EagerEngine, Engine, OnnxEngine, TorchEngine
from fer_zoo.inference.scoring import BatchSize, evaluating
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset

log = logging.getLogger("fer_zoo.inference")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05, torch.int8: 0.25}
"""Largest difference in a probability from the model's own answer, by what is computed in."""
LEAST_INT8 = 32  # faces that int8's scales are measured on
TRIAL = 0.3  # seconds that an engine is timed for, per batch size
QUICK = 0.05  # seconds; a quicker call is made once untimed just before it is timed
PATIENCE = 10.0  # seconds of work after which a predictor spends some on finding a faster engine


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
        self._worked = 0.0
        self._patience = math.inf

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
        begun = time.perf_counter()
        found = engine.scores(images, recipe, size)
        self._worked += time.perf_counter() - begun
        if self._worked > self._patience and recipe.name == self.preset.name:
            self._patience = math.inf
            self._look_for_faster(images[: max(1, batch_size // recipe.num_views)])
        return found

    def _look_for_faster(self, faces: Tensor) -> None:
        """Race onnxruntime against torch on faces, and go on with what wins."""
        with evaluating(self.model):
            rivals = _in_onnx(self.model, self.preset, faces)
            kept, _ = _checked(self._plain, rivals, faces, self.preset, TOLERANCE[torch.float32])
        if kept:
            self._engines, times = _fastest([self._plain, *kept], faces, self.preset)
            log.info("%s goes on with %s: %s", self.name, self.engine, times)

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
            on GPUs and on CPUs with bfloat16 arithmetic, and moves probabilities in the second
            decimal. `torch.int8`, on a CPU with onnxruntime, is the fastest for single faces; its
            scales are measured on the example, which must be `LEAST_INT8` real faces or more.
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
        elif wanted == torch.float32:
            built += _in_onnx(model, preset, faces)
        own = EagerEngine(model)
        kept, report = _checked(own, built, faces, preset, TOLERANCE[wanted])
    if not kept:
        raise OptimizeError(
            f"no engine gives the answers of {model.name!r}: {report} (allowed "
            f"{TOLERANCE[wanted]}); use the model as it is, or dtype=torch.float32"
        )
    best, times = _fastest(kept, faces, preset)
    trusted = plain in kept or wanted == torch.int8
    found = Optimized(model, preset, best, plain if trusted else own)
    found.report = report[found.engine] | {"milliseconds": times}
    return found


def folded(model: Classifier, preset: Preset) -> Optimized:
    """Return a model in torch's engine, or as it is if that gives other answers.

    After `PATIENCE` seconds of work on a CPU it looks once whether onnxruntime is faster: making
    the file takes a few seconds, which a few faces would not earn back.
    """
    faces, dtype = _faces(2), next(model.parameters()).dtype
    own = EagerEngine(model)
    with evaluating(model):
        engine: Engine = _in_torch(model, preset, faces, dtype)
        kept, report = _checked(own, [engine], faces, preset, TOLERANCE.get(dtype, 1e-4))
    engine = kept[0] if kept else own
    found = Optimized(model, preset, {1: engine}, engine)
    found.report = report["torch"]
    found._patience = PATIENCE
    return found


def _in_torch(
    model: Classifier, preset: Preset, faces: Tensor, dtype: torch.dtype, **options: bool
) -> TorchEngine:
    views = preset.evaluation_views(faces.to(next(model.parameters()).device)).flatten(0, 1)
    views = views.expand(-1, model.in_channels, -1, -1)
    return TorchEngine(model, views, dtype=dtype, **options)


def _in_onnx(model: Classifier, preset: Preset, faces: Tensor) -> list[Engine]:
    """Return onnxruntime's engine for a float32 model on the CPU, or nothing where it has none."""
    like = next(model.parameters())
    if like.device.type != "cpu" or like.dtype != torch.float32 or not _onnx_installed():
        return []
    try:
        return [OnnxEngine(model, preset, faces)]
    except Exception as error:  # torch's exporter raises whatever a network of timm's makes it
        log.warning("%s has no onnxruntime engine: %s", model.name, str(error).split("\n")[0])
        return []


def _fastest(
    engines: Sequence[Engine], faces: Tensor, preset: Preset
) -> tuple[dict[int, Engine], dict[int, dict[str, float]]]:
    """Return the faster engine for one face and for these faces, by views, and its race."""
    counts = dict.fromkeys([1, len(faces)] if len(engines) > 1 else [])
    times = {n * preset.num_views: _race(engines, faces[:n], preset) for n in counts}
    best = {n: min(engines, key=lambda engine: found[engine.name]) for n, found in times.items()}
    return best or {len(faces) * preset.num_views: engines[0]}, times


def _checked(
    own: Engine, engines: Sequence[Engine], faces: Tensor, preset: Preset, tolerance: float
) -> tuple[list[Engine], dict[str, dict[str, float]]]:
    """Return the engines that give the answers of `own`, and how near each comes."""
    truth = own.scores(faces, preset, BatchSize(256)).softmax(1)
    kept, report = [], {}
    for engine in engines:
        found = engine.scores(faces, preset, BatchSize(256)).softmax(1)
        difference = float((found - truth).abs().max())
        agreement = float((found.argmax(1) == truth.argmax(1)).float().mean())
        report[engine.name] = {"max_difference": difference, "agreement": agreement}
        if difference <= tolerance:  # false for a NaN, too
            kept.append(engine)
        else:
            log.warning("%s differs from the model by %.2g: not used", engine.name, difference)
    return kept, report


def _race(engines: Sequence[Engine], faces: Tensor, preset: Preset) -> dict[str, float]:
    """Return the median milliseconds of each engine on these faces, taken in turn."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    begun, size = time.perf_counter(), BatchSize(256)
    while time.perf_counter() - begun < TRIAL * len(engines) or len(times[engines[0].name]) < 4:
        for engine in engines:
            # Threads of the engine before may still wait in a loop for work.
            if not times[engine.name] or times[engine.name][-1] < 1000 * QUICK:
                engine.scores(faces, preset, size)
            start = time.perf_counter()
            engine.scores(faces, preset, size)
            times[engine.name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(found) for name, found in times.items()}


def _faces(n: int) -> Tensor:
    """Return smooth random images, uint8 `(n, 1, 48, 48)`, the same ones every time."""
    rough = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(rough, (48, 48), mode="bicubic", align_corners=False)
    return smooth.clamp(0, 1).mul(255).byte()


def _onnx_installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript"))
