"""Publishing: trained models to the Hub, each with the card that says what is known of it."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation import Evaluation
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.factory import create
from fer_zoo.models import Classifier
from fer_zoo.saving import load, save_repository
from fer_zoo.weights.address import HUB, Address, parse_address
from fer_zoo.weights.hub import upload
from fer_zoo.weights.records import WEIGHTS
from fer_zoo.weights.repository import SHARD_SIZE
from fer_zoo.weights.storage import storage_dtype

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A repository, made or planned.

    Attributes:
        address: where; with the commit and the sha256 of the weights once it is uploaded.
        files: the size in bytes of each file.

    Example:
        >>> files = {"model.safetensors": 1_417_894}
        >>> Published(address="hf-hub:my-org/resnet18_025.fer2013", files=files).files
        {'model.safetensors': 1417894}
    """

    address: str
    files: dict[str, int] = field(default_factory=dict)


def push_to_hub(
    model: Classifier,
    place: str,
    *,
    results: Sequence[Evaluation] = (),
    dtype: str | torch.dtype | None = None,
    private: bool = False,
    message: str = "",
    shard_size: int | str = SHARD_SIZE,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a model to a repository of the Hub, in one commit: weights, config and card.

    Args:
        model: a network or an ensemble that `save` takes.
        place: `org/name`; made if there is none.
        results: evaluations for the card, of exactly what is uploaded; what the model's evidence
            says if not given.
        dtype: what the weights are stored in; see `save`. Where that rounds them, what was measured
            before is not of them.
        private: whether a new repository is; one that is there stays as it is.
        message: of the commit.
        shard_size: of one weights file at most, in bytes or as `"5GB"`.
        endpoint: of the Hub; `HF_ENDPOINT` or huggingface.co if not given.
        token: one that may write; `HF_TOKEN` or the stored one if not given.

    Returns:
        An address for `load`, with the commit and the sha256 of exactly these weights.

    Raises:
        ArgumentError: the results are of another network, or of this one before it changed.
        HubError: it could not be uploaded; the repository is as it was, or new and empty.

    Example:
        >>> import fer_zoo
        >>> push_to_hub(fer_zoo.create("test_tiny"), "no name")
        Traceback (most recent call last):
        fer_zoo.errors.ArgumentError: 'hf-hub:no name' is no address of weights ('no name' is no \
org/name); write one of
        ...
    """
    where = parse_address(HUB + place)
    if where.revision or where.sha256:
        raise ArgumentError(f"{place!r}: a commit is made on main; leave the revision out")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digest = _write(model, folder, place, results, dtype, shard_size)
        message = message or f"{model.name} by fer_zoo"
        commit = upload(
            folder, place, message=message, private=private, endpoint=endpoint, token=token
        )
    return str(Address("hub", place, commit, digest))


def publish(
    organisation: str,
    pattern: str = "*",
    *,
    dry_run: bool = True,
    private: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> list[Published]:
    """Upload the bundled weights to `organisation/model.tag` each, or show what would be.

    Args:
        organisation: or user, on the Hub.
        pattern: which of `list_weights()`, with wildcards.
        dry_run: write the files to see that it works, and upload nothing; no network is used.
        private: whether new repositories are; those that are there stay as they are.
        endpoint: of the Hub.
        token: one that may write.

    Raises:
        ArgumentError: no weights match, or the Hub has no such names.
        HubError: one could not be uploaded; those before it, each logged, are.

    Example:
        >>> [plan] = publish("me", "resnet18_025.*")
        >>> plan.address, sorted(plan.files)
        ('hf-hub:me/resnet18_025.fer2013', ['README.md', 'config.json', 'model.safetensors'])
    """
    records = [WEIGHTS[a] for a in WEIGHTS.names(pattern) if WEIGHTS[a].bundled]
    if not records:
        raise ArgumentError(f"no bundled weights match {pattern!r}: fer_zoo.list_weights()")
    for record in records:
        parse_address(f"{HUB}{organisation}/{record.address}")
    done = []
    for record in records:
        place = f"{organisation}/{record.address}"
        model = create(record.model, weights=record.tag)
        storage = record.evidence[record.fusion].storage
        dtype = storage.dtype if storage else None
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            _write(model, folder, place, (), dtype, SHARD_SIZE)
            files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        where = f"{HUB}{place}"
        if not dry_run:
            where = push_to_hub(
                model, place, dtype=dtype, private=private, endpoint=endpoint, token=token
            )
        log.info("%s: %s", "planned" if dry_run else "published", where)
        done.append(Published(address=where, files=files))
    return done


def _write(
    model: Classifier,
    folder: Path,
    place: str,
    results: Sequence[Evaluation],
    dtype: str | torch.dtype | None,
    shard_size: int | str,
) -> str:
    """Write everything a repository holds to an empty folder; return the sha256 of the weights.

    The card is of what was written, read again: no figure on it is of other tensors.
    """
    main = save_repository(model, folder, dtype=dtype, shard_size=shard_size)
    stored = "" if dtype is None else str(storage_dtype(dtype)).removeprefix("torch.")
    card = make_model_card(load(folder), place, results=results, stored=stored)
    (folder / "README.md").write_text(card, encoding="utf-8")
    with main.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
