"""The ways to run a network that are measured, one builder each."""

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measuring import Runner
from peers import NotAvailableError, torchvision_network
from torch import Tensor

import fer_zoo
from fer_zoo.inference import predict_scores
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS, Preset


@dataclass(frozen=True)
class Case:
    """What is to be run: a trained model on the CPU in float32, and how."""

    model: Classifier
    device: torch.device
    dtype: torch.dtype
    images: Tensor  # one batch on the device, uint8 (B, 1, R, R) with the preset's R

    @property
    def preset(self) -> Preset:
        """The model's own transform."""
        return PRESETS[self.model.preset]

    @property
    def networks(self) -> list[Classifier]:
        """The members, or the network itself."""
        return list(getattr(self.model, "members", [self.model]))

    def copy(self) -> Classifier:
        """Return the model as a `Predictor` holds it."""
        like = {"device": self.device, "dtype": self.dtype, "memory_format": torch.channels_last}
        return copy.deepcopy(self.model).to(**like)


def eager(case: Case) -> Runner:
    """Our network and the preset's arithmetic, operation by operation."""
    return _scores(case.copy())


def compiled(case: Case) -> Runner:
    """The same with each network under `torch.compile` in its default mode."""
    model = case.copy()
    for network in getattr(model, "members", [model]):
        network.compile()
    return _scores(model)


def _scores(model: Classifier) -> Runner:
    return Runner(
        lambda images: predict_scores(model, images, batch_size=10 * len(images)),
        finish=lambda scores: scores.softmax(1).float(),
    )


def optimized(case: Case) -> Runner:
    """`fer_zoo.optimize`: uint8 in, probabilities out."""
    optimize = getattr(fer_zoo, "optimize", None)
    if optimize is None:
        raise NotAvailableError("this fer_zoo has no optimize")
    model = copy.deepcopy(case.model).to(case.device)
    dtype = None if case.dtype == torch.float32 else case.dtype
    fast = optimize(model, example=case.images, dtype=dtype)
    return Runner(fast, engine=fast.engine)


def onnxruntime(case: Case) -> Runner:
    """`fer_zoo.export` run by onnxruntime; images and answers lie in the CPU's memory."""
    run = _session(case.model, case.device.type).run
    return Runner(
        lambda images: run(["probabilities"], {"images": images})[0],
        prepare=lambda images: images.cpu().numpy(),
        finish=torch.from_numpy,
    )


@functools.lru_cache(maxsize=1)
def _session(model: Classifier, device: str) -> Any:
    """Return a session for `model`; all batch sizes share it."""
    export = getattr(fer_zoo, "export", None)
    if export is None:
        raise NotAvailableError("this fer_zoo has no export")
    try:
        import onnxruntime
    except ImportError as error:
        raise NotAvailableError(f"{error}: pip install 'fer-zoo[bench]'") from None
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise NotAvailableError(f"this onnxruntime has no {provider}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Else its threads go on spinning into the next mode's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(copy.deepcopy(model), path)
        return onnxruntime.InferenceSession(path, options, providers=[provider])


def torchvision(case: Case) -> Runner:
    """Plain torchvision: the same shape in float32 and nchw, as built, on ready floats.

    Views, fusion and softmax are done outside of the timed call.
    """
    networks = [torchvision_network(network).to(case.device) for network in case.networks]
    preset, model = case.preset, case.model

    def prepare(images: Tensor) -> Tensor:
        views = preset.evaluation_views(images).flatten(0, 1)
        return views.expand(-1, model.in_channels, -1, -1).contiguous()

    @torch.inference_mode()
    def call(views: Tensor) -> list[Tensor]:
        return [network(views) for network in networks]

    @torch.inference_mode()
    def finish(answers: list[Tensor]) -> Tensor:
        views = [a.cpu().unflatten(0, (-1, preset.num_views)) for a in answers]
        logits = torch.stack([preset.combine(v) for v in views])
        scores = model.fusion(logits) if hasattr(model, "fusion") else logits[0]
        return (scores / model.temperature_for(preset.name)).softmax(1)

    return Runner(call, prepare, finish)


MODES: dict[str, Callable[[Case], Runner]] = {
    "torchvision": torchvision,
    "eager": eager,
    "compiled": compiled,
    "optimized": optimized,
    "onnxruntime": onnxruntime,
}
FLOAT32_ONLY = ("torchvision", "onnxruntime")
"""What runs in float32 alone, whatever other types are asked for."""
