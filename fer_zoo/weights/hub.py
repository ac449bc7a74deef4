"""The Hub: repositories that are downloaded and uploaded. Nothing else touches the network.

The installed `huggingface_hub` does the transfers, 1.x or 2.x: its cache, its locks, its tokens,
its patience with a server that is busy. Here are the checks: which commit, which bytes, and what to
do about each way to fail.
"""

import hashlib
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from fer_zoo.errors import ArgumentError, CheckpointError, HubError, WeightsError
from fer_zoo.weights.address import HUB, Address
from fer_zoo.weights.checkpoint import Checkpoint
from fer_zoo.weights.reading import MAX_HEADER
from fer_zoo.weights.repository import CONFIG, MODEL, Fetched, read_repository

COMMIT = GIT_HASH = re.compile("[0-9a-f]{40}")
SHA256 = re.compile("[0-9a-f]{64}")
"""The name of a large file in the cache; that of a small one is its hash in git."""
OURS = ("*.safetensors", "onnx/*", "*.png", "preprocessor_config.json")
"""What an earlier commit may have left that a later one has not."""
LIBRARY = "fer_zoo"
"""What our cards say is their library."""
LARGEST = {CONFIG: MAX_HEADER, MODEL: 2**35}
"""Bytes that a file may have to be downloaded; no network of timm's has more."""
TIMEOUT = "FER_ZOO_HUB_TIMEOUT"
"""Environment variable: seconds in which a load must be done, 300 if not set."""
log = logging.getLogger(__name__)


@dataclass
class Repository:
    """One repository at one commit: that of the first file, however the branch moves meanwhile."""

    address: Address
    api: Any
    cached: bool = False
    commit: str = ""
    snapshot: Path = Path()
    paths: list[Path] = field(default_factory=list)
    seconds: float = field(default_factory=lambda: _seconds())
    began: float = field(default_factory=time.monotonic)

    def fetch(self, name: str) -> Fetched | None:
        """Download a file unless the cache has it; None if the repository has none of that name."""
        from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

        asked = self.commit or self.address.revision or "main"
        before = try_to_load_from_cache(self.address.location, name, revision=asked)
        how = {"endpoint": self.api.endpoint, "token": self.api.token, "revision": asked}
        how |= {"local_files_only": self.cached}  # not by the client: that of 1.0 ignores dry_run
        ask = partial(hf_hub_download, self.address.location, name, **how)
        with _explained(str(self.address)):
            try:
                told = self._in_time(partial(ask, dry_run=True))
                most = LARGEST[MODEL] if name.endswith(".safetensors") else LARGEST[CONFIG]
                if told.will_download and told.file_size > most:
                    raise HubError(
                        f"{self.address}: {name} has {told.file_size:,} bytes, and {most:,} are "
                        "allowed: it is no fer_zoo model"
                    )
                found = self._in_time(ask)
            except RemoteEntryNotFoundError:
                return None
            except LocalEntryNotFoundError:
                # The cache holds the commit, so what it lacks of it was not there, or never wanted.
                if self.commit and before is _CACHED_NO_EXIST:
                    return None
                raise
        self.snapshot = Path(found).parent  # .../snapshots/COMMIT
        self.commit = self.snapshot.name
        another = COMMIT.fullmatch(asked) and asked != self.commit
        if another or not COMMIT.fullmatch(self.commit):
            raise HubError(f"{self.address}: the Hub sent the commit {self.commit!r}, not {asked}")
        if isinstance(before, str) and (old := Path(before).parent.name) != self.commit:
            warnings.warn(
                f"{self.address} moved: it was {old[:12]} when it was cached and is "
                f"{self.commit[:12]} now. To stay with one, name it: "
                f"{replace(self.address, revision=self.commit, sha256=None)}",
                stacklevel=2,
            )
        path = Path(found).resolve()
        self.paths.append(path)
        # Weights are checked as they are read; nothing else looks at what stands beside them.
        if GIT_HASH.fullmatch(path.name) and _is_damaged(path):
            raise WeightsError(f"{path}: {name} is not the file that the Hub named {path.name}")
        # Git's hash of a small file is another sum; the client names large files by their sha256.
        return Fetched(path, path.name if SHA256.fullmatch(path.name) else None)

    def _in_time(self, call: Callable[[], Any]) -> Any:
        """Return what `call` returns, unless that takes longer than all of a load may."""
        done = Future[Any]()

        def run() -> None:
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)

        # Nothing ends a client that waits: it is left to itself, and ends with the process.
        Thread(target=run, daemon=True).start()
        try:
            return done.result(max(0, self.began + self.seconds - time.monotonic()))
        except TimeoutError:
            if done.done():
                raise
            raise HubError(
                f"{self.address}: not loaded in {self.seconds:g} s: try again, or set {TIMEOUT} to "
                "more seconds"
            ) from None

    def discard_damaged(self) -> bool:
        """Remove fetched files whose bytes are not what the Hub said; whether there were any."""
        removed = False
        for path in self.paths:
            if self.cached or not _is_damaged(path):
                continue
            try:
                path.unlink(missing_ok=True)
                removed = True
            except OSError as error:
                log.warning("%s is damaged and cannot be removed (%s)", path, error.strerror)
        return removed


