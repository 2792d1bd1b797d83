"""A Messages body as the clouds that host it want it: some members stand elsewhere, one more stands inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

from aion_extproc.wire.members import Member, members


@dataclass(frozen=True, slots=True)
class Envelope:
    """What differs from Anthropic's own API. The defaults: nothing."""

    version: str = ""  # the value of the member anthropic_version, which takes the place of the header
    model_in_path: bool = False  # there is no member `model`
    stream_in_path: bool = False  # there is no member `stream`
    beta_in_body: bool = False  # the member anthropic_beta takes the place of the header anthropic-beta
    framing: Literal["sse", "eventstream"] = "sse"  # of a streamed answer

    @property
    def changes_body(self) -> bool:
        return bool(self.version) or self.model_in_path or self.stream_in_path or self.beta_in_body


def enclose(raw: bytes, envelope: Envelope, betas: tuple[str, ...]) -> bytes:
    """A Messages body (an object that has been parsed, with a model) in this envelope; `betas` is what the header
    anthropic-beta listed. All bytes but the members in question stay; members that the client already wrote for the
    cloud (anthropic_version, anthropic_beta) are its own business and stay too."""
    if not envelope.changes_body:
        return raw
    found = list(members(raw))
    dropped = {"model"} if envelope.model_in_path else set()
    if envelope.stream_in_path:
        dropped.add("stream")
    kept = [index for index, member in enumerate(found) if member.key not in dropped]
    names = {member.key for member in found}
    added = []
    if envelope.version and "anthropic_version" not in names:
        added.append(b'"anthropic_version":' + orjson.dumps(envelope.version))
    if envelope.beta_in_body and betas and "anthropic_beta" not in names:
        added.append(b'"anthropic_beta":' + orjson.dumps(betas))
    return _written(raw, found, kept, added)


def _written(raw: bytes, found: list[Member], kept: list[int], added: list[bytes]) -> bytes:
    """The new members come first; every member that stays does so with the white space before and after it."""
    opening = raw.index(b"{") + 1
    parts = [raw[:opening]]
    pieces = list(added)
    for index in kept:
        # From the comma (or bracket) before the member to the one after it.
        begin = opening if index == 0 else raw.index(b",", found[index - 1].end) + 1
        end = raw.index(b",", found[index].end) if index + 1 < len(found) else raw.rindex(b"}")
        pieces.append(raw[begin:end])
    parts.append(b",".join(pieces))
    # Everything before the last bracket belonged to a member; what stands after it stays.
    parts.append(raw[raw.rindex(b"}") :])
    return b"".join(parts)
