"""Training by one call."""

import logging
import os
from typing import Any

import torch

from fer_zoo._device import resolve_device
from fer_zoo._files import as_path
from fer_zoo.data.faces import FacesLike, check_faces
from fer_zoo.errors import needing
from fer_zoo.models import Classifier
from fer_zoo.training.objective import Teacher
from fer_zoo.training.recipe import RecipeLike, default_recipe, get_recipe
from fer_zoo.training.run import Run, TrainResult
from fer_zoo.training.state import check_splits, holding

log = logging.getLogger("fer_zoo.training")


def train(
    model: str | os.PathLike[str] | Classifier,
    data: FacesLike,
    *,
    output: str | os.PathLike[str],
    validation: FacesLike,
    recipe: RecipeLike | None = None,
    teacher: Teacher | None = None,
    device: torch.device | str | None = None,
    resume: bool = True,
    progress: bool = True,
    tensorboard: bool = False,
    **changes: Any,
) -> TrainResult:
    """Train a network; the best epoch by validation accuracy is kept.

    After every epoch three files in `output` are replaced, each whole or not at all:
    `best.safetensors` (the best model so far), `last.safetensors` (all that is needed to go on)
    and `history.csv`. Called again with the same arguments, a run that was interrupted or killed
    goes on after its last complete epoch and ends with the same numbers as one that was not; a run
    at a constant rate may also be asked for more epochs than before.

    Args:
        model: a name (built here, seeded by the recipe), the address of weights to start from, or
            a network; its head must have as many classes as `data`.
        data: what to train on.
        output: folder for the run; one run per folder.
        validation: what the best epoch is chosen on, and with 200 faces or more the temperature is
            fitted on; for FER2013 the `"public"` split. How many are training faces is logged.
        recipe: a name from `fer-zoo recipes`, the path of a `.toml` file, or a `Recipe`; if not
            given `finetune` for a network that started from weights, else `strong`.
        teacher: for a recipe with `distill` above 0, a trained model, its name or address, or the
            `teacher.safetensors` that a run with `distill_on="faces"` leaves.
        device: CUDA where there is one, else the CPU.
        resume: go on with the run in `output`; False starts again.
        progress: tell of every epoch in a line on stderr (in a notebook, its output), and show a
            bar within it on a terminal and in a notebook; False for silence.
        tensorboard: also write event files, in the folder `tensorboard` of `output`.
        **changes: settings of the recipe to change, e.g. `epochs=3`.

    Raises:
        SplitError: the validation faces are the test split or all of them training faces.
        TrainingError: another run is in `output`, or trains there now, the loss is no longer a
            number, or a file cannot be written.
        KeyboardInterrupt: passed on; the finished epochs are kept.

    Example:
        >>> import tempfile
        >>> from fer_zoo.data import FaceDataset
        >>> def noise(n):
        ...     images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8)
        ...     return FaceDataset(images, torch.arange(n) % 2, labels=("a", "b"), name="noise")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     result = train("test_tiny", noise(16), validation=noise(8), output=folder, epochs=1)
        >>> len(result.history), result.model.labels
        (1, ('a', 'b'))
    """
    settings = get_recipe(default_recipe(model) if recipe is None else recipe, changes)
    folder = as_path(output)
    data, validation = check_faces(data), check_faces(validation)
    shared = check_splits(data, validation)
    if shared:
        share = 100 * shared / len(validation)
        told = f"{shared} of {len(validation)} validation faces ({share:.1f} %)"
        log.warning("%s are training faces too; fer_zoo.data.data_report finds copies", told)
    with holding(folder):
        device = resolve_device(device)
        run = Run(model, data, validation, settings, teacher, folder, device, progress=progress)
        try:
            run.begin(resume=resume)
            if not tensorboard:
                return run.finish()
            with needing("event files need TensorBoard", "tensorboard"):
                from torch.utils.tensorboard import SummaryWriter
            done = len(run.history)
            with SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1) as board:
                return run.finish(board)
        finally:
            for parameter in run.learning:  # what `freeze` froze is the caller's again
                parameter.requires_grad_(True)
