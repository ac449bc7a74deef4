"""Pickles as bytes: looked through before torch reads them, so that reading ends.

A tuple of two, twice in a tuple, and so on for forty times is 350 bytes, and 2**40 parts to whoever
hashes it. torch reads only what it knows, but that with any arguments and in any number.
"""

import math
import pickletools
import re
from typing import IO, Any

MOST = 3_000_000
"""Parts of a pickle, each counted in everything that it is in: a state dict has some thousands."""
NAMES = re.compile(
    r"collections (OrderedDict|Counter)|torch(\.storage|\.cuda)? \w+Storage"
    r"|torch (Size|device|[a-z]\w*)|torch\.nn\.parameter Parameter"
    r"|torch\._utils _rebuild_(tensor(_v[23])?|parameter(_with_state)?|meta_tensor_no_storage)"
)
"""What state dicts name."""
KEYS = {"BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2"}
"""What names another value: text, and numbers too short for many of them to have one hash."""
TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
GROWING = {"APPEND", "APPENDS", "SETITEM", "SETITEMS"}


class _Made(list[Any]):
    """What an opcode makes of parts, in order; what has none is the opcode's or its own name."""

    def __init__(self, kind: str, parts: list[Any]) -> None:
        super().__init__(parts)
        self.kind = kind


def look_through(file: IO[bytes]) -> None:
    """Read one pickle, and raise ValueError if it is not made as those of state dicts are."""
    stack, memo, made = list[Any](), dict[int, Any](), list[_Made]()
    for count, (op, arg, _) in enumerate(pickletools.genops(file)):
        if count >= MOST:
            raise ValueError(f"more than {MOST:,} opcodes")
        if op.name == "GLOBAL":
            if not NAMES.fullmatch(str(arg)):
                raise ValueError(f"GLOBAL {str(arg).replace(' ', '.')}")
            stack.append(arg)
        elif op.name in ("BINPUT", "LONG_BINPUT"):
            memo[int(str(arg))] = stack[-1]
        elif op.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(arg))])
        elif op.name == "MARK":
            stack.append(pickletools.markobject)
        else:
            parts, below = list[Any](), len(op.stack_before)
            if pickletools.markobject in op.stack_before:
                while (top := stack.pop()) is not pickletools.markobject:
                    parts.append(top)
                below = op.stack_before.index(pickletools.markobject)
            parts = [*parts, *(stack.pop() for _ in range(below))][::-1]
            if op.name in GROWING:
                if op.name.startswith("SET") and not all(_is_key(key) for key in parts[1::2]):
                    raise ValueError("keys that are no names")
                parts[0].extend(parts[1:])
                stack.append(parts[0])
            elif op.stack_after:
                plain = not parts and not op.name.startswith("EMPTY_")
                stack.append(op.name if plain else _Made(op.name, parts))
                if not plain:
                    made.append(stack[-1])
    if any(_computes(one) for one in made):
        raise ValueError("a call or a storage of other values")
    sizes = dict[int, float]()
    if sum(_size(one, sizes) for one in made) > MOST:
        raise ValueError("parts that are in one another without end")


def _size(one: Any, sizes: dict[int, float]) -> float:
    """Return of how many parts a value is made, counted as often as they are in it."""
    if not isinstance(one, _Made):
        return 1
    if id(one) not in sizes:
        sizes[id(one)] = math.inf  # if it comes up again in what follows, it is in itself
        sizes[id(one)] = 1 + sum(_size(part, sizes) for part in one)
    return sizes[id(one)]


def _is_key(one: Any) -> bool:
    return isinstance(one, str) and one in KEYS


def _is_tuple(one: Any) -> bool:
    return isinstance(one, _Made) and one.kind in TUPLES


def _computes(one: _Made) -> bool:
    """Whether a call has other than written-out arguments, which it may loop over without end."""
    if one.kind == "BINPERSID":
        said = one[0]  # kind, class, key, place, length, and in old files the part of it
        return not (_is_tuple(said) and _is_key(said[2])) or any(
            isinstance(part, _Made) and not (_is_tuple(part) and all(map(_is_key, part)))
            for part in said
        )
    if one.kind == "BUILD":
        return not (isinstance(one[1], _Made) and one[1].kind in {"EMPTY_DICT", *TUPLES})
    if one.kind not in ("REDUCE", "NEWOBJ"):
        return False
    function, arguments = one[:2]  # an ordered dict may have grown
    if not isinstance(function, str) or not _is_tuple(arguments):
        return True
    if not function.startswith(("collections ", "torch Size")):
        return False
    return any(
        not isinstance(held, _Made)
        or held.kind not in {"EMPTY_DICT", "EMPTY_LIST", *TUPLES}
        or (held.kind == "EMPTY_LIST" and not all(map(_is_pair, held)))
        for held in arguments
    )


def _is_pair(one: Any) -> bool:
    """Whether it is a name and a value, as Python 2 wrote ordered dicts."""
    return isinstance(one, _Made) and one.kind in {"EMPTY_LIST", *TUPLES} and _is_key(one[0])
