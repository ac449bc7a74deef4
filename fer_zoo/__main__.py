"""`python -m fer_zoo` is `fer-zoo`."""

import os
import signal
import sys


def main() -> None:
    """Run the command line; an interrupt ends it from its first import on."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # what is imported may swallow an exception
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # Beside other work, threads that spin while they wait collapse.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from fer_zoo.cli import run

        signal.signal(signal.SIGINT, before)
        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
