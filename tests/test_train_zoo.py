"""benchmarks/train_zoo.py on small data: stages, teachers, budgets, bundles."""

import json
import sys
from pathlib import Path

import pytest
import torch

import fer_zoo
from conftest import ROOT
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.training.state import hash_state
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint
from fer_zoo.weights.records import read_record
from test_benchmarks import small_csv

sys.path.insert(0, str(ROOT / "benchmarks"))

PLAN = """
[[stage]]
name = "first"
models = ["other_plain_test", "plain_test"]
recipe = "strong"
seeds = [0, 1]
changes = {{ epochs = {epochs}, batch_size = 16 }}
expected = "something"

[[stage]]
name = "students"
models = ["other_plain_test", "plain_test"]
recipe = "strong"
seeds = [2]
teacher = ["first"]
teacher_preset = "fer40_tencrop"
changes = {{ epochs = 2, batch_size = 16, distill = 0.7, distill_on = "faces" }}
expected = "a little more"

[[stage]]
name = "again"
models = ["plain_test"]
recipe = "strong"
starts = "first"
teacher = ["first"]
changes = {{ epochs = 1, batch_size = 16, lr = 1e-9, distill = 0.5, distill_on = "views" }}
expected = "the same network"

[[stage]]
name = "votes"
models = ["other_plain_test"]
recipe = "strong"
data = "ferplus"
expected = "nothing: there is no file of votes"

[[product]]
model = "pair_test"
stages = ["first", "students"]
"""

