"""Addresses of weights: one grammar, wherever weights are named."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fer_zoo.errors import ArgumentError
from fer_zoo.models import MODELS
from fer_zoo.models.transformers_member import PREFIX
from fer_zoo.weights.reading import PICKLES
from fer_zoo.weights.records import WEIGHTS

HUB = "hf-hub:"
IMAGENET = "imagenet"
EXPORTED = (".onnx", ".pt2")
GRAMMAR = """\
  default                    the model's own weights, or a tag: fer_zoo.list_weights(model)
  model.tag                  one of fer_zoo.list_weights()
  folder/file.safetensors    a file that fer_zoo.save wrote
  ./folder                   of a training run, or with config.json and model.safetensors, as on
                             the Hub
  hf-hub:org/name@revision   a repository of the Hub, at a commit, tag or branch (main if left out)
  transformers/org/name@revision, transformers/folder
                             any image classifier of transformers, as safetensors
  imagenet                   for create: the start that torchvision or timm publish
Files and hf-hub: may end in #sha256=..., which they must have then."""
"""What an address may be, as error messages and the docs show it."""

_REPO = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_REF = r"[\w-][\w.-]*"  # the client makes a path of it
_LONGEST_REPO = 96
Kind = Literal["tag", "record", "file", "folder", "hub", "imagenet", "transformers"]


@dataclass(frozen=True)
class Address:
    """Where weights are: a tag, a record's address, a path, or `org/name` at a revision."""

    kind: Kind
    location: str
    revision: str = ""
    sha256: str | None = None

    def __str__(self) -> str:
        text = {"hub": HUB, "transformers": PREFIX}.get(self.kind, "") + self.location
        text += f"@{self.revision}" if self.revision else ""
        return text + (f"#sha256={self.sha256}" if self.sha256 else "")


def parse_address(text: str | os.PathLike[str]) -> Address:
    """Return what an address says.

    Example:
        >>> parse_address("hf-hub:me/faces@v1")
        Address(kind='hub', location='me/faces', revision='v1', sha256=None)
    """
    if str(text).partition("#")[0].lower().endswith(EXPORTED):
        raise ArgumentError(
            f"{text} is an exported file, which fer_zoo.Predictor runs; here the model itself is "
            "needed: the .safetensors file that it was exported from"
        )
    if isinstance(text, os.PathLike):
        path = os.fspath(text)
        return Address("folder" if os.path.isdir(path) else "file", path)
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise not_an_address(text)
    body, marked, pin = text.partition("#sha256=")
    if marked and not re.fullmatch("[0-9a-f]{64}", pin):
        raise not_an_address(text, "a sha256 is 64 digits of 0 to 9 and a to f")
    sha256 = pin if marked else None
    if body.startswith(HUB):
        return _hub_address(text, "hub", body.removeprefix(HUB), sha256)
    if body.startswith(PREFIX):
        if marked:
            raise not_an_address(text, "a commit pins it: transformers/org/name@ and 40 digits")
        rest = body.removeprefix(PREFIX)
        if os.path.isdir(rest) or rest[:1] in ("", ".", os.sep) or rest.count("/") != 1:
            return Address("transformers", rest)
        return _hub_address(text, "transformers", rest, None)
    if Path(body).suffix in {".safetensors", *PICKLES}:
        return Address("file", body, sha256=sha256)
    if re.match(r"\w[\w+.-]+:", body):
        raise not_an_address(text, f"{body.split(':')[0]}: is not a source that fer_zoo knows")
    tags = {IMAGENET, "default", *WEIGHTS, *(record.tag for record in WEIGHTS.values())}
    folder = "/" in body or os.sep in body or body in (".", "..")
    folder = folder or (body not in tags and os.path.isdir(body))
    if not folder and marked:
        raise not_an_address(text, "the sha256 of a tag is in its record")
    if folder:
        return Address("folder", body, sha256=sha256)
    if body in WEIGHTS:
        return Address("record", body)
    return Address("imagenet" if body == IMAGENET else "tag", body)


def _hub_address(
    text: str, kind: Literal["hub", "transformers"], rest: str, sha256: str | None
) -> Address:
    name, at, revision = rest.partition("@")
    if (
        not re.fullmatch(f"{_REPO}/{_REPO}", name)
        or any(part in name for part in ("..", "--"))
        or name.endswith(".git")
        or len(name) > _LONGEST_REPO
    ):
        raise not_an_address(text, f"{name!r} is no org/name")
    if at and (not re.fullmatch(f"{_REF}(/{_REF})*", revision, re.ASCII) or ".." in revision):
        raise not_an_address(text, f"{revision!r} is no commit, tag or branch")
    return Address(kind, name, revision, sha256)


def is_address(name: str | os.PathLike[str]) -> bool:
    """Whether a model is given by where it is (a file, a folder, the Hub, a record), not by name.

    A folder is one even without a `/` in its name, unless a model has that name.
    """
    if isinstance(name, os.PathLike):
        return True
    if not isinstance(name, str) or name.startswith("timm/") or name in MODELS:
        return False
    return parse_address(name).kind in ("file", "folder", "hub", "record", "transformers")


def not_an_address(text: object, reason: str = "") -> ArgumentError:
    """Return the error for what is no address of weights."""
    why = f" ({reason})" if reason else ""
    return ArgumentError(f"{text!r:.200} is no address of weights{why}; write one of\n{GRAMMAR}")
