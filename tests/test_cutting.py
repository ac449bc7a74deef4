"""Parts of a data set: chosen, split, joined, by fer_zoo and by torch."""

import logging

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

import fer_zoo
from conftest import stripes
from fer_zoo.data import FaceDataset
from fer_zoo.data.faces import check_faces
from fer_zoo.errors import ArgumentError, DataError, LabelError, OutOfRangeError, SplitError
from fer_zoo.inference import choose_thresholds


def faces(n: int = 10, split: str | None = None, **more) -> FaceDataset:
    """Each face is as gray as its index, the classes in turn."""
    images = torch.arange(n)[:, None, None].expand(n, 12, 12).byte()
    labels = more.pop("labels", ("a", "b"))
    targets = more.pop("targets", torch.arange(n) % len(labels))
    return FaceDataset(
        images, targets, labels=labels, name=more.pop("name", "x"), split=split, **more
    )


def gray(data: FaceDataset) -> list[int]:
    return data.images[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(2, 5), [2, 3, 4]),
        (slice(None, None, -3), [9, 6, 3, 0]),
        (slice(5, 5), []),
        ([3, 0, 3, -1], [3, 0, 3, 9]),
        ((1, 2), [1, 2]),
        ([], []),
        (range(4, 8, 2), [4, 6]),
        (torch.tensor([8, 1], dtype=torch.uint8), [8, 1]),
        (np.array([8, 1], np.int32), [8, 1]),
        ([True, False] * 5, [0, 2, 4, 6, 8]),
        ([True, np.False_] * 5, [0, 2, 4, 6, 8]),
        (np.arange(10) > 7, [8, 9]),
        (torch.arange(10) < 2, [0, 1]),
    ],
)
def test_a_part_is_chosen_as_in_numpy(index, expected):
    data = faces(votes=torch.eye(2).repeat(5, 1), groups=[f"p{i}" for i in range(10)])
    data.rows = torch.arange(100, 110)
    for part in (data[index], data.select(index)):
        assert gray(part) == expected
        assert part.targets.tolist() == [i % 2 for i in expected]
        assert part.groups == tuple(f"p{i}" for i in expected)
        assert part.rows.tolist() == [100 + i for i in expected]
        assert part.votes.argmax(1).tolist() == part.targets.tolist()
        assert (len(part), part.name) == (len(expected), f"x[{len(expected)}]")


def test_one_face_is_an_image_and_its_class():
    data = faces()
    for index in (3, np.int64(3), torch.tensor(3), -7):
        image, target = data[index]
        assert (image.shape, int(image[0, 0, 0]), target) == ((1, 12, 12), 3, 1)
        assert type(target) is int
    assert [int(image[0, 0, 0]) for image, _ in data] == list(range(10))
    loaded = [batch for batch, _ in DataLoader(data, batch_size=4)]
    assert torch.cat(loaded)[:, 0].equal(data.images)


@pytest.mark.parametrize("index", [10, -11, [0, 10], torch.tensor([-11])])
def test_an_index_beyond_the_faces_is_ours_and_pythons(index):
    for error in (OutOfRangeError, ArgumentError, IndexError):
        with pytest.raises(error, match=r"no face (10|-11): there are 10, from 0"):
            faces()[index]


@pytest.mark.parametrize(
    "index", [1.0, [0.5], "a", None, True, [[1, 2]], [True] * 9, ["a"], slice("a", None), {1: 2}]
)
def test_what_is_no_index_is_refused(index):
    with pytest.raises(ArgumentError, match=r"chosen by whole numbers|a mask of 9|a slice is of"):
        faces()[index]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ([True, 2], "bools and numbers together"),
        ([torch.tensor(True), 2], "bools and numbers together"),
        ([np.True_, 2], "bools and numbers together"),
        (np.ma.array([1, 2], mask=[True, False]), "some of 2 indices are masked"),
        (np.ma.array([True] * 10, mask=[True] * 10), "some of 10 indices are masked"),
    ],
)
def test_what_would_be_taken_otherwise_than_meant_is_refused(index, says):
    """True was face 1, and what is masked was taken."""
    with pytest.raises(ArgumentError, match=says):
        faces()[index]
    assert gray(faces()[np.ma.array([1, 2])]) == [1, 2]


