"""Fusions against numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import fer_zoo
from conftest import stripes
from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError, LabelError, SplitError
from fer_zoo.evaluation.card import origin
from fer_zoo.evidence import Evidence, Faces, FitReport, FusionFit, Training
from fer_zoo.fusion import FUSIONS, Fusion, create_fusion
from fer_zoo.inference import fit_temperature, fuse
from fer_zoo.training.ensembles import cross_validate

M, N, K = 3, 400, 5


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of three members of different skill, and the truth."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, K, N)
    onehot = np.eye(K)[targets]
    skill = np.array([2.0, 1.0, 0.0])[:, None, None]
    logits = skill * onehot + rng.normal(size=(M, N, K)) * 1.5
    return torch.tensor(logits), torch.tensor(targets)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def probabilities(name: str, logits: torch.Tensor, **options: object) -> np.ndarray:
    return create_fusion(name, M, K, **options).double()(logits).softmax(-1).detach().numpy()


def test_parameter_free_fusions_match_numpy(problem):
    logits, _ = problem
    p = softmax(logits.numpy())
    np.testing.assert_allclose(probabilities("average", logits), p.mean(0), atol=1e-12)
    geometric = np.exp(np.log(p).mean(0))
    geometric /= geometric.sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities("average", logits, space="logit"), geometric)
    highest = p.max(0) / p.max(0).sum(-1, keepdims=True)
    np.testing.assert_allclose(probabilities("max", logits), highest)
    votes = np.eye(K)[p.argmax(-1)].mean(0)
    np.testing.assert_allclose(probabilities("vote", logits), votes, atol=0.01)
    assert (probabilities("vote", logits) > 0).all()


class Fixed:
    """A scikit-learn classifier that knows its probabilities by heart."""

    def __init__(self, p: np.ndarray) -> None:
        self.p, self.classes_ = p, np.arange(K)

    def predict_proba(self, X):
        return self.p[X[:, 0]]

    def predict(self, X):
        return self.p[X[:, 0]].argmax(-1)


@pytest.mark.parametrize("voting", ["soft", "hard"])
def test_voting_matches_scikit_learn(problem, voting):
    logits, _ = problem
    p = softmax(logits.numpy())
    reference = VotingClassifier([(str(i), None) for i in range(M)], voting=voting)
    reference.estimators_ = [Fixed(q) for q in p]
    from sklearn.preprocessing import LabelEncoder

    reference.le_ = LabelEncoder().fit(np.arange(K))
    expected = reference.predict(np.arange(N)[:, None])
    found = probabilities("average" if voting == "soft" else "vote", logits).argmax(-1)
    votes = np.sort(np.eye(K)[p.argmax(-1)].sum(0), -1)
    clear = votes[:, -1] > votes[:, -2] if voting == "hard" else np.ones(N, bool)
    assert clear.sum() > N / 2
    np.testing.assert_array_equal(found[clear], expected[clear])


def test_vote_ties_go_to_the_more_probable():
    logits = torch.tensor([[[3.0, 0.0]], [[0.0, 1.0]]])
    assert create_fusion("vote", 2, 2)(logits).argmax().item() == 0
    assert create_fusion("vote", 2, 2)(logits.flip(-1)).argmax().item() == 1


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_unfitted_fusions_agree_when_all_members_do(name):
    """With one opinion there is nothing to fuse."""
    logits = torch.randn(1, 20, K).expand(M, -1, -1)
    scores = create_fusion(name, M, K)(logits)
    assert scores.shape == (20, K)
    assert torch.equal(scores.argmax(-1), logits[0].argmax(-1))


def test_stacked_is_multinomial_logistic_regression(problem):
    logits, targets = problem
    fusion = create_fusion("stacked", M, K, l2=0.0)
    report = fusion.fit(logits, targets, split="public")
    flat = logits.transpose(0, 1).flatten(1).numpy()
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(flat, targets)
    expected = reference.predict_proba(flat)
    found = fusion.double()(logits).softmax(-1).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert report.loss_after == pytest.approx(log_loss(targets, expected), abs=1e-7)


def test_stacked_penalty_is_ridge_around_averaging(problem):
    """scikit-learn shrinks towards zero, so it is given the distance from the average to learn."""
    from scipy.optimize import minimize

    logits, targets = problem
    l2, flat = 0.05, logits.transpose(0, 1).flatten(1).numpy()
    average = np.tile(np.eye(K), (1, M)) / M

    def objective(v: np.ndarray) -> float:
        weight, bias = v[: K * M * K].reshape(K, M * K), v[K * M * K :]
        p = softmax(flat @ weight.T + bias)[np.arange(N), targets.numpy()]
        distance = np.square(weight - average).sum() + np.square(bias).sum()
        return float(-np.log(p).mean() + l2 / 2 * distance)

    start = np.concatenate([average.ravel(), np.zeros(K)])
    best = minimize(objective, start, method="L-BFGS-B", options={"maxfun": 200_000}).fun
    fusion = create_fusion("stacked", M, K, l2=l2)
    report = fusion.fit(logits, targets, split="public")
    assert report.loss_before == pytest.approx(objective(start))
    assert report.loss_after == pytest.approx(best, abs=1e-6)
    weaker = create_fusion("stacked", M, K, l2=0.0)
    weaker.fit(logits, targets, split="public")
    moved = [torch.dist(f.linear.weight, f._average()).item() for f in (fusion, weaker)]
    assert moved[0] < moved[1]


def test_weights_per_class_match_numpy(problem):
    logits, targets = problem
    fusion = create_fusion("weighted", M, K, space="logit", per_class=True)
    fusion.fit(logits, targets, split="public")
    w = fusion.weights.numpy()
    np.testing.assert_allclose(w.sum(0), np.ones(K), atol=1e-6)
    expected = (w[:, None] * np.log(softmax(logits.numpy()))).sum(0)
    found = fusion.double()(logits).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    shifted = fusion(logits + torch.randn(M, N, 1)).detach().numpy()
    np.testing.assert_allclose(shifted, found, atol=1e-9)


def test_weighted_finds_the_optimum(problem):
    """Against a fine grid over the simplex, and the known ranking of the members."""
    logits, targets = problem
    fusion = create_fusion("weighted", M, K)
    report = fusion.fit(logits, targets, split="public")
    p = softmax(logits.numpy())[:, np.arange(N), targets]
    steps = np.linspace(0, 1, 101)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9]
    best = min(-np.log(np.maximum(np.array(w) @ p, 1e-300)).mean() for w in grid)
    assert report.loss_after <= best + 1e-9
    assert report.loss_after == pytest.approx(best, abs=1e-3)
    w = fusion.weights[:, 0]
    assert w[0] > w[1] > w[2]
    assert w.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("weighted", {}),
        ("weighted", {"space": "logit"}),
        ("weighted", {"space": "logit", "per_class": True}),
        ("stacked", {}),
        ("stacked", {"l2": 0.1}),
    ],
)
@pytest.mark.slow
def test_fit_is_convex_and_deterministic(problem, name, options):
    logits, targets = problem
    a, b = (create_fusion(name, M, K, **options) for _ in range(2))
    with torch.no_grad():
        for parameter in b.parameters():
            parameter.normal_()
    first, second = (f.fit(logits, targets, split="public") for f in (a, b))
    assert first == second
    assert first.loss_after < first.loss_before
    assert first.gradient_norm < 1e-5
    assert (first.n, first.split, first.fusion) == (N, "public", name)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert next(a.parameters()).dtype == torch.float32


def test_unfitted_parametric_fusions_are_averages(problem):
    logits, _ = problem
    average = probabilities("average", logits)
    np.testing.assert_allclose(probabilities("weighted", logits), average, atol=1e-12)
    geometric = probabilities("average", logits, space="logit")
    np.testing.assert_allclose(probabilities("stacked", logits), geometric, atol=1e-7)
    np.testing.assert_allclose(probabilities("weighted", logits, space="logit"), geometric)


@pytest.mark.parametrize(
    "split",
    ["private", "PrivateTest", "test", "private-test", "fer2013 private", "PrivateTest[600]"],
)
def test_fitting_on_the_test_split_is_refused(problem, split):
    for allow in (False, True):
        with pytest.raises(SplitError, match="test split"):
            create_fusion("stacked", M, K).fit(*problem, split=split, allow_training_split=allow)


def test_fitting_on_the_training_split_needs_an_override(problem):
    fusion = create_fusion("weighted", M, K)
    for split in ("train", "Training set", "train[600]"):
        with pytest.raises(SplitError, match="allow_training_split"):
            fusion.fit(*problem, split=split)
    assert fusion.fit(*problem, split="train", allow_training_split=True).n == N
    with pytest.raises(SplitError, match="say which"):
        fusion.fit(*problem, split=" ")


def test_misuse_is_refused(problem):
    logits, targets = problem
    with pytest.raises(ArgumentError, match="no parameters to fit"):
        create_fusion("average", M, K).fit(logits, targets, split="public")
    with pytest.raises(ArgumentError, match="members=2"):
        create_fusion("stacked", 2, K).fit(logits, targets, split="public")
    with pytest.raises(ArgumentError, match="400 faces"):
        create_fusion("stacked", M, K).fit(logits, targets[:-1], split="public")
    fusion = create_fusion("stacked", M, K)
    with pytest.raises(ArgumentError, match="targets must be whole numbers, 0 to 4"):
        fusion.fit(logits, targets + 1, split="public")
    with pytest.raises(ArgumentError, match="NaN"):
        fusion.fit(logits.where(logits < 3, torch.nan), targets, split="public")
    with pytest.raises(ArgumentError, match="must be a tensor"):
        fusion.fit(logits.numpy(), targets, split="public")
    with pytest.raises(ArgumentError, match=r"class indices .*got 'abc'"):
        fusion.fit(logits, "abc", split="public")
    for options in ({"l2": "x"}, {"l2": float("inf")}, {"l2": -1}):
        with pytest.raises(ArgumentError, match="l2 must be a number from 0"):
            create_fusion("stacked", M, K, **options)
    with pytest.raises(SplitError, match="not None"):
        fusion.fit(logits, targets, split=None)
    assert fusion.fit(logits, targets.int(), split="public").n == N
    with pytest.raises(ArgumentError, match="does not take"):
        create_fusion("vote", M, K, space="logit")
    with pytest.raises(ArgumentError, match="convex"):
        create_fusion("weighted", M, K, per_class=True)
    with pytest.raises(ArgumentError, match="space"):
        create_fusion("average", M, K, space="log")


def test_cross_validation_never_sees_its_own_fold(problem):
    """With random targets a fitted head must be no better than chance on held-out folds."""
    logits, _ = problem
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, K, (N,), generator=generator)
    fusion = create_fusion("stacked", M, K, l2=0.0)
    held_out = cross_validate(fusion, logits.float(), noise, split="public")
    fusion.fit(logits, noise, split="public")
    fitted = fusion.double()(logits).detach()
    accuracy = (fitted.argmax(1) == noise).float().mean()
    assert accuracy > (held_out.argmax(1) == noise).float().mean() + 0.03


def test_fit_fusion_guards_and_reports(labelled):
    other = fer_zoo.create("test_tiny").eval()
    faces = stripes(60, split="public")
    model = fer_zoo.create_ensemble(
        [fer_zoo.create("test_tiny", num_classes=3) for _ in range(2)], fusion="stacked"
    ).eval()
    with pytest.raises(LabelError, match="not trained"):
        fer_zoo.fit_fusion(model, faces)
    for member in model.members:
        member.labels = faces.labels
    model.labels = faces.labels
    fit = fer_zoo.fit_fusion(model, faces, even_if_worse=True)
    assert fit.report.loss_after < fit.report.loss_before
    assert model.evidence.fusion_fit == fit
    assert (fit.faces.split, fit.faces.fingerprint) == ("public", faces.fingerprint)
    average = fer_zoo.create_ensemble(list(model.members)).eval()
    plain = fer_zoo.evaluate(average, faces)
    assert fit.average_accuracy == pytest.approx(plain.accuracy)
    assert fit.average_nll == pytest.approx(plain.nll, abs=1e-5)
    fitted = fer_zoo.evaluate(model, faces)
    before_penalty = fit.report.loss_after - model.fusion.penalty().item()
    assert fitted.nll == pytest.approx(before_penalty, abs=1e-4)
    seen = Training(model="x", recipe={}, faces=faces.faces, validation=faces.faces, selection="")
    model.members[0].evidence = Evidence(training=seen)
    with pytest.raises(SplitError, match="trained on these very faces"):
        fer_zoo.fit_fusion(model, faces)
    with pytest.raises(SplitError):
        fer_zoo.fit_fusion(model, stripes(60, split="private"))
    with pytest.raises(SplitError):
        fer_zoo.fit_fusion(model, stripes(60, split="train"))
    with pytest.raises(ArgumentError, match="is a single network and has no fusion to fit"):
        fer_zoo.fit_fusion(other, faces)


@pytest.fixture
def pair() -> fer_zoo.models.Ensemble:
    """Two members with labels under a fusion that can be fitted."""
    members = [fer_zoo.create("test_tiny", num_classes=3).eval() for _ in range(2)]
    for member in members:
        member.labels = stripes(3).labels
    return fer_zoo.create_ensemble(members, fusion="stacked").eval()


def best_averaged(n: int, monkeypatch: pytest.MonkeyPatch) -> tuple[FaceDataset, torch.Tensor]:
    """Faces whose classes are drawn by the mean of the members' answers, and these."""
    scores = 2 * torch.randn(2, n, 3)
    faces = stripes(n, split=None)
    shares = create_fusion("average", 2, 3)(scores).softmax(1)
    faces.targets = shares.multinomial(1)[:, 0]
    monkeypatch.setattr("fer_zoo.training.ensembles.member_scores", lambda *_, **__: scores)
    return faces, scores


