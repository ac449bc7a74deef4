"""Frozen stages and rates that fall towards the stem, by timm's names and conventions."""

from typing import Any

from torch import nn

from fer_zoo.errors import ArgumentError
from fer_zoo.models import Classifier
from fer_zoo.training.recipe import Recipe


def stages(model: Classifier) -> dict[str, int]:
    """Return the stage of each parameter, of `group_matcher(coarse=True)`: 0 is the stem."""
    from timm.models import group_parameters

    found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    return found


def freeze(model: Classifier, count: int) -> list[nn.Module]:
    """Keep the first `count` stages of a network as they are; what was frozen already stays so.

    Returns the batch norms of which no parameter learns: they must stay in evaluation mode.
    """
    where = stages(model) if count else {}
    last = max(where.values(), default=0)
    if count > last:
        raise ArgumentError(
            f"freeze={count} leaves nothing of {model.name!r} to train: it has {last} stages in "
            "front of its head"
        )
    for name, parameter in model.named_parameters():
        if where.get(name, count) < count:
            parameter.requires_grad_(False)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [m for m in norms if m.affine and not any(p.requires_grad for p in m.parameters())]


def parameter_groups(model: Classifier, recipe: Recipe) -> list[dict[str, Any]]:
    """Return an optimizer's groups of what learns; `scale` is a group's share of the rate.

    The head has 1, each stage before it `layer_decay` times the next one's (arXiv 2003.10555).
    """
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not learning:
        raise ArgumentError(
            f"nothing of {model.name!r} learns: all its parameters are frozen; call "
            "model.get_classifier().requires_grad_(True) to train its head, or lower freeze="
        )
    if recipe.layer_decay == 1:
        return [{"params": [p for _, p in learning], "scale": 1.0}]
    where = stages(model)
    last = max(where.values())
    return [
        {
            "params": [p for name, p in learning if where[name] == stage],
            "scale": recipe.layer_decay ** (last - stage),
        }
        for stage in sorted({where[name] for name, _ in learning})
    ]
