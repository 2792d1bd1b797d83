"""What is known of a request when it is sent on. It travels in Envoy's dynamic metadata to whichever worker gets the
access-log entry, so that workers share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from aion_extproc.accounting.usage import Usage


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything of a ledger row but the outcome. No text of the request, no key."""

    format: str = ""  # the client's
    path: str = ""  # as the client called it; Envoy's log has the one that was sent on
    endpoint: str = ""  # the provider's, which may be in the other format; "" where the request did not come that far
    here: bool = False  # answered by the gateway itself, and not refused
    stream: bool = False
    key_name: str = ""
    tenant: str = ""
    asked_model: str = ""
    model: str = ""
    provider: str = ""
    tier: int = 0
    score: float | None = None
    task: str = ""
    reason: str = ""
    error: str = ""  # why it was refused
    input_tokens: int = 0  # an estimate
    max_tokens: int | None = None
    generation: int = 0  # of the configuration that decided it
    cache_ttl: str = ""  # lifetime of what is written to the prompt cache: "", "1h", or "mixed"
    session: str = ""  # the conversation and its turn, hashed; "" where nothing is remembered of it


def encode(facts: Facts) -> str:
    return orjson.dumps(facts).decode()


def decode(text: str) -> Facts:
    return Facts(**orjson.loads(text))


def encode_usage(usage: Usage, *, complete: bool) -> str:
    return orjson.dumps({"complete": complete, "usage": usage}).decode()


def decode_usage(text: str) -> tuple[Usage, bool]:
    plain = orjson.loads(text)
    return Usage(**plain["usage"]), plain["complete"]
