"""The networks of a model in torch, with less to do, as an engine that gives calibrated scores."""

import ctypes
import gc
import os
import pickle
from contextlib import suppress
from copy import deepcopy
from functools import cached_property
from multiprocessing.reduction import ForkingPickler
from typing import Any, Self
from weakref import WeakSet

import torch
from torch import Tensor, nn

from fer_zoo.fusion import Fusion
from fer_zoo.inference.fold import fold, snapshot
from fer_zoo.inference.scoring import in_evaluation, tempered
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.models.ensemble import label_orders
from fer_zoo.transforms import Preset
from fer_zoo.transforms.presets import check_shared
from fer_zoo.transforms.transform import for_network

_LIVE: "WeakSet[Inherited]" = WeakSet()


class Inherited:
    """What has threads of its own; once there is one, forked processes compute in one thread."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Note each that there is, copies and unpickled ones as well."""
        made = super().__new__(cls)
        _LIVE.add(made)
        return made

    def forked(self) -> None:
        """Do without these threads, where leaving torch's alone is not enough."""


def _tell_of_fork() -> None:
    if _LIVE:  # as torch's data loader does
        torch.set_num_threads(1)
    for inherited in list(_LIVE):
        inherited.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_of_fork)


class Pipeline(nn.Module):
    """Everything between what goes in and scores `(B, K)`.

    Faces `(B, 1, H, W)` go in, RGB ones for a preset with colour; without `transform` views
    `(B, C, S, S)`; or what a module takes that makes views `(B * num_views, C, S, S)`.
    """

    def __init__(
        self,
        model: Classifier,
        preset: Preset,
        *,
        networks: list[nn.Module] | None = None,
        transform: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        check_shared(preset)
        self.preset, self.transform = preset, transform
        self.channels, self.temperature = model.in_channels, model.temperature
        self.elsewhere = self.temperature.get(model.preset, 1.0)
        self.fusion: Fusion | None = None
        if isinstance(model, Ensemble):
            self.fusion = deepcopy(model.fusion).float().eval()
            orders = label_orders(model.members)
            self.orders = torch.tensor(orders, device=next(model.parameters()).device)
        self.networks = nn.ModuleList(networks or map(in_evaluation, networks_of(model)))

    def forward(self, x: Tensor) -> Tensor:
        """Return calibrated scores."""
        return self.fused(x, self.preset) / self.temperature.get(self.preset.name, self.elsewhere)

    def fused(self, x: Tensor, preset: Preset) -> Tensor:
        """Return uncalibrated scores."""
        views, each = x, preset.num_views if self.transform else 1
        if self.transform is True:
            views = preset.evaluation_views(x).flatten(0, 1)
        elif isinstance(self.transform, nn.Module):
            views = self.transform(x)
        logits = self.logits(for_network(views, self.channels))
        members = [preset.combine(z.unflatten(0, (-1, each))) for z in logits]
        if self.fusion is None:
            return members[0]
        ordered = [z[:, order] for z, order in zip(members, self.orders, strict=True)]
        scores: Tensor = self.fusion(torch.stack(ordered))
        return scores

    def logits(self, views: Tensor) -> list[Tensor]:
        """Return what each network makes of views."""
        return [network(views) for network in self.networks]


class TorchEngine(Inherited, Pipeline):
    """A model's networks in torch, folded for faces like `faces`, or without any only copied."""

    name = "torch"

    @torch.inference_mode()
    def __init__(
        self,
        model: Classifier,
        preset: Preset,
        faces: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        compile: bool = False,
    ) -> None:
        like = next(model.parameters())
        dtype = dtype or like.dtype
        if faces is None:
            networks = [snapshot(network) for network in networks_of(model)]
        else:
            views = preset.evaluation_views(faces.to(like.device)).flatten(0, 1).to(dtype)
            views = for_network(views, model.in_channels)
            x = views.contiguous(memory_format=torch.channels_last)
            networks = [fold(in_evaluation(network), x) for network in networks_of(model)]
        super().__init__(model, preset, networks=networks)
        self.device, self.dtype, self.compiled = like.device, dtype, compile
        gc.collect()  # graphs are cycles, which hold layers that were replaced
        with suppress(OSError, AttributeError):  # glibc keeps what was needed for a moment
            ctypes.CDLL(None).malloc_trim(0)

    @cached_property
    def calls(self) -> list[Any]:
        """The networks, compiled if asked for: again where a copy arrives."""
        if not self.compiled:
            return [*self.networks]
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        return [torch.compile(network, mode=mode) for network in self.networks]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "calls"}

    def scores(self, faces: Tensor, preset: Preset) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        with torch.inference_mode():
            fused = self.fused(faces.to(self.device), preset).cpu()
        return tempered(fused, self.temperature.get(preset.name, self.elsewhere))

    def logits(self, views: Tensor) -> list[Tensor]:
        """Return what each network makes of views, in float32."""
        x = views.to(self.dtype).contiguous(memory_format=torch.channels_last)
        # Copied at once: what CUDA graphs give is written over by the next one.
        return [call(x).to(torch.float32, copy=True) for call in self.calls]


def _as_bytes(engine: TorchEngine) -> Any:
    """Return an engine for another process, without the file descriptors that torch would send."""
    return pickle.loads, (pickle.dumps(engine),)


ForkingPickler.register(TorchEngine, _as_bytes)


def networks_of(model: Classifier) -> list[Classifier]:
    """Return an ensemble's members, or the one network."""
    return [*model.members] if isinstance(model, Ensemble) else [model]
