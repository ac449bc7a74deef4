"""The models of the zoo: one block each."""

from functools import partial
from typing import Any

from fer_zoo.errors import ArgumentError, UnknownNameError
from fer_zoo.models.base import Classifier, check_count
from fer_zoo.models.resnet import ResNet
from fer_zoo.models.spec import MODELS, ModelSpec
from fer_zoo.models.timm_member import PREFIX, timm_spec
from fer_zoo.models.transformers_member import PREFIX as OTHERS
from fer_zoo.models.vgg import VGG

_RESNET: dict[str, Any] = {
    "source": "arXiv 1512.03385",
    "first_conv": "conv1.weight",
    "classifier": "fc",
}
_VGG: dict[str, Any] = {
    "source": "arXiv 1409.1556",
    "first_conv": "features.0.weight",
    "classifier": "classifier",
}
_THESIS = "the thesis, section 3"

for _spec in (
    ModelSpec(
        name="resnet18",
        build=ResNet,
        description="ResNet18 with a 3x3 stride-1 stem and no max-pool, for 40 to 48 px faces",
        **_RESNET,
    ),
    ModelSpec(
        name="resnet18_7x7",
        build=partial(ResNet, stem="7x7"),
        description="the thesis' ResNet18: 7x7 stride-2 stem and 3x3 max-pool",
        preset="thesis40",
        **_RESNET,
    ),
    ModelSpec(
        name="resnet18_025",
        build=partial(ResNet, width=16),
        description="resnet18 at a quarter of the width: 0.70 M parameters",
        **_RESNET,
    ),
    ModelSpec(
        name="resnet18_pool4",
        build=partial(ResNet, pool=4),
        description="resnet18 that averages the top left 4x4 of its last map, as the classic code",
        preset="fer44_tencrop",
        **_RESNET,
    ),
    ModelSpec(
        name="vgg19",
        build=VGG,
        description="VGG19 with batch norm and a pooled linear head",
        **_VGG,
    ),
    ModelSpec(
        name="vgg19_fc",
        build=partial(VGG, hidden=4096),
        description="the thesis' VGG19: two 4096-wide dense layers with dropout",
        preset="thesis40",
        **_VGG,
    ),
    ModelSpec(
        name="vgg19_025",
        build=partial(VGG, width=16, dropout=0.0),
        description="vgg19 at a quarter of the width: 1.26 M parameters",
        **_VGG,
    ),
    # oneDNN's 1x1 stride-2 convolution in channels_last writes past its buffer where the maps are
    # no multiple of 16: with 12 from 68 px on, with fewer than 8 in every backward pass (torch
    # 2.15).
    ModelSpec(
        name="test_tiny",
        build=partial(ResNet, width=16),
        description="a ResNet18 of 16 to 128 maps, for tests",
        **_RESNET,
    ),
    ModelSpec(
        name="ensemble_r18_vgg19",
        description="resnet18 and vgg19, their probabilities averaged",
        source=_THESIS,
        members=("resnet18", "vgg19"),
    ),
    ModelSpec(
        name="ensemble_r18_vgg19_025",
        description="resnet18_025 and vgg19_025, their probabilities averaged",
        source=_THESIS,
        members=("resnet18_025", "vgg19_025"),
    ),
    ModelSpec(
        name="ensemble_r18_vgg19_thesis",
        description="the thesis' ensemble: its two networks under one linear head",
        source=_THESIS,
        preset="thesis40",
        members=("resnet18_7x7", "vgg19_fc"),
        fusion="stacked",
    ),
):
    MODELS.register(_spec.name, _spec)


def get_spec(name: str) -> ModelSpec:
    """Return the registry entry of a model, `timm/<any>` included.

    Raises:
        UnknownNameError: nothing of that name is registered, nor known to timm.

    Example:
        >>> get_spec("ensemble_r18_vgg19").members
        ('resnet18', 'vgg19')
    """
    if isinstance(name, str) and name.startswith(PREFIX):
        return timm_spec(name)
    if isinstance(name, str) and name.startswith(OTHERS):
        raise UnknownNameError(f"{name!r} is an address: fer_zoo.load or fer_zoo.create takes it")
    try:
        return MODELS[name]
    except UnknownNameError as error:
        import timm

        if isinstance(name, str) and timm.is_model(name):
            raise UnknownNameError(f"{error} timm knows it: {PREFIX + name!r} builds it") from None
        raise


def build_network(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None
) -> Classifier:
    """Return an untrained network (no ensemble) by name."""
    spec = get_spec(name)
    if spec.members or spec.build is None:
        raise ArgumentError(f"{name!r} is an ensemble of {spec.members}, not a single network")
    classes = spec.num_classes if num_classes is None else num_classes
    channels = spec.in_channels if in_channels is None else in_channels
    check_count("num_classes", classes)
    if channels not in (1, 3):
        raise ArgumentError(f"in_channels must be 1 (gray) or 3 (RGB), got {channels}")
    model = spec.build(num_classes=classes, in_channels=channels)
    if not isinstance(model, Classifier):
        raise ArgumentError(f"the build of {name!r} returned {type(model)}, not a Classifier")
    model.name, model.preset = name, spec.preset
    return model
