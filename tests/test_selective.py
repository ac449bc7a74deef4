"""Abstaining and groups: curves, thresholds, predictors without an answer, and tests of groups."""

import csv
import json
import pickle
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score

import fer_zoo
from conftest import ramp, run
from fer_zoo.data import FaceDataset, ImageFolder
from fer_zoo.errors import ArgumentError, DataError, LabelError, SplitError
from fer_zoo.evaluation import group_scores, make_card, measure, risk_coverage, write_report
from fer_zoo.evaluation.groups import read_groups
from fer_zoo.evaluation.selective import _holm, abstention_table
from fer_zoo.evidence import Evidence, Faces, Training
from fer_zoo.inference import Predictions, Thresholds, choose_thresholds, predict_scores
from fer_zoo.inference.abstention import _lowest
from fer_zoo.plain import from_plain
from test_evaluation import LABELS, boastful, evaluated, noise


def test_the_risk_coverage_curve_is_that_of_a_loop():
    scores, targets = boastful(300)
    result = evaluated(scores, targets, temperature=2.5)
    sure = result.probabilities().amax(1)
    coverage, risk = result.risk_coverage()
    order, wrong, found = sure.argsort(descending=True).tolist(), 0, []
    for number, i in enumerate(order, 1):
        wrong += int(scores[i].argmax() != targets[i])
        found.append(wrong / number)
    assert risk.tolist() == pytest.approx(found)
    assert coverage.tolist() == pytest.approx([k / 300 for k in range(1, 301)])
    assert result.aurc == pytest.approx(np.mean(found))
    assert result.to_dict()["aurc"] == result.aurc
    assert risk[-1] == pytest.approx(1 - result.accuracy)
    for least, share, error in result.abstention:
        given = sure >= least
        assert share == pytest.approx(float(given.double().mean()))
        assert error == pytest.approx(float((~result.correct[given]).double().mean()))
    assert [row[1] for row in result.abstention] == [1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5]


def test_faces_that_are_equally_sure_count_as_in_random_order():
    right = torch.tensor([True, False, True, False, True, True])
    sure = torch.tensor([0.9, 0.5, 0.5, 0.5, 0.5, 0.4])
    for order in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [2, 5, 1, 0, 4, 3]):
        risk = risk_coverage(sure[order], right[order])[1]
        assert risk.tolist() == pytest.approx([0, 1 / 4, 1 / 3, 3 / 8, 2 / 5, 1 / 3])
    assert [row[1] for row in abstention_table(sure, right)] == pytest.approx([1, 5 / 6])


def test_the_curve_is_drawn():
    scores, targets = boastful(200)
    result = evaluated(scores, targets)
    figure = fer_zoo.plots.risk_coverage([result, replace(result, model="other")])
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == pytest.approx([k / 2 for k in range(1, 201)])
    assert line.get_ydata()[-1] == pytest.approx(100 * (1 - result.accuracy))
    with pytest.raises(ArgumentError, match="one to eight"):
        fer_zoo.plots.risk_coverage([])


# Thresholds


def test_the_lowest_threshold_with_the_precision_is_found():
    sure = torch.arange(100, dtype=torch.float64) / 100
    right = torch.arange(100) >= 40
    value = _lowest(sure, right, 0.8)
    given = sure >= value
    assert float(right[given].double().mean()) == 0.8
    assert (int(given.sum()), value) == (75, pytest.approx(0.245))
    assert _lowest(sure, right, 0.6) == 0.0
    assert _lowest(sure, right & False, 0.1) is None
    # Nineteen right ones are too few to say anything.
    assert _lowest(sure, torch.arange(100) >= 81, 0.99) is None
    assert _lowest(sure, torch.arange(100) >= 80, 0.99) == pytest.approx(0.795)
    # One of those that are equally sure is never without the others.
    tied = torch.tensor([0.9] * 30 + [0.5] * 30, dtype=torch.float64)
    assert _lowest(tied, torch.arange(60) < 50, 0.9) == pytest.approx(0.7)


@pytest.fixture
def judged(labelled) -> tuple[fer_zoo.models.Classifier, FaceDataset]:
    """A network, and faces of which it labels those right that it is surer of."""
    with torch.no_grad():
        labelled.fc.weight.mul_(30)
    faces = noise(300, split=None)
    sure, winners = predict_scores(labelled, faces.images).softmax(1).max(1)
    faces.targets = torch.where(sure.argsort().argsort() >= 100, winners, (winners + 1) % 7)
    return labelled, faces


