"""Publishing: a model as a file or a repository, here or on the Hub, with a card."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from fer_zoo._files import as_path, check_writable
from fer_zoo.errors import ArgumentError, CheckpointError
from fer_zoo.evaluation import Evaluation
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.layout import PREPROCESSOR
from fer_zoo.models import Classifier
from fer_zoo.saving import RUN_FILES, load, save_file, save_repository
from fer_zoo.weights.address import EXPORTED, HUB, Address, parse_address
from fer_zoo.weights.hub import LIBRARY, upload
from fer_zoo.weights.reading import PICKLES
from fer_zoo.weights.repository import CONFIG, MODEL
from fer_zoo.weights.storage import storage_dtype

CARD, ONNX, PICTURE = "README.md", "onnx/model.onnx", "confusion.png"
FILES = (CARD, ONNX, PICTURE, PREPROCESSOR, MODEL, CONFIG)
"""All that a repository of ours may hold."""


def save(
    model: Classifier,
    path: str | os.PathLike[str],
    *,
    dtype: str | torch.dtype | None = None,
    onnx: bool = False,
) -> Path:
    """Write a model, its labels and its temperatures to a `.safetensors` file, or as a repository.

    The file describes itself, has a digest of all that it holds, and appears whole or not at all. A
    repository is a folder as on the Hub, which transformers and timm read, too; `push_to_hub`
    uploads the same files.

    Args:
        model: a network or an ensemble; its architecture must be registered (or timm's).
        path: where to: a file that ends in `.safetensors`, else a folder, which is made.
        dtype: what is stored: `"float32"`, `"float16"`, `"bfloat16"`, or `"int8"` (weights only,
            with one scale per output channel); as it is if not given. Loading restores float32.
        onnx: of a folder: `onnx/model.onnx`, too, with the weights once more, for transformers.js
            and ONNX Runtime (`fer-zoo[onnx]`).

    Raises:
        ArgumentError: the model could not be loaded again, e.g. because it holds NaN; or the folder
            holds what is not ours by the names of our files.
        CheckpointError: it cannot be written; what was there is untouched.
        OptimizeError: the ONNX file would give other answers than the model.

    Example:
        >>> import fer_zoo, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(fer_zoo.create("test_tiny"), folder + "/tiny.safetensors", dtype="int8")
        ...     load(path).name
        ...     sorted(p.name for p in save(load(path), folder + "/tiny").iterdir())
        'test_tiny'
        ['README.md', 'config.json', 'model.safetensors', 'preprocessor_config.json']
    """
    target = as_path(path)
    if target.suffix.lower() in {".safetensors", *PICKLES, *EXPORTED}:
        if onnx:
            raise ArgumentError(f"onnx=True is for a folder, and {target} is a file")
        return save_file(model, target, dtype=dtype)
    _check_folder(target)
    try:
        check_writable(target)
        with tempfile.TemporaryDirectory(prefix=".fer_zoo-", dir=target) as name:
            made = Path(name)
            _write(model, made, f"./{target.absolute().name}", dtype=dtype, onnx=onnx)
            (target / ONNX).parent.mkdir(exist_ok=True)
            for file in FILES:  # what an earlier model left would be of another
                if (made / file).exists():
                    os.replace(made / file, target / file)
                else:
                    (target / file).unlink(missing_ok=True)
            if not onnx and not any((target / ONNX).parent.iterdir()):
                (target / ONNX).parent.rmdir()
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written ({error})") from error
    return target


def push_to_hub(
    model: Classifier,
    repo_id: str,
    *,
    results: Sequence[Evaluation] = (),
    dtype: str | torch.dtype | None = None,
    onnx: bool = False,
    private: bool = False,
    message: str = "",
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a model to a repository of the Hub, in one commit, as `save` writes it to a folder.

    Args:
        model: a network or an ensemble that `save` takes.
        repo_id: `org/name`; made if there is none.
        results: evaluations of exactly what is uploaded, for the card; else its evidence.
        dtype: what the weights are stored in; see `save`.
        onnx: whether `onnx/model.onnx` is uploaded, too; see `save`.
        private: whether a new repository is; one that is there stays as it is.
        message: of the commit.
        endpoint: of the Hub; `HF_ENDPOINT` or huggingface.co if not given.
        token: one that may write; `HF_TOKEN` or the stored one if not given.

    Returns:
        An address for `load`, with the commit and the sha256 of exactly these weights.

    Raises:
        ArgumentError: the results are of another network, of before it changed or was rounded.
        HubError: it could not be uploaded; the repository is as it was, or new and empty.

    Example:
        >>> import fer_zoo
        >>> push_to_hub(fer_zoo.create("test_tiny"), "no name")
        Traceback (most recent call last):
        fer_zoo.errors.ArgumentError: 'hf-hub:no name' is no address of weights ('no name' is no \
org/name); write one of
        ...
    """
    if not isinstance(repo_id, str):
        raise ArgumentError(f"repo_id is text, org/name, got {repo_id!r:.80}")
    where = parse_address(HUB + repo_id)
    if where.revision or where.sha256:
        raise ArgumentError(f"{repo_id!r}: a commit is made on main; leave the revision out")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(model, folder, HUB + repo_id, results=results, dtype=dtype, onnx=onnx)
        digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
        message = message or f"{model.name} by fer_zoo"
        commit = upload(
            folder, repo_id, message=message, private=private, endpoint=endpoint, token=token
        )
    return str(Address("hub", repo_id, commit, digest))


def _write(
    model: Classifier,
    folder: Path,
    address: str,
    *,
    results: Sequence[Evaluation] = (),
    dtype: str | torch.dtype | None = None,
    onnx: bool = False,
) -> None:
    """Write a repository to an empty folder; its card calls it by `address`."""
    save_repository(model, folder, dtype=dtype)
    # Of what was written, read again: no figure on the card is of other tensors.
    written, config = load(folder), json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    stored = "" if dtype is None else str(storage_dtype(dtype)).removeprefix("torch.")
    card = make_model_card(
        written, address, results=results, stored=stored, config=config, onnx=onnx
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    if onnx:
        from fer_zoo.inference.exported import write_for_others

        write_for_others(written, folder / ONNX)
    if results:
        from fer_zoo import plots

        plots.confusion(results[0]).savefig(folder / PICTURE, dpi=130)


def _check_folder(folder: Path) -> None:
    """Raise if a folder is something else than a repository of ours, or would be read as such."""
    if folder.exists() and not folder.is_dir():
        raise ArgumentError(f"{folder} is a file: name a folder, or a file.safetensors")
    if found := [name for name in RUN_FILES if os.path.lexists(folder / name)]:
        raise ArgumentError(f"{folder} holds {found[0]} of a training run: name another folder")
    marks = {CARD: f"library_name: {LIBRARY}", CONFIG: '"fer_zoo"', MODEL: '"fer_zoo"'}
    for name, mark in marks.items():
        beside = folder / (CONFIG if name == MODEL else name)
        try:
            ours = mark in beside.read_text(encoding="utf-8", errors="replace")
        except OSError:
            ours = False
        if os.path.lexists(folder / name) and not ours:
            raise ArgumentError(
                f"{folder / name} would be written over, and it is not fer_zoo's: name another "
                "folder"
            )
