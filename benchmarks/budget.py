"""Stop a block of work after so many minutes, as Ctrl-C would."""

import signal
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Deadline:
    """Whether the time ran out; a Ctrl-C of the user's own leaves `passed` False."""

    passed: bool = False


@contextmanager
def deadline(minutes: float | None) -> Iterator[Deadline]:
    """Raise KeyboardInterrupt in the block when its `minutes` are over; None or 0 sets no limit."""
    state = Deadline()

    def stop() -> None:
        state.passed = True
        interrupt_main()

    timer = threading.Timer(60 * (minutes or 0), stop)
    timer.daemon = True
    # A shell's & and nohup have a program ignore interrupts, this one included.
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if minutes and ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if minutes:
        timer.start()
    try:
        yield state
    finally:
        timer.cancel()
        if minutes and ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