def test_thresholds_say_where_they_come_from(judged, tmp_path: Path):
    model, faces = judged
    found = choose_thresholds(model, faces, precision=0.9)
    (one,) = found.thresholds
    assert (one.n, one.right, one.of) == (222, 200, 300)
    assert one.precision >= 0.9 > 200 / 223
    assert one.interval[0] < one.precision < one.interval[1]
    assert 0.85 < one.held_out_precision < 0.95
    assert 200 < one.held_out_n < 240
    assert found.coverage == 222 / 300
    assert (found.faces, found.state, found.temperature) == (faces.faces, model.state, 1.0)
    assert found.by_label == dict.fromkeys(LABELS, one.value)
    assert "fer_zoo" not in str(fer_zoo.load(fer_zoo.save(model, tmp_path / "a.safetensors")))
    assert from_plain(Thresholds, json.loads(json.dumps(found.to_dict())), "x") == found
    sure = predict_scores(model, faces.images).softmax(1).amax(1)
    predict = fer_zoo.Predictor(model, abstain=found)
    told = predict(list(faces.images[:, None]))
    assert [p.label is not None for p in told] == (sure >= one.value).tolist()


def test_a_class_that_reaches_no_precision_is_never_said(labelled, monkeypatch):
    winners = torch.arange(210) % 2  # angry is always right, disgust never
    scores = 3.0 * torch.eye(7)[winners]
    monkeypatch.setattr("fer_zoo.inference.abstention.predict_scores", lambda *_, **__: scores)
    faces = noise(210, split=None)
    faces.targets = 2 * winners
    found = choose_thresholds(labelled, faces, precision=0.9, per_class=True)
    values = {one.labels[0]: one.value for one in found.thresholds}
    assert values.pop("angry") == 0.0
    assert set(values.values()) == {None}
    with torch.no_grad():
        labelled.fc.bias[1] = 1e4
    told = fer_zoo.Predictor(labelled, abstain=replace(found, state=labelled.state))(ramp())
    assert told.label is None
    assert told.reason == "disgust is never said: no threshold reached the wanted precision"
    faces.targets = winners + 3
    with pytest.raises(ArgumentError, match=r"no threshold .* of 0\.9 on .*: 0\.000 is"):
        choose_thresholds(labelled, faces, precision=0.9)


def test_thresholds_are_refused_where_they_would_mislead(judged):
    model, faces = judged
    found = choose_thresholds(model, faces, precision=0.9)
    with pytest.raises(SplitError):
        choose_thresholds(model, noise(300, split="private"), precision=0.9)
    with pytest.raises(ArgumentError, match="at least 40 faces, got 30"):
        choose_thresholds(model, noise(30), precision=0.9)
    for wrong in (0, 1.1, float("nan"), "90", True):
        with pytest.raises(ArgumentError, match="a share above 0"):
            choose_thresholds(model, faces, precision=wrong)
    with pytest.raises(ArgumentError, match="chosen for another preset"):
        fer_zoo.Predictor(model, abstain=found, preset="fer48_plain")
    model.temperature = {"fer40_center": 2.0}
    with pytest.raises(ArgumentError, match="chosen for another temperature"):
        fer_zoo.Predictor(model, abstain=found)
    model.fc.bias.data += 1
    with pytest.raises(ArgumentError, match=r"another state .*choose_thresholds\(model"):
        fer_zoo.Predictor(model, abstain=found)
    with pytest.raises(ArgumentError, match="chosen for another labels"):
        fer_zoo.Predictor(fer_zoo.optimize(model), abstain=replace(found, thresholds=()))


