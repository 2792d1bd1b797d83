"""A Messages body as the clouds that host it want it: some members stand elsewhere, one more stands inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import orjson

from aion_extproc.wire.members import members, with_members


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
    names = {member.key for member in members(raw)}
    left_out: dict[str, bytes | None] = {}
    if envelope.model_in_path:
        left_out["model"] = None
    if envelope.stream_in_path:
        left_out["stream"] = None
    added = []
    if envelope.version and "anthropic_version" not in names:
        added.append(b'"anthropic_version":' + orjson.dumps(envelope.version))
    if envelope.beta_in_body and betas and "anthropic_beta" not in names:
        added.append(b'"anthropic_beta":' + orjson.dumps(betas))
    return with_members(raw, left_out, added)
