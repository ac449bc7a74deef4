"""Evidence belongs to tensors: a network that changed has none but what it started from."""

import copy
import json

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import fer_zoo
from fer_zoo.config import read_evidence
from fer_zoo.errors import ArgumentError
from fer_zoo.evidence import Calibration, Evidence, Faces, Score, Training
from fer_zoo.plain import canonical_json, digest_tensors, from_plain, to_plain

NETWORK, ENSEMBLE = "resnet18_025", "ensemble_r18_vgg19_025"
ADDRESS = {name: f"{name}.fer2013" for name in (NETWORK, ENSEMBLE)}


def sgd_step(model):
    model.train()
    rate = torch.optim.SGD(model.parameters(), lr=0.01)
    model(torch.randn(4, 1, 40, 40)).logsumexp(1).sum().backward()
    rate.step()
    model.eval()


def first(model):
    return model.members[0] if isinstance(model, fer_zoo.models.Ensemble) else model


def load_other_tensors(model):
    model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})


def train_mode_forward(model):
    model.train()(torch.randn(4, 1, 40, 40))


def replace_convolution(model):
    old = first(model).conv1
    first(model).conv1 = nn.Conv2d(1, old.out_channels, 3, padding=1, bias=False)


def replace_activation(model):
    first(model).relu = nn.Identity()


def other_stride(model):
    first(model).conv1 = copy.deepcopy(first(model).conv1)
    first(model).conv1.stride = (2, 2)


def behind_autograd(model):
    next(first(model).parameters()).data.mul_(1.01)


CHANGES = {
    "an SGD step of one's own": sgd_step,
    "load_state_dict": load_other_tensors,
    "batch norm's statistics": train_mode_forward,
    "another convolution": replace_convolution,
    "another activation": replace_activation,
    "another stride": other_stride,
    ".data": behind_autograd,
    "bfloat16()": lambda m: m.bfloat16(),
    "other labels": lambda m: setattr(m, "labels", m.labels[::-1]),
    "batch norm's eps": lambda m: setattr(first(m).bn1, "eps", 0.5),
    "reset_classifier": lambda m: m.reset_classifier(7),
}


@pytest.fixture(scope="module")
def untouched():
    return {name: fer_zoo.create(name, weights="default") for name in (NETWORK, ENSEMBLE)}


@pytest.mark.parametrize("name", [NETWORK, ENSEMBLE])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_network_says_only_what_it_started_from(name, change, untouched, tmp_path):
    model = copy.deepcopy(untouched[name])
    assert model.evidence.scores
    assert model.temperature
    change(model)
    assert model.evidence == Evidence(started_from=ADDRESS[name])
    assert model.temperature == {}
    assert model.temperature_for(model.preset) == 1.0
    assert f"weights=None, started from '{ADDRESS[name]}'" in repr(model)
    assert f"started from '{NETWORK}.fer2013'" in repr(first(model))
    path = tmp_path / "a.safetensors"
    if change in (replace_activation, other_stride, CHANGES["batch norm's eps"]):
        with pytest.raises(ArgumentError, match=r"is another layer than .*register_model"):
            fer_zoo.save(model, path)
        assert not path.exists()
    else:
        again = fer_zoo.load(fer_zoo.save(model.float(), path))
        assert again.evidence == Evidence(started_from=ADDRESS[name])


@pytest.mark.parametrize("name", [NETWORK, ENSEMBLE])
def test_what_changes_no_value_changes_no_evidence(name, untouched, tmp_path):
    model = copy.deepcopy(untouched[name])
    known = model.evidence
    assert known.weights == ADDRESS[name]
    model.to(memory_format=torch.channels_last).train().eval()
    model.labels = ["happiness" if name == "happy" else name for name in model.labels]
    first(model).bn1.momentum = 0.5
    assert model.double().evidence == known
    assert model.float().half().evidence == known  # what is bundled is float16
    model.float().load_state_dict(untouched[name].state_dict())
    model.requires_grad_(False)(torch.zeros(1, 1, 40, 40))
    assert model.evidence == known
    assert fer_zoo.load(fer_zoo.save(model, tmp_path / "a.safetensors")).evidence == known
    half = fer_zoo.load(fer_zoo.save(model, tmp_path / "b.safetensors", dtype="float16"))
    assert (half.evidence, half.temperature) == (known, model.temperature)


def test_half_changes_what_it_cannot_hold(labelled):
    labelled.evidence = Evidence(weights="mine", licence="MIT")
    assert copy.deepcopy(labelled).double().evidence.weights == "mine"
    assert labelled.half().evidence == Evidence(started_from="mine")


