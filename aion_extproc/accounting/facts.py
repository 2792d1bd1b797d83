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
    service: str = ""
    tags: str = ""
    asked_model: str = ""
    downgraded: bool = False  # it is not what the client named, for the budget's sake
    model: str = ""
    provider: str = ""
    tier: int = 0
    score: float | None = None
    task: str = ""
    reason: str = ""
    error: str = ""  # why it was refused
    denied: str = ""  # the account that was in the way, and what was used of it: "key:dev:20261122 4999000000"
    input_tokens: int = 0  # an estimate
    max_tokens: int | None = None
    generation: int = 0  # of the configuration that decided it
    service_tier: str = ""  # that is asked for where the price goes by it (wire/service_tier.py); "": the usual one
    cache_ttl: str = ""  # lifetime of what is written to the prompt cache: "", "1h", or "mixed"
    session: str = ""  # the conversation and its turn, hashed; "" where nothing is remembered of it


def encode(facts: Facts) -> str:
    return orjson.dumps(facts).decode()


def decode(text: str) -> Facts:
    return Facts(**orjson.loads(text))


@dataclass(frozen=True, slots=True)
class Reported:
    """What an answer says of itself."""

    usage: Usage
    complete: bool  # its final count was seen
    service_tier: str | None = None  # that it was served at; None: it does not say
    by_envoy: bool = False  # who takes completion_tokens for all of the output


def encode_usage(usage: Usage, *, complete: bool, service_tier: str | None = None) -> str:
    return orjson.dumps(Reported(usage, complete, service_tier)).decode()


def decode_usage(text: str) -> Reported:
    plain = orjson.loads(text)
    return Reported(Usage(**plain["usage"]), plain["complete"], plain["service_tier"])
