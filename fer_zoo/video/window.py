"""A window that shows frames while they are labelled: tkinter's, which comes with Python."""

from typing import Any, Self, cast

from fer_zoo.errors import InputError, MissingDependencyError
from fer_zoo.video.film import drawn
from fer_zoo.video.results import Frame


class Window:
    """A window, until it is closed or Escape is pressed.

    Args:
        title: what stands above it.

    Raises:
        MissingDependencyError: this Python was built without tkinter.
        InputError: there is no screen.
    """

    def __init__(self, title: str) -> None:
        try:
            import tkinter
        except ImportError as error:
            raise MissingDependencyError(
                f"a window needs tkinter ({error}): install your system's python3-tk, or write a "
                "film with --annotate"
            ) from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise InputError(f"no screen to show it on ({error}): use --annotate") from None
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._open, self._picture = True, cast(Any, None)  # which tkinter does not hold
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("<Escape>", lambda _: self._close())

    def _close(self) -> None:
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._root.destroy()

    def show(self, frame: Frame) -> bool:
        """Show a frame; return False once the window is closed."""
        if frame.image is not None:
            from PIL import Image, ImageTk

            self._picture = ImageTk.PhotoImage(Image.fromarray(drawn(frame)))
            self._label.configure(image=self._picture)
        self._root.update()
        return self._open
