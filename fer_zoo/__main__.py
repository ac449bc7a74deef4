"""`python -m fer_zoo` is `fer-zoo`."""

import sys


def main() -> None:
    """Run the command line; what it needs is imported here, so that Ctrl-C ends that too."""
    try:
        from fer_zoo.cli import run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
