"""The training engine beyond one plain run: schedules, targets, teachers, seeds, ensembles."""

import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch.nn import functional as F

import fer_zoo
from conftest import ROOT, stripes
from fer_zoo._install import install_command
from fer_zoo.cli import main
from fer_zoo.data import FaceDataset
from fer_zoo.errors import (
    ArgumentError,
    FerZooError,
    MissingDependencyError,
    TrainingError,
    UnknownNameError,
)
from fer_zoo.training import RECIPES, Recipe, read_history
from fer_zoo.training.objective import Objective
from fer_zoo.training.state import generator
from fer_zoo.transforms import Augmentation
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint

QUICK = {"recipe": "thesis_20", "epochs": 2, "batch_size": 16, "lr": 0.05, "precision": "fp32"}
CPU = torch.device("cpu")


def run(
    folder: Path, model: object = "plain_test", **changes: object
) -> fer_zoo.training.TrainResult:
    data, judge = stripes(64, split="train"), stripes(33, seed=1, split="public")
    data, judge = changes.pop("data", data), changes.pop("validation", judge)
    return fer_zoo.train(model, data, validation=judge, output=folder, **(QUICK | changes))


def dummy() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def test_cosine_and_decay_are_timms():
    cosine = RECIPES["strong"].updated({"epochs": 12, "warmup": 3, "lr": 1.0})
    reference = CosineLRScheduler(
        dummy(), t_initial=12 - 3, warmup_t=3, warmup_lr_init=0.0, warmup_prefix=True
    )
    decay = Recipe(
        name="wujie", epochs=99, lr=1.0, schedule="decay", decay_start=80, decay_every=5,
        decay_rate=0.9,
    )  # fmt: skip
    steps = StepLRScheduler(dummy(), decay_t=5, decay_rate=0.9)
    for epoch in range(1, 13):
        assert cosine.lr_at(epoch) == pytest.approx(reference._get_lr(epoch)[0], abs=1e-9)
    for epoch in (0, 79.9, 80, 84.9, 85, 98):
        expected = steps._get_lr(int(epoch) - 80 + 5)[0] if epoch >= 80 else 1.0
        assert decay.lr_at(epoch) == pytest.approx(expected)


def test_plateau_lowers_the_rate_when_accuracy_stalls():
    recipe = Recipe(name="x", lr=1.0, schedule="plateau", patience=2, decay_rate=0.75)
    rising = [0.1, 0.2, 0.3]
    assert recipe.lr_at(3, rising) == 1.0
    assert recipe.lr_at(6, [*rising, 0.3, 0.2]) == 1.0
    assert recipe.lr_at(6, [*rising, 0.3, 0.2, 0.1]) == 0.75
    assert recipe.lr_at(9, [*rising, *[0.1] * 6]) == 0.75**2


def test_plateau_in_a_run_and_in_its_resume(tmp_path: Path):
    changes = {"schedule": "plateau", "patience": 0, "decay_rate": 0.5, "lr": 1e-6}
    whole = run(tmp_path / "whole", **changes, epochs=4)
    rates = [e.lr for e in whole.history]
    assert rates[-1] < rates[0]  # at such a rate nothing rises
    run(tmp_path / "parts", **changes, epochs=2)
    parts = run(tmp_path / "parts", **changes, epochs=4)
    assert [e.lr for e in parts.history] == rates


def test_a_run_at_a_constant_rate_can_be_lengthened(tmp_path: Path):
    run(tmp_path / "parts", epochs=2)
    parts = run(tmp_path / "parts", epochs=4)
    whole = run(tmp_path / "whole", epochs=4)
    assert [e.val_loss for e in parts.history] == [e.val_loss for e in whole.history]
    assert parts.model.evidence == whole.model.evidence
    with pytest.raises(TrainingError, match=r"recipe.epochs 4 there, 3 here"):
        run(tmp_path / "parts", epochs=3)
    run(tmp_path / "cosine", schedule="cosine")
    with pytest.raises(TrainingError, match=r"recipe.epochs"):
        run(tmp_path / "cosine", schedule="cosine", epochs=3)


