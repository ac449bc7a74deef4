"""Plots: names as they are, values beside their names, looks that differ without colour."""

import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_rgb
from matplotlib.text import Text

import fer_zoo
from conftest import stripes
from fer_zoo.errors import ArgumentError, LabelError
from fer_zoo.evaluation import CORRUPTIONS, Evaluation, Mistake, Robustness
from fer_zoo.plots import contact_sheet
from fer_zoo.plots.looks import COLOURS, DARK, LIGHT, MIDDLE, bar_look, line_look
from fer_zoo.training import Epoch
from test_evaluation import evaluated

LONG = (
    *(f"{k}_class_of_a_user_named_by_one_word_of_48_letters" for k in "abc"),
    *(f"class {k} of a user, named by eighteen short words as one may do who knows" for k in "def"),
)
MATHS = (r"c_d$\frac$", "$x_1$ dollar", r"_$a^")
every_kind = pytest.mark.parametrize("names", [LONG, MATHS], ids=["long", "maths"])


def evaluation(labels: tuple[str, ...], model: str = "m") -> Evaluation:
    """Of 3, 6, 9, ... faces of the classes, about two thirds of them right."""
    targets = torch.cat([torch.full((3 * k,), k - 1) for k in range(1, len(labels) + 1)])
    guesses = torch.where(torch.arange(len(targets)) % 3 == 1, 0, targets)
    scores = 3 * torch.eye(len(labels))[guesses]
    return evaluated(scores, targets, labels=labels, model=model, temperature=1.5)


def ensemble(fusion: Any, names: tuple[str, ...], labels: tuple[str, ...]) -> Any:
    members = [fer_zoo.create("test_tiny", num_classes=len(labels)) for _ in names]
    for member, name in zip(members, names, strict=True):
        member.labels, member.name = labels, name
    return fer_zoo.create_ensemble(members, fusion=fusion)


def history(start: float, epochs: int = 12) -> list[Epoch]:
    known = {"lr": 0.1, "train_loss": 2 - start, "train_accuracy": start, "val_loss": 1.9 - start}
    accuracies = [start + i / 100 for i in range(epochs)]
    return [Epoch(epoch=i, val_accuracy=a, seconds=7, **known) for i, a in enumerate(accuracies, 1)]


def measured(model: str, clean: float, corruptions: Any = CORRUPTIONS) -> Robustness:
    accuracy = {name: tuple(clean - 0.1 * k for k in range(1, 6)) for name in corruptions}
    result = replace(evaluation(("x", "y"), model), accuracy=clean)
    return Robustness(clean=result, severities=(1, 2, 3, 4, 5), accuracy=accuracy)


def texts(figure: Any) -> list[Text]:
    """Draw, and return the texts that are seen."""
    figure.savefig(BytesIO(), format="png", dpi=figure.dpi)
    return [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]


def bare(text: str) -> str:
    return re.sub(r"\s", "", text)


def assert_named(figure: Any, names: tuple[str, ...]) -> None:
    """All names are there, whole, inside of the figure and not read as mathematics."""
    found = texts(figure)
    assert not any(t.get_parse_math() and is_math_text(t.get_text()) for t in found)
    for name in names:
        places = [t for t in found if bare(name) in bare(t.get_text().replace(r"\$", "$"))]
        assert places, name
        for box in (t.get_window_extent() for t in places):
            assert min(box.x0, box.y0) > -1, name
            assert max(box.x1 - figure.bbox.x1, box.y1 - figure.bbox.y1) < 1, name


def assert_apart(labels: list[Text], down: bool) -> None:
    """No two neighbours among the names of an axis lie on each other."""
    boxes = sorted(
        (b.y0, b.y1) if down else (b.x0, b.x1) for b in (t.get_window_extent() for t in labels)
    )
    assert all(before[1] < after[0] + 1 for before, after in pairwise(boxes))


