"""benchmarks/train_zoo.py on small data: stages, teachers, budgets, shipments, bundles."""

import json
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch

import fer_zoo
from conftest import ROOT
from fer_zoo.errors import ArgumentError
from fer_zoo.weights.checkpoint import read_checkpoint, write_checkpoint
from test_benchmarks import small_csv

sys.path.insert(0, str(ROOT / "benchmarks"))

PLAN = """
[[stage]]
name = "first"
models = ["test_tiny", "plain_test"]
recipe = "strong"
seeds = [0, 1]
least = 1
minutes = 5
changes = {{ epochs = {epochs}, batch_size = 16 }}
expected = "something"

[[stage]]
name = "students"
models = ["test_tiny", "plain_test"]
recipe = "strong"
seeds = [2]
teacher = ["first"]
least = {least}
minutes = 5
changes = {{ epochs = 2, batch_size = 16, distill = 0.7, distill_on = "faces" }}
expected = "a little more"

[[stage]]
name = "votes"
models = ["test_tiny"]
recipe = "strong"
data = "ferplus"
minutes = 5
expected = "nothing: there is no file of votes"

[[product]]
model = "pair_test"
stages = ["first", "students"]
"""

fer_zoo.register_model(
    fer_zoo.ModelSpec(
        name="pair_test",
        description="for tests",
        source="tests",
        members=("test_tiny", "plain_test"),
    )
)


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch):
    """A function that runs the script on small data and returns the folder of its runs."""
    import train_zoo

    data = small_csv(tmp_path, public=210)
    plan = tmp_path / "plan.toml"

    def call(*arguments: object, runs: str = "runs", epochs: int = 2, least: int = 1) -> Path:
        plan.write_text(PLAN.format(epochs=epochs, least=least))
        line = ["train_zoo", "--data", data, "--plan", plan, "--runs", tmp_path / runs, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, line)))
        monkeypatch.setattr(train_zoo, "faces_per_second", lambda *_: 5000.0)
        train_zoo.main()
        return tmp_path / runs

    return call


