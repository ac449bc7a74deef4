"""One registry class for everything that has a name: models, fusions, presets, weights."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from fer_zoo.errors import ArgumentError, DuplicateNameError, UnknownNameError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to entries of a `kind` ("model") that only grows; its errors teach."""

    def __init__(self, kind: str, list_call: str) -> None:
        self.kind, self.list_call = kind, list_call
        self._entries: dict[str, T] = {}

    def register(self, name: str, entry: T) -> T:
        """Add `entry` under `name` and return it."""
        if not isinstance(name, str) or not name or any(c.isspace() or c in "*?[]" for c in name):
            raise ArgumentError(f"{name!r} cannot name a {self.kind}: use a word without spaces")
        if name in self._entries:
            raise DuplicateNameError(f"a {self.kind} named {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def names(self, pattern: str = "*", exclude: str | Iterable[str] = ()) -> list[str]:
        """Return the sorted names that match the wildcard `pattern` and none of `exclude`."""
        unwanted = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        if not all(isinstance(p, str) for p in (pattern, *unwanted)):
            raise ArgumentError(f"patterns are text, got {pattern!r:.80}, exclude={exclude!r:.80}")
        found = (name for name in self._entries if fnmatchcase(name, pattern))
        return sorted(name for name in found if not any(fnmatchcase(name, u) for u in unwanted))

    def __getitem__(self, name: str) -> T:
        if name in self:
            return self._entries[name]
        near = difflib.get_close_matches(str(name)[:99], self._entries, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownNameError(
            f"unknown {self.kind} {name!r:.200}.{hint} {self.list_call} lists all."
        )

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.kind}: {', '.join(self)})"
