"""Other classes than the model's: some lack, some are left out, some are merged."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

import fer_zoo
from conftest import run
from fer_zoo.cli.inputs import parse_classes
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.evaluation import cross_table, measure, score_metrics
from fer_zoo.evaluation.model_card import make_model_card
from fer_zoo.inference import member_scores
from fer_zoo.labels import _SPELLINGS, FER2013, FERPLUS, canonical, check_labels, regroup

MOODS = {"positive": ["happy", "surprise"], "negative": ["angry", "disgust", "fear", "sad"]}


def noise(n: int = 42, labels=FER2013, seed: int = 0, **more) -> FaceDataset:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 48, 48), dtype=torch.uint8, generator=rng)
    targets = more.pop("targets", torch.arange(n) % len(labels))
    return FaceDataset(images, targets, labels=labels, name=more.pop("name", "noise"), **more)


@pytest.fixture
def model(labelled):
    """A network that gives several answers, with a temperature that matters."""
    images = noise(70).images
    with torch.no_grad():
        labelled.fc.weight.mul_(1500)
        labelled.fc.bias.sub_(member_scores(labelled, images)[0].mean(0))
    labelled.temperature = {"fer40_center": 3.0}
    return labelled


def test_classes_that_leave_nothing_to_tell_apart(labelled):
    faces = FaceDataset(
        torch.randint(0, 256, (7, 48, 48), dtype=torch.uint8),
        torch.arange(7),
        labels=labelled.labels,
        name="noise",
    )
    with pytest.raises(LabelError, match="one class is left"):
        fer_zoo.evaluate(labelled, faces, labels={"any": labelled.labels})
    with pytest.raises(LabelError, match="classes are called by names"):
        fer_zoo.evaluate(labelled, faces, labels={0: ["happy"]})
    for ask in (fer_zoo.evaluate, fer_zoo.robustness):
        with pytest.raises(LabelError, match="ignore is the names"):
            ask(labelled, faces, ignore=3)
    twice = parse_classes(["good=happy", "good=surprise,neutral"], [])
    assert twice["labels"] == {"good": ["happy", "surprise", "neutral"]}
    with pytest.raises(LabelError, match="abstain names a class twice"):
        fer_zoo.Predictor(labelled, abstain={"happy": 0.9, "Happiness": 0.1})


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("Anger", "angry"), ("WUT", "angry"), ("colère", "angry"), ("colere", "angry"),
        ("Dégoût", "disgust"), ("de\u0301gou\u0302t", "disgust"), ("Ekel", "disgust"),
        ("afraid", "fear"), ("Miedo", "fear"), ("恐惧", "fear"), ("두려움", "fear"),
        ("joie", "happy"), ("Felicità", "happy"), ("mutlu", "happy"), ("開心", "happy"),
        ("TRAURIG", "sad"), ("tristeza", "sad"), ("悲しみ", "sad"), ("грусть", "sad"),
        ("Surprised", "surprise"), ("suprise", "surprise"), ("Überraschung", "surprise"),
        ("S\u0327as\u0327k\u0131n", "surprise"), ("놀람", "surprise"),
        ("Neutre", "neutral"), ("nötr", "neutral"),
        ("нейтральный", "neutral"), ("Mépris", "contempt"), ("軽蔑", "contempt"),
        ("resumé", "resumé"), ("Sadistic", "sadistic"), ("calm", "calm"),
    ],
)  # fmt: skip
def test_names_in_other_spellings_and_languages(word, label):
    assert canonical(word) == label


def test_no_spelling_is_two_expressions():
    words = [word for words in _SPELLINGS.values() for word in words.split()]
    assert {*_SPELLINGS} == {*FERPLUS}
    for name, own in _SPELLINGS.items():
        assert {canonical(word) for word in own.split()} == {name}
    assert len({*words}) == len(words)
    with pytest.raises(LabelError, match="'sad' and 'triste' name the same class"):
        check_labels(["sad", "triste"])


def test_a_folder_in_another_language_is_evaluated(model, tmp_path: Path):
    names = dict(zip(("Wut", "Ekel", "Angst", "Freude", "Trauer"), FER2013, strict=False))
    data = noise(10, labels=[*names])
    for i, (image, target) in enumerate(zip(data.images, data.targets.tolist(), strict=True)):
        (folder := tmp_path / data.labels[target]).mkdir(exist_ok=True)
        Image.fromarray(image.numpy()).save(folder / f"{i}.png")
    result = fer_zoo.evaluate(model, fer_zoo.data.ImageFolder(tmp_path))
    assert (result.labels, result.n) == (FER2013, 10)
    assert [sum(row) for row in result.confusion] == [2] * 5 + [0] * 2


def test_regrouping_says_what_becomes_of_each_class():
    assert regroup(FER2013, MOODS) == {**MOODS, "neutral": ["neutral"]} | {
        "negative": ["angry", "disgust", "fear", "sad"]
    }
    assert [*regroup(FER2013, MOODS)] == ["positive", "negative", "neutral"]
    assert regroup(("happiness", "sad"), {"happy": ["joy"]}) == {
        "happy": ["happiness"],
        "sad": ["sad"],
    }
    assert regroup(("a", "b"), {"a": ["b"]}) == {"a": ["a", "b"]}
    assert regroup(("a", "b"), {"c": ["d"]}, others=["d"]) == {"c": [], "a": ["a"], "b": ["b"]}
    for labels, ignore, says in (
        ({"x": ["bored"]}, (), r"\['bored'\] are none of the classes"),
        ({}, ["bored"], r"\['bored'\] are none"),
        ({"x": ["sad"], "y": ["sadness"]}, (), "name the same class"),
        ({"x": ["sad"]}, ["sad"], "name the same class"),
        ({"x": "sad"}, (), "no single string"),
        (["sad"], (), "map new classes to those"),
        ({}, FER2013, "are left out"),
        ({"sad": ["happy"], "sadness": ["fear"]}, (), "name the same class"),
    ):
        with pytest.raises(LabelError, match=says):
            regroup(FER2013, labels, ignore)


def test_faces_are_relabelled():
    votes = torch.full((16, 8), 1 / 8)
    data = noise(16, FERPLUS, votes=votes, split="public", groups=range(16))
    data.rows = torch.arange(50, 66)
    found = data.relabel(MOODS, ignore=["contempt", "neutral"])
    assert found.labels == ("positive", "negative")
    assert found.counts == {"positive": 4, "negative": 8}
    assert found.rows.tolist() == [
        50 + i for i in range(16) if data.labels[i % 8] not in ("neutral", "contempt")
    ]
    assert found.official_split == "public"
    torch.testing.assert_close(found.votes, torch.tensor([[1 / 3, 2 / 3]]).expand(12, 2))
    told = "positive = happy + surprise; negative = sad + angry + disgust + fear; "
    assert found.name == f"noise ({told}without neutral, contempt)"
    assert data.relabel().fingerprint == data.fingerprint
    assert data.fingerprint in found.fingerprints


def test_a_data_set_that_lacks_classes_is_judged_over_those_it_has(model):
    """As it is used: the model may answer neutral, and is wrong then."""
    data = noise(60, labels=FER2013[:6])
    result = fer_zoo.evaluate(model, data)
    scores = member_scores(model, data.images)[0]
    guesses = scores.argmax(1).numpy()
    assert (guesses == 6).any()
    assert result.accuracy == pytest.approx(np.mean(guesses == data.targets.numpy()))
    assert math.isnan(result.recall["neutral"])
    assert result.to_dict()["recall"]["neutral"] is None
    recalls = metrics.recall_score(data.targets, guesses, labels=range(6), average=None)
    assert result.balanced_accuracy == pytest.approx(recalls.mean())
    f1 = metrics.f1_score(data.targets, guesses, labels=range(6), average="macro")
    assert result.macro_f1 == pytest.approx(f1)
    assert "neutral" not in result.detected
    assert result.note == "no face of neutral: means are over the other 6 classes"
    empty = noise(60, labels=FER2013, targets=data.targets)  # its class has no face either
    assert fer_zoo.evaluate(model, empty).to_dict()["recall"] == result.to_dict()["recall"]
    card = fer_zoo.evaluation.make_card(measure(model, data))
    assert "| neutral | 0 | no faces | no faces |" in card
    assert "no face of neutral" in card


def test_a_class_that_is_left_out_is_no_answer(model):
    data = noise(70)
    result = fer_zoo.evaluate(model, data, ignore=["neutral", "sadness"])
    kept = [0, 1, 2, 3, 5]
    rows = torch.tensor([k in kept for k in data.targets])
    scores = member_scores(model, data.images)[0][rows][:, kept].double()
    truth = torch.tensor([kept.index(k) for k in data.targets[rows].tolist()])
    assert (result.n, result.labels) == (int(rows.sum()), tuple(FER2013[k] for k in kept))
    assert result.accuracy == pytest.approx(float((scores.argmax(1) == truth).double().mean()))
    nll = torch.nn.functional.cross_entropy
    assert result.nll == pytest.approx(float(nll(scores / 3, truth)))
    assert result.nll_uncalibrated == pytest.approx(float(nll(scores, truth)))
    assert str(result.faces) == "noise (without sad, neutral), n = 50"
    # Where the faces lack it already, that is the question without the answer.
    lacking = noise(60, labels=FER2013[:6])
    free, bound = (fer_zoo.evaluate(model, lacking, ignore=i) for i in ((), "neutral"))
    answers = member_scores(model, lacking.images)[0]
    for found, scores in ((free, answers), (bound, answers[:, :6])):
        right = (scores.argmax(1) == lacking.targets).double()
        assert found.accuracy == pytest.approx(float(right.mean()))
    assert sum(row[6] for row in free.confusion) > 0
    assert (bound.labels, bound.note) == (FER2013[:6], "")


def test_probabilities_of_merged_classes_are_summed(model):
    """After the temperature, so that evaluation judges what a predictor says."""
    data = noise(70)
    result = fer_zoo.evaluate(model, data, labels=MOODS)
    logits = member_scores(model, data.images)[0].double().numpy()
    made = [[3, 5], [0, 1, 2, 4], [6]]

    def summed(temperature: float) -> np.ndarray:
        shares = np.exp(logits / temperature)
        shares /= shares.sum(1, keepdims=True)
        return np.stack([shares[:, k].sum(1) for k in made], 1)

    truth = np.array([next(i for i, k in enumerate(made) if t in k) for t in data.targets.tolist()])
    assert result.labels == ("positive", "negative", "neutral")
    np.testing.assert_allclose(result.probabilities(), summed(3.0), atol=1e-6)
    assert (summed(3.0).argmax(1) != summed(1.0).argmax(1)).any()
    assert result.accuracy == pytest.approx((summed(3.0).argmax(1) == truth).mean())
    assert result.nll == pytest.approx(-np.log(summed(3.0)[range(70), truth]).mean(), rel=1e-6)
    plain = -np.log(summed(1.0)[range(70), truth]).mean()
    assert result.nll_uncalibrated == pytest.approx(plain, rel=1e-6)
    assert result.cross_validated_ece is None
    predict = fer_zoo.Predictor(model, labels=MOODS)
    assert predict.labels == result.labels
    for prediction, row in zip(predict(data), result.probabilities(), strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(row.tolist(), abs=1e-4)
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.label == max(prediction.probabilities, key=prediction.probabilities.get)
    rotated = fer_zoo.robustness(model, data, corruptions="rotate", severities=[1], labels=MOODS)
    assert rotated.clean.accuracy == result.accuracy
    assert 0 < rotated.overall < 1
    mistakes = fer_zoo.evaluation.find_mistakes(result, data.relabel(MOODS))
    assert {m.true for m in mistakes} <= {*MOODS, "neutral"}


def test_data_that_is_merged_already_is_matched_with_a_merged_model(model):
    moods = ("positive", "negative", "neutral")
    targets = torch.arange(42) % 3
    result = fer_zoo.evaluate(model, noise(42, labels=moods, targets=targets), labels=MOODS)
    assert (result.labels, result.n) == (moods, 42)
    # Of a merged class the model need not know every part, nor the faces have one.
    eight = noise(48, labels=FERPLUS)
    wide = MOODS | {"negative": [*MOODS["negative"], "contempt"]}
    assert fer_zoo.evaluate(model, eight, labels=wide).n == 48


def test_classes_that_nobody_knows_are_told(model):
    with pytest.raises(
        LabelError, match=r"has \['contempt'\], too: .*\(--ignore contempt\).*--map"
    ):
        fer_zoo.evaluate(model, noise(16, labels=FERPLUS))
    with pytest.raises(LabelError, match=r"codes of data sets by others .*rafdb:PATH"):
        fer_zoo.evaluate(model, noise(14, labels=tuple("1234567")))
    assert fer_zoo.evaluate(model, noise(16, labels=FERPLUS), ignore=["contempt"]).n == 14
    none = noise(14, labels=FERPLUS, targets=torch.arange(14) % 7)
    assert fer_zoo.evaluate(model, none).n == 14  # no face of it, no question
    with pytest.raises(LabelError, match=r"\['bored'\] are none of the classes"):
        fer_zoo.evaluate(model, noise(), ignore=["bored"])
    for options in ({"labels": {"x": ["contempt"]}}, {"ignore": ["contempt"]}):
        with pytest.raises(LabelError, match=r"\['contempt'\] are none of the classes"):
            fer_zoo.Predictor(model, **options)
    with pytest.raises(LabelError, match=r"all of \('sad',\) are left out"):
        fer_zoo.evaluate(model, noise(6, labels=("sad",)), ignore=["sad"])
    sad = noise(6, labels=("sad", "happy"), targets=torch.zeros(6))
    with pytest.raises(ArgumentError, match="holds no faces to evaluate on"):
        fer_zoo.evaluate(model, sad, ignore=["sad"])


def test_a_predictor_leaves_out_a_class(model):
    data = noise(20)
    whole, part = fer_zoo.Predictor(model)(data), fer_zoo.Predictor(model, ignore="neutral")(data)
    for one, other in zip(whole, part, strict=True):
        rest = 1 - one.probabilities["neutral"]
        expected = {k: p / rest for k, p in one.probabilities.items() if k != "neutral"}
        assert other.probabilities == pytest.approx(expected, abs=1e-5)
    photos = fer_zoo.PhotoPredictor(
        model, detector=lambda rgb: [(0, 0, 48, 48)], labels=MOODS, ignore=["neutral"]
    )
    assert photos.labels == ("positive", "negative")
    assert photos(data.images[:1]).faces[0].label in photos.labels


def test_the_interval_of_macro_f1_is_that_of_drawn_faces():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    guesses = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 5, 300))
    scores = torch.eye(5)[torch.from_numpy(guesses)]
    found = score_metrics(scores, torch.from_numpy(truth), tuple("abcde"))["macro_f1_interval"]
    drawn = []
    for _ in range(500):
        rows = rng.integers(0, 300, 300)
        f1 = metrics.f1_score(truth[rows], guesses[rows], labels=range(4), average="macro")
        drawn.append(f1)
    assert found == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.012)


def test_a_cross_data_table_has_each_model_on_each_data_set(model):
    results = [fer_zoo.evaluate(model, noise(21, seed=s, name=f"n{s}")) for s in (1, 2)]
    head, *rows = cross_table(results)
    assert head[:4] == ["data", "model", "preset", "n"]
    assert [row[0] for row in rows] == ["n1", "n2"]
    assert [row[4] for row in rows] == [f"{100 * r.accuracy:.2f}" for r in results]
    assert [row[6] for row in rows] == [f"{100 * r.macro_f1:.2f}" for r in results]
    low, high = results[0].macro_f1_interval
    assert rows[0][7] == f"{100 * low:.2f} to {100 * high:.2f}"


@pytest.mark.parametrize("split", ["test", "validation"])
def test_other_splits_are_named_where_figures_are_published(model, split):
    results = [fer_zoo.evaluate(model, noise(14, split=split))]
    assert results[0].note == ("test split: for reporting only; nothing may be chosen by this "
                               "figure") * (split == "test")  # fmt: skip
    card = make_model_card(model, "me/faces", results=results)
    assert f"split: {split}" in card


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, str]:
    """CK+48 without neutral and with contempt, RAF-DB with seven classes, a folder of one's own."""
    data = noise(40)
    for i, image in enumerate(data.images):
        label = ("anger", "contempt", "happy", "sadness")[i % 4]
        paths = {
            "ck": f"ck/{label}/S{i:03}_001_00000001.png",
            "raf": f"raf/test/{1 + i % 7}/test_{i:04}_aligned.png",
            "own": f"own/{('happy', 'sad')[i % 2]}/{i}.png",
        }
        for path in paths.values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.numpy()).save(tmp_path / path)
    return {name: str(tmp_path / name) for name in paths}