def test_thresholds_of_another_model_are_refused_in_every_form(judged, tmp_path: Path):
    """An exported and an optimized model took thresholds of others with the same labels."""
    pytest.importorskip("onnxruntime")
    model, faces = judged
    found, other = choose_thresholds(model, faces, precision=0.9), deepcopy(model)
    other.fc.bias.data += 1
    warm = deepcopy(model)
    warm.temperature = {model.preset: 2.0}
    for n, one in enumerate((model, other, warm)):
        forms = [fer_zoo.optimize(one), fer_zoo.export(one, tmp_path / f"{n}.onnx"), one]
        for form in forms:
            if one is model:
                assert fer_zoo.Predictor(form, abstain=found)._least == found.by_label
                continue
            says = "another temperature" if one is warm else "another state than that of 'test_t"
            with pytest.raises(ArgumentError, match=says):
                fer_zoo.Predictor(form, abstain=found)
    mirror = deepcopy(model)  # another temperature, of another preset than its own
    mirror.temperature = {model.preset: 1.0, "fer44_mirror": 3.0}
    two = replace(found, preset="fer44_mirror")
    fast = fer_zoo.optimize(model)
    assert fer_zoo.Predictor(fast, views=2, abstain=two)._least == found.by_label
    assert pickle.loads(pickle.dumps(fast)).state == model.state
    for form in (mirror, fer_zoo.optimize(mirror)):
        with pytest.raises(
            ArgumentError, match="another temperature than that of 'test_tiny', for 1"
        ):
            fer_zoo.Predictor(form, views=2, abstain=two)
    old = fer_zoo.inference.exported.open_exported(tmp_path / "1.onnx")
    old.state = ""  # as files of before have it: then the name decides
    assert fer_zoo.Predictor(old, abstain=found)._least == found.by_label
    with pytest.raises(ArgumentError, match="another model than that of 'test_tiny', for vgg19"):
        fer_zoo.Predictor(old, abstain=replace(found, model="vgg19"))


# Predictors


def test_below_the_threshold_the_label_is_none_with_a_reason(labelled, tmp_path: Path):
    plain = fer_zoo.Predictor(labelled)(ramp())
    above, below = plain.probability - 0.001, plain.probability + 0.001
    assert fer_zoo.Predictor(labelled, abstain=above)(ramp()) == plain
    told = fer_zoo.Predictor(labelled, abstain=below)(ramp())
    assert (told.label, told.error, told.probability) == (None, None, plain.probability)
    assert told.probabilities == plain.probabilities
    assert told.reason == f"{plain.label} at {plain.probability:.4f} is under {below:.4g}"
    assert told.to_dict()["reason"] == told.reason
    (row,) = Predictions([told]).to_dicts()
    assert (row["label"], row["reason"], row["error"]) == (None, told.reason, None)
    assert repr(told) == f"Prediction(none, reason={told.reason!r})"
    assert told.reason in told._repr_html_()
    assert "#0072b2" not in told._repr_html_()
    # A threshold of another class is none for this one.
    other = next(name for name in LABELS if name != plain.label)
    assert fer_zoo.Predictor(labelled, abstain={other: 1.0})(ramp()) == plain
    assert fer_zoo.Predictor(labelled, abstain={plain.label.upper(): 1.0})(ramp()).label is None
    assert fer_zoo.Predictor(labelled, abstain=np.float32(above))(ramp()).label == plain.label
    never = fer_zoo.Predictor(labelled, abstain={plain.label: float("inf")})(ramp())
    assert never.reason.startswith(
        f"{plain.label} is never said"
    )  # as `Thresholds.by_label` has it
    photos = fer_zoo.PhotoPredictor(
        labelled, detector=lambda rgb: [(0, 0, 48, 48)], abstain={plain.label: 1.0}
    )
    (face,) = photos(np.repeat(ramp()[..., None], 3, 2)).faces
    assert (face.label, face.box, face.reason is None) == (None, (0, 0, 48, 48), False)


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan"), True, [], {"happy": 2}, object()])
def test_a_threshold_is_a_probability(labelled, wrong):
    with pytest.raises(ArgumentError, match="abstain is a probability from 0 to 1"):
        fer_zoo.Predictor(labelled, abstain=wrong)


def test_what_is_no_threshold_is_refused(labelled, tmp_path: Path):
    with pytest.raises(LabelError, match=r"abstain names \['hapy'\]"):
        fer_zoo.Predictor(labelled, abstain={"hapy": 0.5})
    for text in ("{", "[]", '{"precision": 5}'):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ArgumentError, match=r"no file of thresholds .*fer-zoo thresholds"):
            fer_zoo.Predictor(labelled, abstain=tmp_path / "a.json")


