"""Contact sheets: many small faces on one page, each with its caption."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, uint8

from fer_zoo.data import FaceDataset
from fer_zoo.errors import ArgumentError
from fer_zoo.plots.looks import finish, new_figure

if TYPE_CHECKING:
    from fer_zoo.evaluation import Mistake

CELL, CAPTION = 1.3, 24
"""Width of a face on the page, in inches, and the characters in a line under it."""


def contact_sheet(
    images: Tensor, captions: Sequence[str], *, title: str = "", columns: int = 8
) -> Any:
    r"""Return a figure that shows gray faces with a caption under each.

    Captions may have several lines, are wrapped where too long, and shown as they are: `$` and `_`
    have no meaning.

    Args:
        images: uint8, shape `(N, H, W)`; gray as stored, black is 0 and white 255.
        captions: one for each image.
        title: a line above the faces.
        columns: faces in a row; fewer where there are fewer faces.

    Raises:
        ArgumentError: images of another type or shape, or not one caption for each.

    Example:
        >>> import torch
        >>> faces = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8)
        >>> sheet = contact_sheet(faces, ["row 7\nhappy", "row 9\nsad", "row 12"], title="odd ones")
        >>> len(sheet.axes)
        3
    """
    if images.dtype != uint8 or images.ndim != 3:
        raise ArgumentError(
            f"images must be uint8 (N, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    if not len(images) == len(captions) > 0 or columns < 1:
        raise ArgumentError(
            f"a sheet needs images, a caption for each, and columns >= 1; got {len(images)} "
            f"images, {len(captions)} captions and columns={columns}"
        )
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = new_figure(CELL * columns, CELL * images.shape[1] / images.shape[2] * rows)
    for i, (image, caption) in enumerate(zip(images.cpu().numpy(), captions, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_anchor("S")  # above its caption, where the layout measures it
        axes.set(xticks=[], yticks=[])
        lines = "\n".join(textwrap.fill(line, CAPTION) for line in caption.splitlines())
        axes.set_xlabel(lines, fontsize=6, labelpad=1, parse_math=False)
    return finish(figure, title=title)


def mistakes(mistakes: "Sequence[Mistake]", data: FaceDataset, *, count: int = 40) -> Any:
    """Return a figure of the first `count` mistakes.

    Under each face stand where it is from, the class in the data, and what the model says.

    Raises:
        ArgumentError: there are none.
    """
    shown = list(mistakes)[:count]
    if not shown:
        raise ArgumentError("no mistakes to plot: pass some of what find_mistakes returns")
    captions = [
        f"{Path(m.source).name or f'face {m.index}'}\n{m.true} in the data\n"
        f"{m.predicted} {100 * m.probability:.0f} %"
        for m in shown
    ]
    title = f"the {len(shown)} most confident of {len(mistakes)} errors on {data.name}, n = "
    return contact_sheet(
        data.images[[m.index for m in shown]], captions, title=f"{title}{len(data)}"
    )