def results(runs: Path) -> dict[str, dict]:
    """Return every finished run's result by its folder."""
    return {
        str(path.parent.relative_to(runs)): json.loads(path.read_text())
        for path in runs.glob("*/*/*/result.json")
    }


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_the_whole_way(zoo, tmp_path: Path, caplog, capsys):
    """Stages, teacher, log, shipment and bundle; what came by shipment is not trained again."""
    ship, bundle = tmp_path / "ship", tmp_path / "bundle"
    runs = zoo("--ship", ship, "--bundle", bundle)
    found = results(runs)
    first = [f"first/{model}/seed{s}" for s in (0, 1) for model in ("test_tiny", "plain_test")]
    students = ["students/test_tiny/seed2", "students/plain_test/seed2"]
    assert sorted(found) == sorted([*first, *students])
    assert "votes is left out" in caplog.text
    assert "fer2013new.csv is missing" in caplog.text

    # The students learned from the mean of the four, which knew nothing of PublicTest.
    teacher, config = read_checkpoint(runs / "students" / "teacher.safetensors")
    data = fer_zoo.data.FER2013(tmp_path / "fer2013.csv", "train")
    assert config["scores_for"] == data.fingerprint
    networks = [fer_zoo.load(runs / name / "best.safetensors") for name in first]
    mean = fer_zoo.create_ensemble(networks)
    own = fer_zoo.inference.fuse(mean, fer_zoo.inference.member_scores(mean, data.images))
    assert (teacher["scores"] - own).abs().max() < 1e-5
    student = fer_zoo.load(runs / students[0] / "best.safetensors")
    assert student.provenance["recipe"]["distill"] == 0.7
    assert student.provenance["teacher"]

    # A result is what evaluation says of the best network.
    public = fer_zoo.data.FER2013(tmp_path / "fer2013.csv", "public")
    for preset in ("fer40_center", "fer40_tencrop"):
        expected = fer_zoo.evaluate(student, public, preset=preset).accuracy
        assert found[students[0]]["accuracy"][preset] == pytest.approx(expected)
    together = fer_zoo.evaluate(mean, public, preset="fer40_tencrop").accuracy
    text = (runs / "log.md").read_text()
    assert f"{100 * together:.2f} |\n\n## students" in text
    assert "6 runs were compared" in text
    assert "Expected: a little more." in text

    # The bundle holds each member's best run and says out of how many.
    record = json.loads((bundle / "test_tiny.fer2013.json").read_text())
    own = [r["accuracy"]["fer40_tencrop"] for n, r in found.items() if "test_tiny" in n]
    ten = next(row for row in record["metrics"] if row["views"] == 10)
    assert ten["accuracy"] == pytest.approx(max(own), abs=0.006)  # half precision may turn a face
    assert "best of 3 runs" in ten["selection"]
    pair = json.loads((bundle / "pair_test.fer2013.json").read_text())
    assert pair["members"] == ["test_tiny.fer2013", "plain_test.fer2013"]
    assert {row["fusion"] for row in pair["metrics"]} == {"average", "weighted", "stacked"}

    # Another machine goes on from the shipment: nothing is trained, and the log is the same.
    capsys.readouterr()
    again = zoo("--ship", ship, runs="elsewhere")
    assert (again / "log.md").read_text() == text
    assert results(again) == found
    assert not list(again.glob("*/*/*/last.safetensors"))


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_a_spent_budget_loses_nothing(zoo, tmp_path: Path, capsys, caplog):
    """What was cut short goes on here, and elsewhere from the shipment, to the same end."""
    ship = tmp_path / "ship"
    zoo("--stages", "first", runs="warm", epochs=1)  # what is imported at first use costs seconds
    runs = zoo("--budget", 0.12, "--ship", ship, epochs=5000)
    assert "the budget of 0.12 minutes is spent" in caplog.text
    cut = runs / "first" / "test_tiny" / "seed0"
    done = (cut / "history.csv").read_text().splitlines()
    assert 1 < len(done) < 5001
    assert not results(runs)
    elsewhere = zoo("--budget", 0.12, "--ship", ship, runs="elsewhere", epochs=5000)
    more = (elsewhere / "first/test_tiny/seed0/history.csv").read_text().splitlines()
    assert more[: len(done)] == done
    assert len(more) > len(done)


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_what_does_not_fit_is_left_out(zoo, caplog):
    """Epochs are what the minutes allow; too few, and the stage says what it would take."""
    caplog.set_level("INFO")
    runs = zoo("--stages", "first", "--minutes", 0.0056, epochs=80)  # 4 runs x 14 ms an epoch
    assert {r["epochs"] for r in results(runs).values()} == {6}
    assert "6 of 80 epochs fit" in caplog.text
    zoo("--stages", "students", "--minutes", 0.001, least=100)
    assert "students is left out: 100 epochs, its least" in caplog.text
    zoo("--stages", "students", runs="new")
    assert "students is left out: no run of ['first'] is finished" in caplog.text


@pytest.mark.filterwarnings("ignore:.*not the official FER2013")
def test_networks_that_fit_no_shipment_stop_nothing(zoo, tmp_path: Path, monkeypatch, caplog):
    """Students learn from stored answers, bundling takes what is there, and a message says more."""
    import train_zoo

    def cramped(groups, folder, *, name):
        groups = list(groups)
        light = [group for group in groups if not any("best" in name for name in group)]
        room = sum(path.stat().st_size + 3 * 512 for group in light for path in group.values())
        return send(groups, folder, name=name, part=room + 20 * 512, parts=1)

    send, ship, bundle = train_zoo.send, tmp_path / "ship", tmp_path / "bundle"
    monkeypatch.setattr(train_zoo, "send", cramped)
    home = zoo("--stages", "first", "--ship", ship)
    assert f"no room in {ship} for first/" in caplog.text
    away = zoo("--ship", ship, "--bundle", bundle, runs="away")
    assert not list(away.glob("first/*/*/best.safetensors"))
    assert {r["stage"] for r in results(away).values()} == {"first", "students"}
    said, _ = read_checkpoint(away / "students" / "teacher.safetensors")
    data = fer_zoo.data.FER2013(tmp_path / "fer2013.csv", "train")
    mean = fer_zoo.create_ensemble([fer_zoo.load(p) for p in sorted(home.glob("*/*/*/best*"))])
    own = fer_zoo.inference.fuse(mean, fer_zoo.inference.member_scores(mean, data.images))
    assert (said["scores"] - own).abs().max() < 1e-5
    assert "pair_test.fer2013 is picked without runs that came here without" in caplog.text
    record = json.loads((bundle / "test_tiny.fer2013.json").read_text())
    assert record["recipe"]["distill"] == 0.7

    # Without answers and networks there is nothing to learn from; with the networks there is again.
    for path in (*away.glob("first/*/*/answers*"), away / "students" / "teacher.safetensors"):
        path.unlink()
    shutil.rmtree(away / "students" / "test_tiny")
    zoo(runs="away")
    assert "students is left out: it learns from runs that came here without" in caplog.text
    assert str(Path("first/test_tiny/seed0/best.safetensors")) in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr(train_zoo, "faces_per_second", lambda *_: 5000.0)
    earlier = tmp_path / "earlier"
    zoo("--budget", 0, "--ship", earlier)
    zoo("--ship", earlier, runs="away")
    assert "students/test_tiny/seed2" in results(away)