NAMES = ("resnet18_025", "vgg19_025")


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore:.*not the official")
def test_one_command_makes_the_cross_data_table(trees, tmp_path: Path):
    data = ("--data", f"ckplus:{trees['ck']}", "--data", f"rafdb.test:{trees['raf']}")
    data += ("--data", trees["own"])
    out = tmp_path / "cards"
    done = run("evaluate", *NAMES, *data, "--ignore", "contempt", "--report", out)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["data", "model", "preset", "n"]
    shown = [line for line in lines[1:] if any(name in line for name in NAMES)]
    assert len(shown) >= 6
    assert "CK+ (without contempt)" in shown[0]
    assert " 30 " in shown[0]  # ten of forty faces show contempt
    assert "RAF-DB, test" in shown[2]
    assert "no face of disgust, fear, surprise, neutral: means are over the other 3" in done.stderr
    assert "test split: for reporting only" in done.stderr
    found = {path.name for path in out.iterdir()}
    assert found == {"ckplus", "rafdb.test", "own", "comparison.md"}
    assert {path.name for path in (out / "own").iterdir()} == {*NAMES}
    table = (out / "comparison.md").read_text()
    assert table.count("| RAF-DB, test |") == 2
    again = run("evaluate", *NAMES, *data, "--ignore", "contempt", "--json")
    results = json.loads(again.stdout)["results"]
    assert [r["faces"]["n"] for r in results] == [30, 30, 40, 40, 40, 40]
    assert results[0]["recall"]["neutral"] is None
    for wrong, says in (("bored", "'bored'"), ("sad,sadness", "name the same class")):
        refused = run("evaluate", *NAMES, *data, "--ignore", wrong, code=2)
        assert says in refused.stderr