def test_the_commands_choose_and_abstain(judged, tmp_path: Path):
    model, faces = judged
    path, file = fer_zoo.save(model, tmp_path / "a.safetensors"), tmp_path / "t.json"
    for i, (image, target) in enumerate(zip(faces.images, faces.targets, strict=True)):
        (tmp_path / "faces" / LABELS[target]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(tmp_path / "faces" / LABELS[target] / f"{i}.png")
    for name in LABELS:  # every class needs a face
        (tmp_path / "faces" / name).mkdir(exist_ok=True)
        Image.fromarray(faces.images[0].numpy()).save(tmp_path / "faces" / name / "more.png")
    chosen = ["thresholds", path, "--data", tmp_path / "faces", "--precision", 0.8]
    said = run(*chosen, "--output", file).stdout
    found = from_plain(Thresholds, json.loads(file.read_text()), "t.json")
    assert f"{found.thresholds[0].value:.4f}" in said
    assert "exists: name another" in run(*chosen, "--output", file, code=2).stderr
    assert json.loads(run(*chosen, "--per-class", "--json").stdout)["precision"] == 0.8
    two = json.loads(run(*chosen, "--views", 2, "--json").stdout)
    assert two["preset"] == "fer44_mirror" != found.preset
    images = [tmp_path / "faces" / LABELS[t] / f"{i}.png" for i, t in enumerate(faces.targets[:9])]
    lines = run("predict", *images, "--model", path, "--abstain", file, "--json").stdout
    answers = [json.loads(line) for line in lines.splitlines()]
    sure = [max(a["probabilities"].values()) for a in answers]
    assert [a["label"] is None for a in answers] == [p < found.thresholds[0].value for p in sure]
    table = run("predict", *images, "--model", path, "--abstain", 1.0, "--csv").stdout
    for row in csv.DictReader(table.splitlines()):
        assert (row["label"], row["error"]) == ("", "")
        assert row["reason"].endswith("is under 1")
    shown = run("predict", images[0], "--model", path, "--abstain", "1.0").stdout.splitlines()[1]
    assert shown.startswith("- ")
    assert shown.endswith("is under 1")
    assert "abstain='x.json'" in run("predict", *images, "--abstain", "x.json", code=2).stderr


# Groups


def halves(n: int = 400, share: float = 0.5) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Scores and targets of two groups; a share of the second is labelled wrong."""
    rng = torch.Generator().manual_seed(3)
    targets = torch.arange(n) % 3
    scores = 2.0 * torch.eye(3)[targets] + torch.randn(n, 3, generator=rng)
    flip = (torch.arange(n) % 2 == 1) & (torch.rand(n, generator=rng) < share)
    scores[flip] = scores[flip].roll(1, 1)
    return scores, targets, ["ab"[i % 2] for i in range(n)]


def test_each_groups_figures_are_those_of_its_faces():
    scores, targets, groups = halves()
    for name, score in zip("ab", group_scores(scores, targets, groups), strict=True):
        own = torch.tensor([g == name for g in groups])
        alone = evaluated(scores[own], targets[own], labels=("x", "y", "z"))
        assert (score.name, score.n, score.classes) == (name, 200, 3)
        assert score.accuracy == pytest.approx(alone.accuracy)
        assert score.interval == pytest.approx(alone.interval)
        f1 = f1_score(targets[own], scores[own].argmax(1), average="macro")
        assert score.macro_f1 == pytest.approx(f1)
        assert score.ece == pytest.approx(alone.ece, abs=1e-6)
        for figure, bounds in (
            (score.accuracy, score.interval),
            (score.macro_f1, score.macro_f1_interval),
        ):
            assert bounds[0] < figure < bounds[1]
        assert 0 <= score.ece_interval[0] < score.ece_interval[1] < 1


def test_a_difference_is_tested_and_none_is_not_found():
    differing = group_scores(*halves())
    assert max(one.accuracy_p for one in differing) < 0.002
    assert max(one.macro_f1_p for one in differing) < 0.002
    assert differing[0].accuracy_p == differing[1].accuracy_p
    scores, targets, _ = halves()
    order = torch.randperm(400, generator=torch.Generator().manual_seed(1)).tolist()
    random = group_scores(scores, targets, ["abcd"[i % 4] for i in order])
    assert min(p for one in random for p in (one.accuracy_p, one.macro_f1_p, one.ece_p)) > 0.05
    assert group_scores(scores, targets, ["a"] * 400)[0].accuracy_p is None


def test_the_permutation_test_is_that_of_a_loop():
    scores, targets, groups = halves(120, 0.1)
    right = (scores.argmax(1) == targets).numpy()
    own, rng = np.array(groups) == "a", np.random.default_rng(5)
    here = right[own].mean() - right[~own].mean()
    found = []
    for _ in range(4000):
        drawn = rng.permutation(own)
        found.append(abs(right[drawn].mean() - right[~drawn].mean()) >= abs(here) - 1e-12)
    one = group_scores(scores, targets, groups)[0]
    p = np.mean(found)
    assert 0.02 < p < 0.3
    # Holm's factor is 1, 2 or 3 for three figures of one pair.
    assert min(abs(one.accuracy_p / (k * p) - 1) for k in (1, 2, 3)) < 0.15


def test_holms_method():
    p = np.array([[0.01, 0.5, 0.04], [0.03, 0.9, 0.02], [0.2, 0.005, 0.6]])
    found, ordered, highest = _holm(p), sorted(p.ravel()), 0.0
    for i, value in enumerate(ordered):
        highest = max(highest, min(1.0, (9 - i) * value))
        assert found[p == value] == pytest.approx(highest)
    two = np.array([[0.01, 0.5, 0.04]] * 2)
    assert _holm(two)[1].tolist() == pytest.approx([0.03, 0.5, 0.08])


def test_small_groups_do_not_look_worse_calibrated():
    """Their calibration error is larger by chance: the test allows for it."""
    scores, targets = boastful(3000, 1.0)
    groups = ["few" if i < 60 else "many" for i in range(3000)]
    few, many = group_scores(scores, targets, groups)
    assert few.ece > 2 * many.ece
    assert few.ece_p > 0.2
    assert few.ece_interval[0] == many.ece_interval[0] == 0
    sharp = group_scores(3 * scores, targets, groups)[1]
    assert sharp.ece_interval[0] > 0.1


def test_groups_come_from_a_list_or_a_csv(tmp_path: Path):
    for name in ("calm", "tense"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(ramp(10 * i)).save(tmp_path / name / f"{i}.png")
    data, path = ImageFolder(tmp_path), tmp_path / "groups.csv"
    files = ["calm/0.png", "calm/1.png", "calm/2.png", "tense/0.png", "tense/1.png", "tense/2.png"]
    rows = [f"{file},{group.strip('.')}" for file, group in zip(files, [*"x.yyxx"], strict=True)]
    path.write_text("\n".join(["File,Group", *reversed(rows), "other/9.png,z"]))
    assert read_groups(path, data) == ["x", None, "y", "y", "x", "x"]
    path.write_text("\n".join(["group", *"xyxyxy"]))
    assert read_groups(path, data) == [*"xyxyxy"]
    assert read_groups(np.array([1, 2, 1, 2, 1, 2]), data) == [*"121212"]
    assert read_groups(["a", None, float("nan"), "a", "b", "b"], data)[1:3] == [None, None]
    for text, says in (
        ("file,sex\na,b\n", "must name a column group"),
        ("group\nx\n", "has 1 rows for 6 faces"),
        ("file,group\ncalm/0.png,x\n", "no row for 5 of 6 faces"),
        ("file,group\n0.png,x\n1.png,x\n2.png,y\n", "3 faces share a file with others"),
        ("file,group\n0.png,x\n0.png,y\n", "names the same file twice"),
        ("row,group\n0,x\n", "names a row for each face, which"),
        ("\0\udcff", "cannot be read|must name a column group"),
    ):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(DataError, match=says):
            read_groups(path, data)
    for wrong in (["a"] * 5, 5, [*"abcdefg"]):
        with pytest.raises(ArgumentError, match="one name for each of 6 faces"):
            read_groups(wrong, data)
    with pytest.raises(ArgumentError, match="51 groups"):
        group_scores(torch.zeros(51, 2), torch.zeros(51).long(), [str(i) for i in range(51)])


@pytest.fixture
def six_faces(tmp_path: Path) -> ImageFolder:
    for name in ("calm", "tense"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(ramp(10 * i)).save(tmp_path / name / f"{i}.png")
    return ImageFolder(tmp_path)


@pytest.mark.parametrize(
    "head",
    ["filename", "path", "image", "files", "Image_Path", "", "face_id", "Unnamed: 0", "FILE NAME"],
)
def test_a_column_that_names_the_files_is_the_name_column(six_faces, tmp_path: Path, head):
    """Whatever it is called: rows are not taken in the order of the faces then."""
    names = [f"{name}/{i}.png" for name in ("calm", "tense") for i in range(3)]
    rows = [f"7,{group},{name}" for group, name in zip("abcdef", names, strict=True)]
    (tmp_path / "g.csv").write_text("\n".join([f"age,group,{head}", *reversed(rows)]))
    assert read_groups(tmp_path / "g.csv", six_faces) == [*"abcdef"]


def test_columns_that_are_not_looked_at_are_told(six_faces, tmp_path: Path, caplog):
    path = tmp_path / "g.csv"
    path.write_text("id,group\n" + "\n".join(f"{i},{g}" for i, g in enumerate("abcdef")))
    assert read_groups(path, six_faces) == [*"abcdef"]
    assert "in the order of the faces; if one of ['id'] says which" in caplog.text
    path.write_text("group,path\n" + "\n".join(f"{g},/elsewhere/{g}.png" for g in "abcdef"))
    with pytest.raises(DataError, match=r"no row for 6 of 6 faces.*in its column 'path'"):
        read_groups(path, six_faces)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file,group,Group\na,b,c\n", "twice: .'group'"),
        ("file,group,group\na,b,c\n", "twice: .'group'"),
        ("File ,group, FILE\na,b,c\n", "twice: .'file'"),
        ("file,group\ncalm/0.png,site 0\ncalm/1.png,site 0,young\n", "line 3.*more fields"),
        ("file,group\ncalm/0.png\n", "line 2.*fewer fields"),
        ("group\n1,young\n2,old\n", "line 2.*more fields"),
    ],
)
def test_a_csv_of_groups_that_can_be_read_in_two_ways_is_refused(six_faces, tmp_path, text, says):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        read_groups(tmp_path / "g.csv", six_faces)


class Column(list):
    """As pandas' Series: values, each with a name."""

    def __init__(self, values, names):
        super().__init__(values)
        self.index, self.iloc = np.array(names), self


class Nothing:
    """As pandas' NA, which is neither true nor false."""

    def __ne__(self, other):
        return self

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


Nothing.__name__ = "NAType"


def test_a_column_of_pandas_is_not_taken_by_place_where_it_has_names(six_faces):
    """It was: the names of its rows were passed over, and groups were other faces'."""
    names = [str(path) for path in six_faces.files]
    with pytest.raises(ArgumentError, match=r"pass series.loc\[names\].tolist\(\)"):
        read_groups(Column("fedcba", names[::-1]), six_faces)
    with pytest.raises(ArgumentError, match="groups are one id for each face"):
        six_faces.split(0.5, groups=Column("fedcba", names[::-1]))
    assert read_groups(Column("abcdef", range(6)), six_faces) == [*"abcdef"]
    assert read_groups(["a", Nothing(), *"bcde"], six_faces)[:2] == ["a", None]


@pytest.mark.parametrize("first", [0, 1, 2])
def test_rows_that_are_not_counted_from_0_are_refused(six_faces, tmp_path: Path, first):
    """Each face had the group of the one before."""
    six_faces.rows, path = torch.arange(3, 9), tmp_path / "g.csv"
    path.write_text(
        "row,group\n" + "\n".join(f"{i + first},{'abcdefghijkl'[i]}" for i in range(12))
    )
    if first:
        with pytest.raises(DataError, match=f"begins with {first}: subtract {first} from each"):
            read_groups(path, six_faces)
    else:
        assert read_groups(path, six_faces) == [*"defghi"]
        six_faces.rows = torch.arange(1, 7)
        path.write_text("row,group\n" + "\n".join(f"{i},{'.abcdef'[i]}" for i in range(1, 7)))
        assert read_groups(path, six_faces) == [*"abcdef"]


def test_groups_stay_with_their_faces_where_classes_are_left_out(labelled):
    """The list is one for each face that is given; what is left out takes its own along."""
    faces = noise(140)
    names = [f"g{int(k) % 3}" for k in range(len(faces))]
    result = fer_zoo.evaluate(labelled, faces, groups=names, ignore=["happy"])
    stay = faces.targets != LABELS.index("happy")
    assert [one.n for one in result.groups] == [
        sum(bool(s) and name == k for s, name in zip(stay, names, strict=True))
        for k in ("g0", "g1", "g2")
    ]
    kept = [name for s, name in zip(stay, names, strict=True) if s]
    right = result.scores.argmax(1) == result.targets
    for one in result.groups:
        own = torch.tensor([name == one.name for name in kept])
        assert one.accuracy == pytest.approx(float(right[own].double().mean()))


def test_torchs_part_of_a_data_set_chooses_thresholds(judged):
    model, faces = judged
    part = torch.utils.data.Subset(faces, range(len(faces)))
    one, other = (choose_thresholds(model, data, precision=0.8) for data in (part, faces))
    assert one.thresholds == other.thresholds


def test_fer2013s_rows_are_matched_by_number(tmp_path: Path):
    data = noise(3)
    data.rows = torch.tensor([7, 9, 11])
    (tmp_path / "a.csv").write_text("row,group\n9,b\n7,a\nrow 11,c\n")
    assert read_groups(tmp_path / "a.csv", data) == ["a", "b", "c"]


def test_groups_reach_the_card_the_json_and_the_terminal(labelled, tmp_path: Path):
    faces, groups = noise(70, split=None), [*"ab"] * 35
    report = measure(labelled, faces, preset="fer40_center", groups=groups)
    result = report.results[0]
    assert [one.name for one in result.groups] == ["a", "b"]
    card = make_card(report)
    assert "| group | faces | classes | accuracy % | p |" in card
    assert "Holm" in card
    assert "Nothing here is broken down" not in card
    bare = make_card(measure(labelled, faces, preset="fer40_center"))
    assert "## Groups" not in bare
    assert "Nothing here is broken down" in bare
    assert "AURC" in bare
    folder = tmp_path / "card"
    write_report(folder, report)
    assert (folder / "risk_coverage.png").stat().st_size > 1000
    stored = json.loads((folder / "evaluation.json").read_text())["results"][0]
    assert [one["name"] for one in stored["groups"]] == ["a", "b"]
    assert stored["aurc"] == result.aurc
    labelled.evidence = replace(labelled.evidence, scores=(result.score,))
    path = fer_zoo.save(labelled, tmp_path / "a.safetensors")
    assert b'"groups"' not in path.read_bytes()


def test_the_command_takes_groups(labelled, tmp_path: Path):
    path = fer_zoo.save(labelled, tmp_path / "a.safetensors")
    rows = ["file,group"]
    for i, name in enumerate(LABELS * 3):
        (tmp_path / "faces" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp(5 * i)).save(tmp_path / "faces" / name / f"{i}.png")
        rows.append(f"{name}/{i}.png,{'old' if i % 2 else 'young'}")
    (tmp_path / "groups.csv").write_text("\n".join(rows))
    said = run(
        *("evaluate", path, "--data", tmp_path / "faces", "--groups", tmp_path / "groups.csv"),
        *("--preset", "fer40_center"),
    ).stdout
    assert "young" in said
    assert "permutation test" in said
    assert "least probability" in said


# Faces that chose


def test_an_evaluation_says_what_its_faces_chose(labelled, tmp_path: Path):
    mine, other = noise(70, split=None), noise(70, split=None, seed=1)
    assert fer_zoo.evaluate(labelled, mine).note == ""
    seen = Training(
        model="x", recipe={}, faces=other.faces, validation=mine.faces, selection="best"
    )
    labelled.evidence = Evidence(training=seen)
    labelled.temperature = {"fer40_center": 1.5}
    known = labelled.evidence
    labelled.evidence = replace(known, calibration=replace(known.calibration, faces=mine.faces))
    path = fer_zoo.save(labelled, tmp_path / "a.safetensors")
    result = fer_zoo.evaluate(path, mine)
    assert "chose the epoch of test_tiny, fitted the temperature" in result.note
    assert "not held out" in repr(result)
    assert "not held out" in make_card(measure(path, mine, preset="fer40_center"))
    assert "trained test_tiny" in fer_zoo.evaluate(path, other).note
    assert fer_zoo.evaluate(path, noise(70, split=None, seed=2)).note == ""
    pair = fer_zoo.create_ensemble([path, path])
    assert fer_zoo.evaluate(pair, mine).note.count("chose the epoch of test_tiny") == 2


def test_a_part_of_an_official_split_counts_as_the_split(labelled):
    whole = noise(140)
    seen = Training(
        model="x",
        recipe={},
        faces=Faces(name="noise", n=9, split="train", fingerprint="other"),
        validation=whole.faces,
        selection="best",
    )
    labelled.evidence = Evidence(training=seen)
    assert "chose the epoch" in fer_zoo.evaluate(labelled, whole.subset(70)).note
    renamed = FaceDataset(
        whole.images[:70], whole.targets[:70], labels=LABELS, name="RAF-DB", split="public"
    )
    assert fer_zoo.evaluate(labelled, renamed).note == ""
    assert "PrivateTest" in fer_zoo.evaluate(labelled, noise(70, split="private")).note
