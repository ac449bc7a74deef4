"""Every registered network, and the ways in which they are put together."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import fer_zoo
from conftest import NETWORKS, ROOT, TIMM
from fer_zoo.errors import ArgumentError, LabelError, StateDictError
from fer_zoo.models import MODELS, Ensemble, ResNet, count_parameters, get_spec

ENSEMBLES = [name for name, spec in MODELS.items() if spec.members]
LARGE = {"vgg19_fc", "ensemble_r18_vgg19_thesis"}
OUTER = ("first_conv", "classifier")
STORED = ROOT / "tests" / "expected_outputs.safetensors"


def deterministic(name: str) -> nn.Module:
    """Return the model with weights that do not depend on a random generator's version."""
    model = fer_zoo.create(name).eval()
    for i, (key, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point():
            wave = torch.arange(value.numel(), dtype=torch.float64).mul(0.7 + i).sin()
            scale = (2 / max(value[0].numel(), 1)) ** 0.5 if value.ndim > 1 else 0.1
            values = wave.mul(scale * 1.4).view_as(value).float()
            value.copy_(values + (1 if "bn" in key or "running_var" in key else 0))
            if "running_var" in key:
                value.abs_().add_(0.5)
    return model


@pytest.mark.parametrize("name", [*NETWORKS, *ENSEMBLES, *TIMM])
def test_timm_dialect(name):
    """An odd class count runs through every method that fine-tuning code calls."""
    model = fer_zoo.create(name, num_classes=5).eval()
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        features = model.forward_features(x)
        logits = model.forward_head(features)
        before = model.forward_head(features, pre_logits=True)
        assert torch.equal(model(x), logits)
    assert logits.shape == (2, 5)
    assert before.shape == (2, model.num_features)
    assert model.num_classes == 5
    assert sum(p.numel() for p in model.get_classifier().parameters()) > 0
    model.labels = tuple("abcde")
    model.reset_classifier(3)
    assert model.labels is None
    assert model(x).shape == (2, 3)
    assert model.num_classes == 3


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [32, 48, 224])
def test_any_side_from_32_to_224(name, side):
    if side == 224 and name not in ("resnet18_7x7", "test_tiny", "vgg19_025", "vgg19_fc"):
        pytest.skip("seconds and gigabytes; the narrow network of the same shape is tried")
    model = fer_zoo.create(name).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, side, side)).shape == (1, 7)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in LARGE])
def test_every_parameter_gets_a_gradient(name):
    model = fer_zoo.create(name, num_classes=5)
    model(torch.rand(4, 1, 40, 40)).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    if name == "vgg19_fc":
        without = [k for k in without if not k.startswith("classifier")]
    assert without == []


