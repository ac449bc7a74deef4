"""Classes of unequal size: what counts more, what is drawn more often, and when a run ends."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

import fer_zoo
from conftest import run, stripes
from fer_zoo.data import FaceDataset
from fer_zoo.errors import FerZooError, LabelError, TrainingError
from fer_zoo.training import Recipe, get_recipe
from fer_zoo.training.objective import Objective
from fer_zoo.transforms import Augmentation

CPU = torch.device("cpu")
QUICK = {"recipe": "thesis_20", "batch_size": 16, "lr": 0.05, "precision": "fp32"}


def uneven(seed: int = 0) -> FaceDataset:
    """Stripes: 40 upright, 8 flat, 2 slanted."""
    faces = stripes(150, seed=seed)
    keep = torch.cat([torch.arange(k, 3 * n, 3) for k, n in enumerate((40, 8, 2))])
    return FaceDataset(faces.images[keep], faces.targets[keep], labels=faces.labels, name="uneven")


def losses_of(
    logits: torch.Tensor, data: FaceDataset, augment: Augmentation | None = None, **settings: object
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the loss of each face, in the order of the data, and the shares it was taken to."""
    teacher = settings.pop("teacher", None)
    objective = Objective(Recipe(name="x", **settings), data, data.labels, CPU, teacher)
    rows, rng = torch.arange(len(data)), torch.Generator().manual_seed(1)
    x = torch.rand(len(data), 1, 40, 40)
    _, shares = objective.views(x, rows, augment or Augmentation(), rng)
    return objective.losses(logits, shares), shares


def test_balanced_weights_are_scikit_learns_and_the_loss_is_torchs():
    data, logits = uneven(), torch.randn(50, 3)
    weights = compute_class_weight("balanced", classes=np.arange(3), y=data.targets.numpy())
    weights = torch.tensor(weights).float()
    found, _ = losses_of(logits, data, class_weights="balanced")
    expected = F.cross_entropy(logits, data.targets, weight=weights, reduction="none")
    torch.testing.assert_close(found, expected)


def test_named_weights_count_by_their_ratios_and_know_aliases():
    data, logits = uneven(), torch.randn(50, 3)
    named = FaceDataset(data.images, data.targets, labels=("happy", "sad", "fear"), name="x")
    found, _ = losses_of(logits, named, class_weights={"joy": 2.0, "sad": 6.0, "fear": 4.0})
    weight = torch.tensor([2.0, 6.0, 4.0])
    torch.testing.assert_close(  # torch's own mean divides by the weights' sum as well
        found.mean(), F.cross_entropy(logits, data.targets, weight=weight)
    )
    halved, _ = losses_of(logits, named, class_weights={"sad": 3.0, "fear": 2.0})
    torch.testing.assert_close(found, halved)


def test_the_smoothed_share_counts_as_its_face():
    """Of torch's own weights a rare class would take a part of every face's target."""
    data, logits = uneven(), torch.randn(50, 3)
    plain = F.cross_entropy(logits, data.targets, label_smoothing=0.1, reduction="none")
    found, _ = losses_of(logits, data, class_weights="balanced", label_smoothing=0.1)
    weights = 50 / (3 * torch.tensor([40.0, 8.0, 2.0]))
    torch.testing.assert_close(found, weights[data.targets] * plain)


