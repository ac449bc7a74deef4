"""What a fitted fusion makes of its members."""

from typing import Any

from fer_zoo.errors import ArgumentError
from fer_zoo.fusion import Stacked, Weighted
from fer_zoo.models import Classifier, Ensemble
from fer_zoo.plots.looks import finish, name_columns, name_rows, new_figure


def fusion(model: Classifier) -> Any:
    """Return a figure of what a fitted fusion makes of the members' answers.

    For `weighted` the weight of each member, or of each member for each class. For `stacked` how
    much each class's score rises with each member's logits, one panel per member; an averaging head
    has one over the number of members on the diagonal and nought elsewhere. Every weight is
    written, so that nothing hangs on a colour.

    Raises:
        ArgumentError: the model is no ensemble, or its fusion has no weights.
    """
    if not isinstance(model, Ensemble):
        raise ArgumentError(
            f"{type(model).__name__} has no fusion to plot; pass an ensemble, as "
            "fer_zoo.create_ensemble and fer_zoo.fit_fusion make them"
        )
    head, names = model.fusion, [member.name or "member" for member in model.members]
    members = [f"{i}: {n}" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]
    labels = list(model.labels or map(str, range(model.num_classes)))
    if isinstance(head, Weighted):
        columns, rows = labels if head.per_class else ["every class"], members
        panels = [("weight of each member", head.weights.float().cpu())]
    elif isinstance(head, Stacked):
        columns = rows = labels
        parts = head.linear.weight.detach().float().cpu().chunk(len(members), 1)
        panels = list(zip(members, parts, strict=True))
    else:
        raise ArgumentError(f"{head.name!r} has no weights to plot; weighted and stacked have")
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = new_figure(max(2, 0.5 * len(columns)) * across, 0.46 * len(rows) * down)
    grid = figure.subplots(down, across, squeeze=False).flatten()
    limit = max(float(weights.abs().max()) for _, weights in panels)
    for at, (axes, (name, weights)) in enumerate(zip(grid, panels, strict=False)):
        image = axes.imshow(weights.tolist(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        for i, row in enumerate(weights.tolist()):
            for j, value in enumerate(row):
                colour = "white" if abs(value) > 0.65 * limit else "black"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set_title(name, fontsize=10, parse_math=False)
        lowest, leftmost = at + across >= len(panels), at % across == 0
        axes.set(xticks=[], yticks=[])
        if lowest:
            name_columns(axes, columns)
        if leftmost:
            name_rows(axes, rows)
        if isinstance(head, Stacked):
            axes.set_xlabel("logit of the member" if lowest else "")
            axes.set_ylabel("fused score" if leftmost else "")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.colorbar(image, ax=list(grid), label="weight", aspect=30)
    return finish(figure)
