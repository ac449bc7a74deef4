"""The networks of a model in torch, with less to do, as an engine that gives calibrated scores."""

import ctypes
import gc
import os
from contextlib import suppress
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fer_zoo.fusion import Fusion
from fer_zoo.inference.fold import fold, snapshot
from fer_zoo.inference.scoring import scores_by, tempered
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.transforms import Preset


class TorchEngine:
    """A copy of a model's networks in torch.

    Args:
        model: in evaluation mode.
        example: views `(N, C, S, S)` on the model's device.
        dtype: what the networks compute in.
        compile: run them through `torch.compile`; on CUDA recorded, and replayed (CUDA graphs).
        folded: give the networks less to do; else they are only copied.
    """

    name = "torch"

    def __init__(
        self,
        model: Classifier,
        example: Tensor,
        *,
        dtype: torch.dtype,
        compile: bool = False,
        folded: bool = True,
    ) -> None:
        _survive_forks()
        self.device, self.dtype, self.compile = example.device, dtype, compile
        x = example.to(dtype).contiguous(memory_format=torch.channels_last)
        networks = list(model.members) if isinstance(model, Ensemble) else [model]
        self.networks = [fold(n, x) if folded else snapshot(n).to(dtype) for n in networks]
        self.order = model.order.clone() if isinstance(model, Ensemble) else None
        self.channels = model.in_channels
        self.fusion: Fusion | None = None
        if isinstance(model, Ensemble):
            self.fusion = deepcopy(model.fusion).cpu().float().eval()
        self.temperature = model.temperature
        self.elsewhere = self.temperature.get(model.preset, 1.0)
        self._prepare()
        gc.collect()  # graphs are cycles, which hold layers that were replaced
        with suppress(OSError, AttributeError):  # glibc keeps what was needed for a moment
            ctypes.CDLL(None).malloc_trim(0)

    def _prepare(self) -> None:
        self.calls: list[Any] = list(self.networks)
        if self.compile:
            mode = "reduce-overhead" if self.device.type == "cuda" else None
            self.calls = [torch.compile(network, mode=mode) for network in self.networks]

    def __getstate__(self) -> dict[str, Any]:
        # Compiled code is made again where a copy arrives.
        return {k: v for k, v in self.__dict__.items() if k != "calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        _survive_forks()
        self._prepare()

    def scores(self, images: Tensor, preset: Preset, batch_size: int) -> Tensor:
        """Return calibrated scores `(B, K)`, float64, of faces `(B, 1, H, W)`."""
        how: Any = {"channels": self.channels, "device": self.device, "batch_size": batch_size}
        members = scores_by(self.member_logits, images, preset, **how)
        with torch.inference_mode():
            fused = members[0] if self.fusion is None else self.fusion(members)
        return tempered(fused, self.temperature.get(preset.name, self.elsewhere))

    def member_logits(self, views: Tensor) -> Tensor:
        """Return logits `(M, N, K)`, float32, of views `(N, C, S, S)`."""
        x = views.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            # Copied at once: what CUDA graphs give is written over by the next one.
            found = [network(x).to(torch.float32, copy=True) for network in self.calls]
        logits = torch.stack(found)
        if self.order is None:
            return logits
        return logits.gather(2, self.order[:, None].expand_as(logits))


@cache
def _survive_forks() -> None:
    """Let forked processes compute in one thread: GNU's OpenMP waits for ever for its threads.

    They do not come along. torch's data loader does the same in its workers.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
