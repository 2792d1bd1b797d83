"""One row of the ledger: everything that is remembered of a request. Never its text, never a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aion_extproc.accounting.usage import Usage

# served: the provider answered 2xx in full; refused: we said no (bad input, key, no model);
# failed: the provider or the way to it answered an error; cut: the answer began and did not end.
Outcome = Literal["served", "refused", "failed", "cut"]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """All times are UTC milliseconds since 1970 or durations in milliseconds; all money is integer nano-dollars."""

    request_id: str
    at_ms: int
    outcome: Outcome
    status: int  # HTTP status the client saw; 0 when none was sent
    path: str = ""  # without query, cut to 128 characters
    format: str = ""  # "openai", "anthropic" or "" where the path belongs to neither
    stream: bool = False
    key_name: str = ""
    tenant: str = ""
    service: str = ""  # that the caller names
    tags: str = ""  # the key's and the caller's, sorted, with commas between them
    asked_model: str = ""
    model: str = ""
    provider: str = ""
    tier: int = 0  # 0: none was chosen
    score: float | None = None  # None: not classified (a concrete model was asked for)
    task: str = ""
    reason: str = ""
    error: str = ""  # short code: "invalid_json", "unknown_model", "upstream_reset" …
    attempts: int = 0
    usage: Usage = field(default=Usage())
    estimated: bool = False  # the usage is an estimate, not the provider's count
    cost_nano: int | None = None  # None: the price is unknown
    baseline_nano: int | None = None  # same usage at the dearest configured model
    baseline_model: str = ""
    reference_nano: int | None = None  # same usage at the model that the configuration compares with
    reference_model: str = ""
    energy_low_mj: int | None = None  # millijoules, an estimate as a range; None: nothing is known of the model
    energy_high_mj: int | None = None
    latency_ms: float = 0.0
    ttft_ms: float | None = None  # to the first byte of the answer's body
    request_bytes: int = 0
    response_bytes: int = 0


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt that failed, after which another model was tried or the client got the error."""

    request_id: str
    number: int  # of the request's attempts, from 1 on
    at_ms: int
    provider: str
    model: str
    status: int  # that the provider answered; 0: none
    error: str  # "provider_503", "upstream_timeout", "connect_failed" …
    latency_ms: float
    # What it is billed for, estimated: an error is not, but who broke off without an answer may have read the input.
    # None: the price is unknown.
    cost_nano: int | None
    key_name: str = ""  # of the request, as are the next two
    tenant: str = ""
    service: str = ""
