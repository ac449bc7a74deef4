"""Every error that fer_zoo raises on purpose, as one tree.

::

    FerZooError
    ├── UnknownNameError          a name that no registry entry has   (also KeyError)
    ├── DuplicateNameError        a name that is taken                (also ValueError)
    ├── ArgumentError             wrong or contradicting arguments    (also ValueError)
    │   └── OutOfRangeError       an index that no face has           (also IndexError)
    ├── KeywordError              a keyword that a function lacks     (also TypeError)
    ├── LabelError                class names that do not fit         (also ValueError)
    ├── InputError                an image that cannot be used        (also ValueError)
    ├── DataError                 a dataset that is not what it should be
    ├── SplitError                a split used for what it must not be used for
    ├── CheckpointError           a file that is not a usable checkpoint
    │   └── StateDictError        tensors that do not fit the model
    ├── WeightsError              weights that are not there, or not the right ones
    │   └── HubError              a Hub that does not give them, or does not take them
    ├── TrainingError             a run that cannot start or go on
    ├── OptimizeError             a faster form of a model that would give other answers
    └── MissingDependencyError    an optional package is not installed (also ImportError)

Example:
    >>> import fer_zoo
    >>> try:
    ...     fer_zoo.create("resnet81")
    ... except fer_zoo.errors.FerZooError as error:
    ...     print(type(error).__name__)
    UnknownNameError
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from fer_zoo._install import install_command

LONGEST = 2000  # letters of a message: a screen of 25 lines

_ITEM = r"""(?:'[^'\n]*'|"[^"\n]*"|[^\s,'"()\[\]]+)"""
_LIST = re.compile(rf"((?:{_ITEM}, ){{20}})((?:{_ITEM}, ){{10,}})")
_NUMBERS = re.compile(r"((?:-?\d+\.? +){20})((?:-?\d+\.? +){10,})")
_WORD = re.compile(r"(\S{100})\S{300,}")
_ADDRESS = re.compile(r"(?<=://)\S+|(?<=url: )/\S+")  # the second is how urllib3 says it
_CLOSING = ")]}>'\",.;:"


def printable(text: str, also: str = "") -> str:
    """Return `text` with what a terminal would obey, or cannot show, as escapes, but for `also`."""
    return "".join(
        c if c.isprintable() or c in also else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def shown(message: str) -> str:
    """Return a message as people may see it: a screen at most, no escapes, no secrets of URLs."""
    message = re.sub(r"(?<=://)[^\s/]*@", "", message)
    message = _ADDRESS.sub(_without_query, message)
    if len(message) > 100_000:  # secrets are gone, also those that began in what is cut
        message = f"{message[:50_000]} [...] {message[-50_000:]}"
    message = _WORD.sub(r"\1...", message)  # first: the next two are slow on endless words
    message = _LIST.sub(lambda m: f"{m[1]}... {len(re.findall(_ITEM, m[2]))} more ..., ", message)
    message = _NUMBERS.sub(lambda m: f"{m[1]}... {len(m[2].split())} more ... ", message)
    return _cut(printable(_cut(message), "\n"))


def _without_query(address: re.Match[str]) -> str:
    """Return an address up to its `?` or `#`, and what closes quotes and brackets after it."""
    word = address[0]
    kept = re.split("[?#]", word, maxsplit=1)[0]
    return kept if kept == word else kept + word[len(word.rstrip(_CLOSING)) :]


def _cut(text: str) -> str:
    left_out, tail = len(text) - LONGEST, LONGEST // 4
    if left_out <= 0:
        return text
    return f"{text[: LONGEST - tail]} [... {left_out:,} letters ...] {text[-tail:]}"


class FerZooError(Exception):
    """The root of every error that fer_zoo raises on purpose."""

    def __str__(self) -> str:
        return shown(Exception.__str__(self))  # a KeyError's own is the message in quotes


class UnknownNameError(FerZooError, KeyError):
    """No registry entry has this name; the message lists near matches."""


class DuplicateNameError(FerZooError, ValueError):
    """The name is already registered."""


class ArgumentError(FerZooError, ValueError):
    """An argument is out of range, or two arguments contradict each other."""


class OutOfRangeError(ArgumentError, IndexError):
    """An index is beyond the faces of a data set."""


class KeywordError(FerZooError, TypeError):
    """A function takes no such keyword; the message says what it is called here."""


class LabelError(FerZooError, ValueError):
    """Class names are missing, repeated, or differ between two heads."""


class InputError(FerZooError, ValueError):
    """An image cannot be read, or its values are ambiguous."""


class DataError(FerZooError):
    """A dataset is missing, incomplete or malformed."""


class SplitError(FerZooError):
    """A split was asked for something that would spoil the numbers."""


class CheckpointError(FerZooError):
    """A file is not a checkpoint that fer_zoo can read."""


class StateDictError(CheckpointError):
    """Tensors do not fit the model: the message lists what is missing, unexpected or misshaped."""


class WeightsError(FerZooError):
    """Trained weights do not exist, or are not the recorded ones."""


class HubError(WeightsError):
    """The Hub cannot be reached, refuses, or lacks what was asked for; the message says which."""


class TrainingError(FerZooError):
    """A training run cannot start or cannot go on."""


class OptimizeError(FerZooError):
    """A faster or exported form of a model does not give the model's answers."""


class MissingDependencyError(FerZooError, ImportError):
    """An optional package is needed; the message holds the command that installs it."""


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Say how to install what an import in the block lacks."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(f"{what} ({error}): {install_command(extra)}") from None