def test_a_plan_that_cannot_be_followed(tmp_path: Path):
    import train_zoo
    import zoo_plan

    stages, products = zoo_plan.read_plan(train_zoo.PLAN)
    known = set(fer_zoo.list_models())
    assert {m for s in stages for m in s.models} | {p.model for p in products} <= known
    plan = tmp_path / "plan.toml"
    good = PLAN.format(epochs=1, least=1)
    for old, new, why in (
        ('teacher = ["first"]', 'teacher = ["later"]', "before one of"),
        ('name = "students"', 'name = "first"', "stands twice"),
        ("minutes = 5", "hours = 5", "hours"),
        ('recipe = "strong"', 'recipe = "storng"', "storng"),
        ('stages = ["first", "students"]', 'stages = ["frist"]', "frist"),
        ("seeds = [2]", 'data = "ferplus"', "learns of ferplus"),
    ):
        plan.write_text(good.replace(old, new))
        with pytest.raises((ArgumentError, fer_zoo.errors.UnknownNameError), match=why):
            zoo_plan.read_plan(plan)


def test_a_shipment(tmp_path: Path):
    """Parts are no larger than asked, groups stay together, and a broken one is told."""
    import shipment

    files = {}
    for name, size in (("a", 5000), ("b", 30_000), ("c/d", 100_000), ("e", 1000)):
        files[name] = tmp_path / "from" / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_bytes(bytes(i * size % 251 for i in range(size)))
    groups = [{"a": files["a"]}, {"b": files["b"], "c/d": files["c/d"]}, {"e": files["e"]}]
    ship = tmp_path / "ship"
    left = shipment.send(groups, ship, name="one", part=30_000, parts=8)
    assert left == []
    assert max(p.stat().st_size for p in ship.iterdir()) <= 30_000
    assert shipment.receive(ship, tmp_path / "to") == ["a", "b", "c/d", "e"]
    for name, path in files.items():
        assert (tmp_path / "to" / name).read_bytes() == path.read_bytes()
    assert shipment.receive(ship, tmp_path / "to") == []

    left = shipment.send(groups, ship, name="two", part=30_000, parts=4)
    assert left == ["b", "c/d"]
    assert {p.name.split(".")[0] for p in ship.iterdir()} == {"two"}
    assert len(list(ship.iterdir())) <= 4
    shipment.send(groups, ship, name="two", part=30_000, parts=8)
    next(ship.glob("two.tar.02of*")).unlink()
    with pytest.raises(tarfile.TarError, match=r"two has \d of its \d parts"):
        shipment.receive(ship, tmp_path / "broken")
    shutil.rmtree(ship)
    ship.mkdir()
    with tarfile.open(ship / "evil.tar.00of01", "w") as archive:
        archive.add(files["a"], "../evil")
    with pytest.raises(tarfile.TarError, match="no place"):
        shipment.receive(ship, tmp_path / "to")


def test_a_shipment_that_was_cut_short_leaves_the_one_before(tmp_path: Path, monkeypatch):
    """A kill between two parts, as a machine that is taken away does it, costs only the newest."""
    import shipment

    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"1" * 60_000)
    second.write_bytes(b"2" * 60_000)
    ship, written = tmp_path / "ship", []

    def killed(path: Path):
        if len(written) == 2:
            raise SystemExit
        written.append(path)
        return shipment_replacing(path)

    shipment_replacing = shipment.replacing
    assert shipment.send([{"a": first}], ship, name="zoo-1", part=20_000) == []
    before = len(list(ship.iterdir()))
    monkeypatch.setattr(shipment, "replacing", killed)
    with pytest.raises(SystemExit):
        shipment.send([{"a": second}], ship, name="zoo-2", part=20_000)
    monkeypatch.undo()
    assert len(list(ship.iterdir())) == before + 2
    assert shipment.receive(ship, tmp_path / "to") == ["a"]
    assert (tmp_path / "to" / "a").read_bytes() == first.read_bytes()
    shipment.send([{"a": second}], ship, name="zoo-3", part=20_000)
    assert {path.name.split(".")[0] for path in ship.iterdir()} == {"zoo-3"}