@pytest.mark.filterwarnings("ignore:.*not the official")
def test_the_command_line_merges_classes(trees):
    moods = (
        "--map",
        "positive=happy,surprise",
        "--map",
        "negative=sad,anger,fear,disgust,contempt",
    )
    done = run("evaluate", NAMES[0], "--data", f"ckplus:{trees['ck']}", *moods, "--json")
    result = json.loads(done.stdout)["results"][0]
    assert result["labels"] == ["positive", "negative", "neutral"]
    assert [sum(row) for row in result["confusion"]] == [10, 30, 0]
    refused = run("evaluate", NAMES[0], "--data", f"ckplus:{trees['ck']}", code=2)
    assert "--ignore contempt" in refused.stderr
    face = next(Path(trees["own"]).rglob("*.png"))
    done = run("predict", face, "--map", "good=happy,surprise", "--ignore", "neutral", "--json")
    shares = json.loads(done.stdout)["probabilities"]
    assert [*shares] == ["good", "angry", "disgust", "fear", "sad"]
    assert sum(shares.values()) == pytest.approx(1)
    for wrong in ("good", "good=", "=happy"):
        assert "--map takes NAME=CLASS" in run("predict", face, "--map", wrong, code=2).stderr
    assert "are none of the classes" in run("predict", face, "--ignore", "contempt", code=2).stderr