def _seconds() -> float:
    said = os.environ.get(TIMEOUT, "300")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]+)?", said):  # no wait can be of more digits than ten
        raise ArgumentError(f"{TIMEOUT} is a number of seconds, got {said!r:.80}")
    return float(said)


def _is_damaged(path: Path) -> bool:
    """Whether a file of the cache has other bytes than its name, the Hub's ETag, says."""
    try:
        with path.open("rb") as file:
            if SHA256.fullmatch(path.name):
                return hashlib.file_digest(file, "sha256").hexdigest() != path.name
            content = file.read()
    except OSError:
        return False
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
    return bool(GIT_HASH.fullmatch(path.name)) and blob.hexdigest() != path.name


def read_hub(
    address: Address,
    *,
    endpoint: str | None = None,
    token: str | None = None,
    cached: bool = False,
) -> tuple[Checkpoint, str]:
    """Return a repository's checkpoint and its commit; what is damaged leaves the cache."""
    repository = Repository(address, client(endpoint, token), cached)
    try:
        checkpoint = read_repository(repository.fetch, str(address), address.sha256)
    except (CheckpointError, WeightsError) as error:
        # A file that breaks is looked at again: it may be a good one that was damaged here.
        if isinstance(error, HubError) or not repository.discard_damaged():
            raise
        raise WeightsError(
            f"{address}: {error}. What was downloaded is removed; if loading again says the same, "
            "the repository is not what it was, or something changes it on its way"
        ) from None
    return checkpoint, repository.commit