DRAWN: dict[str, Callable[[tuple[str, ...]], Any]] = {
    "confusion": lambda names: fer_zoo.plots.confusion(evaluation(names)),
    "recalls": lambda names: fer_zoo.plots.recalls(evaluation(names)),
    "stacked": lambda names: fer_zoo.plots.fusion(ensemble("stacked", ("a", "b"), names)),
    "weighted": lambda names: fer_zoo.plots.fusion(ensemble("weighted", names, ("x", "y"))),
    "weighted by class": lambda names: fer_zoo.plots.fusion(
        ensemble(
            fer_zoo.fusion.Weighted(2, len(names), space="logit", per_class=True), ("a", "b"), names
        )
    ),
}


@every_kind
@pytest.mark.parametrize("plot", DRAWN)
def test_classes_of_any_name_leave_room_for_what_is_plotted(plot, names):
    figure = DRAWN[plot](names)
    assert_named(figure, names)
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert sum(axes.get_position().width for axes in panels) > 0.4
    for axes in panels:
        assert_apart(axes.get_yticklabels(), down=True)
        if {t.get_rotation() for t in axes.get_xticklabels()} <= {0.0, 90.0}:
            assert_apart(axes.get_xticklabels(), down=False)


@every_kind
@pytest.mark.slow
def test_models_runs_and_faces_may_have_any_name(names):
    runs = {name: history(i / 10) for i, name in enumerate(names)}
    results = [evaluation(("x", "y"), model=name) for name in names]
    robust = [measured(name, 0.8, ["blur"]) for name in names]
    mistakes = [
        Mistake(
            index=i,
            source=name,
            true=name,
            predicted=names[0],
            probability=0.9,
            true_probability=0.1,
        )
        for i, name in enumerate(names)
    ]
    for figure in (
        fer_zoo.plots.history(runs),
        fer_zoo.plots.recalls(results),
        fer_zoo.plots.robustness(robust),
        fer_zoo.plots.mistakes(mistakes, stripes(9)),
        contact_sheet(stripes(len(names)).images, names, title=names[0], columns=1),
    ):
        assert_named(figure, names)
    for name, result in zip(names, results, strict=True):
        for plot in (fer_zoo.plots.confusion, fer_zoo.plots.reliability):
            assert_named(plot(result), (name,))


def test_numbers_stand_beside_their_names():
    labels = ("calm", "tense", "bored")
    result = evaluation(labels)
    axes = fer_zoo.plots.confusion(result).axes[0]
    columns = [t.get_text() for t in axes.get_xticklabels()]
    rows = [t.get_text().split()[0] for t in axes.get_yticklabels()]
    found = {}
    for text in axes.texts:
        j, i = text.get_position()
        found[rows[i], columns[j]] = int(text.get_text().split()[-1])
    expected = {
        (labels[i], labels[j]): n
        for i, row in enumerate(result.confusion)
        for j, n in enumerate(row)
    }
    assert found == expected
    assert len({n for n in expected.values() if n}) > 3
    assert [t.get_text() for t in axes.get_yticklabels()] == ["calm (3)", "tense (6)", "bored (9)"]
    recalls = fer_zoo.plots.recalls(result).axes[0]
    ticks = [t.get_text().split()[0] for t in recalls.get_yticklabels()]
    bars = {ticks[round(b.get_y() + b.get_height() / 2)]: b.get_width() for b in recalls.patches}
    assert bars == {name: pytest.approx(100 * share) for name, share in result.recall.items()}


@pytest.mark.parametrize("per_class", [False, True])
def test_weights_stand_beside_their_members(per_class):
    names, labels = ("first", "second", "third"), ("calm", "tense")
    fusion = fer_zoo.fusion.Weighted(3, 2, space="logit", per_class=per_class)
    torch.nn.init.normal_(fusion.theta)
    axes = fer_zoo.plots.fusion(ensemble(fusion, names, labels)).axes[0]
    rows = [t.get_text() for t in axes.get_yticklabels()]
    columns = [t.get_text() for t in axes.get_xticklabels()]
    found = {}
    for text in axes.texts:
        j, i = text.get_position()
        found[rows[i], columns[j]] = float(text.get_text())
    expected = {
        (name, label): pytest.approx(float(weight), abs=0.0051)
        for name, row in zip(names, fusion.weights, strict=True)
        for label, weight in zip(labels if per_class else ["every class"], row, strict=True)
    }
    assert found == expected
    assert len(set(found.values())) == len(found)


