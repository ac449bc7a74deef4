"""The commands that train: networks, fusions, and the recipes they train by."""

import difflib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click
import torch

import fer_zoo
from fer_zoo._files import replacing
from fer_zoo.cli.inputs import (
    check_new,
    choosing_split,
    has_classes,
    is_ferplus,
    open_data,
    parse_setting,
    save_new,
    training_split,
)
from fer_zoo.cli.options import (
    FUSION,
    MODEL,
    PATH,
    PRESET,
    WEIGHTS,
    Name,
    data_option,
    device_option,
    fusion_option,
    json_option,
    limit_option,
    main,
    model_argument,
)
from fer_zoo.cli.show import print_json, print_table
from fer_zoo.data import FaceDataset
from fer_zoo.data.fer2013 import lacks_classes, of_own
from fer_zoo.data.layout import how_to_train
from fer_zoo.data.sets import parse_dataset
from fer_zoo.errors import ArgumentError, MissingDependencyError
from fer_zoo.factory import resolve
from fer_zoo.inference.calibration import LEAST_FACES
from fer_zoo.labels import canonical
from fer_zoo.models import Classifier, get_spec
from fer_zoo.models.transformers_member import PREFIX
from fer_zoo.plain import to_plain
from fer_zoo.training import (
    RECIPES,
    FusionFit,
    Recipe,
    TrainResult,
    get_recipe,
    train_ensemble,
)
from fer_zoo.transforms import PRESETS
from fer_zoo.weights.address import IMAGENET, is_address


class _Train(click.Command):
    """Knows a recipe's settings where they are typed as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say how a setting is set where click says that there is no such option."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [field.name for field in fields(Recipe)]
            typed = error.option_name.lstrip("-").replace("-", "_")
            near = difflib.get_close_matches(typed, known, n=1, cutoff=0.8)
            if not near:
                raise
            value = "=".join(given).partition(f"{error.option_name}=")[2].split("=")[0]
            value = "VALUE" if not value or value.startswith("-") else value
            raise click.UsageError(
                f"{error.option_name} is no option but a setting of the recipe: "
                f"--set {near[0]}={value}",
                ctx,
            ) from None


@main.command(cls=_Train, short_help="Train a network or an ensemble by a recipe.")
@model_argument
@data_option
@click.option("--output", required=True, type=PATH, help="Folder.")
@click.option(
    "--recipe",
    type=Name("recipe", lambda: RECIPES),
    help="A name of fer-zoo recipes, or a .toml file; finetune with --weights, else strong.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option(
    "--validation",
    type=PATH,
    metavar="FOLDER|SHARE",
    help="Folder of validation faces, or the share of --data to keep for it, such as 0.2; without, "
    "FER2013 uses PublicTest.",
)
@click.option(
    "--weights",
    type=WEIGHTS,
    help="Start from weights: default, a tag, a file, hf-hub:..., imagenet.",
)
@click.option("--new-head", is_flag=True, help="With --weights: other classes than theirs.")
@click.option("--ferplus", is_flag=True, help="FER+'s eight classes: fer2013new.csv by the csv.")
@click.option("--teacher", type=MODEL, help="Trained model to learn from: --set distill=0.5.")
@fusion_option
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard's event files.")
@click.option("--fresh", is_flag=True, help="Start again instead of going on.")
@limit_option
@device_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Of the CPU: 1 beside other work.")
@json_option
def train(
    model: str,
    root: Path,
    output: Path,
    recipe: str | None,
    changes: tuple[str, ...],
    validation: Path | None,
    weights: str | None,
    new_head: bool,
    ferplus: bool,
    teacher: str | None,
    fusion: str | None,
    tensorboard: bool,
    fresh: bool,
    limit: int | None,
    device: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train a network or an ensemble by a recipe; run again, it goes on where it stopped.

    Example: fer-zoo train resnet18_025 --data fer2013.csv --output runs/r18 --set epochs=5
    """
    if threads:
        torch.set_num_threads(threads)
    name = recipe or ("finetune" if weights else "strong")
    settings = get_recipe(name, dict(parse_setting(c) for c in changes))
    is_ensemble = not is_address(model) and bool(get_spec(model).members)
    for option, given in (("--weights", weights), ("--teacher", teacher)):
        if is_ensemble and given:
            raise ArgumentError(f"{option} is for one network; train the members one by one")
    if fusion and not is_ensemble:
        raise ArgumentError(f"--fusion is for an ensemble, {model!r} is one network")
    start = _start(model, weights, new_head)
    own = start.preset if isinstance(start, Classifier) else get_spec(model).preset
    size = PRESETS[settings.preset or own].resize
    data, judge = _open_both(root, validation, limit, size, ferplus)
    options: dict[str, Any] = {"output": output, "validation": judge, "recipe": settings}
    options |= {"device": device, "resume": not fresh, "tensorboard": tensorboard}
    runs: Any
    fit: FusionFit | None = None
    if is_ensemble:
        result = train_ensemble(model, data, fusion=fusion, **options)
        runs, fit = {name: run.history for name, run in result.members.items()}, result.fit
        facts: dict[str, Any] = {"checkpoint": str(result.checkpoint), "fit": to_plain(fit)}
        facts["members"] = {name: _facts(run) for name, run in result.members.items()}
        text = f"{fit!r}\n{result.checkpoint}" if fit else str(result.checkpoint)
    else:
        _fit_head(start, data.labels, new_head or weights == IMAGENET)
        run = fer_zoo.train(start, data, teacher=teacher, **options)
        runs, facts, best = run.history, _facts(run), run.best
        text = (
            f"best epoch {best.epoch} of {len(runs)}: validation accuracy "
            f"{100 * best.val_accuracy:.2f} % (chosen on it, n = {len(judge)})\n{run.checkpoint}"
        )
    _draw(runs, fit, output)
    if as_json:
        print_json(facts)
    else:
        click.echo(text)