fer_zoo.register_model(
    fer_zoo.models.ModelSpec(
        name="pair_test",
        description="for tests",
        source="tests",
        members=("other_plain_test", "plain_test"),
    )
)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch):
    """A function that runs the script on small data and returns the folder of its runs."""
    import train_zoo

    # No temperature fits noise: it would be at its bound, which is refused.
    monkeypatch.setattr("bundle_weights.fit_temperature", lambda *_, **__: 1.5)
    data = small_csv(tmp_path, public=210)
    plan = tmp_path / "plan.toml"

    def call(*arguments: object, epochs: int = 2) -> Path:
        plan.write_text(PLAN.format(epochs=epochs))
        runs = tmp_path / "runs"
        line = ["train_zoo", "--data", data, "--plan", plan, "--runs", runs, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        train_zoo.main()
        return runs

    return call


def results(runs: Path) -> dict[str, dict]:
    """Return every finished run's result by its folder."""
    return {
        str(path.parent.relative_to(runs)): json.loads(path.read_text())
        for path in runs.glob("*/*/*/result.json")
    }


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
@pytest.mark.slow
def test_the_whole_way(zoo, tmp_path: Path, caplog, capsys):
    """Stages, teacher, log and bundle; what is finished is not trained again."""
    bundle = tmp_path / "bundle"
    runs = zoo("--bundle", bundle)
    found = results(runs)
    first = [
        f"first/{model}/seed{s}" for s in (0, 1) for model in ("other_plain_test", "plain_test")
    ]
    students = ["students/other_plain_test/seed2", "students/plain_test/seed2"]
    again = "again/plain_test/seed0"
    assert sorted(found) == sorted([*first, *students, again])
    assert "votes/other_plain_test/seed0 is left out" in caplog.text
    assert "fer2013new.csv is missing" in caplog.text

    # A stage that starts from another goes on from its best network, head and all, and its teacher
    # is asked about every view.
    own = [name for name in first if "/plain_test/" in name]
    best = max(own, key=lambda name: found[name]["accuracy"]["fer40_center"])
    after, before = (fer_zoo.load(runs / name / "best.safetensors") for name in (again, best))
    started = after.evidence.training
    assert started.start == hash_state(before)
    assert started.start != before.evidence.training.start
    heads = [model.get_classifier().weight for model in (after, before)]
    assert torch.allclose(*heads, atol=1e-5)
    assert started.recipe["distill_on"] == "views"
    assert started.teacher
    assert not (runs / "again" / "teacher.safetensors").exists()

    # The students learned from ten views of the mean of the four, which knew nothing of PublicTest.
    teacher, config = read_checkpoint(runs / "students" / "teacher.safetensors")
    data = fer_zoo.data.FER2013(tmp_path / "fer2013.csv", "train")
    assert config["scores_for"] == data.fingerprint
    networks = [fer_zoo.load(runs / name / "best.safetensors") for name in first]
    mean = fer_zoo.create_ensemble(networks)
    views = fer_zoo.inference.member_scores(mean, data.images, preset="fer40_tencrop")
    own = fer_zoo.inference.fuse(mean, views)
    assert (teacher["scores"] - own).abs().max() < 1e-5
    student = fer_zoo.load(runs / students[0] / "best.safetensors")
    assert student.evidence.training.recipe["distill"] == 0.7
    assert student.evidence.training.teacher

    # A result is what evaluation says of the best network.
    public = fer_zoo.data.FER2013(tmp_path / "fer2013.csv", "public")
    for preset in ("fer40_center", "fer44_mirror", "fer40_tencrop"):
        expected = fer_zoo.evaluate(student, public, preset=preset).accuracy
        assert found[students[0]]["accuracy"][preset] == pytest.approx(expected)
    together = fer_zoo.evaluate(mean, public, preset="fer40_tencrop").accuracy
    text = (runs / "log.md").read_text()
    assert f"{100 * together:.2f} |\n\n## students" in text
    assert "7 runs were compared" in text
    assert "Expected: a little more." in text

    # The bundle holds each member's best run and says out of how many.
    record = read_record(bundle / "other_plain_test.fer2013.json")
    own = [r["accuracy"]["fer40_center"] for n, r in found.items() if "other_plain_test" in n]
    one = next(score for score in record.scores if score.views == 1)
    assert one.accuracy == pytest.approx(max(own), abs=0.006)  # half precision may turn a face
    assert "best of 3 runs" in one.selection
    pair = read_record(bundle / "pair_test.fer2013.json")
    assert pair.members == ("other_plain_test.fer2013", "plain_test.fer2013")
    assert [*pair.evidence] == ["average", "weighted", "stacked"]

    # The same call trains nothing.
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    zoo()
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")} == before
    assert (runs / "log.md").read_text() == text


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_a_spent_budget_loses_nothing(zoo, monkeypatch, caplog):
    """What was cut short goes on by the same call; a stage whose teachers are missing is told."""
    import harness
    import train_zoo

    train, spent = fer_zoo.train, []

    def cut(*arguments, output: Path, **others):
        if spent:
            return train(*arguments, output=output, **others)
        spent.append(output)
        monkeypatch.setattr("fer_zoo.training.run.tell", stop)
        return train(*arguments, output=output, **others)

    def stop(_, line: str, *, show: bool):
        if line.startswith("epoch"):
            raise harness.TimeIsUp

    monkeypatch.setattr(train_zoo.fer_zoo, "train", cut)
    runs = zoo("--stages", "first", "--budget", 1000)
    assert "the budget of 1000 minutes is spent; the same call goes on" in caplog.text
    assert not results(runs)
    done = (spent[0] / "history.csv").read_text().splitlines()
    assert len(done) == 2
    monkeypatch.undo()
    zoo("--budget", 0)
    assert not results(runs)
    zoo("--stages", "students")
    assert "seed2 is left out: no run of ['first'] is finished" in caplog.text
    zoo("--stages", "first")
    assert (spent[0] / "history.csv").read_text().splitlines()[:2] == done
    assert len(results(runs)) == 4


def test_a_plan_that_cannot_be_followed(tmp_path: Path):
    import train_zoo
    import zoo_plan

    stages, products = zoo_plan.read_plan(train_zoo.PLAN)
    known = set(fer_zoo.list_models())
    assert {m for s in stages for m in s.models} | {p.model for p in products} <= known
    plan = tmp_path / "plan.toml"
    good = PLAN.format(epochs=1)
    for old, new, why in (
        ('teacher = ["first"]', 'teacher = ["later"]', "before one of"),
        ('name = "students"', 'name = "first"', "stands twice"),
        ("seeds = [2]", "sedes = [2]", "sedes"),
        ('recipe = "strong"', 'recipe = "storng"', "storng"),
        ('stages = ["first", "students"]', 'stages = ["frist"]', "frist"),
        ("seeds = [2]", 'data = "ferplus"', "learns of ferplus"),
    ):
        plan.write_text(good.replace(old, new))
        with pytest.raises((ArgumentError, fer_zoo.errors.UnknownNameError), match=why):
            zoo_plan.read_plan(plan)


def shades(n: int, *, seed: int = 0, split: str | None = None) -> FaceDataset:
    """Three classes that a network without batch norm learns at once, most of them: how bright."""
    rng = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    level = 70 + 60 * targets + 25 * torch.randn(n, generator=rng)
    images = level[:, None, None] + 20 * torch.randn(n, 48, 48, generator=rng)
    labels = ("dark", "gray", "light")
    return FaceDataset(
        images.clamp(0, 255).byte(), targets, labels=labels, name="shades", split=split
    )


def test_the_packed_figures_are_those_of_the_stored_bytes(tmp_path: Path):
    """Trained weights are measured after they were rounded."""
    import bundle_weights

    train_faces, judge = shades(70), shades(210, seed=1, split="public")
    best = {}
    for seed, name in enumerate(("other_plain_test", "plain_test")):
        best[name] = fer_zoo.train(
            name, train_faces, validation=judge, output=tmp_path / name, seed=seed, epochs=4,
            recipe="strong", batch_size=16, ema=0, warmup=0, lr=0.5,
        ).checkpoint  # fmt: skip
    pack = bundle_weights.pack
    pack("pair_test", best, judge, tmp_path / "out", tag="shades", dtype=torch.int8)
    record = read_record(tmp_path / "out" / "pair_test.shades.json")
    members = [fer_zoo.load(tmp_path / "out" / f"{name}.shades.safetensors") for name in best]
    model = fer_zoo.create_ensemble(members)
    known = record.evidence["average"]
    assert (known.state, known.weights) == (model.state, "pair_test.shades")
    assert known.storage.dtype in ("int8", "float16", "bfloat16", "float32")
    assert {cost.dtype for cost in known.storage.costs} == {"int8"}
    assert [score.preset for score in known.scores] == [
        "fer40_center",
        "fer44_mirror",
        "fer40_tencrop",
    ]
    for score in known.scores:
        found = fer_zoo.evaluate(model, judge, preset=score.preset)
        assert score.accuracy == pytest.approx(found.accuracy, abs=1e-5)
        assert score.faces == judge.faces
    assert "PublicTest" in record.evidence["stacked"].scores[0].selection
    for member in members:
        own = read_record(tmp_path / "out" / f"{member.name}.shades.json").evidence[""]
        assert own.state == member.state
        assert own.training == member.evidence.training


@pytest.mark.parametrize(("more", "default"), [(1, "average"), (5, "average"), (6, "stacked")])
def test_a_fitted_fusion_must_win_by_more_than_chance(more, default):
    """Six faces of six that differ are p = 0.03, five of five 0.06."""
    import bundle_weights

    average = torch.arange(100) < 60
    hits = {"average": average, "weighted": average, "stacked": torch.arange(100) < 60 + more}
    assert bundle_weights.default_fusion(hits) == default
    assert bundle_weights.default_fusion({**hits, "stacked": ~average}) == "average"


def test_what_costs_too_much_is_not_stored():
    """0.1 points are allowed; what was not measured is not used."""
    from storage import cheapest

    from fer_zoo.evidence import Faces, StorageCost

    def costs(int8, half):
        rest = {"against": "float32", "size": 1, "faces": Faces(name="x", n=9), "preset": "p"}
        gains = {"int8": int8, "float16": half}
        rows = [StorageCost(dtype=d, gain=g, accuracy=0.5, **rest) for d, g in gains.items()]
        return {"": tuple(rows)}

    assert cheapest(costs(-0.0009, 0), torch.int8, "p") is torch.int8
    assert cheapest(costs(-0.0011, 0), torch.int8, "p") is torch.float16
    assert cheapest(costs(-0.0011, -0.01), torch.int8, "p") is torch.float32
    assert cheapest(costs(0, 0), torch.float16, "p") is torch.float16


def test_all_bundled_weights_are_small():
    """What every user downloads with the package."""
    from fer_zoo.weights.records import BUNDLED

    sizes = [path.stat().st_size for path in BUNDLED.glob("*.safetensors")]
    assert sizes
    assert sum(sizes) <= 42e6


def test_teachers_answers_are_of_these_faces(tmp_path: Path):
    """Scores of other faces are refused by the run that should learn from them."""
    from conftest import stripes
    from fer_zoo.training.objective import read_teacher, write_answers

    data, path = stripes(12), tmp_path / "teacher.safetensors"
    write_answers(path, data.targets[:, None].float().expand(-1, 3).clone(), data, data.labels)
    scores, labels = read_teacher(path, data)
    assert labels == data.labels
    assert scores.shape == (12, 3)
    write_checkpoint(path, {"scores": scores}, {"scores_for": "others", "labels": labels})
    with pytest.raises(fer_zoo.errors.TrainingError, match="other faces"):
        read_teacher(path, data)
