"""The examples: short, and a killed worker loses nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))


def run(command: list[str], **env: str) -> str:
    """Return what a program prints in the folder of the examples; warnings of ours are errors."""
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{EXAMPLES}",
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            **env,
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_an_example_is_short_and_something_is_known_of_it(path: Path):
    """The docs build runs each, and checks what is known (docs/gallery_figures.py)."""
    assert len(path.read_text().splitlines()) < 80
    assert f'"{path.stem}": ' in (ROOT / "docs" / "gallery_figures.py").read_text()


def test_there_is_one_for_each_thing_that_people_ask_for():
    words = {path.stem.split("_", 1)[1] for path in SCRIPTS}
    assert words == {
        "predict",
        "compare_fusions",
        "fine_tune",
        "eight_classes",
        "register_fusion",
        "grad_cam",
        "export_and_serve",
        "bulk_ray",
        "films",
        "compare_models",
    }


@pytest.mark.weekly
def test_a_killed_worker_loses_nothing_and_labels_nothing_twice(tmp_path: Path):
    """A worker that has labelled its batch kills itself, as the kernel would for memory."""
    program = (EXAMPLES / "08_bulk_ray.py").read_text().partition("# %%")[0]
    program += f"""
import os, signal

class Dies(Label):
    def __call__(self, batch):
        found = super().__call__(batch)
        try:
            open({str(tmp_path / "killed")!r}, "x").close()
        except FileExistsError:
            return found
        os.kill(os.getpid(), signal.SIGKILL)

ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
folder = draw_folder({str(tmp_path / "faces")!r}, dict(zip("abcde", EXPRESSIONS)), 12)
label(folder, worker=Dies).write_parquet({str(tmp_path / "labels")!r})
table = ray.data.read_parquet({str(tmp_path / "labels")!r}).to_pandas()
ray.shutdown()
files = sorted(folder.rglob("*.png"))
assert sorted(table.path) == list(map(str, files)), table
expected = [p.label for p in fer_zoo.Predictor("resnet18_025")(files)]
assert table.sort_values("path").label.tolist() == expected
print(len(table), len(set(expected)))
"""
    script = tmp_path / "bulk.py"
    script.write_text(program)
    rows, labels = run([sys.executable, str(script)]).splitlines()[-1].split()
    assert (rows, int(labels) > 2) == ("60", True)
    assert (tmp_path / "killed").exists()
