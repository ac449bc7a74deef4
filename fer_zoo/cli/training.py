"""The commands that train: networks, fusions, and the recipes they train by."""

from pathlib import Path

import click
from rich.table import Table

import fer_zoo
from fer_zoo.cli.inputs import has_classes, open_data, parse_setting
from fer_zoo.cli.options import data_option, device_option, json_option, limit_option, main
from fer_zoo.cli.show import print_json, wide
from fer_zoo.errors import ArgumentError
from fer_zoo.training import RECIPES, get_recipe
from fer_zoo.transforms import PRESETS


@main.command()
@click.argument("model")
@data_option
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder.")
@click.option("--recipe", default="thesis_20", show_default=True, help="fer-zoo recipes.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option(
    "--validation",
    type=click.Path(path_type=Path),
    help="Folder of validation faces, for one's own data; FER2013 uses PublicTest.",
)
@click.option("--fresh", is_flag=True, help="Start again instead of going on.")
@limit_option
@device_option
def train(
    model: str,
    root: Path,
    output: Path,
    recipe: str,
    changes: tuple[str, ...],
    validation: Path | None,
    fresh: bool,
    limit: int | None,
    device: str | None,
) -> None:
    """Train a network by a recipe; run again, it goes on where it stopped.

    Example: fer-zoo train resnet18_025 --data fer2013.csv --output runs/r18 --set epochs=5
    """
    settings = get_recipe(recipe, dict(parse_setting(c) for c in changes))
    size = PRESETS[settings.preset].resize
    if validation is not None:
        data = open_data(root, None, limit, size=size)
        judge = open_data(validation, None, None, size=size)
    elif has_classes(root):
        raise ArgumentError(
            f"{root} has no official splits: pass --validation with a folder of faces that are not "
            "trained on"
        )
    else:
        data, judge = open_data(root, "train", limit), open_data(root, "public", None)
        judge = judge.subset(max(limit // 8, 1)) if limit else judge
    result = fer_zoo.train(
        model,
        data,
        output=output,
        validation=judge,
        recipe=settings,
        device=device,
        resume=not fresh,
    )
    best = result.best
    click.echo(
        f"best epoch {best.epoch} of {len(result.history)}: validation accuracy "
        f"{100 * best.val_accuracy:.2f} % (chosen on it, n = {len(judge)})\n{result.checkpoint}"
    )


@main.command()
@click.argument("members", nargs=-1, required=True)
@click.option("--fusion", default="average", show_default=True, help="fer-zoo list names them.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help=".safetensors")
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path),
    help="Faces the members were not trained on, to fit the fusion; of FER2013, PublicTest.",
)
@click.option("--preset", help="What the ensemble sees, if the members' presets differ.")
@limit_option
@device_option
@json_option
def fuse(
    members: tuple[str, ...],
    fusion: str,
    output: Path,
    root: Path | None,
    preset: str | None,
    limit: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Make one ensemble of checkpoints (or models with weights) and fit its fusion.

    Example: fer-zoo fuse a.safetensors b.safetensors --fusion stacked --data fer2013.csv
    --output ensemble.safetensors
    """
    if output.suffix != ".safetensors":
        raise ArgumentError(f"--output {output} must end in .safetensors")
    built = [fer_zoo.Predictor(m, device=device).model for m in members]
    model = fer_zoo.create_ensemble(built, fusion=fusion, preset=preset).eval()
    fitted = any(True for _ in model.fusion.parameters())
    if fitted and root is None:
        raise ArgumentError(
            f"the fusion {fusion!r} is fitted: pass --data with faces that the members were not "
            "trained on (fer2013.csv: PublicTest is used)"
        )
    if root is not None and not fitted:
        raise ArgumentError(f"the fusion {fusion!r} has nothing to fit: leave --data out")
    fit = None
    if root is not None:
        data = open_data(
            root, None if has_classes(root) else "public", limit, size=PRESETS[model.preset].resize
        )
        fit = fer_zoo.fit_fusion(model, data, progress=True)
    fer_zoo.save(model, output)
    if as_json:
        print_json({"output": str(output), "fit": model.provenance.get("fusion_fit")})
        return
    if fit is not None:
        report = fit.report
        click.echo(
            f"{report.fusion} fitted on {report.split!r}, n = {report.n}: loss "
            f"{report.loss_before:.4f} -> {report.loss_after:.4f} (largest gradient "
            f"{report.gradient_norm:.1e})\n{fit.folds}-fold, on faces not fitted on: accuracy "
            f"{100 * fit.held_out_accuracy:.2f} %, plain averaging "
            f"{100 * fit.average_accuracy:.2f} %"
        )
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
    table = Table("recipe", "epochs", "batch", "lr", "preset", "description", box=None)
    for r in RECIPES.values():
        table.add_row(
            r.name, str(r.epochs), str(r.batch_size), f"{r.lr:g}", r.preset, r.description
        )
    wide(table)