@pytest.mark.parametrize("n", [60, 210])
def test_a_fit_that_loses_to_averaging_is_told_and_averaging_is_kept(
    pair, caplog, tmp_path, monkeypatch, n
):
    faces, scores = best_averaged(n, monkeypatch)
    average = create_fusion("average", 2, 3)(scores)
    reference = cross_validate(pair.fusion, scores, faces.targets, split="own faces")
    fit = fer_zoo.fit_fusion(pair, faces)
    held_out = float((reference.argmax(1) == faces.targets).float().mean())
    assert fit.held_out_accuracy == pytest.approx(held_out)
    assert fit.loses
    assert (fit.instead, pair.fusion.name) == ("average", "average")
    assert "stacked loses to averaging" in caplog.text
    assert "--even-if-worse" in caplog.text
    assert "'average' kept" in repr(fit)
    assert torch.equal(fuse(pair, scores), average)
    if n == 210:
        expected = fit_temperature(average, faces.targets, split="own faces")
        assert pair.temperature == {"fer40_center": pytest.approx(expected)}
    again = fer_zoo.load(fer_zoo.save(pair, tmp_path / "a.safetensors"))
    assert (again.evidence.fusion_fit, again.fusion.name) == (fit, "average")
    result = fer_zoo.evaluate(again, faces)
    assert "chose the fusion" in result.note
    assert "fusion chosen on stripes" in result.selection
    card = "\n".join(origin(again))
    assert "fusion stacked fitted on stripes" in card
    assert "average was kept" in card