def test_a_member_that_changed_voids_what_is_known_of_the_ensemble_and_not_of_the_others(untouched):
    model = copy.deepcopy(untouched[ENSEMBLE])
    sgd_step(model.members[0])
    assert model.evidence == Evidence(started_from=ADDRESS[ENSEMBLE])
    assert model.members[0].evidence == Evidence(started_from="resnet18_025.fer2013")
    assert model.members[1].evidence.weights == "vgg19_025.fer2013"


def test_each_fusion_has_evidence_of_its_own():
    scores = {}
    for fusion in ("average", "weighted", "stacked"):
        model = fer_zoo.create(ENSEMBLE, weights="default", fusion=fusion)
        assert {score.fusion for score in model.evidence.scores} == {fusion}
        scores[fusion] = model.evidence.scores[0].accuracy
        parts = fer_zoo.create_ensemble(model.members, fusion=fusion)
        assert not parts.evidence.claims
    assert scores == {"average": 0.7066, "weighted": 0.70772, "stacked": 0.70716}
    assert fer_zoo.create(ENSEMBLE, weights="default", fusion="vote").evidence == Evidence(
        started_from=ADDRESS[ENSEMBLE]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "fusion", fer_zoo.fusion.create_fusion("max", 2, 7)),
        lambda m: setattr(
            m, "fusion", fer_zoo.fusion.create_fusion("average", 2, 7, space="logit")
        ),
        lambda m: m.members.__setitem__(1, copy.deepcopy(m.members[0])),
        lambda m: setattr(m.members[1], "labels", m.members[1].labels[::-1]),
    ],
    ids=["another fusion", "another option", "another member", "another order of classes"],
)
def test_fusion_and_members_are_part_of_an_ensembles_state(change, untouched):
    model = copy.deepcopy(untouched[ENSEMBLE])
    change(model)
    assert model.evidence == Evidence(started_from=ADDRESS[ENSEMBLE])


def test_rounding_keeps_training_and_temperatures_and_drops_figures(untouched, tmp_path):
    known = untouched[NETWORK].evidence
    path = fer_zoo.save(untouched[NETWORK], tmp_path / "a.safetensors", dtype="int8")
    again = fer_zoo.load(path)
    assert (again.evidence.scores, again.evidence.weights) == ((), "")
    assert again.temperature == untouched[NETWORK].temperature
    assert again.evidence.training == known.training
    assert {cost.dtype for cost in again.evidence.storage.costs} == {"int8"}
    assert again.evidence.origin.endswith("(seed 3) on FER2013, stored as int8")
    again.bfloat16()
    assert again.evidence.started_from.endswith("stored as int8")
    assert again.temperature == {}


def test_a_temperature_belongs_to_the_tensors_it_was_given_for(labelled):
    labelled.temperature = {"fer40_center": 2.0}
    assert labelled.temperature == {"fer40_center": 2.0}
    assert labelled.temperature_for("another") == 2.0
    sgd_step(labelled)
    assert labelled.temperature == {}
    labelled.temperature = {"fer40_center": 3.0}
    assert labelled.temperature == {"fer40_center": 3.0}
    labelled.temperature = {}
    assert labelled.temperature == {}
    with pytest.raises(ArgumentError, match=r"from 0\.001 to 1000, got 0 for 'x'"):
        labelled.temperature = {"x": 0}


def test_calibrating_a_changed_network_does_not_bring_old_claims_back(untouched, tmp_path):
    model = copy.deepcopy(untouched[NETWORK])
    sgd_step(model)
    model.temperature = {model.preset: 2.0}
    for known in (model, fer_zoo.load(fer_zoo.save(model, tmp_path / "a.safetensors"))):
        assert (known.evidence.weights, known.evidence.origin) == ("", None)
        assert f"weights=None, started from '{ADDRESS[NETWORK]}'" in repr(known)
    half = fer_zoo.load(fer_zoo.save(model, tmp_path / "b.safetensors", dtype="float16"))
    assert (half.evidence.origin, half.evidence.started_from) == (None, ADDRESS[NETWORK])
    assert half.temperature == {model.preset: 2.0}


def test_evidence_of_one_state_cannot_be_given_to_another(untouched):
    model = copy.deepcopy(untouched[NETWORK])
    known = model.evidence
    sgd_step(model)
    with pytest.raises(ArgumentError, match="speaks of another state than 'resnet18_025' has now"):
        model.evidence = known


def test_what_a_record_knows_cannot_be_changed_by_its_models():
    one = fer_zoo.create(NETWORK, weights="default")
    one.evidence.calibration.temperature["fer40_center"] = 5.0
    one.evidence.training.recipe["lr"] = 99.0
    other = fer_zoo.create(NETWORK, weights="default")
    assert other.temperature["fer40_center"] == 0.85415
    assert other.evidence.training.recipe["lr"] == 0.05


