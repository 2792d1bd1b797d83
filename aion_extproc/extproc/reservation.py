"""What a decided request asks of the shared state before it is sent, and what follows from the answer. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from aion_extproc.accounting.allowances import Denial, Moment, denial, hold_of, rate_headers
from aion_extproc.accounting.holds import Hold, Verdict
from aion_extproc.classify.classification import Classification
from aion_extproc.extproc.callers import Caller
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.recall import Recalled
from aion_extproc.extproc.replies import Headers, Proceed
from aion_extproc.routing.decision import Decision, MostTokens, Wanted
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.reading import most_tokens
from aion_extproc.wire.request import Request
from aion_extproc.wire.service_tier import asked_tier

AUTO = "aion-auto"
_LONGEST_RETRY = 60.0  # seconds that the SDKs wait at most; to come again before the time would be for nothing


@dataclass(slots=True)
class Asking:
    """A request from its classification to its reply. `wanted` becomes narrower with each answer that denies it."""

    request: Request
    classification: Classification | None
    tokens: int  # of its input, an estimate
    known: Recalled
    wanted: Wanted
    reply: Proceed | None = None  # to be given when `hold` is granted
    decision: Decision | None = None
    hold: Hold | None = None
    when: Moment | None = None
    denied: Denial | None = None  # by the last answer
    downgraded: bool = False  # the client named a model, and gets another one


def hold_for(
    policy: Policy, caller: Caller, asking: Asking, decision: Decision, request_id: str, when: Moment
) -> Hold | None:
    """What this decision takes; None: nothing that anybody limits."""
    first = decision.model
    limits = caller.limits
    if policy.model_limits and (of_model := policy.model_limits.get((first.provider, first.id))):
        limits = (*limits, of_model)
    if not (caller.budgets or limits):
        return None
    amount = tokens = 0
    if asking.request.endpoint is not Endpoint.COUNT_TOKENS:  # that is free everywhere
        tokens = asking.tokens
        if (most := asking.wanted.most) is not None:
            # Whichever of the chain serves it.
            amount = max(most.nano(attempt.model) or 0 for attempt in decision.attempts)
    return hold_of(request_id, caller.budgets, limits, amount, tokens, when)


def most_of(request: Request, estimate: int, policy: Policy) -> MostTokens:
    """What a budget must hold for it."""
    tier = asked_tier(request.body, request.format)
    return MostTokens(*most_tokens(request, estimate, policy.assumed_output_tokens), tier)


def narrowed(asking: Asking, caller: Caller, verdict: Verdict) -> Denial | None:
    """Make `asking` want something else that may be granted; the denial where there is no such thing."""
    assert asking.hold is not None
    assert asking.when is not None
    assert asking.decision is not None
    found = denial(asking.hold, verdict, caller.budgets, asking.when)
    first, wanted = asking.decision.model, asking.wanted
    asking.denied = found
    if found.scope == "model":
        excluded = wanted.excluded | {(first.provider, first.id)}
        asking.wanted = replace(wanted, excluded=excluded, why=_why(wanted, found))
        return None
    if not found.downgrade or asking.request.endpoint in _NAMED_ONLY:
        return found
    asked = wanted.asked
    if asked not in (AUTO, "aion-local", "aion-escalate"):
        asking.downgraded = True
        wanted = replace(wanted, tier=first.tier or 1)
    if asked != "aion-local":
        wanted = replace(wanted, asked=AUTO, tier=3 if asked == "aion-escalate" else wanted.tier)
    asking.wanted = replace(wanted, most_nano=found.left_nano, why=_why(wanted, found))
    return None


def _why(wanted: Wanted, found: Denial) -> str:
    what = f"downgraded by the {found.budget}" if found.budget is not None else "a model is at its rate limit"
    return f"{wanted.why}, {what}" if wanted.why and what not in wanted.why else what


_NAMED_ONLY = (Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS)


def with_rates(reply: Proceed, hold: Hold, verdict: Verdict) -> Proceed:
    """The reply, and in its metadata what the client is told of its limits."""
    rates = rate_headers(hold, verdict)
    if not rates:
        return reply
    told = {name.replace("-", "_"): value for name, value in rates.items()}
    return replace(reply, metadata={**reply.metadata, **told})


def denied_headers(found: Denial, hold: Hold | None, verdict: Verdict | None) -> Headers:
    """Of a 429."""
    rates: Mapping[str, str] = {} if hold is None or verdict is None else rate_headers(hold, verdict)
    headers = [(f"x-{name}", value) for name, value in rates.items()]
    headers.append(("retry-after", str(max(1, ceil(found.retry_after)))))
    if found.retry_after <= _LONGEST_RETRY:
        headers.append(("retry-after-ms", str(max(1, ceil(found.retry_after * 1000)))))
    else:
        headers.append(("x-should-retry", "false"))
    return tuple(headers)