def upload(
    folder: Path,
    repo_id: str,
    *,
    message: str,
    private: bool = False,
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a folder in one commit, which deletes weights of earlier ones; return the commit."""
    api = client(endpoint, token)
    with _explained(f"{HUB}{repo_id}"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        try:
            done = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=message,
                delete_patterns=[*OURS, "*.safetensors.index.json"],
            )
        except ValueError as error:
            # The commit is made, but 1.0 reads its URL as one of huggingface.co.
            if "repo ID" not in str(error):
                raise
            return str(api.model_info(repo_id).sha)
    return str(done.oid)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A repository of a fer_zoo model, by its card.

    Attributes:
        address: for `fer_zoo.load`, with the commit.
        accuracy: of the first result of its card, None where it has none.
        measured: what that is: the data, its split, its metric and how the network was selected.
        licence: what the card says.
    """

    address: str
    accuracy: float | None
    measured: str
    licence: str


def list_published(
    org: str, *, endpoint: str | None = None, token: str | None = None
) -> list[Published]:
    """Return what an organisation or a user publishes on the Hub, by name.

    Raises:
        ArgumentError: `org` is no name.
        HubError: the Hub does not say.
    """
    if not isinstance(org, str) or not re.fullmatch(r"\w[\w.-]*", org, re.ASCII):
        raise ArgumentError(f"an organisation of the Hub is one word, got {org!r:.80}")
    with _explained(f"{HUB}{org}"):
        wanted = {"filter": LIBRARY, "full": True, "cardData": True}
        asked = client(endpoint, token).list_models(author=org, **wanted)
        found = sorted(asked, key=lambda model: str(model.id))
        return [_published(model) for model in found]


def _published(model: Any) -> Published:
    card = model.card_data
    results = [r for r in getattr(card, "eval_results", None) or () if r.metric_type == "accuracy"]
    first = results[0] if results else None
    commit = f"@{model.sha}" if model.sha else ""
    about, value = "", None
    if first is not None and isinstance(first.metric_value, int | float):
        value, args = float(first.metric_value), first.metric_args or {}
        parts = [first.dataset_name, first.dataset_split, first.metric_name]
        parts += [f"n = {args['n']}" if "n" in args else "", args.get("selection", "")]
        about = "; ".join(str(part) for part in parts if part)
    return Published(
        address=f"{HUB}{model.id}{commit}",
        accuracy=value,
        measured=about,
        licence=str(getattr(card, "license", None) or ""),
    )


def client(endpoint: str | None, token: str | None) -> Any:
    """Return the client; the environment is asked now, not when its package was imported."""
    endpoint = endpoint or os.environ.get("HF_ENDPOINT")
    try:
        _ = urlsplit(endpoint or "").port
    except ValueError:  # which would tell half of a password
        raise ArgumentError(
            "endpoint= or HF_ENDPOINT is no address such as https://host: write what stands in a "
            "password by its %-codes"
        ) from None
    from huggingface_hub import HfApi

    if token is not None:
        token = token.strip() if isinstance(token, str) else ""
        if not re.fullmatch(r"[!-~]+", token):
            raise ArgumentError("token= is none of the Hub: one line of letters and digits, hf_...")
    return HfApi(endpoint=endpoint, token=token)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn whatever the client raises into a `HubError` that says what to do."""
    from huggingface_hub.errors import HfHubHTTPError

    # The client's own errors descend from those of its transport, httpx or httpx2.
    transport: Any = HfHubHTTPError.__mro__[1]
    try:
        yield
    except (transport, OSError, ValueError, RuntimeError, ImportError) as error:
        raise HubError(explain(error, where)) from None


def explain(error: BaseException, where: str) -> str:
    """Return what a user reads: what happened, and what to type next."""
    from huggingface_hub import constants, errors as e

    # The client's "not in the cache either" and "while uploading" have the reason behind them.
    wrapped = isinstance(error, e.LocalEntryNotFoundError | RuntimeError)
    cause: Any = error.__cause__ if wrapped and error.__cause__ is not None else error
    if isinstance(cause, ImportError):  # of a proxy by SOCKS, which the client finds out late
        return f"{where}: {cause}"
    response: Any = getattr(cause, "response", None)
    status = None if response is None else response.status_code
    login = "log in with `hf auth login`, set HF_TOKEN, or pass token="
    if isinstance(cause, e.GatedRepoError):
        return f"{where} is gated (403): ask for access on its page, then {login}"
    if isinstance(cause, e.RevisionNotFoundError):
        return f"{where}: the repository has no such commit, tag or branch (404)"
    if status == 401 and "authorization" in response.request.headers:
        return f"{where}: the token was refused (401): {login}"
    if isinstance(cause, e.RepositoryNotFoundError) or status == 401:
        return f"{where}: there is no such repository ({status}), or it is private: then {login}"
    if status == 403:
        return f"{where}: the token may not do this (403): one with the right role is needed"
    if status == 429:
        said = response.headers.get("Retry-After")
        when = f"in {said} s" if said else "later"
        return f"{where}: too many requests (429): try again {when}; with a token more are allowed"
    if status is not None:
        said = f" ({m})" if (m := getattr(cause, "server_message", None)) else ""
        return f"{where}: the server said {status}{said}: try again later"
    cache = constants.HF_HUB_CACHE
    if isinstance(cause, e.LocalEntryNotFoundError) or constants.HF_HUB_OFFLINE:
        offline = (
            ", and HF_HUB_OFFLINE=1 forbids to download it: unset it once, or copy the cache from "
            "a machine that has it"
        )
        return f"{where}: not in the cache {cache}{offline if constants.HF_HUB_OFFLINE else ''}"
    if isinstance(cause, OSError) and cause.errno is not None:
        return (
            f"{where}: not downloaded to {cache} ({cause.strerror}): free some space there, or set "
            "HF_HUB_CACHE to a folder that can be written"
        )
    if "LocalProtocolError" in type(cause).__name__:  # its message would print the token
        return f"{where}: the token holds what no HTTP header can: {login}"
    reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
    if isinstance(cause, RuntimeError):  # hf_xet's, which tell what the server said in words only
        later = "try again later, or with HF_HUB_DISABLE_XET=1"
        return f"{where}: the transfer failed ({reason}): {later}"
    return f"{where}: no connection to the Hub ({reason}): check it, or HF_ENDPOINT"
