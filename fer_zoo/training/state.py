"""What a run is, so that it can be told from another and repeated: faces, seeds, what learns."""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fer_zoo._files import alone_in, check_writable
from fer_zoo.data.faces import TEST_SPLITS, FaceDataset
from fer_zoo.errors import (
    ArgumentError,
    LabelError,
    SplitError,
    TrainingError,
)
from fer_zoo.labels import canonical
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.training.recipe import Recipe, default_recipe
from fer_zoo.transforms import PRESETS, Preset
from fer_zoo.weights.checkpoint import load_state_dict

log = logging.getLogger("fer_zoo.training")


def check_splits(data: FaceDataset, validation: FaceDataset) -> int:
    """Return how many validation faces are training faces too; refuse what is not honest."""
    splits = data.official_split, validation.official_split
    if tests := [split for split in splits if split in TEST_SPLITS]:
        raise SplitError(
            f"the {tests[0]} split is scored once, for reporting: train on split='train' and "
            "choose on a part of it, data, validation = data.split(0.2) (--validation 0.2), or of "
            "FER2013 on split='public'"
        )
    if data.official_split == "public":
        raise SplitError("PublicTest chooses between models: train on split='train'")
    if not len(validation):
        raise TrainingError("no validation faces: the best epoch is chosen on them")
    shared = validation.shared_with(data)
    if shared == len(validation):
        raise SplitError(
            "all validation faces are training faces; the best epoch must be chosen on faces that "
            "were not trained on: data, validation = data.split(0.2)"
        )
    return shared


def check_model(model: Classifier, data: FaceDataset, validation: FaceDataset) -> None:
    """Raise unless `model` can be trained on `data` and judged on `validation`."""
    if isinstance(model, Ensemble):
        raise ArgumentError(
            "an ensemble's members are trained one by one, then its fusion is fitted: "
            "fer_zoo.train_ensemble does both"
        )
    if not isinstance(model, Classifier):
        raise ArgumentError(f"expected a model or the name of one, got {model!r:.80}")
    if len(data.labels) < 2:
        raise TrainingError(
            f"{data.name} has the one class {data.labels}, and there is nothing to tell apart: add "
            "faces of another, in a folder of their own"
        )
    if model.num_classes != len(data.labels):
        raise ArgumentError(
            f"the model has {model.num_classes} classes, the data {len(data.labels)} "
            f"{data.labels}; call model.reset_classifier({len(data.labels)}) first"
        )
    if empty := [name for name, n in data.counts.items() if not n]:
        raise TrainingError(f"no training face for {empty}: add some or drop the class")
    if model.labels and {*map(canonical, model.labels)} != {*map(canonical, data.labels)}:
        raise LabelError(
            f"the model's head knows {model.labels}, the faces are {data.labels}: call "
            f"model.reset_classifier({len(data.labels)}) for a new head, or rename the classes"
        )
    if {*map(canonical, validation.labels)} != {*map(canonical, data.labels)}:
        raise LabelError(
            f"the validation faces have the classes {validation.labels}, the training faces "
            f"{data.labels}: both need a folder for every class, with faces in it"
        )
    if any(p.dtype != torch.float32 for p in model.parameters()):
        raise ArgumentError("training keeps parameters in float32: call model.float() first")
    if len(data) < 2:
        raise TrainingError("training needs at least two faces")


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep a run's folder from other runs, if files can be written there."""
    with ExitStack() as stack:
        try:
            check_writable(folder)
            stack.enter_context(alone_in(folder))
        except BlockingIOError as error:
            raise TrainingError(
                f"{error}: wait for it, or use another output folder; once it has ended, however "
                "it did, the same command goes on"
            ) from None
        except OSError as error:
            raise TrainingError(f"{folder} cannot be written to: {error}") from None
        yield


@contextmanager
def may_stay_uncalibrated(what: str, told: set[str] | None = None) -> Iterator[None]:
    """Tell, once for each reason in `told`, where no temperature can be fitted, and go on."""
    told = set() if told is None else told
    try:
        yield
    except ArgumentError as error:
        if str(error) not in told:
            log.warning("%s stays uncalibrated: %s", what, error)
        told.add(str(error))


def describe(data: FaceDataset) -> dict[str, Any]:
    """Return what tells these faces from any others; the name of their folder is not part of it."""
    known = {"split": data.official_split, "labels": list(data.labels), "n": len(data)}
    return known | {"fingerprint": data.fingerprint}