@pytest.mark.parametrize("name", [*NETWORKS, *ENSEMBLES])
def test_a_row_does_not_depend_on_its_neighbours(name):
    model = fer_zoo.create(name).eval()
    x = torch.rand(3, 1, 40, 40)
    with torch.no_grad():
        assert torch.allclose(model(x)[1:2], model(x[1:2]), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_spec_names_real_keys(name):
    spec, keys = get_spec(name), set(fer_zoo.create(name).state_dict())
    assert spec.first_conv in keys
    assert any(key.startswith(f"{spec.classifier}.") for key in keys)


@pytest.mark.parametrize("name", [*NETWORKS, *ENSEMBLES, *TIMM])
def test_what_timm_asks_of_a_network_is_true(name):
    """Its input, its classes, and its outer layers by names that are there, also of a new head."""
    from timm.data import resolve_model_data_config

    with torch.device("meta" if name in LARGE else "cpu"):
        model = fer_zoo.create(name, num_classes=5, in_channels=3)
    preset = fer_zoo.transforms.PRESETS[model.preset]
    expected: dict = {"input_size": (3, 40, 40), "interpolation": "bilinear", "crop_mode": "center"}
    expected |= {"mean": (0.0,) * 3, "std": (1.0,) * 3, "crop_pct": preset.size / preset.resize}
    if name == "resnet18_pool4":
        expected["input_size"] = (3, 44, 44)
    assert resolve_model_data_config(model) == expected
    model.labels = tuple("abcde")
    assert model.pretrained_cfg["label_names"] == tuple("abcde")
    model.reset_classifier(3)
    told = model.default_cfg
    assert (told["num_classes"], told["label_names"], told["architecture"]) == (3, None, name)
    first, last = ([told[k]] if name not in ENSEMBLES else told[k] for k in OUTER)
    assert all(model.get_submodule(n).in_channels == 3 for n in first)
    assert all(model.get_submodule(n).out_features == 3 for n in last)
    spec = get_spec(name)
    if not spec.members:
        assert first == [spec.first_conv.removesuffix(".weight")]
        assert last[0].startswith(spec.classifier)
    else:
        assert len(first) == len(last) == 2


@pytest.mark.parametrize("preset", ["fer40_center", "fer44_tencrop", "thesis40"])
def test_timms_own_transform_is_the_networks(preset, tmp_path):
    """After a load, with another mean; of ten views timm sees the fifth, the centre."""
    from timm.data import create_transform, resolve_model_data_config

    own = replace(fer_zoo.transforms.PRESETS[preset], name=f"{preset}_moved", mean=0.3, std=0.2)
    model = fer_zoo.create("test_tiny")
    model.preset = fer_zoo.register_preset(own).name
    model = fer_zoo.load(fer_zoo.save(model, tmp_path / "a.safetensors"))
    face = (np.arange(48)[:, None] * np.arange(48)[None] % 251).astype(np.uint8)
    theirs = create_transform(**resolve_model_data_config(model))(Image.fromarray(face))
    ours = fer_zoo.create_transform(model)(face)
    ours = ours[4] if ours.ndim == 4 else ours
    # timm scales by whole gray levels, 1/255 apart; what is not scaled is equal.
    assert torch.allclose(theirs, ours, atol=0.02 if preset == "thesis40" else 1e-6)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in LARGE])
def test_compiles_without_graph_breaks(name):
    model = fer_zoo.create(name).eval()
    x = torch.rand(2, 1, 40, 40)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert torch.allclose(compiled(x), model(x), atol=1e-5)


