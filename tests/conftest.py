"""What the tests share: small faces in memory, and real FER2013 where there is any."""

import io
import logging
import os
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn

import fer_zoo
from fer_zoo.__main__ import main
from fer_zoo.data import FER2013, FaceDataset
from fer_zoo.models import MODELS

ROOT = Path(__file__).parent.parent
NETWORKS = [name for name, spec in MODELS.items() if not spec.members]
TIMM = ["timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224"]


@pytest.fixture(autouse=True)
def _seeded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test starts from the same random state and, but on real data, with an empty cache."""
    torch.manual_seed(0)
    real = request.node.get_closest_marker("real_data") is not None
    cache = request.config.rootpath / ".pytest_cache" / "faces" if real else tmp_path / "cache"
    monkeypatch.setenv("FER_ZOO_CACHE", str(cache))


@pytest.fixture(scope="session")
def fer2013_root() -> Path:
    """The folder of the real fer2013.csv and fer2013new.csv."""
    root = os.environ.get("FER2013_ROOT")
    if not root:
        pytest.skip("real_data: set FER2013_ROOT to a folder with fer2013.csv and fer2013new.csv")
    return Path(root)


@pytest.fixture(scope="session")
def real_public(fer2013_root: Path) -> FER2013:
    """All of PublicTest."""
    return FER2013(fer2013_root, "public")


def stripes(n: int, *, seed: int = 0, split: str | None = None, noise: float = 60) -> FaceDataset:
    """Three classes that a small network learns in seconds: stripes of three orientations."""
    rng = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    kinds = torch.stack([torch.sin(x / 3), torch.sin(y / 3), torch.sin((x + y) / 4)])
    images = 128 + 60 * kinds[targets] + noise * torch.randn(n, 48, 48, generator=rng)
    return FaceDataset(
        images.clamp(0, 255).byte(),
        targets,
        labels=("upright", "flat", "slanted"),
        name="stripes",
        split=split,
    )


def ramp(level: int = 0) -> np.ndarray:
    """Something to see, as a blank image is not: gray that rises by 47 levels to the right."""
    return np.tile(np.arange(level, level + 48, dtype=np.uint8), (48, 1))


class Plain(fer_zoo.models.Classifier):
    """A small network without batch norm."""

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.num_classes, self.in_channels, self.num_features = num_classes, in_channels, 8
        self.body = nn.Sequential(nn.Conv2d(in_channels, 8, 5, 4), nn.ReLU())
        self.fc = nn.Linear(8, num_classes)

    def forward_features(self, x):
        return self.body(x)

    def forward_head(self, x, pre_logits=False):
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def get_classifier(self):
        return self.fc

    def reset_classifier(self, num_classes):
        self.fc = self._fresh_head(num_classes)


for _name in ("plain_test", "other_plain_test"):
    fer_zoo.register_model(
        fer_zoo.models.ModelSpec(name=_name, build=Plain, description="for tests", source="tests")
    )


@pytest.fixture
def labelled() -> fer_zoo.models.Classifier:
    """A tiny network that has labels, as if it were trained."""
    model = fer_zoo.create("test_tiny").eval()
    model.labels = fer_zoo.labels.FER2013
    return model


def cli(*arguments: object) -> list[str]:
    """Return the command line that runs fer-zoo in a process of its own, as a user would."""
    return [sys.executable, "-m", "fer_zoo", *map(str, arguments)]


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    stdout: str
    stderr: str
    returncode: int


def run(*arguments: object, code: int = 0, **env: str) -> Done:
    """Run fer-zoo in this process; it must exit with `code`.

    Args:
        arguments: of the command line.
        code: what it must exit with.
        env: changes of the environment.
    """
    done = in_this_process(cli(*arguments), **env)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def in_this_process(line: list[str], **env: str) -> Done:
    """Run a line of `cli` here, where everything is imported: five seconds of a processor less."""
    encoding, _, errors = env.get("PYTHONIOENCODING", "utf-8").partition(":")
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding, errors or None, write_through=True)
        for _ in range(2)
    )
    code: int | str | None = 0
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
        patch.dict(os.environ, env),
        patch.object(sys, "argv", ["fer-zoo", *line[3:]]),
        patch.object(logging.root, "handlers", []),
        patch.object(logging.root, "level", logging.WARNING),
    ):
        warnings.simplefilter("default")
        try:
            main()
        except SystemExit as end:
            code = end.code
    shown, told = (stream.buffer.getvalue().decode() for stream in (out, err))
    return Done(shown, told, code if isinstance(code, int) else 0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--accept` writes the stored outputs anew."""
    parser.addoption("--accept", action="store_true", help="store the outputs found as expected")