def test_a_pruned_network_is_refused_before_it_is_written(untouched, tmp_path):
    model = copy.deepcopy(untouched[NETWORK])
    torch.nn.utils.prune.l1_unstructured(model.conv1, "weight", 0.5)
    with pytest.raises(ArgumentError, match=r"has other tensors: \['conv1.weight"):
        fer_zoo.save(model, tmp_path / "a.safetensors")
    assert not [*tmp_path.iterdir()]


def test_files_from_before_evidence_say_what_they_started_from(untouched):
    known = {"weights": "resnet18_025.fer2013", "recipe": {"lr": 0.1}, "metrics": []}
    config = {"name": NETWORK, "provenance": known, "temperature": {"fer40_center": 0.9}}
    assert read_evidence(config) == Evidence(started_from="resnet18_025.fer2013")


def test_a_file_cannot_lend_evidence_to_other_tensors(untouched, labelled, tmp_path):
    labelled._hold(untouched[NETWORK].evidence)
    assert labelled.evidence == Evidence(started_from=ADDRESS[NETWORK])
    assert fer_zoo.load(fer_zoo.save(labelled, tmp_path / "a.safetensors")).evidence.scores == ()


def test_digests_are_of_names_shapes_and_values():
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.eye(2)}
    same = {"b": torch.eye(2).t().contiguous().t(), "a": one["a"].half()}
    assert digest_tensors(one) == digest_tensors(same)
    others = [
        {"a": one["a"], "c": one["b"]},
        {"a": one["a"].reshape(1, 2), "b": one["b"]},
        {"a": one["a"] + 1e-6, "b": one["b"]},
        {"a": one["a"]},
        {"a": one["a"].int(), "b": one["b"]},
    ]
    assert len({digest_tensors(t) for t in [one, *others]}) == 6
    assert digest_tensors(one, as_stored=True) != digest_tensors(same, as_stored=True)
    empty = {"n": torch.tensor(3), "none": torch.empty(0, 2), "yes": torch.tensor([True])}
    assert digest_tensors(empty) == digest_tensors({**empty, "n": torch.tensor(3)})


def test_canonical_json_is_one_spelling():
    value = {"b": [1.0, 0.1], "a": {"y": None, "x": "ä"}}
    respelt = json.loads(json.dumps(value, indent=4).replace("1.0", "1e0"))
    assert canonical_json(value) == canonical_json(dict(reversed(respelt.items())))
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"a": float("nan")})


FACES = Faces(name="mine", n=3, split="public", fingerprint="ab")
TRAINING = Training(
    model="resnet18", recipe={"lr": 0.1, "augment": {"scale": [0.9, 1.1]}}, faces=FACES,
    validation=FACES, selection="best", epoch=3, frozen=("conv1.weight",),
)  # fmt: skip


def test_evidence_survives_json(untouched):
    for known in (
        Evidence(),
        untouched[NETWORK].evidence,
        Evidence(training=TRAINING, calibration=Calibration(temperature={"p": 2.0}, faces=FACES)),
    ):
        assert from_plain(Evidence, json.loads(json.dumps(to_plain(known))), "it") == known
    assert to_plain(Evidence()) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    {
        "a text": ("x", "evidence must be Evidence, got 'x'"),
        "unknown": ({"by": "me"}, "evidence has no 'by', only"),
        "lacks": ({"training": {"model": "a"}}, r"evidence.training lacks \['recipe', 'faces'"),
        "bool": ({"calibration": {"temperature": {"p": True}}}, "temperature.p must be float"),
        "nan": ({"calibration": {"temperature": {"p": float("nan")}}}, "must be float, got nan"),
        "range": ({"calibration": {"temperature": {"p": 0}}}, "from 0.001 to 1000"),
        "no list": ({"scores": 3}, "evidence.scores must be tuple"),
        "no text": ({"weights": None}, "evidence.weights must be str"),
        "pair": ({"scores": [{"interval": [1]}]}, r"evidence.scores\[0\] lacks"),
    }.values(),
)
def test_reading_evidence_is_strict(change, message):
    with pytest.raises(ArgumentError, match=message):
        from_plain(Evidence, change, "evidence")


def test_a_score_needs_two_bounds(untouched):
    plain = to_plain(untouched[NETWORK].evidence.scores[0])
    with pytest.raises(ArgumentError, match=r"it.interval must be 2 values, got \[0.1\]"):
        from_plain(Score, plain | {"interval": [0.1]}, "it")


def test_evidence_is_typed():
    with pytest.raises(ArgumentError, match=r"evidence is a fer_zoo\.evidence\.Evidence, got \{"):
        fer_zoo.create("test_tiny").evidence = {"by": "me"}
