"""Fine-tuning: frozen stages, rates that fall towards the stem, one's own classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.optim import param_groups_layer_decay

import fer_zoo
from conftest import NETWORKS, TIMM, stripes
from fer_zoo.errors import ArgumentError, LabelError, TrainingError
from fer_zoo.training.recipe import default_recipe
from fer_zoo.training.state import freeze, parameter_groups, seed_head, stages
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint

QUICK = {"recipe": "thesis_20", "epochs": 2, "batch_size": 16, "lr": 0.05}
SHIPPED = [name for name in NETWORKS if name in fer_zoo.list_models() and name != "plain_test"]


@pytest.mark.parametrize("name", SHIPPED + TIMM)
def test_stages_run_from_the_stem_to_the_head(name):
    """The parameter that sees the image is in the first, the classifier in the last."""
    model = fer_zoo.create(name)
    found = stages(model)
    assert set(found) == {n for n, _ in model.named_parameters()}
    names = list(found)
    head = {id(p) for p in model.get_classifier().parameters()}
    last = {found[n] for n, p in model.named_parameters() if id(p) in head}
    assert found[names[0]] == 0
    assert last == {max(found.values())}
    assert set(found.values()) == set(range(max(found.values()) + 1))
    assert max(found.values()) >= 3


@pytest.mark.parametrize("name", ["resnet18_025", "vgg19_025"])
def test_rates_are_timms(name):
    """The same scale for every parameter as timm's own layer decay, by the same stages."""

    class Coarse(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model
            self.named_parameters = model.named_parameters
            self.group_matcher = lambda coarse: model.group_matcher(coarse=True)

    model = fer_zoo.create(name)
    recipe = fer_zoo.training.Recipe(name="x", layer_decay=0.5)
    ours = {id(p): g["scale"] for g in parameter_groups(model, recipe) for p in g["params"]}
    theirs = param_groups_layer_decay(Coarse(model), layer_decay=0.5)
    expected = {id(p): g["lr_scale"] for g in theirs for p in g["params"]}
    assert ours == pytest.approx(expected)


def test_frozen_stages_keep_weights_and_statistics(tmp_path: Path):
    model = fer_zoo.create("test_tiny", num_classes=3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = fer_zoo.train(
        model, stripes(48), validation=stripes(30, seed=1), output=tmp_path, freeze=2, **QUICK
    )
    after = result.model.state_dict()
    for key, value in before.items():
        frozen = key.startswith(("conv1", "bn1", "layer1"))
        assert torch.equal(after[key], value) == frozen, key
    again = fer_zoo.train(
        model, stripes(48), validation=stripes(30, seed=1), output=tmp_path / "all", **QUICK
    )
    assert not torch.equal(again.model.conv1.weight, before["conv1.weight"])


def test_what_the_caller_froze_stays_frozen(tmp_path: Path):
    """As everybody freezes in torch: by requires_grad, and the flags come back as they were."""
    model = fer_zoo.create("test_tiny", num_classes=3)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    faces = {"data": stripes(48), "validation": stripes(30, seed=1), "output": tmp_path}
    result = fer_zoo.train(model, **faces, **QUICK)
    for key, value in result.model.state_dict().items():
        assert torch.equal(value, before[key]) == (not key.startswith("fc")), key
    assert [k for k, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    with pytest.raises(TrainingError, match="frozen"):
        fer_zoo.train(fer_zoo.create("test_tiny", num_classes=3), **faces, **QUICK)
    with pytest.raises(ArgumentError, match="all its parameters are frozen"):
        fer_zoo.train(model.requires_grad_(False), **faces | {"output": tmp_path / "x"}, **QUICK)


def test_the_setting_leaves_no_frozen_parameter_behind(tmp_path: Path):
    model = fer_zoo.create("test_tiny", num_classes=3)
    faces = {"validation": stripes(30, seed=1), "output": tmp_path}
    fer_zoo.train(model, stripes(48), **faces, freeze=2, **QUICK)
    assert all(p.requires_grad for p in model.parameters())
    model.fc.requires_grad_(False)
    with pytest.raises(ArgumentError, match="to train its head, or lower freeze="):
        fer_zoo.train(model, stripes(48), **faces, freeze=5, **QUICK)
    assert model.conv1.weight.requires_grad


def test_classes_that_do_not_fit_say_what_to_do(tmp_path: Path):
    faces = {"data": stripes(48), "output": tmp_path}
    model = fer_zoo.create("test_tiny", num_classes=3)
    model.labels = ("a", "b", "c")
    with pytest.raises(LabelError, match=r"call model.reset_classifier\(3\) for a new head"):
        fer_zoo.train(model, validation=stripes(30, seed=1), **faces, **QUICK)
    other = stripes(30, seed=1)
    fewer = fer_zoo.data.FaceDataset(
        other.images, other.targets % 2, labels=other.labels[:2], name="fewer"
    )
    with pytest.raises(LabelError, match="both need a folder for every class"):
        fer_zoo.train("test_tiny", validation=fewer, **faces, **QUICK)


def test_the_stem_learns_more_slowly_than_the_head(tmp_path: Path):
    """Under plain SGD a step is rate times gradient, so the first step's ratio is the scale."""
    steps = {}
    for decay in (1.0, 0.1):
        model = fer_zoo.create("test_tiny", num_classes=3)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model.reset_classifier(3)
        start = {k: v.detach().clone() for k, v in model.named_parameters()}
        fer_zoo.train(
            model,
            stripes(16),
            validation=stripes(30, seed=1),
            output=tmp_path / str(decay),
            layer_decay=decay,
            **QUICK | {"epochs": 1, "momentum": 0.0, "precision": "fp32"},
        )
        steps[decay] = {k: v.detach() - start[k] for k, v in model.named_parameters()}
        torch.manual_seed(0)
    for key, scale in (("conv1.weight", 1e-5), ("layer4.0.conv1.weight", 0.1), ("fc.weight", 1.0)):
        ratio = steps[0.1][key].norm() / steps[1.0][key].norm()
        assert float(ratio) == pytest.approx(scale, rel=0.05), key


@pytest.mark.slow
def test_a_frozen_run_goes_on_exactly(tmp_path: Path):
    def run(folder, epochs):
        torch.manual_seed(3)
        model = fer_zoo.create("test_tiny", num_classes=3)
        options = QUICK | {"epochs": epochs, "freeze": 1, "layer_decay": 0.5, "ema": 0.5}
        return fer_zoo.train(
            model, stripes(48), validation=stripes(30, seed=1), output=folder, **options
        )

    run(tmp_path / "two", 1)
    run(tmp_path / "two", 3)
    run(tmp_path / "one", 3)
    a, b = (read_checkpoint(tmp_path / f / "last.safetensors")[0] for f in ("one", "two"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_from_before_these_settings_goes_on(tmp_path: Path):
    options = {"validation": stripes(30, seed=1), "output": tmp_path}
    fer_zoo.train("test_tiny", stripes(48), **options, **QUICK)
    last = tmp_path / "last.safetensors"
    tensors, config = read_checkpoint(last)
    for name in ("freeze", "layer_decay"):
        del config["run"]["recipe"][name]
    write_checkpoint(last, tensors, config)
    longer = fer_zoo.train("test_tiny", stripes(48), **options, **QUICK | {"epochs": 3})
    assert len(longer.history) == 3
    with pytest.raises(TrainingError, match="freeze 0 there, 1 here"):
        fer_zoo.train("test_tiny", stripes(48), **options, **QUICK | {"freeze": 1})


def test_what_cannot_be_frozen_is_refused():
    with pytest.raises(ArgumentError, match="freeze=6 leaves nothing"):
        freeze(fer_zoo.create("test_tiny"), 6)
    with pytest.raises(ArgumentError, match="has 0 stages"):
        freeze(fer_zoo.create("plain_test"), 1)
    with pytest.raises(ArgumentError, match="layer_decay must be"):
        fer_zoo.training.Recipe(name="x", layer_decay=1.5)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("classes", [3, 8])
def test_ones_own_classes_gray_or_colour(tmp_path: Path, classes, mode):
    """The five lines of the guide, on a folder for each of several new classes."""
    names = [f"mood{k}" for k in range(classes)]
    rng = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for k, name in enumerate(names):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 60, (60, 50), dtype=np.uint8) + np.uint8(20 * k)
                Image.fromarray(image).convert(mode).save(tmp_path / part / name / f"{i}.png")
    data = fer_zoo.data.ImageFolder(tmp_path / "train")
    model = fer_zoo.create("resnet18_025", weights="default")
    model.reset_classifier(len(data.labels))
    validation = fer_zoo.data.ImageFolder(tmp_path / "val")
    result = fer_zoo.train(
        model,
        data,
        validation=validation,
        output=tmp_path / "run",
        recipe="finetune",
        epochs=1,
        freeze=1,
        layer_decay=0.7,
    )
    assert result.model.labels == tuple(names)
    face = tmp_path / "val" / names[0] / "0.png"
    assert fer_zoo.Predictor(result.checkpoint)(face).label in names
    assert "resnet18_025.fer2013" in result.model.evidence.origin
    assert repr(result).startswith("TrainResult('resnet18_025', best epoch 1 of 1: validation")


def tuned(folder: Path, model: object, **changes: object) -> fer_zoo.training.TrainResult:
    """Train in silence on a few stripes."""
    options = {"validation": stripes(12, seed=1), "output": folder, "progress": False} | changes
    return fer_zoo.train(model, stripes(24), **options)


@pytest.mark.parametrize("seed", [0, 3])
def test_a_new_head_repeats_under_the_recipes_seed(tmp_path: Path, seed):
    """Whatever was drawn before; and a head of one's own values is left as it is."""
    options = {"epochs": 1, "batch_size": 16, "seed": seed}

    def run(name: str, prepare: object = None) -> fer_zoo.training.TrainResult:
        model = fer_zoo.create("test_tiny", num_classes=7)
        model.load_state_dict(start)
        torch.randn(len(name))
        model.reset_classifier(3)
        if prepare:
            prepare(model)
        return tuned(tmp_path / name, model, **options)

    start = fer_zoo.create("test_tiny", num_classes=7).state_dict()
    first, second = run("a"), run("another")
    assert [e.val_loss for e in first.history] == [e.val_loss for e in second.history]
    states = [result.model.state_dict() for result in (first, second)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    own = run("own", lambda model: torch.nn.init.constant_(model.fc.weight, 0.01))
    assert own.history[0].val_loss != first.history[0].val_loss
    options["seed"] = seed + 1
    assert run("other seed").history[0].val_loss != first.history[0].val_loss


def test_the_seed_draws_the_head_and_nothing_of_the_callers():
    model = fer_zoo.create("test_tiny", num_classes=7)
    assert not model.has_fresh_head
    model.reset_classifier(3)
    assert model.has_fresh_head
    state = torch.get_rng_state()
    body, head = model.conv1.weight.clone(), model.get_classifier()
    seed_head(model, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.conv1.weight, body)
    assert model.get_classifier() is head  # an optimizer, or a hook, may hold it
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = fer_zoo.create("timm/mobilenetv3_small_050", num_classes=2)
        expected.reset_classifier(3)
    assert expected.has_fresh_head
    seed_head(model, 6)  # as of a first attempt that was refused
    with torch.no_grad():
        model.fc.weight[0] = 1
    before = model.fc.weight.clone()
    seed_head(model, 7)
    assert torch.equal(model.fc.weight, before)


def test_the_recipe_follows_from_the_start(tmp_path: Path):
    """Without one: `finetune` from weights, under their preset, else `strong`."""
    weights = fer_zoo.create("test_tiny", num_classes=3)
    weights.preset = "thesis40"
    for name, start, recipe, preset in (
        ("fresh", "test_tiny", "strong", "fer40_center"),
        ("fresh7x7", fer_zoo.create("resnet18_7x7", num_classes=3), "strong", "thesis40"),
        ("tuned", tuned(tmp_path / "a", weights, epochs=1).model, "finetune", "thesis40"),
        ("file", tmp_path / "a/best.safetensors", "finetune", "thesis40"),
    ):
        known = tuned(tmp_path / name, start, epochs=1).model.evidence.training
        assert (known.recipe["name"], known.recipe["preset"]) == (recipe, preset)
    model = fer_zoo.create("resnet18_025", weights="default")
    assert default_recipe(model) == "finetune"
    model.reset_classifier(3)
    assert default_recipe(model) == "finetune"
    assert default_recipe("resnet18_025") == "strong"


def test_another_preset_than_the_weights_is_told(tmp_path: Path, caplog):
    weights = tuned(tmp_path / "a", "test_tiny", epochs=1).checkpoint
    assert caplog.text == ""
    changed = tuned(tmp_path / "b", weights, epochs=1, preset="thesis40").model
    assert changed.preset == "thesis40"
    told = "the recipe finetune trains under the preset thesis40, the weights were made for "
    assert f"{told}fer40_center: preset='fer40_center'" in caplog.text
    caplog.clear()
    tuned(tmp_path / "c", weights, epochs=1, preset="fer40_center")
    tuned(tmp_path / "d", "test_tiny", epochs=1, preset="thesis40")  # fresh: it was made for none
    assert caplog.text == ""
