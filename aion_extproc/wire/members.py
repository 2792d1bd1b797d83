"""Where the members of a JSON object and the elements of an array stand in its bytes, so that one can be changed and
all others stay as they are.

Only for bytes that a JSON parser has accepted: brackets are balanced, and no value needs checking again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_PLAIN = rb'[^"{}\[\]]++'
_DEPTH = 8  # containers nested deeper than this are skipped by the slower loop below


def _container(depth: int) -> bytes:
    inside = rb"|" + _container(depth - 1) if depth else b""
    return rb"[{\[](?:" + _PLAIN + rb"|" + _STRING + inside + rb")*+[}\]]"


# The possessive quantifiers keep this linear: a value that does not match is never tried in another way.
_KEY = re.compile(rb"\s*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_VALUE = re.compile(rb"(?:" + _STRING + rb"|" + _container(_DEPTH) + rb'|[^\s",{}\[\]]++)', re.DOTALL)
_BRACKET = re.compile(_STRING + rb"|[{}\[\]]", re.DOTALL)
_COMMA = re.compile(rb"\s*+([,}])")
_WHITE = re.compile(rb"\s*+")

Edit = tuple[int, int, bytes]  # start, end, what stands there instead


@dataclass(frozen=True, slots=True)
class Member:
    """Offsets into the object's bytes: the key starts at `start`, the value is [value, end)."""

    key: str
    start: int
    value: int
    end: int


def members(data: bytes, at: int = 0) -> Iterator[Member]:
    """The members of the object whose `{` is the first bracket at or after `at`, in order, duplicates included."""
    position = data.index(b"{", at) + 1
    while (key := _KEY.match(data, position)) is not None:
        value = key.end()
        end = _value_end(data, value)
        yield Member(_text(key[1]), key.start(1), value, end)
        after = _COMMA.match(data, end)
        if after is None or after[1] == b"}":
            return
        position = after.end()


def member(data: bytes, key: str, at: int = 0) -> Member:
    """The member of that key, which there is; of a key that comes twice the last one counts."""
    return [found for found in members(data, at) if found.key == key][-1]


def elements(data: bytes, at: int) -> Iterator[tuple[int, int]]:
    """[start, end) of each element of the array whose `[` is at `at`, in order."""
    position = _after_white(data, at + 1)
    while data[position : position + 1] != b"]":
        end = _value_end(data, position)
        yield position, end
        position = _after_white(data, end)
        if data[position : position + 1] == b",":
            position = _after_white(data, position + 1)


def removal(found: Sequence[tuple[int, int]], gone: Collection[int]) -> list[Edit]:
    """What takes these elements out of their array: each with the comma after it and the space up to the next, or,
    where none that stays comes after it, with the comma before it. The others keep their bytes."""
    edits: list[Edit] = []
    last = max((index for index in range(len(found)) if index not in gone), default=-1)  # that stays
    for index in sorted(gone):
        if index < last:
            edits.append((found[index][0], found[index + 1][0], b""))
        elif index == len(found) - 1:
            start = found[last][1] if last >= 0 else found[0][0]
            edits.append((start, found[index][1], b""))
    return edits


def edited(data: bytes, edits: Sequence[Edit]) -> bytes:
    """The bytes with these edits, which do not overlap; where there are none, the same object."""
    if not edits:
        return data
    pieces = []
    position = 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        pieces.append(data[position:start])
        pieces.append(replacement)
        position = end
    pieces.append(data[position:])
    return b"".join(pieces)


def with_members(raw: bytes, changes: Mapping[str, bytes | None], added: Sequence[bytes] = ()) -> bytes:
    """The object with the members of these keys written anew (`"key":value`) or left out (None), and with more of them
    in front. Every other member keeps its bytes and the white space around it."""
    found = list(members(raw))
    opening, closing = raw.index(b"{") + 1, raw.rindex(b"}")
    pieces = list(added)
    for index, member in enumerate(found):
        # From the bracket or comma before the member to the one after it.
        begin = opening if index == 0 else raw.index(b",", found[index - 1].end) + 1
        end = raw.index(b",", member.end) if index + 1 < len(found) else closing
        new = changes.get(member.key, b"")
        if new == b"":
            pieces.append(raw[begin:end])
        elif new is not None:
            pieces.append(raw[begin : member.start] + new + raw[member.end : end])
    return raw[:opening] + b",".join(pieces) + raw[closing:]


def _value_end(data: bytes, start: int) -> int:
    if (value := _VALUE.match(data, start)) is not None:
        return value.end()
    depth = 0
    for token in _BRACKET.finditer(data, start):
        first = token[0][:1]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    raise ValueError("not a complete JSON value")


def _after_white(data: bytes, at: int) -> int:
    white = _WHITE.match(data, at)
    return at if white is None else white.end()


def _text(quoted: bytes) -> str:
    if b"\\" not in quoted:
        return quoted[1:-1].decode()
    return str(json.loads(quoted))
