"""The examples: short, and each runs as it stands, a killed worker included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("0*.py"))


def run(command: list[str], **env: str) -> str:
    """Return what a program prints in the folder of the examples; warnings of ours are errors."""
    done = subprocess.run(
        command,
        cwd=EXAMPLES,
        capture_output=True,
        text=True,
        timeout=240,
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
def test_an_example_is_short_and_runs(path: Path):
    assert len(path.read_text().splitlines()) < 80
    printed = run([sys.executable, "-W", "error::UserWarning", path.name])
    if "bulk" in path.name:
        assert "80 rows, 80 images, 0 errors" in printed


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
    }


def test_a_killed_worker_loses_nothing_and_labels_nothing_twice(tmp_path: Path):
    """The first worker that is given a batch kills itself, as the kernel would for memory."""
    program = (EXAMPLES / "08_bulk_ray.py").read_text().partition('if __name__ == "__main__":')[0]
    program += f"""
import os, signal

class Dies(Label):
    def __call__(self, batch):
        try:
            with open({str(tmp_path / "killed")!r}, "x") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            return super().__call__(batch)
        os.kill(os.getpid(), signal.SIGKILL)

ray.init(num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
folder = draw_folder({str(tmp_path / "faces")!r}, dict.fromkeys("abc", "happy"), 20)
table = label(str(folder), worker=Dies).to_pandas()
ray.shutdown()
print(len(table), table.path.nunique(), table.label.count(), table.error.count())
"""
    script = tmp_path / "bulk.py"
    script.write_text(program)
    assert run([sys.executable, str(script)]).splitlines()[-1] == "60 60 60 0"
    assert int((tmp_path / "killed").read_text()) > 0
