"""From what Envoy saw of a finished request to its ledger row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from math import ceil

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.energy import energy
from aion_extproc.accounting.facts import Facts
from aion_extproc.accounting.row import AttemptRow, LedgerRow, Outcome
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model, Prices
from aion_extproc.wire.endpoint import Endpoint

# Bytes of a stream for one token of answer, where the stream was cut before the provider counted: an event of one
# token is about this long in either format (measured on the recorded streams in tests/).
_STREAM_BYTES_PER_TOKEN = {"openai": 190, "anthropic": 110}
_JSON_BYTES_PER_TOKEN = 4
LONGEST_PATH = 128
_NEVER_BEGAN = frozenset({"connect_failed", "dns_failed", "no_healthy_upstream", "overflow"})
# No answer has more tokens. A provider that says so is not believed; at the dearest price it would not fit the ledger.
_MOST_TOKENS = 10**9


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished request. Times in milliseconds; None where it did not come that far."""

    request_id: str
    at_ms: int
    path: str
    status: int
    latency_ms: float
    ttft_ms: float | None
    request_bytes: int
    response_bytes: int
    attempts: int
    upstream_answered: bool  # the status is the provider's, not ours
    client_gone: bool
    whole: bool  # the answer reached its end
    error: str  # a code for what went wrong between us and the provider
    usage: Usage | None  # as reported by the provider
    usage_complete: bool
    retry_after: float | None = None  # seconds, of a provider's 429 or 503
    service_tier: str | None = None  # that the answer says it was served at
    by_envoy: bool = False  # who counted `usage`


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt as Envoy logs it. It knows neither its number nor its model."""

    request_id: str
    at_ms: int
    status: int  # 0: the provider did not answer
    error: str
    latency_ms: float
    retry_after: float | None = None  # seconds
    ours: bool = False  # no provider's doing: it was not asked


def settle_attempts(
    failed: Sequence[FailedAttempt], models: Sequence[tuple[str, str]], facts: Facts, catalog: Catalog
) -> list[AttemptRow]:
    """The rows of a request's failed attempts, in their order. `models`: the (provider, model) of each attempt that was
    to be made; where Envoy tried the last of them again, it counts again."""
    rows = []
    for index, attempt in enumerate(failed):
        provider, model = models[min(index, len(models) - 1)]
        began = not attempt.status and attempt.error not in _NEVER_BEGAN
        prices = _prices(catalog.model(provider, model), facts.service_tier)
        cost: int | None = 0
        if began and facts.endpoint != Endpoint.COUNT_TOKENS:
            cost = None if prices is None else cost_nano(prices, Usage(input_tokens=facts.input_tokens))
        rows.append(
            AttemptRow(
                attempt.request_id,
                index + 1,
                attempt.at_ms,
                provider,
                model,
                attempt.status,
                attempt.error,
                attempt.latency_ms,
                cost,
                facts.key_name,
                facts.tenant,
                facts.service,
            )
        )
    return rows


def settle(finished: Finished, facts: Facts, catalog: Catalog) -> LedgerRow:
    """The row of a request. Counts that the provider did not report are estimated and marked."""
    outcome = _outcome(finished, facts)
    model = catalog.model(facts.provider, facts.model) if facts.model else None
    usage, estimated = _usage(finished, facts, model, outcome)
    cost = baseline = reference = power = None
    baseline_model = reference_model = ""
    if facts.model:
        tier, asked_only = _tier(finished, facts, usage)
        estimated |= asked_only
        prices = _prices(model, tier)
        cost = None if prices is None else cost_nano(prices, usage)
        dearest = catalog.dearest(usage)
        if dearest is not None:
            baseline_model, baseline = dearest[0].id, dearest[1]
        compared = catalog.baseline
        if compared is not None and compared.prices is not None:
            reference_model, reference = compared.id, cost_nano(compared.prices, usage)
        power = energy(model, usage) if model is not None else None
    return LedgerRow(
        request_id=finished.request_id,
        at_ms=finished.at_ms,
        outcome=outcome,
        status=finished.status,
        path=facts.path or finished.path.split("?", 1)[0][:LONGEST_PATH],
        format=facts.format,
        stream=facts.stream,
        key_name=facts.key_name,
        tenant=facts.tenant,
        service=facts.service,
        tags=facts.tags,
        asked_model=facts.asked_model,
        model=facts.model,
        provider=facts.provider,
        tier=facts.tier,
        score=facts.score,
        task=facts.task,
        reason=facts.reason,
        error=_error(finished, facts, outcome),
        attempts=finished.attempts,
        usage=usage,
        estimated=estimated,
        cost_nano=cost,
        baseline_nano=baseline,
        baseline_model=baseline_model,
        reference_nano=reference,
        reference_model=reference_model,
        energy_low_mj=None if power is None else power.low_mj,
        energy_high_mj=None if power is None else power.high_mj,
        latency_ms=finished.latency_ms,
        ttft_ms=finished.ttft_ms,
        request_bytes=finished.request_bytes,
        response_bytes=finished.response_bytes,
    )


def _prices(model: Model | None, service_tier: str) -> Prices | None:
    return None if model is None else model.prices_at(service_tier)


def _tier(finished: Finished, facts: Facts, usage: Usage) -> tuple[str, bool]:
    """The service tier that is billed, and whether it is only the one that was asked for: a provider that is short of
    room may have served it at the usual one."""
    if usage == Usage():
        return "", False  # nothing is billed
    if finished.service_tier is not None:
        return finished.service_tier, False
    return facts.service_tier, facts.service_tier != ""


def _outcome(finished: Finished, facts: Facts) -> Outcome:
    if facts.error:
        return "refused"
    if facts.here:
        return "served"
    if finished.upstream_answered:
        if not 200 <= finished.status < 300:
            return "failed"  # whether or not the client waited for the end of it
        return "served" if finished.whole else "cut"
    return "cut" if finished.client_gone else "failed"


def _usage(finished: Finished, facts: Facts, model: Model | None, outcome: Outcome) -> tuple[Usage, bool]:
    if outcome in ("refused", "failed") or facts.endpoint == Endpoint.COUNT_TOKENS:
        return Usage(), False  # nobody bills an error answer, nor the counting of tokens
    reported = finished.usage
    if reported is not None and max(astuple(reported)) > _MOST_TOKENS:
        reported = None
    apart = model is not None and model.reasoning_apart and facts.endpoint == Endpoint.CHAT
    if reported is not None and finished.by_envoy and apart:
        reported = replace(reported, output_tokens=reported.output_tokens + reported.reasoning_tokens)
    if reported is not None and finished.usage_complete:
        return _with_lifetime(reported, facts)
    known = reported or Usage(input_tokens=facts.input_tokens)
    if not finished.upstream_answered:
        return known, True  # the client left before the answer; the provider has read the input
    divisor = _STREAM_BYTES_PER_TOKEN.get(facts.format, 190) if facts.stream else _JSON_BYTES_PER_TOKEN
    output = ceil(finished.response_bytes / divisor)  # an answer that began has a token
    if facts.endpoint == Endpoint.EMBEDDINGS:
        output = 0
    if facts.max_tokens is not None:
        output = min(output, facts.max_tokens)
    output = max(known.output_tokens, output)  # what the provider counted, it bills
    return _with_lifetime(replace(known, output_tokens=output), facts)[0], True


def _with_lifetime(usage: Usage, facts: Facts) -> tuple[Usage, bool]:
    """Envoy's count does not tell one-hour cache writes from five-minute ones; the request does, unless it asked for
    both. Then all are taken for the dearer kind and the row is an estimate."""
    if not usage.cache_write_tokens or usage.cache_write_1h_tokens or not facts.cache_ttl:
        return usage, False
    return replace(usage, cache_write_1h_tokens=usage.cache_write_tokens), facts.cache_ttl == "mixed"


def _error(finished: Finished, facts: Facts, outcome: Outcome) -> str:
    if outcome == "served":
        return ""
    if facts.error or finished.error:
        return facts.error or finished.error
    if finished.client_gone and outcome == "cut":
        return "client_gone"
    return f"provider_{finished.status}" if finished.upstream_answered else "gateway_error"
