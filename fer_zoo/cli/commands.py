"""The commands, each a thin layer over a function of the library."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table

import fer_zoo
from fer_zoo.cli.inputs import expand, has_classes, open_data, parse_setting
from fer_zoo.cli.show import (
    out,
    prediction_row,
    prediction_table,
    print_evaluation,
    print_facts,
    print_json,
    wide,
)
from fer_zoo.data.fer2013 import Split
from fer_zoo.errors import ArgumentError, FerZooError
from fer_zoo.models import Ensemble, count_parameters, get_spec
from fer_zoo.plugins import load_plugins
from fer_zoo.training import RECIPES, get_recipe
from fer_zoo.transforms import PRESETS
from fer_zoo.weights import WEIGHTS, is_file_address

DEFAULT_MODEL = "ensemble_r18_vgg19_025"

data_option = click.option(
    "--data",
    "root",
    required=True,
    type=click.Path(path_type=Path),
    help="fer2013.csv, its folder, or one folder of images per class.",
)
limit_option = click.option("--limit", type=click.IntRange(1), help="Use this many faces only.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
device_option = click.option("--device", help="cpu, cuda, ...; CUDA where there is one.")
weights_option = click.option("--weights", help="Tag, for a model given by name.")
fusion_option = click.option("--fusion", help="Another fusion than the default: fer-zoo list.")
preset_option = click.option("--preset", help="Another transform than the weights' own.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fer_zoo.__version__, prog_name="fer-zoo")
def main() -> None:
    """Facial-expression recognition: label faces, train, fuse and evaluate.

    Example: fer-zoo predict faces/
    """


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--weights", is_flag=True, help="Only models with trained weights.")
@json_option
def list_(pattern: str, weights: bool, as_json: bool) -> None:
    """List models; fusions and presets below them.

    Example: fer-zoo list "*r18*"
    """
    names = fer_zoo.list_models(pattern, weights=weights)
    rows = [get_spec(n).describe() | {"weights": fer_zoo.list_weights(n)} for n in names]
    if as_json:
        others = {"fusions": fer_zoo.list_fusions(), "presets": fer_zoo.list_presets()}
        print_json({"models": rows} | others)
        return
    table = Table("model", "weights", "description", box=None)
    for row in rows:
        tags = ", ".join(address.rsplit(".", 1)[1] for address in row["weights"])
        table.add_row(row["name"], tags or "-", row["description"])
    wide(table)
    out.print(f"\nfusions  {', '.join(fer_zoo.list_fusions())}")
    out.print(f"presets  {', '.join(fer_zoo.list_presets())}")


@main.command()
@click.argument("name")
@json_option
def info(name: str, as_json: bool) -> None:
    """Say everything known of a model by name, or of a checkpoint file.

    Example: fer-zoo info ensemble_r18_vgg19_025
    """
    if is_file_address(name):
        model = fer_zoo.load(name)
        facts: dict[str, Any] = {"file": name, "name": model.name, "preset": model.preset}
        facts |= {"labels": model.labels, "provenance": model.provenance}
    else:
        model = fer_zoo.create(name)
        facts = get_spec(name).describe()
        facts["weights"] = {a: WEIGHTS[a].provenance() for a in fer_zoo.list_weights(name)}
    facts["parameters"] = count_parameters(model)
    if isinstance(model, Ensemble):
        facts["fusion"] = repr(model.fusion).splitlines()[0]
    if as_json:
        print_json(facts)
        return
    print_facts(facts)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Name or checkpoint.")
@weights_option
@fusion_option
@preset_option
@device_option
@json_option
def predict(
    paths: tuple[Path, ...],
    model: str,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Label face crops: files, or folders of them.

    With --json one object a line. The exit code is 1 if any file could not be used.

    Example: fer-zoo predict faces/ --fusion stacked
    """
    files = list(expand(paths))
    predictor = fer_zoo.Predictor(
        model, weights=weights, fusion=fusion, preset=preset, device=device
    )
    failed = 0
    table = prediction_table(predictor.labels)
    for prediction in _progress(predictor.stream(files), len(files)):
        failed += prediction.error is not None
        if as_json:
            click.echo(json.dumps(prediction.to_dict()))
        elif prediction.error is not None:
            click.echo(f"cannot use {prediction.error}", err=True)
        else:
            table.add_row(*prediction_row(prediction))
    if not as_json and table.row_count:
        wide(table)
    if failed:
        click.echo(f"{failed} of {len(files)} files could not be used", err=True)
        sys.exit(1)


@main.command()
@click.argument("models", nargs=-1, required=True)
@data_option
@click.option(
    "--split",
    type=click.Choice(["train", "public", "private"]),
    help="Of FER2013; private is for reporting only. Needed unless the data has no splits.",
)
@weights_option
@fusion_option
@preset_option
@limit_option
@device_option
@click.option("--plot", type=click.Path(path_type=Path), help="Write the confusion matrix (PNG).")
@json_option
def evaluate(
    models: tuple[str, ...],
    root: Path,
    split: Split | None,
    weights: str | None,
    fusion: str | None,
    preset: str | None,
    limit: int | None,
    device: str | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Score models on one split: accuracy with its interval, recalls, confusion matrix.

    Example: fer-zoo evaluate resnet18_025 --data fer2013.csv --split public
    """
    if plot is not None and (len(models) > 1 or plot.suffix not in (".png", ".pdf", ".svg")):
        raise ArgumentError("--plot draws the matrix of one model, as .png, .pdf or .svg")
    if plot is not None:
        try:
            plot.parent.mkdir(parents=True, exist_ok=True)
            plot.touch()
        except OSError as error:
            raise ArgumentError(f"--plot {plot} cannot be written: {error}") from None
    results = []
    for name in models:
        predictor = fer_zoo.Predictor(
            name, weights=weights, fusion=fusion, preset=preset, device=device
        )
        data = open_data(root, split, limit, size=predictor.preset.resize)
        results.append(
            fer_zoo.evaluate(predictor.model, data, preset=predictor.preset, progress=True)
        )
    if results[0].note:
        click.echo(results[0].note, err=True)
    if plot is not None:
        fer_zoo.plot_confusion(results[0]).savefig(plot, dpi=120)
    if as_json:
        print_json([r.to_dict() for r in results])
        return
    for result in results:
        print_evaluation(result)


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


def run() -> None:
    """Run the command line: errors of ours are one line and exit code 2, an interrupt is 130."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from tqdm.contrib.logging import logging_redirect_tqdm

    try:
        load_plugins()
        with logging_redirect_tqdm():
            main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except FerZooError as error:
        click.echo(f"fer-zoo: {error}", err=True)
        sys.exit(2)


def _progress(items: Iterable[Any], total: int) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(items, total=total, unit="image", leave=False, disable=None)