def _open_both(
    root: Path, validation: Path | None, limit: int | None, size: int, ferplus: bool
) -> tuple[FaceDataset, FaceDataset]:
    """Return the faces to train on, and those to validate on."""
    own, named = has_classes(root), parse_dataset(root)
    share = None if validation is None else _share(validation)
    if ferplus and (own or named or (validation is not None and share is None)):
        raise ArgumentError("--ferplus is for fer2013.csv with fer2013new.csv beside it")
    split = training_split(root) if named else None if own else "train"
    if split and not named and (lacking := lacks_classes(root)):
        raise ArgumentError(
            f"{root / 'train'} has no face of {lacking}, as FER2013 has{of_own(root)}"
        )
    if share is not None:
        return open_data(root, split, limit, size=size, ferplus=ferplus).split(share)
    if validation is not None:
        if not has_classes(validation) and not parse_dataset(validation):
            raise ArgumentError(
                f"--validation takes a folder of folders by class, a data set by name, or a share "
                f"of --data such as 0.2, got {validation}"
            )
        data = open_data(root, split, limit, size=size)
        return data, open_data(validation, None, None, size=size)
    choosing = choosing_split(root)
    if choosing is None:
        if own and (training := how_to_train(root)):
            raise ArgumentError(f"{root} holds splits, not classes: pass {training}")
        raise ArgumentError(
            f"{root} has no official splits: pass --validation 0.2 to keep a fifth of the faces "
            "for it, or a folder of faces that are not trained on"
        )
    data = open_data(root, split, limit, size=size, ferplus=ferplus)
    judge = open_data(root, choosing, None, size=size, ferplus=ferplus)
    return data, judge.subset(max(limit // 8, 1)) if limit else judge


def _share(validation: Path) -> float | None:
    """Return a share that was given in place of a folder."""
    try:
        share = float(str(validation))
    except ValueError:
        return None
    return share if 0 < share < 1 and not validation.exists() else None


def _facts(run: TrainResult) -> dict[str, Any]:
    history = [asdict(epoch) for epoch in run.history]
    return {"checkpoint": str(run.checkpoint), "best": asdict(run.best), "history": history}


def _start(model: str, weights: str | None, new_head: bool) -> str | Classifier:
    """Return what training starts from: a name, or a network with weights."""
    if model.startswith(PREFIX):
        return fer_zoo.create(model, weights=weights or "default").train()
    if is_address(model):
        raise ArgumentError(f"name the network: fer-zoo train NAME --weights {model}")
    if weights is None:
        if new_head:
            raise ArgumentError("--new-head is for --weights; without them the head is new anyway")
        return model
    return fer_zoo.create(model, weights=weights).train()


def _fit_head(start: str | Classifier, labels: tuple[str, ...], new: bool) -> None:
    """Put a new head on a network with weights, or see that its own knows the classes."""
    if isinstance(start, str):
        return
    if new:
        start.reset_classifier(len(labels))
    elif {*map(canonical, start.labels or ())} != {*map(canonical, labels)}:
        raise ArgumentError(
            f"the weights know {start.labels}, the faces are {labels}: pass --new-head to put a "
            "new last layer on"
        )


def _draw(runs: Any, fit: FusionFit | None, output: Path) -> None:
    """Write curves.png where matplotlib is there."""
    try:
        fused = None
        if fit:
            fused = fit.average_accuracy if fit.instead else fit.held_out_accuracy
        figure = fer_zoo.plots.history(runs, fused=fused)
        with replacing(output / "curves.png") as temporary:
            figure.savefig(temporary, dpi=120, format="png")
    except (MissingDependencyError, OSError) as error:
        click.echo(f"no curves: {error}", err=True)


@main.command(short_help="Make an ensemble of models and fit its fusion.")
@click.argument("members", nargs=-1, required=True, type=MODEL)
@click.option(
    "--fusion",
    default="average",
    show_default=True,
    type=FUSION,
    help="fer-zoo list names them.",
)
@click.option("--output", required=True, type=PATH, help="New .safetensors.")
@click.option(
    "--data",
    "root",
    type=PATH,
    help="Faces the members were not trained on, to fit the fusion and the temperature; of "
    "FER2013, PublicTest.",
)
@click.option(
    "--even-if-worse",
    is_flag=True,
    help="Keep the fitted fusion where averaging does better on faces it was not fitted on.",
)
@click.option("--preset", type=PRESET, help="The ensemble's, if the members' presets differ.")
@limit_option
@device_option
@json_option
def fuse(
    members: tuple[str, ...],
    fusion: str,
    output: Path,
    root: Path | None,
    even_if_worse: bool,
    preset: str | None,
    limit: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Make one ensemble of checkpoints (or models with weights) and fit its fusion.

    With --data the temperature that calibrates its probabilities is fitted too, or alone where the
    fusion has no parameters.

    Example: fer-zoo fuse a.safetensors b.safetensors --fusion stacked --data fer2013.csv
    --output ensemble.safetensors
    """
    check_new(output)
    built = [resolve(member, device=device) for member in members]
    model = fer_zoo.create_ensemble(built, fusion=fusion, preset=preset).eval()
    fitted = any(True for _ in model.fusion.parameters())
    if fitted and root is None:
        raise ArgumentError(
            f"the fusion {fusion!r} is fitted: pass --data with faces that the members were not "
            "trained on (fer2013.csv: PublicTest is used)"
        )
    fit = None
    if root is not None:
        size, ferplus = PRESETS[model.preset].resize, is_ferplus(model)
        data = open_data(root, choosing_split(root), limit, size=size, ferplus=ferplus)
        if fitted:
            fit = fer_zoo.fit_fusion(model, data, even_if_worse=even_if_worse, progress=True)
        elif len(data) >= LEAST_FACES:
            fer_zoo.calibrate(model, data, progress=True)
    save_new(model, output)
    if as_json:
        facts = {"output": str(output), "fit": to_plain(fit), "temperature": model.temperature}
        print_json(facts)
        return
    if fit is not None:
        click.echo(repr(fit))
    for name, value in model.temperature.items():
        click.echo(f"temperature {value:.3f} ({name})")
    if root is not None and len(data) < LEAST_FACES:
        click.echo(f"no temperature: that needs at least {LEAST_FACES} faces", err=True)
    click.echo(output)


@main.command()
@json_option
def recipes(as_json: bool) -> None:
    """List the training recipes and their settings.

    Example: fer-zoo recipes --json
    """
    if as_json:
        print_json([r.to_dict() for r in RECIPES.values()])
        return
    rows = [
        [r.name, str(r.epochs), str(r.batch_size), f"{r.lr:g}", r.preset or "", r.description]
        for r in RECIPES.values()
    ]
    print_table([["recipe", "epochs", "batch", "lr", "preset", "description"], *rows])
