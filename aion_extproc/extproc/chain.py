"""A failover chain as it travels in Envoy's metadata: what any worker needs to write the request of a later attempt.

The body that Envoy keeps for a retry is the one that the first attempt was sent. It is the client's own but for a few
settings, which travel in the metadata to be put back; or it is the client's own untouched, and then the first attempt
was written on its way out like all others. So nothing of what a request says is in the metadata, which reach the log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from aion_extproc.wire.adapt import SETTINGS
from aion_extproc.wire.members import members, with_members
from aion_extproc.wire.request import Request

_MOST_RESTORED = 2048  # bytes
_ROUNDED = re.compile(rb"[0-9]e\+?[0-9]")  # what a whole number of more than 64 bits becomes when it is parsed


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt, and what it is expected to cost and save in nano-dollars; None: a price is unknown."""

    provider: str
    model: str
    tier: int
    cost_nano: int | None
    savings_nano: int | None


@dataclass(frozen=True, slots=True)
class Chain:
    """`restored`: members of the client's body that the first attempt may have lost; None: it is the client's own."""

    endpoint: str  # that the client called
    query: str  # with its "?"
    anthropic: tuple[tuple[str, str], ...]  # the client's headers for Anthropic's API
    restored: Mapping[str, Any] | None
    steps: tuple[Step, ...]


def encode_chain(chain: Chain) -> str:
    return orjson.dumps(chain).decode()


def decode_chain(text: str) -> Chain:
    plain = orjson.loads(text)
    return Chain(
        plain["endpoint"],
        plain["query"],
        tuple((name, value) for name, value in plain["anthropic"]),
        plain["restored"],
        tuple(Step(**step) for step in plain["steps"]),
    )


def restorable(request: Request) -> Mapping[str, Any] | None:
    """The members that adapting the request to a model may change; None where they are too large to travel, or would
    not come back as the client wrote them."""
    found = {name: request.body[name] for name in SETTINGS if name in request.body}
    try:
        written = orjson.dumps([found])  # a level down, as in the chain
    except orjson.JSONEncodeError:  # half a surrogate pair, or too many levels: it cannot be written down
        return None
    return found if len(written) <= _MOST_RESTORED and not _ROUNDED.search(written) else None


def restore(raw: bytes, restored: Mapping[str, Any]) -> bytes:
    """The client's request again, from the first attempt's. Only its model stays another."""
    there = {member.key for member in members(raw)}
    changes: dict[str, bytes | None] = {}
    added = []
    for name in SETTINGS:
        written = orjson.dumps(name) + b":" + orjson.dumps(restored[name]) if name in restored else None
        if name in there:
            changes[name] = written
        elif written is not None:
            added.append(written)
    return with_members(raw, changes, added)
