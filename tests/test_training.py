"""Training: it learns, it resumes exactly, and it fails early and well."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch

import fer_zoo
from conftest import cli, in_this_process, stripes
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, SplitError, TrainingError
from fer_zoo.evidence import Evidence
from fer_zoo.training import RECIPES, get_recipe, read_history
from fer_zoo.training.state import batches, generator, warmed_average
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint

QUICK = {"recipe": "thesis_20", "epochs": 3, "batch_size": 16, "lr": 0.05}
FULL = {
    "recipe": "thesis_20",
    "epochs": 4,
    "batch_size": 16,
    "lr": 0.05,
    "schedule": "cosine",
    "warmup": 1,
    "ema": 0.8,
    "label_smoothing": 0.1,
    "clip": 1.0,
    "weight_decay": 1e-4,
    "nesterov": True,
    "preset": "fer40_center",
    "augment": {"rotate": 10.0, "scale": [0.9, 1.1], "erase": 0.3},
}


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "last.safetensors")[0]


def accuracy(model: fer_zoo.models.Classifier, faces: FaceDataset) -> float:
    scores = fer_zoo.inference.predict_scores(model, faces.images)
    return float((scores.argmax(1) == faces.targets_for(model.labels)).float().mean())


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> fer_zoo.training.TrainResult:
    """A run that has learned the stripes."""
    return fer_zoo.train(
        "test_tiny",
        stripes(120),
        validation=stripes(60, seed=1),
        output=tmp_path_factory.mktemp("learned"),
        **(QUICK | {"epochs": 16}),
    )


def test_it_learns_and_keeps_the_best_epoch(learned):
    accuracies = [e.val_accuracy for e in learned.history]
    assert learned.best is learned.history[accuracies.index(max(accuracies))]
    assert learned.best.val_accuracy > 0.9
    assert learned.history[-1].train_loss < learned.history[0].train_loss
    assert learned.model.labels == ("upright", "flat", "slanted")
    assert (learned.model.preset, learned.model.temperature) == ("thesis40", {})
    judge = stripes(60, seed=1)
    for model in (learned.model, fer_zoo.load(learned.checkpoint)):
        assert accuracy(model, judge) == pytest.approx(learned.best.val_accuracy)
    known = learned.model.evidence.training
    assert (known.epoch, known.val_accuracy) == (learned.best.epoch, learned.best.val_accuracy)
    assert (known.faces, known.validation) == (stripes(120).faces, judge.faces)
    assert known.recipe["lr"] == 0.05
    assert [int(r["epoch"]) for r in history(learned.checkpoint.parent)] == list(range(1, 17))


@pytest.mark.parametrize("model", ["test_tiny", "vgg19_025"])
def test_resume_is_exact(tmp_path: Path, monkeypatch, model):
    """A run cut off in its third epoch ends with the numbers of one that was not."""
    data, judge = stripes(64, split="train"), stripes(30, seed=1, split="public")
    settings = FULL | ({"epochs": 3} if model != "test_tiny" else {})
    plain, cut = tmp_path / "plain", tmp_path / "cut"
    fer_zoo.train(model, data, validation=judge, output=plain, **settings)

    from fer_zoo.training.run import Run

    step, calls = Run._step, []

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(Run, "_step", interrupted)
    torch.manual_seed(99)
    with pytest.raises(KeyboardInterrupt):
        fer_zoo.train(model, data, validation=judge, output=cut, **settings)
    assert len(history(cut)) == 2
    monkeypatch.setattr(Run, "_step", step)
    torch.manual_seed(1234)
    result = fer_zoo.train(model, data, validation=judge, output=cut, **settings)
    assert history(cut) == history(plain)
    one, other = tensors(plain), tensors(cut)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert any(k.startswith("optimizer.momentum_buffer.") for k in one)
    assert (cut / "best.safetensors").read_bytes() == (plain / "best.safetensors").read_bytes()
    assert len(result.history) == settings["epochs"]


def faces_on_disk(root: Path) -> tuple[Path, Path]:
    """Write stripes as two folders of images."""
    from PIL import Image

    parts = root / "train_faces", root / "val_faces"
    for part, data in zip(parts, (stripes(96), stripes(30, seed=1)), strict=True):
        for i in range(len(data)):
            folder = part / data.labels[int(data.targets[i])]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[i].numpy()).save(folder / f"{i}.png")
    return parts


KILLED = """
import os, sys
from fer_zoo.__main__ import main
from fer_zoo.training.run import Run

