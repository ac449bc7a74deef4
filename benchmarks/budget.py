"""Stop a block of work after so many minutes, as Ctrl-C would."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TimeIsUp(KeyboardInterrupt):
    """The minutes are over; a Ctrl-C of the user's own is a plain KeyboardInterrupt."""


@contextmanager
def deadline(minutes: float | None) -> Iterator[None]:
    """Raise TimeIsUp in the block when its `minutes` are over; None or 0 sets no limit."""

    def stop(*_: object) -> None:
        raise TimeIsUp

    # No Ctrl-C: a shell's & and nohup have a program ignore those.
    before = signal.signal(signal.SIGALRM, stop)
    here = (threading.main_thread().ident, signal.SIGALRM)
    timer = threading.Timer(60 * (minutes or 0), signal.pthread_kill, here)
    timer.daemon = True
    if minutes:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGALRM, before)