@pytest.mark.parametrize("name", ["test_tiny", "vgg19_025", "ensemble_r18_vgg19_025"])
@pytest.mark.slow
def test_exports_with_a_dynamic_batch(name):
    model = fer_zoo.create(name).eval()
    shapes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    program = torch.export.export(model, (torch.rand(2, 1, 40, 40),), dynamic_shapes=shapes)
    x = torch.rand(5, 1, 40, 40)
    with torch.no_grad():
        assert torch.allclose(program.module()(x), model(x), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18_025", "vgg19_025", "test_tiny", "resnet18_7x7"])
def test_outputs_are_the_stored_ones(name, request):
    """The arithmetic of a network never changes unnoticed."""
    x = torch.linspace(0, 1, 2 * 40 * 40).view(2, 1, 40, 40)
    with torch.no_grad():
        found = deterministic(name)(x)
    stored = load_file(STORED) if STORED.exists() else {}
    if request.config.getoption("--accept", default=False):
        save_file(stored | {name: found}, STORED)
        return
    accept = "python -m pytest tests/test_models.py --accept"
    assert name in stored, f"no stored outputs; if the new network is right, run: {accept}"
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, stored[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", "resnet18 resnet18_025 resnet18_7x7 vgg19 vgg19_025 vgg19_fc".split()
)
def test_docstring_states_the_parameter_count(name):
    model = fer_zoo.create(name)
    assert f"{count_parameters(model):,}" in type(model).__doc__


@pytest.mark.parametrize(
    ("name", "convolutions", "linear"), [("resnet18_7x7", 17, 1), ("vgg19_fc", 16, 3)]
)
def test_layers_of_the_thesis(name, convolutions, linear):
    """17 convolutions and 1 dense layer; 16 convolutions and 3 dense layers of 4096, 4096, 7."""
    model = fer_zoo.create(name)
    modules = dict(model.named_modules())
    found = [m for k, m in modules.items() if isinstance(m, nn.Conv2d) and "downsample" not in k]
    assert len(found) == convolutions
    dense = [m for m in modules.values() if isinstance(m, nn.Linear)]
    assert len(dense) == linear
    if name == "resnet18_7x7":
        assert (found[0].kernel_size, found[0].stride, found[0].padding) == ((7, 7), (2, 2), (3, 3))
        assert (model.maxpool.kernel_size, model.maxpool.stride) == (3, 2)
    else:
        assert [m.out_features for m in dense] == [4096, 4096, 7]
        assert sum(isinstance(m, nn.MaxPool2d) for m in modules.values()) == 5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("resnet18_7x7", "resnet18"), ("vgg19", "vgg19_bn"), ("vgg19_fc", "vgg19_bn")],
)
@pytest.mark.slow
def test_imagenet_state_dicts_load(ours, theirs):
    """The gray model gives what torchvision's RGB model gives for the replicated gray image."""
    import torchvision

    rgb = getattr(torchvision.models, theirs)(weights=None).eval()
    published = {k: v for k, v in rgb.state_dict().items() if "num_batches" not in k}
    for m in rgb.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.5, 1.5)
    gray = fer_zoo.create(ours).eval()
    head = gray.get_classifier().weight.clone()
    fer_zoo.weights.load_imagenet(gray, published)  # which has no batch counters
    x = torch.rand(2, 1, 64, 64)
    body = rgb.features if theirs == "vgg19_bn" else nn.Sequential(*list(rgb.children())[:-2])
    with torch.no_grad():
        expected, found = body(x.expand(-1, 3, -1, -1)), gray.forward_features(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert found.abs().max() > 0.01
    assert torch.equal(gray.get_classifier().weight, head)


def test_imagenet_of_another_shape_is_refused():
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    with pytest.raises(StateDictError, match=r"conv1.weight has shape"):
        fer_zoo.weights.load_imagenet(fer_zoo.create("resnet18"), state)
    with pytest.raises(StateDictError, match="features"):
        fer_zoo.weights.load_imagenet(fer_zoo.create("vgg19_025"), state)


def test_rgb_stem_and_dtype():
    model = fer_zoo.create("test_tiny", in_channels=3, dtype=torch.float64).eval()
    assert model(torch.rand(2, 3, 40, 40, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(ArgumentError, match="in_channels must be 1"):
        fer_zoo.create("test_tiny", in_channels=2)
    for wrong in (0, -1, 2.5, "7", True):
        with pytest.raises(ArgumentError, match="num_classes must be a whole number"):
            fer_zoo.create("test_tiny", num_classes=wrong)
    with pytest.raises(ArgumentError, match="num_classes"):
        fer_zoo.create(TIMM[0]).reset_classifier(0)
    with pytest.raises(ArgumentError, match="device 'gpu' cannot be used here"):
        fer_zoo.create("test_tiny", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ArgumentError, match="device 'cuda' cannot be used here"):
            fer_zoo.Predictor("resnet18_025", device="cuda")


def test_arguments_that_contradict_the_weights_raise():
    with pytest.raises(ArgumentError, match=r"num_classes=8, head=\"reset\""):
        fer_zoo.create("resnet18_025", weights="default", num_classes=8)
    with pytest.raises(ArgumentError, match="in_channels=3 contradicts"):
        fer_zoo.create("resnet18_025", weights="default", in_channels=3)
    with pytest.raises(ArgumentError, match="create_ensemble"):
        fer_zoo.create("resnet18_025", fusion="stacked")


def test_ensemble_composes_any_members():
    names = ["test_tiny", "test_tiny", "resnet18_025", TIMM[0]]
    for fusion in fer_zoo.list_fusions("[!f]*"):
        model = fer_zoo.create_ensemble(names, fusion=fusion, num_classes=5).eval()
        x = torch.rand(2, 1, 40, 40)
        with torch.no_grad():
            members = model.forward_members(x)
            assert members.shape == (4, 2, 5)
            torch.testing.assert_close(model(x), model.fusion(members))
            torch.testing.assert_close(members[0], model.members[0](x))
    alone = fer_zoo.create_ensemble(["test_tiny"]).eval()
    assert torch.allclose(alone(x).softmax(1), alone.members[0](x).softmax(1), atol=1e-6)


def test_ensembles_that_make_no_sense_are_refused():
    inner = fer_zoo.create_ensemble(["test_tiny", "test_tiny"])
    with pytest.raises(ArgumentError, match="itself an ensemble"):
        fer_zoo.create_ensemble([inner, "test_tiny"])
    with pytest.raises(ArgumentError, match="itself an ensemble"):
        fer_zoo.create_ensemble(["ensemble_r18_vgg19_025", "test_tiny"])
    with pytest.raises(ArgumentError, match="at least one"):
        fer_zoo.create_ensemble([])
    with pytest.raises(ArgumentError, match="list of names"):
        fer_zoo.create_ensemble("test_tiny")
    odd = fer_zoo.create("test_tiny", num_classes=3)
    with pytest.raises(ArgumentError, match=r"num_classes: \[3, 7\]"):
        fer_zoo.create_ensemble([odd, "test_tiny"])
    with pytest.raises(ArgumentError, match="twice"):
        fer_zoo.create_ensemble([odd, odd])
    assert fer_zoo.create_ensemble(["resnet18_7x7", "test_tiny"]).mixed
    both = fer_zoo.create_ensemble(["resnet18_7x7", "test_tiny"], preset="fer48_plain")
    assert (both.preset, both.mixed) == ("fer48_plain", False)
    with pytest.raises(ArgumentError, match="num_classes=3 contradicts"):
        fer_zoo.create_ensemble([fer_zoo.create("test_tiny")], num_classes=3)
    with pytest.raises(ArgumentError, match="for members given by name"):
        fer_zoo.create_ensemble([fer_zoo.create("test_tiny")], weights="default")
    with pytest.raises(ArgumentError, match="fusion must be a name"):
        fer_zoo.create_ensemble(["test_tiny"], fusion=5)
    with pytest.raises(ArgumentError, match="for 3 members"):
        fer_zoo.create_ensemble(["test_tiny"], fusion=fer_zoo.fusion.Average(3, 7))


def test_members_in_another_label_order_are_reordered(labelled):
    """The trap of csv order against folder order: the same index, another expression."""
    other = fer_zoo.create("test_tiny").eval()
    order = [3, 0, 6, 1, 2, 5, 4]
    other.load_state_dict(labelled.state_dict())
    with torch.no_grad():
        other.fc.weight.copy_(labelled.fc.weight[order])
        other.fc.bias.copy_(labelled.fc.bias[order])
    other.labels = tuple(labelled.labels[i] for i in order)
    model = fer_zoo.create_ensemble([labelled, other]).eval()
    x = torch.rand(4, 1, 40, 40)
    with torch.no_grad():
        a, b = model.forward_members(x)
        torch.testing.assert_close(a, b)
        assert not torch.equal(other(x), labelled(x))
        both = model.forward_head(model.forward_features(x))
        torch.testing.assert_close(both, model(x))
    other.labels = tuple("abcdefg")
    with pytest.raises(LabelError, match="different classes"):
        fer_zoo.create_ensemble([labelled, other])
    with pytest.raises(LabelError, match="some members are labelled"):
        fer_zoo.create_ensemble([labelled, "test_tiny"])


def test_repr_says_what_it_is():
    """In one line; `print` lists the layers, as torch does."""
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default", fusion="stacked")
    assert repr(model) == (
        "Ensemble('ensemble_r18_vgg19_025', weights='ensemble_r18_vgg19_025.fer2013', "
        "1.96 M parameters, preset='fer40_center' (gray), labels=('angry', 'disgust', 'fear', "
        "'happy', 'sad', 'surprise', 'neutral'), members=[resnet18_025, vgg19_025], "
        "fusion='stacked')"
    )
    assert "(layer4): Sequential(" in str(fer_zoo.create("resnet18_025"))
    assert "(0): ResNet('resnet18_025', weights='resnet18_025.fer2013', 0.70 M" in str(model)
    assert repr(fer_zoo.create("test_tiny", num_classes=3)).endswith("(gray), num_classes=3)")
    record = fer_zoo.weights.get_weights("resnet18_025")
    assert re.fullmatch(r"WeightsRecord\('resnet18_025.fer2013', 7 classes, .* %.*\)", repr(record))
    spec = fer_zoo.models.get_spec("resnet18_025")
    assert repr(spec).startswith("ModelSpec('resnet18_025', preset='fer40_center': ")
    assert len(repr(spec)) < 150
    assert isinstance(fer_zoo.create("ensemble_r18_vgg19_025"), Ensemble)
    assert isinstance(fer_zoo.create("test_tiny"), ResNet)


def test_an_ensemble_of_an_ensembles_members():
    """As `with_fusion` recommends: the members are a ModuleList."""
    model = fer_zoo.create("ensemble_r18_vgg19_025", weights="default")
    other = fer_zoo.create_ensemble(model.members, fusion="max")
    assert other.members[0] is model.members[0]