step, calls, last, number = Run._step, [], int(sys.argv.pop(1)), int(sys.argv.pop(1))

def killed(self, *args):
    calls.append(1)
    if len(calls) == last:  # in the middle of an epoch of six steps
        os.kill(os.getpid(), number)
    return step(self, *args)

Run._step = killed
main()
"""


@pytest.mark.slow
def test_a_killed_process_resumes_exactly(tmp_path: Path):
    """Interrupted in its third epoch, killed in its fourth: the end is that of one whole run."""
    train_faces, val_faces = faces_on_disk(tmp_path)
    settings = {"epochs": 5, "batch_size": 16, "lr": 0.05}
    fer_zoo.train(
        "test_tiny",
        fer_zoo.data.ImageFolder(train_faces, size=40),
        validation=fer_zoo.data.ImageFolder(val_faces, size=40),
        output=tmp_path / "plain",
        recipe="thesis_20",
        **settings,
    )
    command = ["train", "test_tiny", "--data", train_faces, "--validation", val_faces]
    command += ["--recipe", "thesis_20"]
    command += ["--output", tmp_path / "cut"]
    command += [part for k, v in settings.items() for part in ("--set", f"{k}={v}")]

    def call(*start: object) -> subprocess.CompletedProcess[str]:
        line = [*map(str, start), *map(str, command)]
        return subprocess.run(line, capture_output=True, text=True)

    done = call(sys.executable, "-c", KILLED, 15, int(signal.SIGINT))
    assert done.returncode == 130
    assert "interrupted in epoch 3; the same command goes on after epoch 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(history(tmp_path / "cut")) == 2
    done = call(sys.executable, "-c", KILLED, 9, int(signal.SIGKILL))
    assert done.returncode == -signal.SIGKILL
    assert len(history(tmp_path / "cut")) == 3
    done = call(*cli())
    assert done.returncode == 0
    assert "goes on from epoch 4 of 5 in " in done.stderr
    assert "best epoch" in done.stdout
    assert history(tmp_path / "cut") == history(tmp_path / "plain")
    one, other = tensors(tmp_path / "plain"), tensors(tmp_path / "cut")
    assert all(torch.equal(one[k], other[k]) for k in one)


def by_hand(data: FaceDataset, judge: FaceDataset, **changes: object) -> dict[str, torch.Tensor]:
    """Train in plain torch, whole batches, no augmentation; return the last or averaged weights."""
    settings = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "label_smoothing": 0.0}
    settings |= {"clip": 0.0, "ema": 0.0, "rates": [0.02] * 3} | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = fer_zoo.create("test_tiny", num_classes=3)
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model = model.to(memory_format=torch.channels_last)
    names = ("momentum", "nesterov", "weight_decay")
    sgd = torch.optim.SGD(model.parameters(), lr=1.0, **{n: settings[n] for n in names})
    x = data.images[:, None].float() / 255
    for step, rate in enumerate(settings["rates"]):
        sgd.param_groups[0]["lr"] = rate
        sgd.zero_grad()
        order = torch.randperm(len(data), generator=generator(0, step + 1, 0))
        named = settings.get("class_weights", {})
        torch.nn.functional.cross_entropy(
            model(x[order]),
            data.targets[order],
            weight=torch.tensor([named.get(label, 1.0) for label in data.labels]),
            label_smoothing=settings["label_smoothing"],
        ).backward()
        if settings["clip"]:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        sgd.step()
        share = min(settings["ema"], (1 + step) / (10 + step)) if step else 0.0
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                kept[key] = share * kept[key] + (1 - share) * value
    return kept


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.5},
        {"nesterov": True},
        {"weight_decay": 0.1},
        {"label_smoothing": 0.2},
        {"clip": 0.1},
        {"class_weights": {"flat": 4.0}},
        {"ema": 0.5},
        {"schedule": "cosine"},
        {"schedule": "cosine", "warmup": 1.0},
    ],
    ids=str,
)
@pytest.mark.slow
def test_each_setting_does_what_plain_torch_does(tmp_path: Path, changes):
    data, judge = stripes(30), stripes(9, seed=1)
    result = fer_zoo.train(
        "test_tiny",
        data,
        validation=judge,
        output=tmp_path,
        recipe="thesis_20",
        epochs=3,
        batch_size=64,
        lr=0.02,
        precision="fp32",
        preset="fer48_plain",
        augment={"padding": 0, "flip": 0.0},
        **changes,
    )
    rates = [0.02] * 3
    if "schedule" in changes:
        rates = [0.02, 0.015, 0.005] if "warmup" not in changes else [0.02e-3, 0.02, 0.01]
    kept = {k: v for k, v in changes.items() if k not in ("schedule", "warmup")}
    expected = by_hand(data, judge, rates=rates, **kept)
    state = tensors(tmp_path)
    prefix = "average.module." if "ema" in changes else "model."
    for key, value in expected.items():
        if value.is_floating_point():
            torch.testing.assert_close(state[prefix + key], value, atol=1e-4, rtol=1e-3)
    if "ema" in changes and result.best.epoch == 3:
        best = fer_zoo.load(result.checkpoint).state_dict()
        assert torch.equal(best["fc.weight"], state["average.module.fc.weight"])
    elif "ema" in changes:
        assert not torch.equal(state["model.fc.weight"], state["average.module.fc.weight"])


def test_augmentation_and_precision_of_the_recipe_are_used(tmp_path: Path):
    losses = {}
    for name, changes in {
        "plain": {"precision": "fp32"},
        "bf16": {"precision": "bf16"},
        "turned": {"precision": "fp32", "augment": {"rotate": 60.0}},
    }.items():
        result = fer_zoo.train(
            "plain_test",
            stripes(32),
            validation=stripes(9, seed=1),
            output=tmp_path / name,
            **(QUICK | changes),
        )
        losses[name] = result.history[0].train_loss
    assert len(set(losses.values())) == 3
    assert losses["bf16"] == pytest.approx(losses["plain"], abs=0.05)


def test_targets_are_matched_to_the_models_labels_by_name(tmp_path: Path, learned):
    """A model that knows the classes in another order goes on where it was, not from scratch."""
    order, more = [2, 0, 1], stripes(60, seed=2)
    moved = FaceDataset(
        more.images,
        torch.tensor([order.index(t) for t in more.targets.tolist()]),
        labels=[more.labels[i] for i in order],
        name="moved",
    )
    start, judge = deepcopy(learned.model), stripes(60, seed=1)
    again = fer_zoo.train(start, moved, validation=judge, output=tmp_path, epochs=1, lr=1e-6)
    assert again.history[0].train_accuracy > 0.6
    assert again.best.val_accuracy > learned.best.val_accuracy - 0.1


def test_other_faces_or_weights_are_another_run(tmp_path: Path):
    data, judge = stripes(32), stripes(9, seed=1)
    fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    for model, faces in (("plain_test", stripes(32, seed=5)), ("other", data)):
        if model == "other":
            torch.manual_seed(7)
            model = fer_zoo.create("plain_test", num_classes=3)
        with pytest.raises(TrainingError, match=r"data.fingerprint|start"):
            fer_zoo.train(model, faces, validation=judge, output=tmp_path, **QUICK)
    data.targets = (data.targets + 1) % 3  # the fingerprint was kept: the old run came back
    with pytest.raises(TrainingError, match=r"data.fingerprint"):
        fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)


def test_one_class_alone_is_nothing_to_learn(tmp_path: Path):
    """A loss of 0 and 100 % right were saved as a trained model."""
    images, targets = stripes(32).images, torch.zeros(32)
    data = FaceDataset(images, targets, labels=["happy"], name="one")
    with pytest.raises(TrainingError, match="nothing to tell apart: add faces of another"):
        fer_zoo.train("test_tiny", data[8:], validation=data[:8], output=tmp_path, **QUICK)
    assert not [*tmp_path.glob("*.safetensors")]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_of_several_processes_is_another_run(tmp_path: Path, processes):
    """Earlier versions trained in several, and said in how many."""
    data, judge = stripes(32), stripes(9, seed=1)
    fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    last = tmp_path / "last.safetensors"
    found, config = read_checkpoint(last)
    config["run"]["processes"] = processes
    write_checkpoint(last, found, config)
    if processes == 1:
        fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    else:
        with pytest.raises(TrainingError, match="other settings: processes 2 there"):
            fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)


def test_a_folder_that_lost_files(tmp_path: Path):
    data, judge = stripes(32), stripes(9, seed=1)
    fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    before = history(tmp_path)
    (tmp_path / "history.csv").unlink()
    fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    assert history(tmp_path) == before
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"lost its best.safetensors.*--fresh"):
        fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)


def test_validation_faces_that_were_trained_on_are_refused(tmp_path: Path):
    data = stripes(30)
    for judge in (data, data.subset(7)):
        with pytest.raises(SplitError, match="all validation faces are training faces"):
            fer_zoo.train("plain_test", data, validation=judge, output=tmp_path)
    half = fer_zoo.create("plain_test", num_classes=3, dtype=torch.bfloat16)
    with pytest.raises(ArgumentError, match="float32"):
        fer_zoo.train(half, data, validation=stripes(9, seed=1), output=tmp_path)
    with pytest.raises(ArgumentError, match="dataset"):
        fer_zoo.train("plain_test", "fer2013.csv", validation=data, output=tmp_path)


def test_shared_validation_faces_are_told(tmp_path: Path, caplog):
    """With their share, and the run goes on; FER2013's own PublicTest has some."""
    data, judge = stripes(30), stripes(10, seed=1)
    mixed = FaceDataset(
        torch.cat([judge.images, data.images[:2]]),
        torch.cat([judge.targets, data.targets[:2]]),
        labels=data.labels,
        name="mixed",
    )
    for faces, told in ((judge, ""), (mixed, "2 of 12 validation faces (16.7 %) are training")):
        caplog.clear()
        fer_zoo.train("plain_test", data, validation=faces, output=tmp_path / faces.name, epochs=1)
        assert told in caplog.text
        assert ("validation faces" in caplog.text) == bool(told)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.slow
