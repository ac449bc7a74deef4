"""Several processes as one run: what `torchrun` starts, on CPUs (gloo) or GPUs (nccl).

Every process holds all faces, draws the same random numbers and walks through the same batches in
the same order as a single process would; of each batch it takes its share of the rows. Gradients
are averaged by torch's DistributedDataParallel. Batch norm looks at one process's rows.
"""

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fer_zoo._device import resolve_device
from fer_zoo.errors import ArgumentError


@dataclass(frozen=True)
class Workers:
    """The processes of one run, seen from one of them."""

    rank: int = 0
    count: int = 1

    @property
    def chief(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Return this process's part of `rows` rows; the parts differ by at most one row."""
        return slice(rows * self.rank // self.count, rows * (self.rank + 1) // self.count)

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return `model` with gradients averaged over the processes."""
        if self.count == 1:
            return model
        return nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if device.type == "cuda" else None
        )

    def total(self, value: Tensor) -> Tensor:
        """Return the sum of `value` over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def gathered(self, part: Tensor) -> Tensor:
        """Return all processes' rows, in the order of the whole; CPU tensors."""
        if self.count == 1:
            return part
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, part)
        return torch.cat(parts)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` with the chief's."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def joined(device: torch.device | str | None) -> Iterator[tuple[Workers, torch.device]]:
    """Join the processes that torchrun started, if it did, and yield them and the device.

    A process that torchrun ends because another one died stops like one that is interrupted.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or not dist.is_available():
        yield Workers(), resolve_device(device)
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR") if name not in os.environ]:
        raise ArgumentError(
            f"WORLD_SIZE={count} is set, but {missing} are not: start the processes with torchrun, "
            "or unset WORLD_SIZE"
        )
    own = resolve_device(device)
    if own.type == "cuda":
        own = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(own)
    first = not dist.is_initialized()
    if first:
        dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield Workers(dist.get_rank(), count), own
    finally:
        signal.signal(signal.SIGTERM, before)
        if first:
            dist.destroy_process_group()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
