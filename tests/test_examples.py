"""The examples: short, and each runs as it stands, a killed worker included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.slow
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("0*.py"))


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


# What holds when a script has ended, of the names that it leaves.
FACTS = {
    "01_predict": """
drawn = sorted(Path("faces").glob("drawn_*.png"))
named = fer_zoo.Predictor("ensemble_r18_vgg19_025")(drawn)
assert [f"drawn_{p.label}" for p in named] == [path.stem for path in drawn], named
assert len(drawn) == 5 and [len(photo.faces) for photo in photos] == [1, 1]
""",
    "02_compare_fusions": """
assert {len(values.probabilities) for values in said.values()} == {7}
assert len({values.probability for values in said.values()}) > 3
assert min(result.accuracy for result in results.values()) > 0.7
""",
    "03_fine_tune": """
assert result.best.val_accuracy > 0.9, result
assert fer_zoo.load(result.checkpoint).labels == ("amused", "bored", "startled")
""",
    "04_eight_classes": """
assert result.model.labels == LABELS
assert result.best.val_accuracy > 0.7, result
""",
    "05_register_fusion": """
assert fer_zoo.load(path).fusion.sharpness == 4.0
assert shares[-1, 0] > 0.95 and shares[0, -1] < 0.05
assert shares.diagonal().allclose(torch.tensor(0.5))
""",
    "06_grad_cam": """
assert heat.shape == (1, 1, 40, 40) and heat.max() > 0 and heat.min() >= 0
""",
    "07_export_and_serve": """
assert tuple(served) == tuple(own)
assert max(abs(served[name] - own[name]) for name in own) < 0.05, (served, own)
assert max(served, key=served.get) == "happy"
""",
    "08_bulk_ray": """
assert len(table) == table.path.nunique() == 81
(broken,) = table[table.error.notna()].itertuples()
assert broken.path.endswith("broken.png") and "cannot be read" in broken.error, broken
assert table.label.isna().sum() == 1
assert (table.label == table.drawn).sum() > 45, table.label.value_counts()
""",
}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_an_example_is_short_and_runs(path: Path):
    assert len(path.read_text().splitlines()) < 80
    program = f"{path.read_text()}\n{FACTS[path.stem]}"
    run([sys.executable, "-W", "error::UserWarning", "-c", program])


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