def test_a_mask_of_pandas_is_in_the_order_of_its_rows():
    """One that was sorted was taken by place."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"y": faces().targets.numpy(), "sure": np.arange(10)[::-1]})
    mask = table.sort_values("sure").y == 1
    for wrong in (mask, table, table.index.to_series()[::-1]):
        with pytest.raises(ArgumentError, match=r"pass column.to_numpy\(\)"):
            faces()[wrong]
    assert gray(faces()[mask.sort_index()]) == [1, 3, 5, 7, 9]
    assert gray(faces()[table.index.to_series()[table.y == 1]]) == [1, 3, 5, 7, 9]
    table.index += 70
    assert gray(faces()[table.y == 1]) == [1, 3, 5, 7, 9]


def test_a_person_whom_two_sets_name_is_told(caplog):
    one = faces(4, groups=list("ppqq"))
    assert not caplog.text
    whole = check_faces(one + faces(4, name="y", groups=list("abqq")))
    assert "x and y both have a group 'q', and they are taken for two persons" in caplog.text
    assert len({*whole.groups}) == 5
    caplog.clear()
    check_faces(one + faces(4, name="y", groups=list("abcd")))
    check_faces(ConcatDataset(one.split(0.5, groups=range(4))))
    assert not caplog.text


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, np.int32, list])
def test_a_mask_of_numbers_is_refused(kind):
    """It was the first two faces, again and again."""
    mask = [int(k == 1) for k in faces(12).targets.tolist()]
    wrong = mask if kind is list else torch.tensor(mask).to(kind) if kind in (
        torch.uint8, torch.int64
    ) else np.array(mask, kind)  # fmt: skip
    for use in (faces(12).select, lambda mask: check_faces(Subset(faces(12), mask))):
        with pytest.raises(ArgumentError, match="look like a mask"):
            use(wrong)
    assert gray(faces(12)[[0, 1, 1]]) == [0, 1, 1]


class Flipped(FaceDataset):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, 1 - target


class Changed(Subset):
    """As people write it, to transform one part alone."""

    def __getitem__(self, index):
        image, target = self.dataset[self.indices[index]]
        return image.flip(-1), 1 - target

    def __getitems__(self, indices):
        return [self[index] for index in indices]


def test_a_data_set_that_answers_otherwise_is_refused():
    """What it makes of a face was passed over: others were trained on and evaluated."""
    flipped = Flipped(faces().images, faces().targets, labels=("a", "b"), name="x")
    for wrong in (flipped, Changed(faces(), [0, 1]), faces() + flipped, Subset(flipped, [1])):
        with pytest.raises(ArgumentError, match="has a __getitem__ of its own, which would be"):
            fer_zoo.evaluate(labelled(), wrong)

    class Named(FaceDataset):
        """One that answers as ours does."""

    own = Named(faces().images, faces().targets, labels=("a", "b"), name="x")
    assert check_faces(own) is own


def test_numpys_names_and_numbers_are_those_of_python():
    """The names were numpy's, by which the same faces had another fingerprint."""
    ours = faces(labels=np.array(["a", "b"]), groups=[*np.arange(10)])
    assert ours.fingerprint == faces().fingerprint
    assert [type(name) for name in (*ours.labels, ours.groups[0])] == [str] * 3


def test_a_part_keeps_its_split_and_has_its_own_fingerprint():
    data = faces(split="private")
    part, twice = data[:4], data[:6][:4]
    assert part.official_split == twice.official_split == part.faces.split == "private"
    assert part.fingerprint == twice.fingerprint == faces(4).fingerprint != data.fingerprint
    assert twice.name == "x[4]"
    assert data[:].fingerprint == data.fingerprint
    for half in data.split(0.5):
        assert half.official_split == "private"
        with pytest.raises(SplitError, match="the private split is scored once"):
            fer_zoo.train("test_tiny", faces(), validation=half, output="nowhere")
        with pytest.raises(SplitError, match="is the test split"):
            fer_zoo.calibrate(labelled(), half)


def labelled() -> fer_zoo.models.Classifier:
    model = fer_zoo.create("test_tiny", num_classes=2).eval()
    model.labels = ("a", "b")
    return model