def test_iterators_name_classes_as_lists_do(model):
    """They were read twice, and empty the second time."""

    def moods():
        return {name: map(str.title, names) for name, names in MOODS.items()}

    assert regroup(FER2013, moods()) == regroup(FER2013, MOODS)
    assert noise().relabel(moods()).counts == noise().relabel(MOODS).counts
    scores = torch.randn(3, 7)
    expected = fer_zoo.labels.align(scores, FER2013, MOODS)
    assert torch.equal(fer_zoo.labels.align(scores, FER2013, moods()), expected)
    assert torch.equal(fer_zoo.labels.align(scores, FER2013, iter(FER2013)), scores)
    assert fer_zoo.Predictor(model, labels=moods()).labels == ("positive", "negative", "neutral")
    a, b = (
        measure(model, noise(), labels=labels, ignore=ignore, groups=groups, corruptions=False)
        for labels, ignore, groups in (
            (MOODS, ["neutral"], [*"ab"] * 21),
            (moods(), iter(["neutral"]), iter([*"ab"] * 21)),
        )
    )
    assert [r.labels for r in b.results] == [("positive", "negative")] * len(a.results)
    assert [r.accuracy for r in a.results] == [r.accuracy for r in b.results]
    assert [r.groups for r in a.results] == [r.groups for r in b.results]
    one = fer_zoo.robustness(model, noise(), corruptions=["rotate"], severities=[1], labels=moods())
    assert one.clean.labels == ("positive", "negative", "neutral")


