"""Contact sheets: many small faces on one page, each with its caption."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, uint8

from fer_zoo.errors import ArgumentError
from fer_zoo.evaluation.drawing import add_title, new_figure, plain, room

CELL, CAPTION = 1.3, 24
"""Width of a face on the page, in inches, and the characters of 6 pt that fit under it."""


def contact_sheet(
    images: Tensor, captions: Sequence[str], *, title: str = "", columns: int = 8
) -> Any:
    r"""Return a `matplotlib.figure.Figure` that shows gray faces with a caption under each.

    Captions may have several lines, are wrapped where too long, and shown as they are: `$` and `_`
    have no meaning.

    Args:
        images: uint8, shape `(N, H, W)`; gray as stored, black is 0 and white 255.
        captions: one for each image.
        title: a line above the faces.
        columns: faces in a row; fewer where there are fewer faces.

    Raises:
        ArgumentError: images of another type or shape, or not one caption for each.
        MissingDependencyError: matplotlib is not installed.

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
    captions = [plain(caption, CAPTION) for caption in captions]
    height = CELL * images.shape[1] / images.shape[2] + room(captions, 6)[1] + 0.08
    figure = new_figure(CELL * columns + 0.1, rows * height)
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.03, hspace=0.02)
    for i, (image, caption) in enumerate(zip(images.cpu().numpy(), captions, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_anchor("N")  # what room is over belongs to the captions
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(caption, fontsize=6, labelpad=1)
    if title:
        add_title(figure, title, size=9)
    return figure