def test_a_run_that_came_further_elsewhere_takes_the_place_of_this_one(tmp_path: Path):
    """Its files are never mixed with those of an earlier point of it, or of another run."""
    import shipment

    def run(root: Path, epochs: int, **files: str) -> dict[str, Path]:
        folder = root / "stage" / "model" / "seed0"
        folder.mkdir(parents=True)
        rows = "".join(f"{i},{root.name}\n" for i in range(epochs))
        for name, text in {"history.csv": "epoch\n" + rows, **files}.items():
            (folder / name).write_text(text)
        return {str(path.relative_to(root)): path for path in folder.iterdir()}

    def arrived(ship: str, files: dict[str, Path], home: Path) -> dict[str, str]:
        shipment.send([files], tmp_path / ship, name="zoo-1")
        shipment.receive(tmp_path / ship, home)
        assert not list(home.glob(".*"))
        return {p.name: p.read_text() for p in home.glob("stage/model/seed0/*")}

    home = tmp_path / "home"
    run(home, 3, best="3 epochs", last="3 epochs")
    done = run(tmp_path / "done", 9, best="9 epochs", **{"result.json": "{}"})
    small = {name: path for name, path in done.items() if not name.endswith("best")}
    less = run(tmp_path / "less", 2, best="2 epochs", last="2 epochs")
    other = run(tmp_path / "other", 9, more="another run", **{"result.json": "{}"})
    before = {p.name: p.read_text() for p in home.glob("stage/model/seed0/*")}
    assert arrived("a", less, home) == before
    # The half-trained state goes, although what takes its place came without a network.
    assert set(arrived("b", small, home)) == {"history.csv", "result.json"}
    assert arrived("c", done, home)["best"] == "9 epochs"  # the same run: what is missing comes
    assert "more" not in arrived("d", other, home)
    assert "9,done" not in arrived("d", other, home)["history.csv"]
    assert "8,done" in arrived("d", other, home)["history.csv"]


def test_the_packed_figures_are_those_of_the_stored_bytes(tmp_path: Path):
    """Trained weights are measured after they were rounded."""
    import bundle_weights

    from conftest import stripes

    train_faces, judge = stripes(70), stripes(210, seed=1, split="public")
    best = {}
    for seed, name in enumerate(("test_tiny", "plain_test")):
        best[name] = fer_zoo.train(
            name, train_faces, validation=judge, output=tmp_path / name, seed=seed, epochs=2,
            recipe="strong", batch_size=16,
        ).checkpoint  # fmt: skip
    pack = bundle_weights.pack
    pack("pair_test", best, judge, tmp_path / "out", tag="stripes", dtype=torch.int8)
    record = json.loads((tmp_path / "out" / "pair_test.stripes.json").read_text())
    members = [fer_zoo.load(tmp_path / "out" / f"{name}.stripes.safetensors") for name in best]
    assert record["storage"]["dtype"] in ("int8", "float16", "bfloat16", "float32")
    assert {row["dtype"] for row in record["storage"]["costs"]} == {"int8"}
    for row in record["metrics"]:
        if row["fusion"] == "average":
            model = fer_zoo.create_ensemble(members)
            found = fer_zoo.evaluate(model, judge, preset=row["preset"])
            assert row["accuracy"] == pytest.approx(found.accuracy, abs=1e-5)
            assert row["n"] == 210
    assert "PublicTest" in record["metrics"][2]["selection"]


@pytest.mark.parametrize(("more", "default"), [(1, "average"), (5, "average"), (6, "stacked")])
def test_a_fitted_fusion_must_win_by_more_than_chance(more, default):
    """Six faces of six that differ are p = 0.03, five of five 0.06."""
    import bundle_weights

    average = torch.arange(100) < 60
    hits = {"average": average, "weighted": average, "stacked": torch.arange(100) < 60 + more}
    assert bundle_weights.default_fusion(hits) == default
    assert bundle_weights.default_fusion({**hits, "stacked": ~average}) == "average"


def test_all_bundled_weights_are_small():
    """What every user downloads with the package."""
    from fer_zoo.weights.records import BUNDLED

    sizes = [path.stat().st_size for path in BUNDLED.glob("*.safetensors")]
    assert sizes
    assert sum(sizes) <= 36e6


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