def test_a_split_has_the_share_of_each_class():
    targets = torch.tensor([0] * 50 + [1] * 12 + [2] * 2 + [3])
    data = faces(65, labels=("a", "b", "c", "d"), targets=targets)
    rest, part = data.split(0.2, seed=3)
    assert list(part.counts.values()) == [10, 2, 1, 0]
    assert list(rest.counts.values()) == [40, 10, 1, 1]
    assert sorted(gray(rest) + gray(part)) == list(range(65))
    again = data.split(0.2, seed=3)
    assert gray(again[1]) == gray(part)
    assert gray(data.split(0.2, seed=4)[1]) != gray(part)
    assert [len(p) for p in faces(2).split(0.1)] == [1, 1]


def test_a_class_that_one_side_lacks_is_told(caplog):
    data = faces(11, targets=torch.tensor([0] * 10 + [1]))
    with caplog.at_level(logging.WARNING):
        data.split(0.2)
    assert "x split: the part has no face of ['b']" in caplog.text


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_kept_whole_and_classes_near_their_share(seed):
    """Thirty persons, each with some faces of five classes."""
    rng = np.random.default_rng(seed)
    persons = rng.integers(0, 30, 600)
    targets = torch.from_numpy(rng.integers(0, 5, 600))
    images = torch.zeros(600, 12, 12, dtype=torch.uint8)
    labels = tuple("abcde")
    given = FaceDataset(images, targets, labels=labels, name="x", groups=persons)
    plain = FaceDataset(images, targets, labels=labels, name="x")
    for rest, part in (given.split(0.2, seed=seed), plain.split(0.2, seed=seed, groups=persons)):
        if part.groups:
            assert not {*rest.groups} & {*part.groups}
        assert len(rest) + len(part) == 600
        assert all(abs(part.counts[k] / given.counts[k] - 0.2) < 0.06 for k in labels)
    inside = {*given.split(0.2, seed=seed)[1].groups}
    assert inside != {*given.split(0.2, seed=seed + 1)[1].groups}
    assert gray(given.split(0.2, groups=range(600))[1]) == gray(plain.split(0.2)[1])


def test_few_groups_still_leave_faces_on_both_sides():
    data = faces(10, groups=["p"] * 5 + ["q"] * 5)
    for share in (0.01, 0.2, 0.8, 0.99):
        assert [len(part) for part in data.split(share)] == [5, 5]
    with pytest.raises(ArgumentError, match="all faces are of the group 'p': it cannot be split"):
        data.split(0.5, groups=["p"] * 10)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"share": 0}, "share is a number between 0 and 1"),
        ({"share": 1.5}, "share is a number"),
        ({"share": True}, "share is a number"),
        ({"share": "0.2"}, "share is a number"),
        ({"share": 0.2, "seed": 0.5}, "seed is a whole number"),
        ({"share": 0.2, "groups": "person"}, "groups are one id for each face, got 'person'"),
        ({"share": 0.2, "groups": [1, 2]}, "one id for each of 10 faces.*got 2"),
        ({"share": 0.2, "groups": [None] * 10}, r"got 10 of \['NoneType'\]"),
    ],
)
def test_wrong_splits_are_refused(call, says):
    with pytest.raises(ArgumentError, match=says):
        faces().split(call.pop("share"), **call)
    with pytest.raises(ArgumentError, match="1 faces cannot be split"):
        faces(1).split(0.5)


def test_torchs_parts_and_wholes_are_data_sets_of_ours():
    data = faces(20)
    first, second = random_split(data, [14, 6])
    assert isinstance(first, Subset)
    assert gray(check_faces(first)) == list(first.indices)
    assert check_faces(Subset(first, [0, 2])).fingerprint == data[first.indices][[0, 2]].fingerprint
    whole = check_faces(ConcatDataset([first, second]))
    assert sorted(gray(whole)) == list(range(20))
    assert (whole.name, len(data + data)) == ("x", 40)
    with pytest.raises(ArgumentError, match=r"come as a fer_zoo.data dataset"):
        check_faces(ConcatDataset([data, [1, 2]]))
    with pytest.raises(ArgumentError, match=r"come as a fer_zoo.data dataset"):
        check_faces(Subset([1, 2], [0]))


