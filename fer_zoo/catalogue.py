"""What there is, by name, and how third parties add to it."""

from collections.abc import Iterable

from fer_zoo._words import answering
from fer_zoo.errors import ArgumentError
from fer_zoo.fusion import FUSIONS
from fer_zoo.models import MODELS, ModelSpec
from fer_zoo.transforms import PRESETS, Preset
from fer_zoo.weights import WEIGHTS


@answering
def list_models(
    pattern: str = "*", *, exclude: str | Iterable[str] = (), trained: bool = False
) -> list[str]:
    """Return the names of the registered models; `timm.list_models()` lists timm's.

    Args:
        pattern: wildcards as in file names.
        exclude: one or several patterns to leave out.
        trained: only models that have trained weights.

    Example:
        >>> list_models("*r18*", exclude="*_025")
        ['ensemble_r18_vgg19', 'ensemble_r18_vgg19_thesis']
    """
    having = {record.model for record in WEIGHTS.values()}
    return [n for n in MODELS.names(pattern, exclude) if not trained or n in having]


def list_fusions(pattern: str = "*") -> list[str]:
    """Return the names of the registered fusions.

    Example:
        >>> list_fusions("*t*d")
        ['stacked', 'weighted']
    """
    return FUSIONS.names(pattern)


def list_presets(pattern: str = "*") -> list[str]:
    """Return the names of the registered presets.

    Example:
        >>> list_presets("*_tencrop")
        ['fer40_tencrop', 'fer44_tencrop']
    """
    return PRESETS.names(pattern)


def register_model(spec: ModelSpec) -> ModelSpec:
    """Make a model available by name, here, in listings and on the command line.

    Raises:
        DuplicateNameError: the name is taken.
        UnknownNameError: no member, fusion or preset has the name that the spec says.
        ArgumentError: a member is itself an ensemble.

    Example:
        >>> from fer_zoo.models import ResNet
        >>> spec = ModelSpec(name="resnet18_doc", build=ResNet, description="mine", source="me")
        >>> register_model(spec).name
        'resnet18_doc'
    """
    if not isinstance(spec, ModelSpec):
        raise ArgumentError(f"expected a fer_zoo.models.ModelSpec, got {spec!r:.80}")
    _ = PRESETS[spec.preset], FUSIONS[spec.fusion]
    # What timm has is looked up when it is built: timm takes a second to import.
    own = [name for name in spec.members if not str(name).startswith("timm/")]
    if nested := [name for name in own if MODELS[name].members]:
        raise ArgumentError(f"{spec.name!r} has ensembles as members: {nested}; name theirs")
    return MODELS.register(spec.name, spec)


def register_preset(preset: Preset) -> Preset:
    """Make a preset available by name.

    One that is equal to the registered one is that. What files brought makes room: their models
    keep their own.

    Raises:
        DuplicateNameError: the name is taken by another preset.

    Example:
        >>> register_preset(Preset(name="px64_doc", resize=72, size=64, views="center")).name
        'px64_doc'
    """
    if not isinstance(preset, Preset):
        raise ArgumentError(f"expected a fer_zoo.transforms.Preset, got {preset!r:.80}")
    known = PRESETS.get(preset.name)
    same = known == preset and preset.name not in PRESETS.lent
    return known if known and same else PRESETS.register(preset.name, preset)