@pytest.mark.slow
def test_stacked_members_have_a_panel_each_in_rows_of_three():
    labels = tuple("abcdefghij")
    model = ensemble("stacked", ("twin",) * 8, labels)
    torch.nn.init.normal_(model.fusion.linear.weight)
    figure = fer_zoo.plots.fusion(model)
    panels = [axes for axes in figure.axes if axes.texts]
    assert [axes.get_title() for axes in panels] == [f"{i}: twin" for i in range(1, 9)]
    for axes, part in zip(panels, model.fusion.linear.weight.detach().chunk(8, 1), strict=True):
        found = {t.get_position()[::-1]: float(t.get_text()) for t in axes.texts}
        assert found == {
            (i, j): pytest.approx(float(part[i, j]), abs=0.0051)
            for i in range(10)
            for j in range(10)
        }
    assert max(figure.get_size_inches()) < 20
    texts(figure)
    assert len({round(axes.get_position().x0, 2) for axes in panels}) == 3
    for axes in panels:
        below = [a for a in panels if a.get_position().y1 < axes.get_position().y0 - 0.01]
        below = [a for a in below if abs(a.get_position().x0 - axes.get_position().x0) < 0.01]
        names = [t.get_text() for t in axes.get_xticklabels()]
        assert names == ([] if below else list(labels))


def test_equal_members_are_numbered():
    axes = fer_zoo.plots.fusion(ensemble("weighted", ("twin", "twin", "other"), ("x", "y"))).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1: twin", "2: twin", "other"]


def eight_runs() -> Any:
    return fer_zoo.plots.history({f"run {i}": history(i / 10) for i in range(8)}, fused=0.9)


def eight_results() -> Any:
    return fer_zoo.plots.robustness([measured(f"m{i}", 0.6 + 0.05 * i) for i in range(8)])


def eight_evaluations() -> Any:
    return fer_zoo.plots.recalls([evaluation(("x", "y"), model=f"m{i}") for i in range(8)])


@pytest.mark.parametrize("plot", [eight_runs, eight_results, eight_evaluations])
def test_a_legend_names_all_and_covers_nothing(plot):
    figure = plot()
    found = texts(figure)
    (legend,) = figure.legends
    names = [t.get_text() for t in legend.get_texts()]
    assert len({name.split(",")[0] for name in names}) == len(names) >= 8
    boxes = [axes.get_tightbbox() for axes in figure.axes if axes.axison]
    boxes += [t.get_window_extent() for t in figure.texts if t in found]
    assert not legend.get_window_extent().count_overlaps(boxes)


def gray(colour: Any) -> float:
    """Lightness of a colour as a gray printer shows it, 0 to 1."""
    linear = torch.tensor(to_rgb(colour)) ** 2.2
    return float(linear @ torch.tensor([0.2126, 0.7152, 0.0722])) ** (1 / 2.2)


def test_no_two_of_eight_lines_look_the_same_in_gray():
    for axes in eight_runs().axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(lines) == 16
        assert len({(line.get_marker(), line.get_linestyle()) for line in lines}) == 16
    for axes in (axes for axes in eight_results().axes if axes.axison):
        assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 16
    looks = [tuple(line_look(i).values()) for i in range(64)]
    assert len(set(looks)) == 64
    legend = eight_runs().legends[0]
    shown = [(h.get_marker(), h.get_linestyle()) for h in legend.legend_handles]
    assert len(set(shown)) == len(shown) == 8 + len(["validation", "training", "best", "ensemble"])


def test_lines_that_lie_on_each_other_have_their_markers_at_other_epochs():
    runs = dict.fromkeys(("a", "b", "c"), history(0.2, 40))
    for axes in fer_zoo.plots.history(runs).axes:
        found = [line.get_markevery() for line in axes.lines if len(line.get_xdata()) == 40]
        assert found == [(0, 4), (0, 4), (1, 4), (1, 4), (2, 4), (2, 4)]