def test_the_callers_network_claims_nothing_of_the_file(tmp_path: Path, monkeypatch, ema):
    """The best epoch's evidence is the best file's; what went on changing says where it began."""
    monkeypatch.setattr("fer_zoo.training.run.fit_temperature", lambda *_, **__: 1.5)
    net = fer_zoo.create("resnet18_025", weights="default")
    net.reset_classifier(3)
    assert net.evidence == Evidence(started_from="resnet18_025.fer2013")
    result = fer_zoo.train(
        net,
        stripes(32),
        validation=stripes(210, seed=1),
        output=tmp_path,
        **(QUICK | {"recipe": "finetune", "ema": ema, "epochs": 2}),
    )
    assert net.evidence == Evidence(started_from="resnet18_025.fer2013")
    assert net.temperature == {}
    known = result.model.evidence
    assert known.training.val_accuracy == result.best.val_accuracy
    assert known.training.epoch == result.best.epoch
    assert known.calibration.temperature == {result.model.preset: 1.5}
    assert known.calibration.faces == known.training.validation == stripes(210, seed=1).faces
    assert known.started_from == "resnet18_025.fer2013"
    assert fer_zoo.load(tmp_path / "best.safetensors").evidence == known
    fer_zoo.save(net, tmp_path / "net.safetensors")
    assert fer_zoo.load(tmp_path / "net.safetensors").evidence == net.evidence
    tuned = result.model
    torch.optim.SGD(tuned.parameters(), lr=0.1).zero_grad()
    tuned(torch.rand(4, 1, 40, 40)).square().sum().backward()
    torch.optim.SGD(tuned.parameters(), lr=0.1).step()
    assert tuned.evidence == Evidence(started_from=known.origin)
    assert known.origin.endswith("on stripes, started from resnet18_025.fer2013")


