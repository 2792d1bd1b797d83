"""Where the members of a JSON object stand in its bytes, so that one can be changed and all others stay as they are.

Only for bytes that a JSON parser has accepted: brackets are balanced, and no value needs checking again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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


def _text(quoted: bytes) -> str:
    if b"\\" not in quoted:
        return quoted[1:-1].decode()
    return str(json.loads(quoted))