def test_a_whole_maps_classes_by_name_and_has_the_strictest_split():
    one = faces(4, "train", labels=("happy", "sad"), groups=list("ppqq"))
    two = faces(4, "test", labels=("sadness", "happiness"), name="y")
    whole = check_faces(one + two)
    assert (whole.labels, whole.name) == (("happy", "sad"), "x + y")
    assert whole.targets.tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    assert whole.official_split == "test"
    assert check_faces(faces(4, "public") + faces(4)).official_split == "public"
    assert whole.groups == ("x/p", "x/p", "x/q", "x/q", "y/0", "y/1", "y/2", "y/3")
    back = check_faces(ConcatDataset(one.split(0.5)))
    assert {*back.groups} == {"x/p", "x/q"}  # a person of two parts is one
    voted = faces(4, labels=("sadness", "happiness"), votes=torch.eye(2).repeat(2, 1))
    both = check_faces(voted + faces(4, labels=("happy", "sad"), votes=torch.eye(2).repeat(2, 1)))
    assert both.votes.argmax(1).tolist() == both.targets.tolist()
    with pytest.raises(DataError, match="some have votes and some none"):
        check_faces(one + voted)
    with pytest.raises(LabelError, match="different classes"):
        check_faces(one + faces(4))
    with pytest.raises(DataError, match=r"several sizes: \[\(12, 12\), \(48, 48\)\]"):
        check_faces(faces(6, labels=("upright", "flat", "slanted")) + stripes(6))


def test_every_call_takes_torchs_parts(tmp_path, caplog):
    data = stripes(48)
    train, val = random_split(data, [36, 12])
    run = fer_zoo.train("test_tiny", train, validation=val, output=tmp_path, epochs=1)
    known = run.model.evidence.training
    assert known.faces.fingerprint == check_faces(train).fingerprint
    result = fer_zoo.evaluate(run.model, val)
    assert (result.n, result.faces.fingerprint) == (12, check_faces(val).fingerprint)
    report = fer_zoo.evaluation.measure(run.model, val)
    assert len(fer_zoo.evaluation.find_mistakes(report.results[0], val)) <= 12
    fer_zoo.robustness(run.model, val, corruptions="rotate", severities=[1])
    labels = [p.label for p in fer_zoo.Predictor(run.model)(val)]
    assert labels == [p.label for p in fer_zoo.Predictor(run.model)(check_faces(val))]
    with pytest.raises(SplitError, match="was trained on these very faces"):
        fer_zoo.calibrate(run.model, train)


def test_a_model_is_not_fitted_on_a_part_of_what_it_was_trained_on(tmp_path):
    data, other = stripes(36), stripes(12, seed=1)
    model = fer_zoo.train("test_tiny", data, validation=other, output=tmp_path, epochs=1).model
    for part in (data[:20], data.split(0.5)[1][::2], data + other):
        with pytest.raises(SplitError, match="'test_tiny' was trained on these very faces"):
            fer_zoo.calibrate(model, part)


def test_a_run_validates_on_a_part_of_the_training_split(tmp_path):
    train, val = stripes(48, split="train").split(0.25)
    run = fer_zoo.train("test_tiny", train, validation=val, output=tmp_path, epochs=1)
    assert run.model.evidence.training.validation.split == "train"
    with pytest.raises(SplitError, match=r"are training faces; .*= data.split\(0.2\)"):
        fer_zoo.train("test_tiny", train, validation=train[:10], output=tmp_path / "b", epochs=1)


def test_the_fingerprint_is_of_what_is_there_now():
    """It was kept, and faces with other targets counted as the same."""
    data = faces(12, votes=torch.eye(2)[torch.arange(12) % 2])
    seen = [data.fingerprint]
    part = data[:6]
    assert seen[0] in part.fingerprints
    data.targets[:3] = 1 - data.targets[:3]
    seen.append(data.fingerprint)
    assert data[:6].fingerprints >= {seen[1]}
    data.targets = 1 - data.targets
    seen.append(data.fingerprint)
    data.images.numpy()[0] += 100  # of which torch knows nothing
    seen.append(data.fingerprint)
    data.votes.copy_(data.votes.flip(1))
    seen.append(data.fingerprint)
    data.labels = ("b", "a")
    seen.append(data.fingerprint)
    assert len({*seen}) == 6
    assert data.shared_with(faces(12)) == 11
    data.images.fill_(0)
    assert data.shared_with(faces(12)) == 12
    again, data.labels = data.fingerprint, ["b", "a"]
    assert data.fingerprint == again
    empty = data[[]]
    assert len(empty.fingerprint) == 16


def test_the_fingerprint_stays_what_it_was():
    """Those in the weights' evidence are compared with it."""
    assert faces(12).fingerprint == "f31e5d397f275b4d"