def test_a_fit_that_loses_is_kept_where_it_is_asked_for(pair, caplog, monkeypatch):
    faces, _ = best_averaged(60, monkeypatch)
    fit = fer_zoo.fit_fusion(pair, faces, even_if_worse=True)
    assert fit.loses
    assert (fit.instead, pair.fusion.name, caplog.text) == ("", "stacked", "")
    assert "fitted the fusion" in fer_zoo.evaluate(pair, faces).note


@pytest.mark.parametrize(
    ("held_out", "average", "loses"),
    [
        ((0.69, 0.85), (0.70, 0.99), True),
        ((0.70, 0.99), (0.69, 0.85), False),
        ((0.70, 0.86), (0.70, 0.85), True),
        ((0.70, 0.85), (0.70, 0.85), False),
    ],
)
def test_losing_is_being_right_less_often_and_then_less_sure(held_out, average, loses):
    fit = FusionFit(
        report=FitReport(
            fusion="stacked", split="x", n=9, loss_before=1, loss_after=1, gradient_norm=0
        ),
        faces=Faces(name="x", n=9),
        folds=5,
        average_accuracy=average[0],
        average_nll=average[1],
        held_out_accuracy=held_out[0],
        held_out_nll=held_out[1],
    )
    assert fit.loses is loses


