"""One run: data resident on the device, batches augmented there, every epoch kept."""

import logging
import math
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from fer_zoo._progress import progress_bar, tell
from fer_zoo.data.faces import FaceDataset
from fer_zoo.errors import CheckpointError, TrainingError
from fer_zoo.evidence import Calibration, Training
from fer_zoo.factory import create, resolve
from fer_zoo.inference import fit_temperature, predict_scores
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.models import Classifier
from fer_zoo.saving import load, save_file
from fer_zoo.training import state
from fer_zoo.training.history import Epoch, describe_epoch, write_history
from fer_zoo.training.objective import Objective, Teacher, write_answers
from fer_zoo.training.recipe import Recipe
from fer_zoo.transforms.presets import name_of
from fer_zoo.transforms.transform import for_network
from fer_zoo.weights.address import is_address
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint

log = logging.getLogger("fer_zoo.training")
CHECK_EVERY = 50  # steps between two looks at whether the loss is still a number


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run leaves.

    Attributes:
        model: the best model, in evaluation mode.
        history: one entry per epoch.
        best: the entry of the best epoch.
        checkpoint: file of the best model, for `fer_zoo.load`.

    Example:
        >>> import fer_zoo
        >>> epoch = Epoch(epoch=1, lr=0.1, train_loss=1.9, train_accuracy=0.2, val_loss=1.8,
        ...               val_accuracy=0.3, seconds=7.5)
        >>> TrainResult(model=fer_zoo.create("test_tiny"), history=[epoch], best=epoch,
        ...             checkpoint=Path("runs/best.safetensors"))
        TrainResult('test_tiny', best epoch 1 of 1: validation accuracy 30.00 %, \
checkpoint='runs/best.safetensors')
    """

    model: Classifier
    history: list[Epoch]
    best: Epoch
    checkpoint: Path

    def __repr__(self) -> str:
        return (
            f"TrainResult({self.model.name!r}, best epoch {self.best.epoch} of "
            f"{len(self.history)}: validation accuracy {100 * self.best.val_accuracy:.2f} %, "
            f"checkpoint={str(self.checkpoint)!r})"
        )


class Run:
    """The state of one run: everything that a resume must bring back."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Classifier,
        data: FaceDataset,
        validation: FaceDataset,
        recipe: Recipe,
        teacher: Teacher | None,
        folder: Path,
        device: torch.device,
        *,
        progress: bool = False,
    ) -> None:
        self.folder, self.device, self.progress = folder, device, progress
        if isinstance(model, str | os.PathLike):
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                if is_address(model):
                    model = resolve(model, device="cpu")
                else:
                    model = create(str(model), num_classes=len(data.labels))
        state.check_model(model, data, validation)
        state.seed_head(model, recipe.seed)
        self.preset = state.choose_preset(model, recipe)
        self.recipe = recipe = replace(recipe, preset=self.preset.name)
        self.augmentation = self.preset.training.updated(recipe.augment)
        self.data, self.labels = data, model.labels or data.labels
        self.objective = Objective(recipe, data, self.labels, device, teacher)
        self.validation, self.val_targets = validation, validation.targets_for(self.labels)
        self.start = model.evidence
        model.preset, model.labels = name_of(self.preset), self.labels
        self.model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = data.images.to(device)
        self.precision = state.resolve_precision(recipe, device)
        given = sorted(name for name, p in model.named_parameters() if not p.requires_grad)
        self.learning = [p for p in model.parameters() if p.requires_grad]
        self.history: list[Epoch] = []
        self.uncalibrated: set[str] = set()
        self.identity: dict[str, Any] = {
            "recipe": recipe.to_dict() | {"precision": self.precision},
            "model": model.name,
            "start": state.hash_state(model),
            "data": state.describe(data),
            "validation": state.describe(validation),
            "teacher": self.objective.teacher_identity,
        } | ({"frozen": given} if given else {})

    def begin(self, *, resume: bool) -> None:
        """Freeze what shall not learn, look at the folder, and bring back the run in it.

        Without `resume` an earlier run stays until the first finished epoch replaces it.
        """
        self.frozen = state.freeze(self.model, self.recipe.freeze)
        self.optimizer = state.make_optimizer(self.recipe, self.model)
        self.average: AveragedModel | None = None
        if self.recipe.ema:
            self.average = state.warmed_average(self.model, self.recipe.ema)
        self.network: Any = torch.compile(self.model) if self.recipe.compile else self.model
        last, best = (self.folder / f"{name}.safetensors" for name in ("last", "best"))
        if resume and best.exists() and not last.exists() and not self._is_first(best):
            raise TrainingError(
                f"{best} exists, but no last.safetensors to go on from: use another output folder, "
                "or resume=False (--fresh) to write over it"
            )
        if resume and last.exists():
            self._resume()
        if self.objective.answers is not None:
            store = self.folder / "teacher.safetensors"
            write_answers(store, self.objective.answers, self.data, self.labels)

    def _is_first(self, best: Path) -> bool:
        """Whether a best model is of the first epoch of this run, which was killed right then."""
        try:
            known = load(best).evidence.training
        except CheckpointError:
            return False
        own = (1, self.identity["start"], self.identity["recipe"], self.data.fingerprint)
        found = known and (known.epoch, known.start, known.recipe, known.faces.fingerprint)
        return found == own

    @property
    def best(self) -> Epoch:
        """The first of the epochs with the highest validation accuracy."""
        return max(self.history, key=lambda e: e.val_accuracy)

    @property
    def kept(self) -> Classifier:
        """The model that is evaluated and saved: the averaged one if there is one."""
        kept: Any = self.model if self.average is None else self.average.module
        return kept  # type: ignore[no-any-return]

    def finish(self, board: Any = None) -> TrainResult:
        """Run the epochs that are missing, tell TensorBoard's writer, and return the best model."""
        began, done = time.perf_counter(), len(self.history)
        self._tell_beginning()
        while not self._ends():
            number = len(self.history) + 1
            try:
                epoch, scores = self._epoch(number)
                self.history.append(epoch)
                self._keep(scores)
            except KeyboardInterrupt:
                log.warning("interrupted in epoch %d; %s", number, self._how_to_go_on(number))
                raise
            except (OSError, CheckpointError) as error:
                raise TrainingError(
                    f"epoch {number} could not be stored ({error}); {self._how_to_go_on(number)}"
                ) from None
            if board is not None:
                for name, value in asdict(epoch).items():
                    if name != "epoch":
                        board.add_scalar(name.replace("_", "/", 1), value, number)
                board.flush()
            each = (time.perf_counter() - began) / (number - done)
            left = each * (self.recipe.epochs - number)
            self._tell(describe_epoch(epoch, self.best, self.recipe.epochs, left))
        if self._is_stuck() and len(self.history) > done:
            count = self.recipe.stop_after
            self._tell(f"ends here: {count} epochs without a better one (stop_after={count})")
        checkpoint = self.folder / "best.safetensors"
        model = load(checkpoint)
        return TrainResult(model=model, history=self.history, best=self.best, checkpoint=checkpoint)

    def _tell(self, line: str) -> None:
        tell(log, line, show=self.progress)

    def _tell_beginning(self) -> None:
        recipe, done = self.recipe, len(self.history)
        if self._ends():
            self._tell(f"finished already, {done} epochs: loaded from {self.folder}")
            return
        how = f"recipe {recipe.name}, preset {recipe.preset}, {self.precision} on {self.device}"
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            how += f", {threads} thread{'s' if threads > 1 else ''}"
        size, judges = f"{len(self.data):,} faces", f"{len(self.validation):,} to validate on"
        self._tell(f"{self.model.name}: {size} of {self.data.title}, {judges}; {how}")
        if done:
            self._tell(f"goes on from epoch {done + 1} of {recipe.epochs} in {self.folder}")

    def _ends(self) -> bool:
        return len(self.history) >= self.recipe.epochs or self._is_stuck()

    def _is_stuck(self) -> bool:
        stop_after, history = self.recipe.stop_after, self.history
        return bool(stop_after and history) and len(history) - self.best.epoch >= stop_after

    def _how_to_go_on(self, number: int) -> str:
        if number == 1:
            return "no epoch was finished"
        return (
            f"the same command goes on after epoch {number - 1}, and "
            f"{self.folder / 'best.safetensors'} holds the best model so far"
        )

    def _epoch(self, number: int) -> tuple[Epoch, Tensor]:
        recipe, count = self.recipe, len(self.images)
        start, order_rng = time.perf_counter(), state.generator(recipe.seed, number, 0)
        augment_rng = state.generator(recipe.seed, number, 1)
        order = self.objective.draw(order_rng).to(self.device)
        accuracies, lr = [e.val_accuracy for e in self.history], recipe.lr
        sums, done = torch.zeros(2, dtype=torch.float64, device=self.device), 0
        name = f"epoch {number}/{recipe.epochs}"
        bar = progress_bar(total=count, desc=name, unit="face", leave=False, show=self.progress)
        self.network.train()
        for module in self.frozen:
            module.eval()
        devices = [self.device] if self.device.type == "cuda" else []
        with bar, torch.random.fork_rng(devices=devices):
            torch.manual_seed(state.mix_seed(recipe.seed, number, 2))
            for step, rows in enumerate(state.batches(order, recipe.batch_size)):
                lr = recipe.lr_at(number - 1 + done / count, accuracies)
                faces = self.images[rows][:, None]
                x = self.preset.training_batch(faces, augment_rng, self.augmentation)
                x, shares = self.objective.views(x, rows, self.augmentation, augment_rng)
                sums += self._step(x, shares, lr)
                done += len(rows)
                if step % CHECK_EVERY == CHECK_EVERY - 1:
                    self._check_loss(float(sums[0]) / done, number)
                bar.update(len(rows))
        train_loss, hits = (sums / count).tolist()
        self._check_loss(train_loss, number)
        seconds = time.perf_counter() - start
        scores = predict_scores(self.kept, self.validation.images, preset=self.preset).float()
        val_loss = float(F.cross_entropy(scores, self.val_targets))
        self._check_loss(val_loss, number)
        epoch = Epoch(
            epoch=number,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=hits,
            val_loss=val_loss,
            val_accuracy=float((scores.argmax(1) == self.val_targets).float().mean()),
            seconds=seconds,
        )
        return epoch, scores

    def _check_loss(self, loss: float, number: int) -> None:
        if math.isfinite(loss):
            return
        best = self.folder / "best.safetensors"
        kept = f"; {best} holds the last good model" if self.history else ""
        raise TrainingError(
            f"the loss became {loss} in epoch {number}: lower lr (now {self.recipe.lr}){kept}"
        )

    def _step(self, x: Tensor, shares: list[Tensor], lr: float) -> Tensor:
        """Take one step; return the sums of losses and of hits."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        x = for_network(x, self.model.in_channels)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits, teacher_logits = self.network(x), self.objective.ask(x)
        logits = logits.float()
        losses = self.objective.losses(logits, shares, teacher_logits)
        self.optimizer.zero_grad()
        (losses.sum() * (1 / len(x))).backward()
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        hits = logits.detach().argmax(1) == shares[0].argmax(1)
        return torch.stack([losses.detach().sum(), hits.sum()])

    def _keep(self, scores: Tensor) -> None:
        if self.best is self.history[-1]:
            calibration = None
            if len(scores) >= LEAST_FACES:
                with state.may_stay_uncalibrated("the model", self.uncalibrated):
                    fitted = fit_temperature(scores, self.val_targets, split="validation faces")
                    found = {self.preset.name: fitted}
                    calibration = Calibration(temperature=found, faces=self.validation.faces)
            self._save_best(self.kept, calibration)
            # The best epoch's figures are the file's; the caller's network goes on changing.
            self.kept.evidence = self.start.of_changed()
        config = {"run": self.identity, "history": [asdict(e) for e in self.history]}
        tensors = state.pack(self.model, self.average, self.optimizer)
        write_checkpoint(self.folder / "last.safetensors", tensors, config)
        # Last, so that it has no epoch that would have to be run again.
        write_history(self.folder / "history.csv", self.history)

    def _save_best(self, model: Classifier, calibration: Calibration | None) -> None:
        names = ("model", "recipe", "start", "teacher")
        training = Training(
            **{name: self.identity[name] for name in names},
            faces=self.data.faces,
            validation=self.validation.faces,
            selection=f"best of {self._how_long()} on the validation data",
            epoch=self.best.epoch,
            val_accuracy=self.best.val_accuracy,
            frozen=tuple(self.identity.get("frozen", ())),
        )
        before = self.start.of_changed()
        model.evidence = replace(before, training=training, calibration=calibration)
        save_file(model, self.folder / "best.safetensors")

    def _how_long(self) -> str:
        recipe = self.recipe
        stop = f", or until {recipe.stop_after} brought no better one," if recipe.stop_after else ""
        return f"{recipe.epochs} epochs{stop}"

    def _resume(self) -> None:
        path, best = self.folder / "last.safetensors", self.folder / "best.safetensors"
        tensors, config = read_checkpoint(path)
        try:
            earlier, history = config["run"], [Epoch(**e) for e in config["history"]]
            # Settings that came later than the run had their defaults then.
            earlier |= {"recipe": Recipe(name="").to_dict() | earlier["recipe"]}
            for faces in (earlier["data"], earlier["validation"]):
                faces.pop("name", None)  # runs took their folder's name for a part of it once
            if earlier.get("processes") == 1:  # of several it is another run
                del earlier["processes"]
            own = state.lengthened(self.identity, earlier)
        except (AttributeError, KeyError, TypeError):
            raise CheckpointError(f"{path}: not the state of a training run") from None
        if changed := state.differences(earlier, own):
            held = earlier["recipe"]["precision"]
            if self.recipe.precision == "auto" and held != self.precision:
                changed += (
                    f" (of itself this machine computes in {self.precision}; precision={held!r}, "
                    f"--set precision={held}, keeps the run's)"
                )
            raise TrainingError(
                f"{self.folder} holds a run with other settings: {changed}; "
                "use another output folder, or resume=False (--fresh) to start again"
            )
        if not best.is_file():
            raise TrainingError(
                f"{self.folder} has lost its best.safetensors; "
                "start again with resume=False (--fresh)"
            )
        model = load(best)
        training = model.evidence.training
        if training is None or training.start != own["start"]:
            raise TrainingError(f"{best} is not of the run in {self.folder}; use another folder")
        state.unpack(tensors, self.model, self.average, self.optimizer)
        self.history = history
        try:
            if own != self.identity:  # the best model says how long the run is now
                self._save_best(model, model.evidence.calibration)
            write_history(self.folder / "history.csv", history)  # it may be lost
        except (OSError, CheckpointError) as error:
            raise TrainingError(
                f"{self.folder} cannot be written to ({error}); what it holds is unchanged"
            ) from None