@pytest.mark.slow
def test_adamw_is_torchs(tmp_path: Path):
    """Its state survives a resume, and one whole-batch step is torch's own."""
    plain = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.1}
    still = {"preset": "fer48_plain", "augment": {"padding": 0, "flip": 0.0}, "batch_size": 64}
    run(tmp_path / "one", **plain, **still, epochs=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fer_zoo.create("plain_test", num_classes=3)
    model = model.to(memory_format=torch.channels_last)
    step = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    faces = stripes(64)
    order = torch.randperm(64, generator=generator(0, 1, 0))
    x = faces.images[order][:, None].float() / 255
    F.cross_entropy(model(x), faces.targets[order]).backward()
    step.step()
    found = read_checkpoint(tmp_path / "one" / "last.safetensors")[0]
    for name, value in model.named_parameters():
        # The first step is lr times the gradient's sign: where that is noise, it may differ.
        same = (found[f"model.{name}"] - value).abs() < 1e-4
        assert same.float().mean() > 0.9, name
    run(tmp_path / "parts", **plain)
    parts = run(tmp_path / "parts", **plain, epochs=4)
    whole = run(tmp_path / "whole", **plain, epochs=4)
    assert [e.val_loss for e in parts.history] == [e.val_loss for e in whole.history]
    with pytest.raises(ArgumentError, match="nesterov is SGD's"):
        run(tmp_path / "bad", optimizer="adamw", nesterov=True)


def voted(n: int, seed: int = 0) -> FaceDataset:
    faces = stripes(n, seed=seed)
    votes = 0.7 * torch.eye(3)[faces.targets] + 0.1
    return FaceDataset(faces.images, faces.targets, labels=faces.labels, name="voted", votes=votes)


def test_votes_are_the_targets_where_asked_for(tmp_path: Path):
    """The loss at its best is the votes' entropy, whatever order the model's labels have."""
    data = voted(96)
    recipe = Recipe(name="x", targets="votes")
    order = [2, 0, 1]
    labels = tuple(data.labels[i] for i in order)
    objective = Objective(recipe, data, labels, CPU, None)
    rows = torch.arange(96)
    _, shares = objective.views(torch.zeros(96, 1, 4, 4), rows, Augmentation(), torch.Generator())
    torch.testing.assert_close(shares[0], data.votes[:, order])
    losses = objective.losses(data.votes[:, order].log(), shares)
    entropy = -(data.votes * data.votes.log()).sum(1)
    torch.testing.assert_close(losses, entropy)
    judge = voted(33, 1)
    result = run(tmp_path / "votes", data=data, validation=judge, targets="votes", epochs=1)
    plain = run(tmp_path / "labels", data=data, validation=judge, epochs=1)
    assert result.history[0].train_loss != plain.history[0].train_loss
    assert result.history[0].train_loss > float(entropy.mean())  # no prediction can be better
    assert result.model.evidence.training.recipe["targets"] == "votes"
    assert plain.model.evidence.training.recipe["targets"] == "labels"
    with pytest.raises(TrainingError, match=r"no votes.*FERPlus"):
        run(tmp_path / "none", targets="votes")
    assert torch.equal(data.subset(10).votes, data.votes[torch.arange(10) * 96 // 10])
    assert data.fingerprint != stripes(96).fingerprint


def test_distillation_is_the_papers_loss():
    data = stripes(12)
    recipe = Recipe(name="x", distill=0.7, distill_temperature=3.0, label_smoothing=0.1)
    teacher = fer_zoo.create("test_tiny", num_classes=3).eval()
    teacher.labels = [data.labels[i] for i in (1, 2, 0)]
    objective = Objective(recipe, data, data.labels, CPU, teacher)
    x, logits = torch.rand(12, 1, 40, 40), torch.randn(12, 3)
    _, shares = objective.views(x, torch.arange(12), Augmentation(), torch.Generator())
    found = objective.losses(logits, shares, objective.ask(x))
    said = teacher(x)[:, [2, 0, 1]].detach()
    asked, student = (said / 3).softmax(1), (logits / 3).softmax(1)
    taught = (asked * (asked / student).log()).sum(1) * 9
    own = F.cross_entropy(logits, data.targets, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(found, 0.3 * own + 0.7 * taught)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> fer_zoo.training.TrainResult:
    """A run that has learned the stripes."""
    options = {"epochs": 8, "data": stripes(120), "preset": "fer40_center"}
    return run(tmp_path_factory.mktemp("teacher"), "test_tiny", **options)


@pytest.mark.parametrize("on", ["views", "faces"])
@pytest.mark.slow
def test_a_student_learns_from_its_teacher(tmp_path: Path, teacher, on):
    """From the teacher's answers alone, and from its stored answers in another run."""
    changes = {"distill": 1.0, "distill_on": on, "preset": "fer40_center", "epochs": 12}
    changes |= {"distill_temperature": 2.0, "lr": 0.02, "model": "test_tiny"}
    blind = stripes(120)
    wrong = FaceDataset(  # labels say nothing: only the teacher can have taught it
        blind.images, torch.arange(120) * 2 % 3, labels=blind.labels, name="wrong"
    )
    student = run(tmp_path / "a", data=wrong, teacher=teacher.model, **changes)
    assert student.best.val_accuracy > 0.6
    stored = tmp_path / "a" / "teacher.safetensors"
    assert stored.exists() == (on == "faces")
    if on == "faces":
        short = changes | {"epochs": 2}
        first = run(tmp_path / "first", data=wrong, teacher=teacher.model, **short)
        again = run(tmp_path / "b", data=wrong, teacher=stored, **short)
        assert [e.val_loss for e in again.history] == [e.val_loss for e in first.history]
        with pytest.raises(TrainingError, match="of other faces"):
            run(tmp_path / "c", teacher=stored, **changes)
    else:
        short = changes | {"epochs": 2}
        first = run(tmp_path / "first", data=wrong, teacher=teacher.model, **short)
        by_path = run(tmp_path / "b", data=wrong, teacher=teacher.checkpoint, **short)
        assert [e.val_loss for e in by_path.history] == [e.val_loss for e in first.history]
        with pytest.raises(ArgumentError, match="distill_on='faces'"):
            run(tmp_path / "c", teacher=teacher.model, **(changes | {"preset": "fer48_plain"}))
    with pytest.raises(TrainingError, match="teacher"):
        run(tmp_path / "a", data=wrong, teacher=another(teacher.model), **changes)


@pytest.mark.parametrize("on", ["views", "faces"])
def test_a_teacher_may_be_kept_in_half_precision(tmp_path: Path, teacher, on):
    """And stays the caller's: in its precision, its mode, its place."""
    teacher = another(teacher.model).to(torch.bfloat16).train()
    changes = {"distill": 0.5, "distill_on": on, "preset": "fer40_center", "epochs": 1}
    first = run(tmp_path / "a", teacher=teacher, **changes)
    assert (teacher.fc.weight.dtype, teacher.training) == (torch.bfloat16, True)
    again = run(tmp_path / "a", teacher=teacher.float(), **changes) if on == "faces" else first
    assert again.history == first.history


def another(model: fer_zoo.models.Classifier) -> fer_zoo.models.Classifier:
    other = fer_zoo.create("test_tiny", num_classes=3).eval()
    other.labels, other.preset = model.labels, model.preset
    return other


def test_another_teacher_is_another_run(tmp_path: Path, teacher):
    """What the teacher says is the run's identity, not the name of its file."""
    teacher = another(teacher.model)
    changes = {"distill": 0.5, "distill_on": "faces", "preset": "fer40_center", "epochs": 1}
    first = run(tmp_path / "a", teacher=teacher, **changes)
    teacher.temperature = {"fer40_center": 5.0}
    assert run(tmp_path / "a", teacher=teacher, **changes).history == first.history
    assert all(p.requires_grad for p in teacher.parameters())
    stored = tmp_path / "a" / "teacher.safetensors"
    tensors, config = read_checkpoint(stored)
    write_checkpoint(stored, {"scores": tensors["scores"].flip(0)}, config)
    with pytest.raises(TrainingError, match="teacher"):
        run(tmp_path / "a", teacher=stored, **changes)
    with pytest.raises(ArgumentError, match="distill_on='faces'"):
        run(tmp_path / "b", teacher=stored, **(changes | {"distill_on": "views"}))


def test_the_same_members_under_another_fusion_are_another_teacher(tmp_path: Path, teacher):
    """A fusion without parameters is known by its name and options alone."""
    first = another(teacher.model)
    members = [first, another(first)]
    changes = {"distill": 0.5, "distill_on": "views", "preset": "fer40_center", "epochs": 1}
    teacher = fer_zoo.create_ensemble(members).eval()
    run(tmp_path / "a", teacher=teacher, **changes)
    before = (tmp_path / "a" / "last.safetensors").read_bytes()
    run(tmp_path / "a", teacher=teacher, **changes)
    logits = fer_zoo.fusion.Average(2, 3, space="logit")
    for fusion in ("max", logits):
        with pytest.raises(TrainingError, match="other settings: teacher"):
            run(tmp_path / "a", teacher=fer_zoo.create_ensemble(members, fusion=fusion), **changes)
    assert (tmp_path / "a" / "last.safetensors").read_bytes() == before


def test_a_checkpoint_of_something_else_is_not_written_over(tmp_path: Path):
    fer_zoo.save(fer_zoo.create("test_tiny"), tmp_path / "best.safetensors")
    before = (tmp_path / "best.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"no last.safetensors to go on from.*--fresh"):
        run(tmp_path)
    assert (tmp_path / "best.safetensors").read_bytes() == before
    run(tmp_path / "run")
    (tmp_path / "run" / "best.safetensors").write_bytes(before)
    with pytest.raises(TrainingError, match="is not of the run in"):
        run(tmp_path / "run", epochs=3)


def test_a_fresh_start_that_fails_leaves_the_earlier_run(tmp_path: Path):
    run(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match="became") as error:
        run(tmp_path, resume=False, lr=1e30)
    assert "holds" not in str(error.value)  # the best model there is another run's
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_where_the_weights_come_from_is_kept(tmp_path: Path):
    first = run(tmp_path / "a").model
    second = run(tmp_path / "b", first).model
    assert second.evidence.started_from.startswith("plain_test trained by thesis_20 (seed 0)")
    second.reset_classifier(3)
    third = run(tmp_path / "c", second).model
    assert third.evidence.started_from.count("trained by") == 2


def test_a_teacher_and_distill_go_together(tmp_path: Path):
    with pytest.raises(ArgumentError, match="distill > 0"):
        run(tmp_path, distill=0.5)
    with pytest.raises(ArgumentError, match="distill > 0"):
        run(tmp_path, teacher=fer_zoo.create("test_tiny", num_classes=3))


@pytest.mark.slow
def test_it_learns_from_mixed_faces(tmp_path: Path, teacher):
    mixed = {"mixup": 0.2, "cutmix": 0.2}
    options = {"data": stripes(120), "preset": "fer40_center", "epochs": 8, "augment": mixed}
    result = run(tmp_path, "test_tiny", **options)
    assert result.best.val_accuracy > 0.55
    assert teacher.history[-1].train_loss < result.history[-1].train_loss


@pytest.mark.slow
def test_compile_changes_nothing_but_speed(tmp_path: Path):
    plain = run(tmp_path / "plain", "plain_test", epochs=1)
    fast = run(tmp_path / "fast", "plain_test", epochs=1, compile=True)
    assert fast.history[0].train_loss == pytest.approx(plain.history[0].train_loss, rel=1e-3)
    assert fast.history[0].val_loss == pytest.approx(plain.history[0].val_loss, rel=1e-3)
    assert fer_zoo.load(fast.checkpoint).name == "plain_test"


@pytest.mark.slow
def test_an_ensemble_by_recipe(tmp_path: Path, monkeypatch):
    """Members in folders of their own, the head fitted on validation faces; nothing twice."""
    monkeypatch.setattr("fer_zoo.training.ensembles.fit_temperature", lambda *_, **__: 1.5)
    spec = fer_zoo.models.ModelSpec(
        name="twins_test", description="", source="", members=("test_tiny", "test_tiny"),
        fusion="stacked",
    )  # fmt: skip
    if "twins_test" not in fer_zoo.list_models():
        fer_zoo.register_model(spec)
    data, judge = stripes(60, split="train"), stripes(201, seed=1, split="public")
    options = QUICK | {"output": tmp_path, "validation": judge}
    result = fer_zoo.train_ensemble("twins_test", data, **options)
    assert list(result.members) == ["test_tiny", "test_tiny-2"]
    seeds = [r.model.evidence.training.recipe["seed"] for r in result.members.values()]
    assert seeds == [0, 1]
    assert (result.fit.report.fusion, result.fit.report.split) == ("stacked", "public")
    loaded = fer_zoo.load(result.checkpoint)
    assert (loaded.name, loaded.fusion.name) == ("twins_test", "stacked")
    assert loaded.temperature == {loaded.preset: 1.5}
    assert loaded.evidence.fusion_fit == result.fit
    scores = fer_zoo.inference.predict_scores(loaded, judge.images)
    assert (
        float((scores.argmax(1) == judge.targets).float().mean())
        >= max(r.best.val_accuracy for r in result.members.values()) - 0.05
    )
    written = (tmp_path / "test_tiny" / "last.safetensors").stat().st_mtime_ns
    again = fer_zoo.train_ensemble("twins_test", data, **options)
    assert (tmp_path / "test_tiny" / "last.safetensors").stat().st_mtime_ns == written
    assert again.fit == result.fit
    with pytest.raises(ArgumentError, match="single network"):
        fer_zoo.train_ensemble("test_tiny", data, **options)
    for recipe in ({}, {"test_tinny": "strong"}, {"test_tiny": "strong", "vgg19": "strong"}):
        with pytest.raises(ArgumentError, match=r"one for each member, \['test_tiny'\]"):
            fer_zoo.train_ensemble("twins_test", data, **(options | {"recipe": recipe}))
    with pytest.raises(UnknownNameError, match="unknown fusion 'stackd'"):
        fer_zoo.train_ensemble("twins_test", data, fusion="stackd", **options)


def test_history_and_tensorboard(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(tmp_path, tensorboard=True)
    assert read_history(tmp_path / "history.csv") == result.history
    run(tmp_path, tensorboard=True, epochs=3)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {e.step: e.value for e in events.Scalars("val/accuracy")}
    history = read_history(tmp_path / "history.csv")
    assert found == {e.epoch: pytest.approx(e.val_accuracy) for e in history}
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ArgumentError, match="no history"):
        read_history(tmp_path / "other.csv")


def test_tensorboard_missing_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command("tensorboard"))):
        run(tmp_path, tensorboard=True)


def test_nan_stops_within_the_epoch_and_names_the_last_good_model(tmp_path: Path, monkeypatch):
    from fer_zoo.training.run import Run

    run(tmp_path, epochs=1, data=stripes(240), batch_size=2)
    step, calls = Run._step, []

    def broken(self, *args):
        calls.append(1)
        found = step(self, *args)
        return found * float("nan") if len(calls) == 3 else found

    monkeypatch.setattr(Run, "_step", broken)
    with pytest.raises(TrainingError, match=r"became nan in epoch 2.*best.safetensors holds"):
        run(tmp_path, epochs=3, data=stripes(240), batch_size=2)
    assert len(calls) == 50
    assert fer_zoo.load(tmp_path / "best.safetensors").labels == stripes(3).labels
    assert len(read_history(tmp_path / "history.csv")) == 1


@pytest.mark.parametrize(("step", "stored"), [("write_checkpoint", 1), ("write_history", 2)])
def test_the_csv_has_no_epoch_that_is_run_again(tmp_path: Path, monkeypatch, step, stored):
    """Whatever is being written when a run is interrupted."""
    import fer_zoo.training.run as module

    first, write = run(tmp_path, epochs=1).history, getattr(module, step)

    def interrupted(path, content, *config):
        if len((config[0] if config else {"history": content})["history"]) == 2:
            raise KeyboardInterrupt
        write(path, content, *config)

    monkeypatch.setattr(module, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, epochs=2)
    monkeypatch.undo()
    _, config = read_checkpoint(tmp_path / "last.safetensors")
    assert len(config["history"]) == stored
    assert read_history(tmp_path / "history.csv") == first
    history = run(tmp_path, epochs=2).history
    assert read_history(tmp_path / "history.csv") == history
    assert [asdict(e) for e in history[:stored]] == config["history"]


FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
from test_engine import run
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from fer_zoo.training.run import Run
epoch = Run._epoch

def fills_the_disk(self, number):
    if number == 2:
        size = Path(sys.argv[1], "last.safetensors").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
    return epoch(self, number)

Run._epoch = fills_the_disk
run(Path(sys.argv[1]), epochs=3)
"""


@pytest.mark.slow
def test_a_full_disk_loses_no_earlier_checkpoint(tmp_path: Path):
    """The kernel refuses to let files grow, as a full disk does."""
    script = FULL_DISK.format(tests=str(ROOT / "tests"))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "TrainingError: epoch 2 could not be stored" in done.stderr
    assert "the same command goes on after epoch 1" in done.stderr
    assert fer_zoo.load(tmp_path / "best.safetensors").labels == stripes(3).labels
    kept = {p.name for p in tmp_path.iterdir()} - {".lock"}  # some versions of filelock leave it
    assert kept == {"best.safetensors", "last.safetensors", "history.csv"}
    assert len(run(tmp_path, epochs=3).history) == 3


@pytest.mark.slow
def test_finetune_beats_the_same_steps_from_scratch(tmp_path: Path):
    data, judge = stripes(48, noise=100), stripes(60, seed=1, noise=100)
    model = fer_zoo.create("resnet18_025", weights="default")
    model.reset_classifier(3)
    changes = {"recipe": "finetune", "data": data, "validation": judge, "epochs": 8}
    changes |= {"lr": 0.02, "batch_size": 16}
    tuned = run(tmp_path / "tuned", model, **changes)
    scratch = run(tmp_path / "scratch", "resnet18_025", **changes)
    assert tuned.best.val_accuracy > scratch.best.val_accuracy
    assert tuned.model.evidence.started_from == "resnet18_025.fer2013"


@pytest.mark.slow
def test_the_command_line_of_it_all(tmp_path: Path, monkeypatch):
    from test_training import faces_on_disk

    monkeypatch.setattr("fer_zoo.cli.training._draw", lambda *_: None)
    train_faces, val_faces = faces_on_disk(tmp_path)
    where = ("--data", train_faces, "--validation", val_faces, "--set", "epochs=1")

    def call(*arguments: object, fails: bool = False) -> str:
        done = CliRunner().invoke(main, list(map(str, arguments)))
        assert isinstance(done.exception, FerZooError) == fails, done.exception
        return str(done.exception) if fails else done.stdout

    def train(name: str, folder: str, *arguments: object, fails: bool = False) -> str:
        return call("train", name, *where, "--output", tmp_path / folder, *arguments, fails=fails)

    pretrained = ("--weights", "default", "--recipe", "finetune")
    assert "--new-head" in train("resnet18_025", "f", *pretrained, fails=True)
    train("resnet18_025", "f", *pretrained, "--new-head")
    learning = ("--set", "distill=0.5", "--set", "preset=fer40_center")
    train("plain_test", "d", "--teacher", tmp_path / "f", *learning)
    fused = ("--output", tmp_path / "both.safetensors", "--preset", "fer40_center")
    call("fuse", tmp_path / "d", tmp_path / "f/best.safetensors", *fused)
    members = fer_zoo.load(tmp_path / "both.safetensors").members
    assert [m.name for m in members] == ["plain_test", "resnet18_025"]
    assert "exists: name another" in call("fuse", tmp_path / "d", *fused, fails=True)
    assert "--weights" in train("a.safetensors", "x", fails=True)
    ensemble = "ensemble_r18_vgg19_025"
    assert "one by one" in train(ensemble, "x", "--weights", "default", fails=True)
    alone = ("train", "plain_test", "--data", train_faces, "--output", tmp_path / "x")
    assert "pass --validation" in call(*alone, fails=True)


def test_a_share_of_the_faces_validates(tmp_path: Path, monkeypatch):
    """`--validation 0.2` is `data.split(0.2)`; a folder of that name is a folder."""
    from test_training import faces_on_disk

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fer_zoo.cli.training._draw", lambda *_: None)
    faces, _ = faces_on_disk(tmp_path)
    line = ["train", "plain_test", "--data", faces, "--output"]
    settings = ["--set", "epochs=1", "--device", "cpu"]
    command_line(*line, "x", *settings, "--validation", "0.2")
    known = fer_zoo.load("x").evidence.training
    rest, part = fer_zoo.data.ImageFolder(faces).split(0.2)
    assert (known.faces.fingerprint, known.validation.fingerprint) == (
        rest.fingerprint, part.fingerprint,
    )  # fmt: skip
    assert len(part) == 18
    told = command_line(*line, "y", *settings, fails=True)
    assert "pass --validation 0.2" in told
    for wrong in ("1.5", "0", "-1"):
        told = command_line(*line, "y", f"--validation={wrong}", fails=True)
        assert f"or a share of --data such as 0.2, got {wrong}" in told
    (tmp_path / "val_faces").rename(tmp_path / "0.2")
    command_line(*line, "z", *settings, "--validation", "0.2")
    assert fer_zoo.load("z").evidence.training.validation.n == 30


def command_line(*arguments: object, fails: bool = False) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert isinstance(done.exception, FerZooError) == fails, done.exception
    return str(done.exception) if fails else done.stdout