def test_a_run_that_does_not_begin_leaves_the_networks_evidence(tmp_path: Path):
    net = fer_zoo.create("resnet18_025", weights="default")
    before = net.evidence
    assert before.scores
    faces = FaceDataset(
        torch.randint(0, 256, (14, 48, 48), dtype=torch.uint8),
        torch.arange(14) % 7,
        labels=fer_zoo.labels.FER2013,
        name="noise",
    )
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written to"):
        fer_zoo.train(
            net, faces.subset(7), validation=faces, output=tmp_path / "file", preset="thesis40"
        )
    assert net.evidence == before


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path):
    """A folder from before evidence: provenance in its files, and the data's name."""
    shutil.copytree(Path(__file__).parent / "old_run", tmp_path, dirs_exist_ok=True)
    before = read_history(tmp_path / "history.csv")
    data, judge = stripes(64, split="train"), stripes(210, seed=1, split="public")
    options = {"recipe": "thesis_20", "batch_size": 16, "lr": 0.05, "precision": "fp32"}
    options |= {"ema": 0.5, "epochs": 3, "validation": judge, "output": tmp_path}
    result = fer_zoo.train("plain_test", data, **options)
    assert result.history[:2] == before
    assert result.history[2].train_loss == pytest.approx(1.1000417, abs=1e-4)
    assert result.history[2].val_loss == pytest.approx(1.0965675, abs=1e-4)
    known = result.model.evidence
    assert known.training.selection == "best of 3 epochs on the validation data"
    assert (known.training.faces, known.training.validation) == (data.faces, judge.faces)
    assert result.model.temperature["thesis40"] == pytest.approx(7.3097, abs=1e-3)
    again = fer_zoo.train("plain_test", data, **options)
    assert again.history == result.history
    with pytest.raises(TrainingError, match=r"data.fingerprint"):
        fer_zoo.train("plain_test", stripes(64, seed=2, split="train"), **options)


