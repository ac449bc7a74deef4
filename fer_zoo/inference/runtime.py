"""The same answers, faster: engines tried against the model itself, the fastest kept."""

import importlib.util
import logging
import math
import statistics
import threading
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fer_zoo.errors import ArgumentError, OptimizeError
from fer_zoo.inference.engines import EagerEngine, Engine, OnnxEngine, TorchEngine
from fer_zoo.inference.scoring import BatchSize, as_faces
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset

log = logging.getLogger("fer_zoo.inference")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.05, torch.int8: 0.15}
"""Largest difference in a probability from the model's own answer, by what is computed in."""
TF32 = 0.01
"""The same for float32 on GPUs, whose convolutions multiply in TF32 unless told otherwise."""
NEAR_TIE = 0.05  # a winner that leads by less may change
LEAST_AGREEMENT = 0.9  # share of the other winners that must stay
LEAST_INT8 = 32  # faces that int8's scales are measured on
LEAST_BATCH = 256  # views at once, where nobody says how many
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
        self,
        model: Classifier,
        preset: Preset,
        engines: dict[int, Engine],
        plain: Engine,
        again: tuple[Any, ...],
    ) -> None:
        self.model, self.labels, self.name = model, model.labels, model.name
        self.preset = preset
        self.report: dict[str, Any] = {}
        self._engines, self._plain, self._again = engines, plain, again
        self._sizes: dict[int, BatchSize] = {}
        self._batch_size = max(LEAST_BATCH, *engines)
        self._worked, self._patience, self._looking = 0.0, math.inf, threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy what it was made from: engines hold memory of oneDNN's and sessions."""
        return self._again

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
        self, images: Tensor, *, preset: Preset | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Return calibrated scores `(B, K)`, float64; see `fer_zoo.inference.predict_scores`.

        Args:
            images: as for a call.
            preset: another transform, which onnxruntime's engine cannot do.
            batch_size: largest number of views at once; 256, or as many as the example had.
        """
        faces, recipe = as_faces(images), preset or self.preset
        batch_size = batch_size or self._batch_size
        size = self._sizes.setdefault(batch_size, BatchSize(batch_size))
        engine = self._engine_for(min(len(faces) * recipe.num_views, batch_size))
        # What was exported knows one transform.
        engine = engine if recipe == self.preset else self._plain
        begun = time.perf_counter()
        found = engine.scores(faces, recipe, size)
        self._worked += time.perf_counter() - begun
        if self._worked > self._patience and len(faces) and recipe == self.preset:
            self._look_for_faster(faces, max(1, batch_size // recipe.num_views))
        return found

    def _look_for_faster(self, images: Tensor, count: int) -> None:
        """Race onnxruntime against torch on `count` faces like these, and go on with the faster."""
        if not self._looking.acquire(blocking=False):
            return  # another thread does
        try:
            if self._patience == math.inf:
                return
            self._patience = math.inf
            faces = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
            with torch.inference_mode():
                rivals = _in_onnx(self.model, self.preset, faces)
                kept, _ = _checked(
                    self._plain, rivals, faces, self.preset, TOLERANCE[torch.float32]
                )
                if kept:
                    self._engines, times = _fastest([self._plain, *kept], faces, self.preset)
                    log.info("%s goes on with %s: %s", self.name, self.engine, times)
        except Exception as error:  # the answers are there; this was only to be faster
            log.warning("%s stays with %s: %s", self.name, self._plain.name, error)
        finally:
            self._looking.release()

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
    preset: Preset | str | None = None,
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
        dtype: what the networks compute in; the model's own if not given. `torch.bfloat16` is much
            faster on GPUs and on CPUs with bfloat16 arithmetic, and moves probabilities in the
            second decimal. `torch.int8`, on a CPU with onnxruntime, is the fastest for single
            faces; its scales are measured on the example, which must be `LEAST_INT8` real faces or
            more.
        compile: run the networks through `torch.compile`; no if not given. It takes a minute, and
            pays for large batches on GPUs.
        cuda_graph: on CUDA, record the work of small batches and replay it; yes if not given.
        preset: the transform; the model's own if not given. `predict_scores` takes another, which
            is then not done by onnxruntime.

    Raises:
        OptimizeError: no engine gives the model's answers: none comes near enough in probability,
            with the same winners but for near ties.

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
    own, recipe = (
        deepcopy(model).eval(),
        preset if isinstance(preset, Preset) else PRESETS[preset or model.preset],
    )
    like = next(own.parameters())
    wanted = dtype or like.dtype
    faces = _faces(64) if example is None else as_faces(example)
    if not len(faces):
        raise ArgumentError("example is one face at least, as many as usual")
    if wanted == torch.int8 and (example is None or len(faces) < LEAST_INT8):
        raise ArgumentError(
            f"int8 is scaled for the faces to come: pass example= with {LEAST_INT8} of them or more"
        )
    if wanted == torch.int8 and like.device.type != "cpu":
        raise ArgumentError("int8 is for CPUs: model.cpu() first, or dtype=torch.bfloat16")
    compute = like.dtype if wanted == torch.int8 else wanted
    graphs = cuda_graph is not False
    with torch.inference_mode():
        plain = _in_torch(own, recipe, faces, compute, compile=bool(compile), cuda_graph=graphs)
        built: list[Engine] = []
        if wanted == torch.int8:
            built = [OnnxEngine(own, recipe, faces, int8=True)]
        elif wanted == torch.float32:
            built = _in_onnx(own, recipe, faces)
        trusted, report = _checked(EagerEngine(own), [plain], faces, recipe, _near(own, compute))
        kept, more = _checked(EagerEngine(own), built, faces, recipe, _near(own, wanted))
        report |= more
        kept = kept if wanted == torch.int8 else [*trusted, *kept]
        if not kept:
            raise OptimizeError(
                f"no engine gives the answers of {model.name!r}: {report} (allowed "
                f"{_near(own, wanted)}); use the model as it is, or another dtype"
            )
        best, times = _fastest(kept, faces, recipe)
    again = (_again, (own, example, dtype, compile, cuda_graph, recipe))
    found = Optimized(model, recipe, best, trusted[0] if trusted else EagerEngine(own), again)
    found.report = report[found.engine] | {"milliseconds": times}
    return found


def _again(
    model: Classifier,
    example: Tensor | None,
    dtype: torch.dtype | None,
    compile: bool | None,
    cuda_graph: bool | None,
    preset: Preset,
) -> Optimized:
    how: Any = {"dtype": dtype, "compile": compile, "cuda_graph": cuda_graph, "preset": preset}
    return optimize(model, example=example, **how)


def folded(model: Classifier, preset: Preset) -> Optimized:
    """Return a model in torch's engine, or as it is if that gives other answers.

    After `PATIENCE` seconds of work on a CPU it looks once whether onnxruntime is faster: making
    the file takes a few seconds, which a few faces would not earn back.
    """
    own, faces = deepcopy(model).eval(), _faces(2)
    dtype = next(own.parameters()).dtype
    with torch.inference_mode():
        engine = _in_torch(own, preset, faces, dtype)
        kept, report = _checked(EagerEngine(own), [engine], faces, preset, _near(own, dtype))
    best = kept[0] if kept else EagerEngine(own)
    found = Optimized(own, preset, {1: best}, best, (folded, (own, preset)))
    found.report = report["torch"]
    found._patience = PATIENCE
    return found


def _near(model: Classifier, dtype: torch.dtype) -> float:
    """Return how far a probability may be from that of a model, computed in a dtype."""
    like = next(model.parameters())
    allowed = max(TOLERANCE.get(dtype, 1e-4), TOLERANCE.get(like.dtype, 0.0))
    return max(allowed, TF32) if like.device.type == "cuda" else allowed


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
        same = found.argmax(1) == truth.argmax(1)
        report[engine.name] = {
            "max_difference": difference,
            "agreement": float(same.double().mean()),
        }
        first, second = truth.topk(2).values.unbind(1) if truth.shape[1] > 1 else (truth[:, 0], 0.0)
        clear = same[first - second > NEAR_TIE].double()
        if difference <= tolerance and not clear.mean() < LEAST_AGREEMENT:  # false for a NaN, too
            kept.append(engine)
        else:
            log.warning(
                "%s differs from the model by %.2g, with %.0f %% of its winners: not used",
                engine.name, difference, 100 * report[engine.name]["agreement"],
            )  # fmt: skip
    return kept, report


def _race(engines: Sequence[Engine], faces: Tensor, preset: Preset) -> dict[str, float]:
    """Return the median milliseconds of each engine on these faces, taken in turn."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    begun, size = time.perf_counter(), BatchSize(max(LEAST_BATCH, len(faces) * preset.num_views))
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
