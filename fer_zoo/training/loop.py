"""The training loop: data resident on the device, batches augmented there, exact resume."""

import csv
import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from fer_zoo._device import resolve_device
from fer_zoo._files import replacing
from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import ArgumentError, CheckpointError, TrainingError
from fer_zoo.factory import create, load, save
from fer_zoo.inference.scoring import predict_scores
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.training.recipe import Recipe, get_recipe
from fer_zoo.training.state import (
    batches,
    check_splits,
    describe,
    differences,
    generator,
    hash_state,
    mix_seed,
    resolve_precision,
    under,
)
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.checkpoint import load_state_dict, read_checkpoint, write_checkpoint

log = logging.getLogger("fer_zoo.training")


@dataclass(frozen=True)
class Epoch:
    """One line of the history: losses in nats, accuracies from 0 to 1.

    Attributes:
        epoch: counted from 1.
        lr: learning rate at its end.
        train_loss: mean over the augmented training faces, while the weights change.
        train_accuracy: the same.
        val_loss: on the validation faces, with the weights that are kept (averaged if EMA is on).
        val_accuracy: the same.
        seconds: wall time of the training part.
    """

    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        model: the best model, in evaluation mode.
        history: one entry per epoch.
        best: the entry of the best epoch.
        checkpoint: file of the best model, for `fer_zoo.load`.
    """

    model: Classifier
    history: list[Epoch]
    best: Epoch
    checkpoint: Path


def train(
    model: str | Classifier,
    data: FaceDataset,
    *,
    output: str | os.PathLike[str],
    validation: FaceDataset,
    recipe: str | os.PathLike[str] | Recipe = "thesis_20",
    device: torch.device | str | None = None,
    resume: bool = True,
    progress: bool = True,
    **changes: Any,
) -> TrainResult:
    """Train a network; the best epoch by validation accuracy is kept.

    After every epoch three files in `output` are replaced, each whole or not at all:
    `best.safetensors` (the best model so far), `last.safetensors` (all that is needed to go on)
    and `history.csv`. Called again with the same arguments, a run that was interrupted or killed
    goes on after its last complete epoch and ends with the same numbers as one that was not.

    Args:
        model: a name (built here, seeded by the recipe) or a network; its head must have as many
            classes as `data`.
        data: what to train on.
        output: folder for the run; one run per folder.
        validation: what the best epoch is chosen on; for FER2013 the `"public"` split.
        recipe: a name from `fer-zoo recipes`, the path of a `.toml` file, or a `Recipe`.
        device: CUDA where there is one, else the CPU.
        resume: go on with the run in `output`; False starts again.
        progress: show a bar on a terminal.
        **changes: settings of the recipe to change, e.g. `epochs=3`.

    Raises:
        SplitError: the validation faces are the test split or the training faces.
        TrainingError: another run is in `output`, or the loss is no longer a number.
        KeyboardInterrupt: passed on; the finished epochs are kept.

    Example:
        >>> import tempfile
        >>> def noise(n):
        ...     images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
        ...     return FaceDataset(images, torch.arange(n) % 2, labels=("a", "b"), name="noise")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train("test_tiny", noise(16), validation=noise(8), output=folder, epochs=1)
        >>> len(result.history), result.model.labels
        (1, ('a', 'b'))
    """
    settings = get_recipe(recipe, changes)
    for faces in (data, validation):
        if not isinstance(faces, FaceDataset):
            raise ArgumentError(f"faces come as a fer_zoo.data dataset, got {faces!r:.80}")
    check_splits(data, validation)
    run = _Run(model, data, validation, settings, Path(output), device, progress)
    if resume:
        run.resume()
    elif run.folder.exists():
        for name in ("last.safetensors", "best.safetensors", "history.csv"):
            (run.folder / name).unlink(missing_ok=True)
    return run.finish()


class _Run:
    """The state of one run: everything that a resume must bring back."""

    def __init__(
        self,
        model: str | Classifier,
        data: FaceDataset,
        validation: FaceDataset,
        recipe: Recipe,
        folder: Path,
        device: torch.device | str | None,
        progress: bool,
    ) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.preset = PRESETS[recipe.preset]
        self.how = self.preset.training.updated(recipe.augment)
        self.device = resolve_device(device)
        if isinstance(model, str):
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                model = create(model, num_classes=len(data.labels))
        if isinstance(model, Ensemble):
            raise ArgumentError(
                "train the members one by one and fuse them: fer_zoo.create_ensemble([...]), "
                "then fer_zoo.fit_fusion"
            )
        if model.num_classes != len(data.labels):
            raise ArgumentError(
                f"the model has {model.num_classes} classes, the data {len(data.labels)} "
                f"{data.labels}; call model.reset_classifier({len(data.labels)}) first"
            )
        if empty := [name for name, n in data.counts.items() if not n]:
            raise TrainingError(f"no training face for {empty}: add some or drop the class")
        if any(p.dtype != torch.float32 for p in model.parameters()):
            raise ArgumentError("training keeps parameters in float32: call model.float() first")
        if len(data) < 2:
            raise TrainingError("training needs at least two faces")
        model.preset = recipe.preset
        if model.labels is None:
            model.labels = data.labels
        self.model = model.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = model.labels
        self.targets = data.targets_for(self.labels).to(self.device)
        self.images = data.images.to(self.device)
        self.validation, self.val_targets = validation, validation.targets_for(self.labels)
        self.precision = resolve_precision(recipe, self.device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        self.average: AveragedModel | None = None
        if recipe.ema:
            averaging = get_ema_multi_avg_fn(recipe.ema)
            self.average = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        self.history: list[Epoch] = []
        self.started_from = model.provenance.get("started_from", model.provenance.get("weights"))
        self.identity = {
            "recipe": recipe.to_dict() | {"precision": self.precision},
            "model": model.name,
            "start": hash_state(model),
            "data": describe(data),
            "validation": describe(validation),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / "writable") as probe:
                probe.touch()
            (self.folder / "writable").unlink()
        except OSError as error:
            raise TrainingError(f"{self.folder} cannot be written to: {error}") from None

    @property
    def best(self) -> Epoch:
        """The first of the epochs with the highest validation accuracy."""
        return max(self.history, key=lambda e: e.val_accuracy)

    def finish(self) -> TrainResult:
        """Run the epochs that are missing and return the best model."""
        for number in range(len(self.history) + 1, self.recipe.epochs + 1):
            try:
                epoch = self._epoch(number)
            except KeyboardInterrupt:
                log.warning(
                    "interrupted in epoch %d; the same command goes on after epoch %d",
                    number,
                    number - 1,
                )
                raise
            self.history.append(epoch)
            self._keep()
            log.info(
                "epoch %d/%d  loss %.4f  accuracy %.2f %%  val loss %.4f  val accuracy %.2f %%"
                "  %.1f s%s",
                number,
                self.recipe.epochs,
                epoch.train_loss,
                100 * epoch.train_accuracy,
                epoch.val_loss,
                100 * epoch.val_accuracy,
                epoch.seconds,
                "  best" if self.best is epoch else "",
            )
        checkpoint = self.folder / "best.safetensors"
        return TrainResult(load(checkpoint), self.history, self.best, checkpoint)

    def _epoch(self, number: int) -> Epoch:
        recipe, count = self.recipe, len(self.images)
        start, order_rng = time.perf_counter(), generator(recipe.seed, number, 0)
        augment_rng = generator(recipe.seed, number, 1)
        order = torch.randperm(count, generator=order_rng)
        losses, hits = torch.zeros(2, device=self.device)
        done = 0
        parts = batches(order, recipe.batch_size)
        bar = tqdm(
            total=count,
            desc=f"epoch {number}/{recipe.epochs}",
            unit="face",
            leave=False,
            disable=None if self.progress else True,
        )
        self.model.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with bar, torch.random.fork_rng(devices=devices):
            torch.manual_seed(mix_seed(recipe.seed, number, 2))
            for rows in parts:
                lr = recipe.lr_at(number - 1 + done / count)
                at = rows.to(self.device)
                x = self.preset.training_batch(self.images[at][:, None], augment_rng, self.how)
                loss, right = self._step(x, self.targets[at], lr)
                losses, hits, done = losses + loss * len(rows), hits + right, done + len(rows)
                bar.update(len(rows))
        train_loss = float(losses) / count
        seconds = time.perf_counter() - start
        scores = predict_scores(self._kept_model(), self.validation.images, preset=self.preset)
        val_loss = float(F.cross_entropy(scores, self.val_targets))
        if not math.isfinite(train_loss + val_loss):
            kept = f"; {self.folder / 'best.safetensors'} holds the last good model" * bool(
                self.history
            )
            raise TrainingError(
                f"the loss became {train_loss} (validation {val_loss}) in epoch {number}: "
                f"lower lr (now {recipe.lr}){kept}"
            )
        return Epoch(
            epoch=number,
            lr=recipe.lr_at(number),
            train_loss=train_loss,
            train_accuracy=int(hits) / count,
            val_loss=val_loss,
            val_accuracy=float((scores.argmax(1) == self.val_targets).float().mean()),
            seconds=seconds,
        )

    def _step(self, x: Tensor, targets: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        x = x.expand(-1, self.model.in_channels, -1, -1).contiguous(
            memory_format=torch.channels_last
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(x)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss.detach(), (logits.detach().argmax(1) == targets).sum()

    def _kept_model(self) -> Classifier:
        kept: Any = self.model if self.average is None else self.average.module
        return kept  # type: ignore[no-any-return]

    def _keep(self) -> None:
        model = self._kept_model()
        if self.best is self.history[-1]:
            model.provenance = {
                **self.identity,
                "epoch": self.best.epoch,
                "val_accuracy": self.best.val_accuracy,
                "started_from": self.started_from,
                "selection": f"best of {self.recipe.epochs} epochs on the validation data",
            }
            save(model, self.folder / "best.safetensors")
        self._write_history()
        config = {"run": self.identity, "history": [asdict(e) for e in self.history]}
        write_checkpoint(self.folder / "last.safetensors", self._tensors(), config)

    def _write_history(self) -> None:
        with (
            replacing(self.folder / "history.csv") as temporary,
            temporary.open("w", newline="") as f,
        ):
            writer = csv.DictWriter(f, [field.name for field in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(e) for e in self.history)

    def _tensors(self) -> dict[str, Tensor]:
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                found[f"momentum.{name}"] = buffer
        return found

    def resume(self) -> None:
        """Bring back the run in the folder, if there is one."""
        path = self.folder / "last.safetensors"
        if not path.exists():
            return
        tensors, config = read_checkpoint(path)
        try:
            earlier, history = config["run"], [Epoch(**e) for e in config["history"]]
        except (KeyError, TypeError):
            raise CheckpointError(f"{path}: not the state of a training run") from None
        if changed := differences(earlier, json.loads(json.dumps(self.identity))):
            raise TrainingError(
                f"{self.folder} holds a run with other settings: {changed}; "
                "use another output folder, or resume=False (--fresh) to start again"
            )
        load_state_dict(self.model, under("model.", tensors))
        if self.average is not None:
            load_state_dict(self.average, under("average.", tensors))
        momentum = under("momentum.", tensors)
        for name, parameter in self.model.named_parameters():
            if name in momentum:
                buffer = torch.empty_like(parameter).copy_(momentum[name])
                self.optimizer.state[parameter]["momentum_buffer"] = buffer
        if not (self.folder / "best.safetensors").is_file():
            raise TrainingError(
                f"{self.folder} has lost its best.safetensors; "
                "start again with resume=False (--fresh)"
            )
        self.history = history
        self._write_history()
        log.info("resuming %s after epoch %d", self.folder, len(history))
