"""The ways to run a network that are measured, one builder each."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import Runner
from peers import NotAvailableError, torchvision_network
from torch import Tensor

import fer_zoo
from fer_zoo.inference import predict_scores
from fer_zoo.models import Classifier
from fer_zoo.transforms import PRESETS


@dataclass(frozen=True)
class Case:
    """What is to be run: a trained model on the CPU in float32, and how."""

    model: Classifier
    device: torch.device
    dtype: torch.dtype
    images: Tensor  # one batch on the device, uint8 (B, 1, R, R) with the preset's R


def eager(case: Case, *, compile: bool = False) -> Runner:
    """Our network and the preset's arithmetic, operation by operation, as a `Predictor` does it."""
    like = {"device": case.device, "dtype": case.dtype, "memory_format": torch.channels_last}
    model = copy.deepcopy(case.model).to(**like)
    for network in getattr(model, "members", [model]) if compile else ():
        network.compile()
    return Runner(
        lambda images: predict_scores(model, images, batch_size=10 * len(images)),
        finish=lambda scores: scores.softmax(1).float(),
    )


def compiled(case: Case) -> Runner:
    """The same with each network under `torch.compile` in its default mode."""
    return eager(case, compile=True)


def optimized(case: Case) -> Runner:
    """`fer_zoo.optimize` in torch: uint8 in, probabilities out."""
    model = copy.deepcopy(case.model).to(case.device)
    return Runner(fer_zoo.optimize(model, example=case.images, dtype=case.dtype))


def onnxruntime(case: Case) -> Runner:
    """`fer_zoo.optimize` in onnxruntime: uint8 in, probabilities out."""
    if case.device.type != "cpu":
        raise NotAvailableError("onnxruntime is measured on CPUs")
    return Runner(fer_zoo.optimize(case.model, engine="onnxruntime", example=case.images))


def torchvision(case: Case) -> Runner:
    """Plain torchvision: the same shape in float32 and nchw, as built, on ready floats.

    Views, fusion and softmax are done outside of the timed call.
    """
    model, preset = case.model, PRESETS[case.model.preset]
    networks = [torchvision_network(n).to(case.device) for n in getattr(model, "members", [model])]

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
