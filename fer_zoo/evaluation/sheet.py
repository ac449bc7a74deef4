"""Contact sheets: many small faces on one page, each with its caption."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, uint8

from fer_zoo.errors import ArgumentError, MissingDependencyError

CELL = 1.3
"""Width of a face on the page, in inches: a caption of 6 pt fits about 24 characters under it."""


def contact_sheet(
    images: Tensor, captions: Sequence[str], *, title: str = "", columns: int = 8
) -> Any:
    r"""Return a `matplotlib.figure.Figure` that shows gray faces with a caption under each.

    Captions may have several lines, and are shown as they are: `$` and `_` have no meaning.

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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'fer-zoo[train]'"
        ) from None
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    lines = 1 + max(caption.count("\n") for caption in captions)
    height = CELL * images.shape[1] / images.shape[2] + 0.11 * lines + 0.05
    top = 0.25 * (1 + title.count("\n")) if title else 0.0
    figure = Figure(figsize=(CELL * columns + 0.1, rows * height + top), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.03, hspace=0.02)  # type: ignore[union-attr, call-arg]
    for i, (image, caption) in enumerate(zip(images.cpu().numpy(), captions, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(caption, fontsize=6, labelpad=1, parse_math=False)
    if title:
        figure.suptitle(title, fontsize=9, parse_math=False)
    return figure