class Shifted(Fusion):
    """A fusion of one's own, not registered, with something to fit and an option."""

    def __init__(self, num_members, num_classes, *, scale=1.0):
        super().__init__(num_members, num_classes)
        self.scale = scale
        self.shift = torch.nn.Parameter(torch.zeros(num_classes))

    def forward(self, member_logits):
        return self.scale * member_logits.mean(0) + self.shift

    def reset_parameters(self):
        torch.nn.init.zeros_(self.shift)

    def options(self):
        return {"scale": self.scale}


def test_a_fusion_need_not_be_registered_to_be_fitted_and_reset(problem):
    fused = cross_validate(Shifted(M, K, scale=2.0), problem[0].float(), problem[1], split="public")
    assert fused.shape == (N, K)
    members = [fer_zoo.create("test_tiny", num_classes=3) for _ in range(2)]
    model = fer_zoo.create_ensemble(members, fusion=Shifted(2, 3, scale=2.0))
    for wrong in (0, "5", 2.5, True):
        with pytest.raises(ArgumentError):
            model.reset_classifier(wrong)
        assert [m.num_classes for m in (model, *members)] == [3, 3, 3]
    model.reset_classifier(5)
    assert (model.fusion.num_classes, model.fusion.scale) == (5, 2.0)
    assert model(torch.zeros(2, 1, 40, 40)).shape == (2, 5)


def test_an_ensemble_whose_fusion_cannot_be_built_again_keeps_its_heads():
    class Stubborn(Shifted):
        def options(self):
            return {"unknown": 1}

    model = fer_zoo.create_ensemble(["test_tiny", "test_tiny"], fusion=Stubborn(2, 7))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ArgumentError, match="'Stubborn' does not take"):
        model.reset_classifier(3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
