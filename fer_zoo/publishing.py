"""Publishing: a model to the Hub, with the card that says what is known of it."""

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation import Evaluation
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.models import Classifier
from fer_zoo.saving import load, save_repository
from fer_zoo.weights.address import HUB, Address, parse_address
from fer_zoo.weights.hub import upload
from fer_zoo.weights.storage import storage_dtype


def push_to_hub(
    model: Classifier,
    repo_id: str,
    *,
    results: Sequence[Evaluation] = (),
    dtype: str | torch.dtype | None = None,
    private: bool = False,
    message: str = "",
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a model to a repository of the Hub, in one commit: weights, config and card.

    Args:
        model: a network or an ensemble that `save` takes.
        repo_id: `org/name`; made if there is none.
        results: evaluations of exactly what is uploaded, for the card; else its evidence.
        dtype: what the weights are stored in; see `save`.
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
        weights = save_repository(model, folder, dtype=dtype)
        stored = "" if dtype is None else str(storage_dtype(dtype)).removeprefix("torch.")
        # Of what was written, read again: no figure on the card is of other tensors.
        card = make_model_card(load(folder), repo_id, results=results, stored=stored)
        (folder / "README.md").write_text(card, encoding="utf-8")
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        message = message or f"{model.name} by fer_zoo"
        commit = upload(
            folder, repo_id, message=message, private=private, endpoint=endpoint, token=token
        )
    return str(Address("hub", repo_id, commit, digest))