def hash_state(model: Classifier, *, head: bool = False) -> str:
    """Return a hash of parameters and buffers, without the last layer unless `head`."""
    digest = hashlib.sha256()
    last = {p.data_ptr() for p in model.get_classifier().parameters() if not head}
    for key, value in sorted(model.state_dict().items()):
        if value.data_ptr() in last:
            continue
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(key.encode() + flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def choose_preset(model: Classifier, recipe: Recipe) -> Preset:
    """Return the recipe's preset, else the network's own; where weights had another, tell it."""
    own = model.preset
    if recipe.preset in (None, own):
        return PRESETS[own]
    if default_recipe(model) == "finetune":
        log.warning(
            "the recipe %s trains under the preset %s, the weights were made for %s: preset=%r "
            "(--set preset=%s) keeps theirs",
            recipe.name,
            recipe.preset,
            own,
            own,
            own,
        )
    return PRESETS[recipe.preset]


def seed_head(model: Classifier, seed: int) -> None:
    """Draw a head again that is as `reset_classifier` made it: by the seed, as all else is."""
    if not model.has_fresh_head:
        return
    twin = deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        twin.reset_classifier(model.num_classes)
    model.get_classifier().load_state_dict(twin.get_classifier().state_dict())
    model._note_fresh(model.get_classifier())


def resolve_precision(recipe: Recipe, device: torch.device) -> str:
    """Return `fp32` or `bf16`: for `auto`, bf16 where torch says that the device computes in it."""
    if recipe.precision != "auto":
        return recipe.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return "bf16" if device.type == "cpu" and fast else "fp32"


def mix_seed(seed: int, epoch: int, stream: int) -> int:
    """Return a seed of its own for each epoch and use of chance."""
    return (seed * 1_000_003 + epoch) * 7 + stream


def generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """Return a source of randomness of its own for each epoch and use of chance."""
    return torch.Generator().manual_seed(mix_seed(seed, epoch, stream))


def batches(order: Tensor, size: int) -> Iterator[Tensor]:
    """Yield all rows; a last batch of one joins the one before: batch norm needs two."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) < 2:
        parts[-2:] = [torch.cat(parts[-2:])]
    yield from parts


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


def make_optimizer(recipe: Recipe, model: Classifier) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for all parameters that learn."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return torch.optim.AdamW(
            groups, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay
        )
    return torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def warmed_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential average whose decay of update t is at most (1 + t) / (10 + t)."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, _: Any) -> None:
        if not averaged[0].is_floating_point():  # the batches that batch norm has counted
            torch._foreach_copy_(averaged, current)
            return
        done = int(average.n_averaged)  # what is passed is on the device: each step would wait
        share = 1 - min(decay, (1 + done) / (10 + done))
        torch._foreach_lerp_(averaged, current, share)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average


def pack(
    model: nn.Module, average: AveragedModel | None, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Return everything that a resume needs as named tensors."""
    found = {f"model.{k}": v for k, v in model.state_dict().items()}
    if average is not None:
        found |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            if value is not None:
                found[f"optimizer.{key}.{name}"] = value
    return found


def unpack(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    average: AveragedModel | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Put what `pack` returned back in place."""
    for prefix, module in (("model.", model), ("average.", average)):
        if module is not None:
            own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            load_state_dict(module, own)
    for name, parameter in model.named_parameters():
        for key in ("momentum_buffer", "exp_avg", "exp_avg_sq", "step"):
            value = tensors.get(f"optimizer.{key}.{name}")
            if value is not None:
                if value.shape == parameter.shape:
                    value = torch.empty_like(parameter).copy_(value)
                optimizer.state[parameter][key] = value


def lengthened(run: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Return `run` as if it were `earlier` where the two differ only in how long they go on.

    At a constant rate the first epochs of a longer run are those of a shorter one.
    """
    recipe, before = run["recipe"], earlier["recipe"]
    if recipe["schedule"] == "cosine" or recipe["epochs"] < before["epochs"]:
        return run
    names = ("name", "description", "epochs")
    return run | {"recipe": recipe | {name: before[name] for name in names}}


def differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> str:
    """Say in which values two nested configs differ."""
    found = []
    for key in sorted({*a, *b}):
        left, right = a.get(key), b.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found.append(differences(left, right, f"{where}{key}."))
        elif left != right:
            found.append(f"{where}{key} {left!r} there, {right!r} here")
    return ", ".join(f for f in found if f)