def test_mistakes_are_of_the_faces_that_were_evaluated(labelled):
    data = stripes(21)
    labelled.reset_classifier(3)
    labelled.labels = data.labels
    first = fer_zoo.evaluate(labelled, data)
    data.targets[:5] = (data.targets[:5] + 1) % 3
    second = fer_zoo.evaluate(labelled, data)
    with pytest.raises(ArgumentError, match="not the same faces"):
        fer_zoo.evaluation.compare(first, second)
    with pytest.raises(ArgumentError, match="is not what was evaluated"):
        fer_zoo.evaluation.find_mistakes(first, data)


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("targets", torch.full((10,), 9), DataError, "whole numbers, 0 to 1, got 9"),
        ("targets", torch.arange(9) % 2, DataError, r"one target each, got .* targets \(9,\)"),
        ("images", torch.zeros(10, 12, 12), DataError, "images must be uint8"),
        ("images", None, DataError, "are tensors"),
        ("votes", torch.full((10, 2), 0.9), DataError, "sum to 1"),
        ("labels", ["happy"] * 2, LabelError, "name the same class"),
        ("labels", ["a", "b", "a"], LabelError, "name the same class"),
        ("groups", ["a"], ArgumentError, "one id for each of 10 faces"),
        ("files", ["a.png"], DataError, "1 files or rows for 10 faces"),
        ("official_split", "exam", ArgumentError, "split must be one of"),
    ],
)
def test_what_is_assigned_is_checked_where_it_is_used(name, value, error, says):
    data = faces()
    setattr(data, name, value)
    for use in (check_faces, lambda data: data.counts, lambda data: data.fingerprint):
        with pytest.raises(error, match=says):
            use(data)
    if name == "targets":
        data = faces()
        data.targets[3] = 9
        with pytest.raises(DataError, match="whole numbers"):
            fer_zoo.train("test_tiny", data, validation=faces(12), output="unwritten")


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_votes_of_any_type_are_shares(kind, tmp_path):
    """They were kept as they came, and training failed in torch."""
    data = stripes(60)
    votes = torch.eye(3)[data.targets]
    plain, other = (
        FaceDataset(data.images, data.targets, labels=data.labels, name="x", votes=shares)
        for shares in (votes, votes.to(kind))
    )
    assert other.votes.dtype == torch.float32
    assert other.fingerprint == plain.fingerprint
    how = {"recipe": "thesis_20", "epochs": 1, "class_weights": "balanced", "targets": "votes"}
    done = fer_zoo.train("test_tiny", other, validation=stripes(30, seed=1), output=tmp_path, **how)
    assert len(done.history) == 1


def test_a_set_of_which_a_part_trained_counts_as_trained_on(tmp_path):
    """As after `--validation 0.2`, where the command line can name the whole folder only."""
    faces = stripes(400)
    part, rest = faces.split(0.5)
    network = fer_zoo.train(
        "plain_test", part, validation=rest, output=tmp_path, epochs=1, progress=False
    ).model
    known = fer_zoo.load(tmp_path).evidence.training
    assert known.faces.cut_from == known.validation.cut_from == (faces.fingerprint,)
    whole, own, other = (fer_zoo.evaluate(network, data).note for data in (faces, part, rest))
    assert "trained plain_test" in whole
    assert "chose the epoch of plain_test" in whole
    assert "trained plain_test" in own
    assert "chose the epoch" not in own
    assert "trained" not in other
    assert "chose the epoch of plain_test" in other
    for fit in (fer_zoo.calibrate, lambda m, d: choose_thresholds(m, d, precision=0.5)):
        with pytest.raises(SplitError, match="was trained on these very faces"):
            fit(network, faces)
    choose_thresholds(network, rest, precision=0.1)


def test_a_column_of_pandas_that_was_shuffled_is_no_order_of_faces():
    pandas = pytest.importorskip("pandas")
    ids = pandas.Series([f"p{i % 5}" for i in range(40)])
    faces = stripes(40)
    assert faces.split(0.3, groups=ids)[0].groups == faces.split(0.3, groups=[*ids])[0].groups
    for odd in (
        ids.sort_values(),
        ids.sample(frac=1, random_state=0),
        pandas.concat([ids, ids])[:40].iloc[::-1],
    ):
        with pytest.raises(ArgumentError, match="groups are one id for each face"):
            faces.split(0.3, groups=odd)
