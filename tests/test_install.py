"""How this package is had: what messages, pages and cards say works."""

import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fer_zoo import _install
from fer_zoo._install import install_command, requirement, said

ROOT = Path(__file__).parent.parent
CASES = {
    "a checkout": (
        {"url": "file:///home/me/my%20zoo", "dir_info": {}},
        "pip install '/home/me/my zoo[hf]'",
    ),
    "an editable checkout": (
        {"url": "file:///home/me/zoo", "dir_info": {"editable": True}},
        "pip install -e '/home/me/zoo[hf]'",
    ),
    "a wheel": (
        {"url": "file:///tmp/fer_zoo-0.1.0-py3-none-any.whl", "archive_info": {}},
        "pip install 'fer-zoo[hf] @ file:///tmp/fer_zoo-0.1.0-py3-none-any.whl'",
    ),
    "a repository": (
        {"url": "https://e.org/zoo", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}},
        f"pip install 'fer-zoo[hf] @ git+https://e.org/zoo@{'0' * 40}'",
    ),
    "an index": (None, "pip install 'fer-zoo[hf]'"),
}


@pytest.mark.parametrize("origin", CASES)
def test_messages_take_the_package_from_where_it_came(monkeypatch, origin: str):
    held, expected = CASES[origin]

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return held and json.dumps(held)

    monkeypatch.setattr(_install, "distribution", lambda name: Distribution())
    assert install_command("hf") == expected
    package = shlex.split(expected)[-1]
    if " @ " in package:
        from packaging.requirements import Requirement

        assert Requirement(package).extras == {"hf"}


def test_without_metadata_the_name_is_said(monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_install, "distribution", missing)
    assert install_command("onnx") == "pip install 'fer-zoo[onnx]'"


def test_who_publishes_it_changes_one_line(monkeypatch):
    assert requirement("hf") == "'.[hf]'"
    assert said("hf") == "`pip install '.[hf]'` in a checkout of fer_zoo"
    monkeypatch.setattr(_install, "PUBLISHED", "fer-zoo")
    assert (requirement(), requirement("hf")) == ("fer-zoo", "'fer-zoo[hf]'")
    assert said("hf") == "`pip install 'fer-zoo[hf]'`"
    monkeypatch.setattr(_install, "PUBLISHED", "git+https://e.org/zoo")
    assert requirement() == "'fer-zoo @ git+https://e.org/zoo'"


def test_a_missing_package_is_told_with_a_command_that_would_bring_it():
    """The extra is one that there is, and has the package that was missing."""
    code = "import sys; sys.modules['onnx'] = None; import fer_zoo as f\n"
    code += "f.export(f.load('resnet18_025.fer2013'), 'x.onnx')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert install_command("onnx") in done.stderr


def test_every_extra_that_is_named_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    text = "".join(
        path.read_text()
        for folder in ("fer_zoo", "docs", "examples", ".")
        for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".rst", ".toml")
        and not {".venv", "_build", "gallery"} & set(path.parts)
        and (folder != "." or path.parent == ROOT)
    )  # fmt: skip
    named = {
        e for found in re.findall(r"(?:fer-zoo|\.)\[([a-z,]+)\]", text) for e in found.split(",")
    }
    named |= set(re.findall(r'needing\([^)]*?"(\w+)"\)', text))
    assert "hf" in named
    assert named <= extras