def test_no_two_of_eight_bars_look_the_same_in_gray():
    axes = eight_evaluations().axes[0]
    bars = axes.patches[::2]
    assert len(bars) == 8
    for a, b in combinations(bars, 2):
        apart = abs(gray(a.get_facecolor()) - gray(b.get_facecolor()))
        assert a.get_hatch() != b.get_hatch() or apart > 0.2
    assert len({tuple(bar_look(i).values()) for i in range(12)}) == 12
    for bar in bars:  # the hatch is seen on the bar
        assert abs(gray(bar.get_facecolor()) - gray(bar.get_edgecolor())) > 0.4


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.01182, 0.04294, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.3039]],
    ],
    ids=["usual sight", "protanopia", "deuteranopia", "tritanopia"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("palette", "least"),
    [(COLOURS, 0.1), (COLOURS[:4], 0.2), ((DARK, MIDDLE, LIGHT), 0.4)],
    ids=["lines", "four lines", "bars"],
)
def test_the_colours_of_bars_and_lines_differ_for_colour_blind_people(palette, least, matrix):
    """Machado et al.'s (2009) matrices for full deficiency keep each palette's colours apart."""
    rgb = torch.tensor([to_rgb(colour) for colour in palette])
    seen = (rgb**2.2 @ torch.tensor(matrix).float().T).clamp(0, 1) ** (1 / 2.2)
    assert float(torch.pdist(seen).min()) > least


def test_robustness_shows_clean_faces_and_where_severities_are():
    results = [measured("a", 0.8), measured("b", 0.75)]
    figure = fer_zoo.plots.robustness(results)
    texts(figure)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 11
    for axes in panels:
        dashed = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]
        assert [set(ys) for ys in dashed] == [{100 * r.clean.accuracy} for r in results]
        others = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "-"]
        found = [[100 * share for share in r.accuracy[axes.get_title()]] for r in results]
        assert others == found
    for place, axes in enumerate(panels):
        lowest = place > 6  # the eighth has the empty cell below it
        assert (axes.get_xlabel() == "severity") == lowest
        ticks = [t.get_text() for t in axes.get_xticklabels() if t.get_visible()]
        assert ticks == (list("012345") if lowest else [])
        assert (axes.get_ylabel() != "") == (place % 4 == 0)


@pytest.mark.parametrize("epochs", [1, 2, 40])
def test_epochs_are_counted_in_whole_numbers(epochs):
    for axes in fer_zoo.plots.history(history(0.2, epochs)).axes:
        ticks = [t for t in axes.get_xticks() if 1 <= t <= epochs]
        assert ticks
        assert all(t == round(t) for t in axes.get_xticks())


def test_the_best_epoch_is_marked():
    run = history(0.2, 3)
    run[1] = replace(run[1], val_accuracy=0.9)
    axes = fer_zoo.plots.history(run).axes[0]
    (best,) = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([2], [pytest.approx(90)])


@pytest.mark.parametrize(
    "runs", [[], {}, {"a": []}, 5, "history.csv", [1], {"a": history(0.1), "b": None}]
)
def test_a_history_without_epochs_is_refused(runs):
    with pytest.raises(ArgumentError, match=r"pass result\.history, or .*read_history"):
        fer_zoo.plots.history(runs)


def test_what_cannot_be_plotted_is_refused():
    with pytest.raises(ArgumentError, match=r"pass one or more of what fer_zoo\.evaluate returns"):
        fer_zoo.plots.recalls([])
    two = [evaluation(("x", "y")), evaluation(("x", "z"))]
    with pytest.raises(LabelError, match=r"\['y'\]"):
        fer_zoo.plots.recalls(two)
    with pytest.raises(ArgumentError, match=r"ResNet has no fusion to plot; pass an ensemble"):
        fer_zoo.plots.fusion(fer_zoo.create("test_tiny"))
    with pytest.raises(ArgumentError, match="no mistakes to plot"):
        fer_zoo.plots.mistakes([], stripes(3))


def test_recalls_are_put_together_by_name():
    """Another order, or another spelling, of the same classes."""
    first = evaluation(("happy", "sad"))
    other = evaluation(("sadness", "happiness"))
    bars = [bar.get_width() for bar in fer_zoo.plots.recalls([first, other]).axes[0].patches]
    found = [*first.recall.values(), other.recall["happiness"], other.recall["sadness"]]
    assert bars == pytest.approx([100 * share for share in found])
    assert found[2] != found[3]