def test_the_name_of_a_folder_is_not_part_of_a_run(tmp_path: Path):
    data, judge = stripes(32), stripes(9, seed=1)
    first = fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    data.name, judge.name = "renamed", "moved"
    again = fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    assert again.history == first.history


@pytest.mark.slow
def test_a_temperature_at_its_bound_is_told_once_and_training_goes_on(
    tmp_path: Path, monkeypatch, caplog
):
    def refused(*args, **kwargs):
        raise ArgumentError("the best temperature lies outside of 0.01 to 10")

    monkeypatch.setattr("fer_zoo.training.run.fit_temperature", refused)
    result = fer_zoo.train(
        "test_tiny",
        stripes(48),
        validation=stripes(210, seed=1),
        output=tmp_path,
        **(QUICK | {"epochs": 4, "seed": 1}),
    )
    assert result.model.temperature == {}
    assert len({e.val_accuracy for e in result.history[: result.best.epoch]}) > 1  # several bests
    told = "the model stays uncalibrated: the best temperature lies outside"
    assert caplog.text.count(told) == 1


@pytest.mark.slow
def test_fine_tuning_resumes_although_the_new_head_is_random(tmp_path: Path):
    data, judge = stripes(32), stripes(9, seed=1)

    def run() -> fer_zoo.training.TrainResult:
        model = fer_zoo.create("resnet18_025", weights="default")
        model.reset_classifier(3)
        return fer_zoo.train(model, data, validation=judge, output=tmp_path, **QUICK)

    assert run().history == run().history


def test_an_unwritable_folder_is_found_before_the_first_step(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written to"):
        fer_zoo.train(
            "plain_test", stripes(9), validation=stripes(9, seed=1), output=tmp_path / "file"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": True},
        {"momentum": -0.1},
        {"nesterov": True, "momentum": 0.0},
        {"label_smoothing": 2.0},
        {"ema": 1.5},
        {"warmup": -1.0},
        {"clip": -1.0},
        {"seed": 10**18},
        {"augment": 5},
        {"augment": {"rotate": "x"}},
        {"augment": {"scale": 1.0}},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"ema": 1.0},
        {"schedule": "step"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ArgumentError):
        RECIPES["thesis_20"].updated(changes)
    with pytest.raises(ArgumentError, match="is no recipe"):
        get_recipe("no_such_file.toml")


def test_another_run_in_the_folder_is_not_overwritten(tmp_path: Path):
    data, judge = stripes(32), stripes(9, seed=1)
    fer_zoo.train("plain_test", data, validation=judge, output=tmp_path, **QUICK)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(TrainingError, match=r"recipe.lr 0.05 there, 0.5 here.*--fresh"):
        fer_zoo.train(
            "plain_test", data, validation=judge, output=tmp_path, **(QUICK | {"lr": 0.5})
        )
    assert (tmp_path / "last.safetensors").read_bytes() == before
    again = fer_zoo.train(
        "plain_test", data, validation=judge, output=tmp_path, resume=False, **(QUICK | {"lr": 0.5})
    )
    assert again.history[0].lr == 0.5
    finished = fer_zoo.train(
        "plain_test", data, validation=judge, output=tmp_path, **(QUICK | {"lr": 0.5})
    )
    assert finished.history == again.history


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"lower lr \(now 1e\+20\)"):
        fer_zoo.train(
            "plain_test",
            stripes(64),
            validation=stripes(9, seed=1),
            output=tmp_path,
            **(QUICK | {"lr": 1e20}),
        )


