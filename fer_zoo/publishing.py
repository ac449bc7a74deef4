"""Publishing: trained models to the Hub, each with the card that says what is known of it."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def push_to_hub(
    model: Classifier,
    repo_id: str,
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
        repo_id: `org/name`; made if there is none.
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
    if not isinstance(repo_id, str):
        raise ArgumentError(f"repo_id is text, org/name, got {repo_id!r:.80}")
    where = parse_address(HUB + repo_id)
    if where.revision or where.sha256:
        raise ArgumentError(f"{repo_id!r}: a commit is made on main; leave the revision out")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        digest = _write(model, folder, repo_id, results, dtype, shard_size)
        message = message or f"{model.name} by fer_zoo"
        commit = upload(
            folder, repo_id, message=message, private=private, endpoint=endpoint, token=token
        )
    return str(Address("hub", repo_id, commit, digest))


def publish(
    organisation: str,
    pattern: str = "*",
    *,
    dry_run: bool = True,
    private: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> list[str]:
    """Upload the bundled weights to `organisation/model.tag` each, or say where they would be.

    Args:
        organisation: or user, on the Hub.
        pattern: which of `list_weights()`, with wildcards.
        dry_run: upload nothing; no network is used.
        private: whether new repositories are; those that are there stay as they are.
        endpoint: of the Hub.
        token: one that may write.

    Returns:
        Their addresses; with the commit and the sha256 of the weights once they are uploaded.

    Raises:
        ArgumentError: no weights match, or the Hub has no such names.
        HubError: one could not be uploaded; those before it, each logged, are.

    Example:
        >>> publish("me", "resnet18_025.*")
        ['hf-hub:me/resnet18_025.fer2013']
    """
    records = [WEIGHTS[a] for a in WEIGHTS.names(pattern) if WEIGHTS[a].bundled]
    if not records:
        raise ArgumentError(f"no bundled weights match {pattern!r}: fer_zoo.list_weights()")
    addresses = [f"{HUB}{organisation}/{record.address}" for record in records]
    places = [parse_address(address).location for address in addresses]
    if dry_run:
        return addresses
    done = []
    for record, repo_id in zip(records, places, strict=True):
        storage = record.evidence[record.fusion].storage
        how: Any = {"private": private, "endpoint": endpoint, "token": token}
        how["dtype"] = storage.dtype if storage else None
        done.append(push_to_hub(create(record.model, weights=record.tag), repo_id, **how))
        log.info("published: %s", done[-1])
    return done


def _write(
    model: Classifier,
    folder: Path,
    repo_id: str,
    results: Sequence[Evaluation],
    dtype: str | torch.dtype | None,
    shard_size: int | str,
) -> str:
    """Write everything a repository holds to an empty folder; return the sha256 of the weights.

    The card is of what was written, read again: no figure on it is of other tensors.
    """
    main = save_repository(model, folder, dtype=dtype, shard_size=shard_size)
    stored = "" if dtype is None else str(storage_dtype(dtype)).removeprefix("torch.")
    card = make_model_card(load(folder), repo_id, results=results, stored=stored)
    (folder / "README.md").write_text(card, encoding="utf-8")
    with main.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