def test_one_name_to_ignore_is_no_letters(labelled):
    """`measure` took "ab" for the classes a and b."""
    labelled.labels = ("a", "b", "c", "d", "ab", "e", "f")
    faces = noise(labels=labelled.labels)
    report = measure(labelled, faces, preset="fer40_center", ignore="ab")
    assert report.results[0].labels == ("a", "b", "c", "d", "e", "f")
    assert report.data.counts.keys() == {"a", "b", "c", "d", "e", "f"}
    for wrong in (None, 3):
        with pytest.raises(LabelError, match="ignore is the names of classes"):
            measure(labelled, faces, ignore=wrong)


def test_names_with_an_expression_among_others_are_to_be_renamed(labelled):
    """The advice was to leave all classes out."""
    data = noise(labels=("0_angry", "class_disgust", "afraid_faces", "not_happy", "sad", "c", "d"))
    data = data.select([i for i in range(42) if i % 7 not in (3, 5, 6)])
    meant = "{'0_angry': 'angry', 'class_disgust': 'disgust', 'afraid_faces': 'fear'}"
    with pytest.raises(LabelError, match=f"rename the folders or classes, as {meant} says"):
        fer_zoo.evaluate(labelled, data)
    with pytest.raises(LabelError, match=r"has \['not_happy'\], too: leave them out"):
        fer_zoo.evaluate(labelled, noise(labels=("angry", "not_happy")))