def test_misuse_says_what_to_do(tmp_path: Path):
    data, judge = stripes(30), stripes(9, seed=1)

    def attempt(model="plain_test", data=data, **changes):
        return fer_zoo.train(model, data, validation=judge, output=tmp_path, **changes)

    with pytest.raises(ArgumentError, match=r"7 classes, the data 3.*reset_classifier\(3\)"):
        attempt(fer_zoo.create("plain_test"))
    with pytest.raises(ArgumentError, match=r"fer_zoo\.train_ensemble does both"):
        attempt("ensemble_r18_vgg19_025")
    with pytest.raises(ArgumentError, match="no setting \\['learning_rate'\\]"):
        attempt(learning_rate=0.1)
    with pytest.raises(ArgumentError, match="epochs must be int"):
        attempt(epochs="three")
    with pytest.raises(ArgumentError, match="augmentation has no setting"):
        attempt(augment={"zoom": 1})
    with pytest.raises(fer_zoo.errors.UnknownNameError, match="thesis_20"):
        attempt(recipe="thesis_200")
    with pytest.raises(ArgumentError, match=r"a recipe is a name.*got \{'epochs': 3\}"):
        attempt(recipe={"epochs": 3})
    with pytest.raises(ArgumentError, match="a model or the name of one, got 5"):
        attempt(5)
    with pytest.raises(ArgumentError, match="expected a path, got None"):
        fer_zoo.train("plain_test", data, validation=judge, output=None)
    with pytest.raises(ArgumentError, match=r"fer_zoo.data dataset, got 'faces/'"):
        fer_zoo.train("plain_test", data, validation="faces/", output=tmp_path)
    empty = FaceDataset(data.images, data.targets, labels=(*data.labels, "void"), name="x")
    with pytest.raises(TrainingError, match=r"no training face for \['void'\]"):
        attempt(data=empty)
    relabelled = FaceDataset(data.images, data.targets, labels=("a", "b", "c"), name="x")
    with pytest.raises(LabelError):
        attempt(data=relabelled)
    assert not (tmp_path / "last.safetensors").exists()


def test_recipes_are_files_that_say_everything(tmp_path: Path):
    assert RECIPES["thesis_300"].epochs == 300
    assert (RECIPES["thesis_20"].batch_size, RECIPES["thesis_20"].preset) == (128, "thesis40")
    (tmp_path / "mine.toml").write_text("epochs = 2\nlr = 1\n[augment]\nrotate = 5.0\n")
    result = fer_zoo.train(
        "plain_test",
        stripes(32),
        validation=stripes(9, seed=1),
        recipe=str(tmp_path / "mine.toml"),
        output=tmp_path / "run",
    )
    recipe = result.model.evidence.training.recipe
    assert (recipe["name"], recipe["epochs"], recipe["augment"]) == ("mine", 2, {"rotate": 5.0})
    assert set(recipe) >= {"momentum", "seed", "precision", "preset"}
    (tmp_path / "bad.toml").write_text("epochs = ")
    with pytest.raises(ArgumentError, match="is no recipe"):
        fer_zoo.train(
            "plain_test",
            stripes(9),
            validation=stripes(9),
            recipe=str(tmp_path / "bad.toml"),
            output=tmp_path,
        )


def test_schedules():
    cosine = RECIPES["strong"].updated({"epochs": 10, "warmup": 2, "lr": 1.0})
    assert cosine.lr_at(1) == pytest.approx(0.5)
    assert cosine.lr_at(2) == pytest.approx(1)
    assert cosine.lr_at(6) == pytest.approx(0.5)
    assert cosine.lr_at(10) == pytest.approx(0, abs=1e-12)
    assert RECIPES["thesis_20"].lr_at(13.7) == 0.01


def test_every_face_is_seen_once_an_epoch():
    for count, size in ((10, 3), (9, 4), (129, 128), (1, 5)):
        parts = list(batches(torch.randperm(count), size))
        assert sorted(torch.cat(parts).tolist()) == list(range(count))
        assert count == 1 or min(map(len, parts)) >= 2