@pytest.mark.parametrize("augment", [{"mixup": 1.0}, {"cutmix": 1.0}], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_part_of_a_mixed_face_counts_by_its_own_class(augment, smoothing):
    data, logits = uneven(), torch.randn(50, 3)
    found, shares = losses_of(
        logits,
        data,
        Augmentation(**augment),
        class_weights={"flat": 5.0},
        label_smoothing=smoothing,
    )
    weights = torch.tensor([1.0, 5.0, 1.0])
    weights /= weights[data.targets].mean()
    each = torch.stack(
        [
            F.cross_entropy(
                logits, torch.full((50,), k), label_smoothing=smoothing, reduction="none"
            )
            for k in range(3)
        ],
        1,
    )
    assert bool((shares[0].max(1).values < 1).any())
    torch.testing.assert_close(found, (shares[0] * weights * each).sum(1))


def test_votes_count_by_their_shares():
    data, logits = uneven(), torch.randn(50, 3)
    votes = 0.7 * torch.eye(3)[data.targets] + 0.1
    voted = FaceDataset(data.images, data.targets, labels=data.labels, name="v", votes=votes)
    found, _ = losses_of(logits, voted, class_weights="balanced", targets="votes")
    weights = 50 / (3 * torch.tensor([40.0, 8.0, 2.0]))
    weights /= (votes @ weights).mean()
    torch.testing.assert_close(found, -(votes * weights * logits.log_softmax(1)).sum(1))


def test_a_teachers_answers_count_as_their_face():
    data, logits = uneven(), torch.randn(50, 3)
    teacher = fer_zoo.create("test_tiny", num_classes=3).eval()
    teacher.labels = data.labels
    settings = {"distill": 0.6, "distill_on": "faces", "teacher": teacher}
    plain, _ = losses_of(logits, data, **settings)
    found, _ = losses_of(logits, data, **settings, class_weights="balanced")
    weights = 50 / (3 * torch.tensor([40.0, 8.0, 2.0]))
    torch.testing.assert_close(found, weights[data.targets] * plain)


def test_balanced_sampling_draws_each_class_equally_often():
    data = uneven()
    objective = Objective(Recipe(name="x", balanced_sampling=True), data, data.labels, CPU, None)
    draws = [objective.draw(torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert {len(rows) for rows in draws} == {50}
    counts = torch.bincount(data.targets[torch.cat(draws)], minlength=3) / 10_000
    torch.testing.assert_close(counts, torch.full((3,), 1 / 3), atol=0.02, rtol=0)
    assert len(torch.cat(draws).unique()) == 50
    plain = Objective(Recipe(name="x"), data, data.labels, CPU, None)
    assert sorted(plain.draw(torch.Generator()).tolist()) == list(range(50))


@pytest.mark.parametrize(
    "changes", [{"balanced_sampling": True}, {"class_weights": "balanced"}], ids=str
)
def test_a_run_that_goes_on_ends_as_one_that_was_not_cut(tmp_path: Path, changes):
    def train(name, **more):
        options = QUICK | changes | more
        return fer_zoo.train(
            "plain_test",
            uneven(),
            validation=stripes(30, seed=1),
            output=tmp_path / name,
            **options,
        )

    train("cut", epochs=2)
    cut, whole = train("cut", epochs=3), train("whole", epochs=3)
    assert [e.val_loss for e in cut.history] == [e.val_loss for e in whole.history]
    plain = fer_zoo.train(
        "plain_test",
        uneven(),
        validation=stripes(30, seed=1),
        output=tmp_path / "plain",
        **QUICK,
        epochs=3,
    )
    assert plain.history[0].train_loss != whole.history[0].train_loss
    known = fer_zoo.load(whole.checkpoint).evidence.training.recipe
    assert known | changes == known
    with pytest.raises(TrainingError, match=f"recipe.{next(iter(changes))}"):
        fer_zoo.train(
            "plain_test",
            uneven(),
            validation=stripes(30, seed=1),
            output=tmp_path / "whole",
            **QUICK,
            epochs=3,
        )


def test_a_run_ends_after_epochs_without_a_better_one(tmp_path: Path, monkeypatch):
    def train(name, **changes):
        return fer_zoo.train(
            "plain_test",
            stripes(32),
            validation=stripes(30, seed=1),
            output=tmp_path / name,
            **(QUICK | {"lr": 1e-7, "epochs": 9} | changes),
        )

    assert len(train("never").history) == 9
    stopped = train("stopped", stop_after=3)  # at such a rate nothing rises
    assert (stopped.best.epoch, len(stopped.history)) == (1, 4)
    known = stopped.model.evidence.training
    assert known.recipe["stop_after"] == 3
    assert known.selection == (
        "best of 9 epochs, or until 3 brought no better one, on the validation data"
    )
    before = (tmp_path / "stopped" / "last.safetensors").read_bytes()
    assert train("stopped", stop_after=3).history == stopped.history
    assert (tmp_path / "stopped" / "last.safetensors").read_bytes() == before

    with monkeypatch.context() as patch:
        patch.setattr(fer_zoo.training.run.Run, "_keep", _interrupted_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            train("cut", stop_after=3)
    cut = train("cut", stop_after=3)
    assert [e.val_loss for e in cut.history] == [e.val_loss for e in stopped.history]


def _interrupted_in_the_third(self, scores, keep=fer_zoo.training.run.Run._keep):
    if len(self.history) == 3:
        raise KeyboardInterrupt
    keep(self, scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 3}, "patience=3 has no effect under schedule='constant'.*'plateau'"),
        ({"schedule": "cosine", "decay_rate": 0.1}, "decay_rate=0.1 has no effect"),
        ({"schedule": "plateau", "decay_start": 4}, "decay_start=4 has no effect.*'decay'"),
        ({"epochs": 20, "stop_after": 19}, "never ends a run of 20 epochs early.*less than 19"),
        ({"epochs": 1, "stop_after": 1}, "never ends a run of 1 epochs early.* 0"),
        (
            {"schedule": "plateau", "patience": 5, "stop_after": 6},
            "before the plateau's lower rate is tried: set it to 7",
        ),
        ({"stop_after": -1}, "stop_after must be 0"),
        ({"class_weights": "balanced", "balanced_sampling": True}, "balance twice"),
        ({"class_weights": {"sad": 2.0}, "balanced_sampling": True}, "balance twice"),
        ({"class_weights": "inverse"}, r"class_weights must be one of \['none', 'balanced'\]"),
        ({"class_weights": {"sad": "x"}}, r"class_weights.sad must be float, got 'x'"),
        ({"class_weights": {"sad": 0}}, r"class_weights of \['sad'\] must be"),
        ({"class_weights": {"sad": float("nan")}}, "class_weights.sad must be float"),
        ({"class_weights": {}}, "a weight for classes by name, got none"),
        ({"class_weights": {"joy": 1, "happy": 2}}, "name the same class"),
        ({"class_weights": "balanced", "class_weights.sad": 2}, "set one of both"),
    ],
    ids=str,
)
def test_what_has_no_effect_or_no_meaning_is_refused(changes, message):
    with pytest.raises(FerZooError, match=message):
        get_recipe("thesis_20", changes)


def test_settings_that_have_an_effect_are_taken():
    changes = {"schedule": "plateau", "patience": 5, "decay_rate": 0.1, "stop_after": 7}
    assert get_recipe("thesis_20", changes).stop_after == 7
    assert get_recipe("thesis_20", {"epochs": 20, "stop_after": 18}).stop_after == 18


def test_a_class_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(LabelError, match=r"class_weights names \['disgust'\], the classes are"):
        fer_zoo.train(
            "plain_test",
            stripes(32),
            validation=stripes(9, seed=1),
            output=tmp_path,
            class_weights={"disgust": 5.0},
        )


def test_weights_by_name_in_files_and_changes(tmp_path: Path):
    (tmp_path / "mine.toml").write_text("[class_weights]\ndisgust = 5\n")
    recipe = get_recipe(tmp_path / "mine.toml")
    assert recipe.class_weights == {"disgust": 5.0}
    more = recipe.updated({"class_weights.fear": 2})
    assert more.class_weights == {"disgust": 5.0, "fear": 2.0}
    assert Recipe(**more.to_dict()) == more
    assert more.updated({"class_weights": "none"}).class_weights == "none"
    told = run(
        "train", "plain_test", "--data", tmp_path, "--validation", tmp_path, "--output", tmp_path,
        "--set", "class_weights.fear=x", code=2,
    ).stderr  # fmt: skip
    assert "class_weights.fear must be float, got 'x'" in told
