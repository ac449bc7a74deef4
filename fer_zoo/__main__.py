"""`python -m fer_zoo` is `fer-zoo`."""

from fer_zoo.cli import run

if __name__ == "__main__":
    run()