def test_training_leaves_the_callers_random_state_alone(tmp_path: Path):
    before = torch.get_rng_state()
    fer_zoo.train(
        "plain_test", stripes(32), validation=stripes(9, seed=1), output=tmp_path, **QUICK
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.real_data
@pytest.mark.slow
def test_the_main_job_on_real_faces(fer2013_root: Path, tmp_path: Path):
    """Train two members on a subset, fuse, fit, save, load, evaluate and predict, by command."""

    def run(*arguments: object) -> str:
        done = in_this_process(cli(*arguments))
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name in ("test_tiny", "resnet18_025"):
        seed = len(name)  # the two have one shape
        settings = ("--set", "epochs=2", "--set", "lr=0.05", "--set", f"seed={seed}")
        settings += ("--limit", 1200)
        run("train", name, "--data", fer2013_root, "--output", tmp_path / name, *settings)
    members = [tmp_path / n / "best.safetensors" for n in ("test_tiny", "resnet18_025")]
    for fusion in ("weighted", "stacked"):
        output = tmp_path / f"{fusion}.safetensors"
        options = ("--fusion", fusion, "--data", fer2013_root, "--output", output)
        fit = json.loads(run("fuse", *members, *options, "--limit", 600, "--json"))["fit"]
        assert fit["report"]["loss_after"] < fit["report"]["loss_before"]
        assert fit["report"]["split"] == "public"
        where = ("--data", fer2013_root, "--split", "public", "--limit", 200, "--json")
        result = json.loads(run("evaluate", output, *where))["results"][0]
        assert result["accuracy"] > 0.2
    faces = fer_zoo.data.FER2013(fer2013_root, "public")
    from PIL import Image

    Image.fromarray(faces.images[0].numpy()).save(tmp_path / "face.png")
    row = json.loads(run("predict", tmp_path / "face.png", "--model", output, "--json"))
    assert row["label"] in faces.labels


def quick(output: Path, **changes: object) -> fer_zoo.training.TrainResult:
    options = QUICK | {"epochs": 2, "validation": stripes(9, seed=1), "output": output} | changes
    return fer_zoo.train("plain_test", stripes(24), **options)


def test_one_run_at_a_time_in_a_folder(tmp_path: Path, monkeypatch):
    """The second is told who has it; nothing is left that would block the next one."""
    said = []

    def second(*_):
        with pytest.raises(TrainingError, match="wait for it, or use another") as caught:
            quick(tmp_path)
        said.append(str(caught.value))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fer_zoo.training.run.Run._epoch", second)
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path)
    assert said[0].startswith(f"process {os.getpid()} on {socket.gethostname()} works in")
    assert len(quick(tmp_path).history) == 2


def test_a_run_killed_between_the_files_of_its_first_epoch_goes_on(tmp_path: Path, monkeypatch):
    """And leaves nothing half written behind; what is of another run still stops it."""
    plain = quick(tmp_path / "plain")

    def killed(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("fer_zoo.training.run.write_checkpoint", killed)
        with pytest.raises(MemoryError):
            quick(tmp_path / "cut")
    assert sorted(p.name for p in (tmp_path / "cut").glob("*.*")) == [".lock", "best.safetensors"]
    half = tmp_path / "cut" / ".last.safetensors.0123abcd.safetensors"
    half.touch()
    (tmp_path / "cut" / ".notes.txt").touch()
    with pytest.raises(TrainingError, match=r"no last.safetensors to go on from"):
        quick(tmp_path / "cut", lr=0.01)
    quick(tmp_path / "cut")
    assert not half.exists()
    assert (tmp_path / "cut" / ".notes.txt").exists()
    one, other = tensors(tmp_path / "plain"), tensors(tmp_path / "cut")
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert history(tmp_path / "cut") == history(tmp_path / "plain")
    assert plain.best.epoch == fer_zoo.load(tmp_path / "cut").evidence.training.epoch


def test_the_average_does_not_wait_for_the_device():
    """What torch passes as the count lies on the device: reading it would wait for each step."""
    network = fer_zoo.create("test_tiny")
    average = warmed_average(network, 0.9)
    average.n_averaged.fill_(5)  # so the share of the new values is 1 - 6 / 15
    mean, new = torch.zeros(3), torch.ones(3)
    average.multi_avg_fn([mean], [new], torch.tensor(10**6, device="meta"))
    torch.testing.assert_close(mean, torch.full((3,), 0.6))
