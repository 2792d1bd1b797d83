"""From a question to a decision.

A model that *cannot* serve a request (its endpoint, its window) is treated as if it were not configured. A tier
with nobody in it hands its requests to the next one above, and where nothing is above, to the highest there
is: a laptop with one model serves everything. A model that cannot *now* (it is down) moves requests up
only, and only with `fallback_enabled`; never down, for a weak answer is worse than a clear 503.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from aion_extproc.accounting.cost import cost_nano
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model
from aion_extproc.routing.candidates import TIERS, Tables, fitting, healthy, is_native, serves
from aion_extproc.routing.decision import Attempt, Decision, NoRoute, Wanted
from aion_extproc.routing.health import Health
from aion_extproc.routing.strategies import Strategy
from aion_extproc.wire.endpoint import Endpoint

# Nobody knows how long an answer will be, and clients set max_tokens far above what they need. The
# expectation only has to put models in order, so it is the client's limit or this, whichever is less.
EXPECTED_OUTPUT_TOKENS = 500
MAX_ATTEMPTS = 4
# Vectors of two models cannot be compared, and a text is completed by the model whose format it was written in.
_ONE_MODEL_ONLY = frozenset({Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS})


def route(
    tables: Tables,
    wanted: Wanted,
    health: Health,
    now: float,
    strategy: Strategy,
    fallback_enabled: bool = True,
    prefer_native: bool = True,
) -> Decision | NoRoute:
    """The models to try for a request, or why there is none. `now` is the clock of `health`. With `prefer_native` the
    models of a tier that speak the client's own format come before those that need a translation.

    The chosen model's trial is begun in `health`; the caller reports how it ended.
    """
    resolved = tables.catalog.resolve(wanted.asked)
    if resolved.models:
        return _concrete(tables, resolved.models, wanted, health, now, strategy, prefer_native)
    if resolved.virtual is None:
        return _unknown(wanted.asked, resolved.near)
    if not tables.catalog.models:
        return NoRoute("no_models", 503, "no model is configured: add one under providers in aion.yaml")
    local, escalate = resolved.virtual == "aion-local", resolved.virtual == "aion-escalate"
    tokens = wanted.input_tokens + (wanted.max_tokens or 0)
    if wanted.endpoint in _ONE_MODEL_ONLY:
        return _must_be_named(resolved.virtual, wanted.endpoint)
    serving = (tables.local if local else tables.any)[wanted.endpoint]
    fit = [fitting(_not_excluded(models, wanted), tokens) for models in serving]
    if escalate:
        order, reason = ([3] if fit[3] else []), "tier 3 asked for"
    elif local:
        order, reason = [tier for tier in TIERS if fit[tier]], "local asked for"
    else:
        order, reason = _tiers(fit, wanted.tier, fallback_enabled)
    if not order:
        return _nobody(tables, resolved.virtual, wanted, tokens)

    expected = _expected(wanted)
    chosen: list[Model] = []
    for tier in order:
        up = healthy(fit[tier], health, now)
        if up and not chosen and tier != order[0]:
            reason += f", none healthy, so tier {tier}"
        chosen += _ordered(up, wanted.endpoint, strategy, expected, prefer_native)
        if len(chosen) >= MAX_ATTEMPTS:
            break
    if not chosen:
        return _unhealthy([model for tier in order for model in fit[tier]], health, now)
    wanted_tier = 3 if escalate else None if local else wanted.tier
    return _decision(tables, chosen, wanted_tier, reason, expected, health, now)


def _tiers(fit: Sequence[Sequence[Model]], wanted: int, go_up: bool) -> tuple[list[int], str]:
    """The tiers to look in, in order, and why the first of them; empty when no model fits."""
    filled = [tier for tier in TIERS if fit[tier]]
    above = [tier for tier in filled if tier >= wanted]
    if not above:
        return filled[-1:], f"tier {wanted} and above have no model for it, so tier {max(filled, default=0)}"
    reason = f"tier {wanted}" if above[0] == wanted else f"tier {wanted} has no model for it, so tier {above[0]}"
    return above if go_up else above[:1], reason


def _concrete(
    tables: Tables,
    models: Sequence[Model],
    wanted: Wanted,
    health: Health,
    now: float,
    strategy: Strategy,
    prefer_native: bool,
) -> Decision | NoRoute:
    """A model the client named: at whichever of its providers is best."""
    serving = _not_excluded([model for model in models if serves(model, wanted.endpoint)], wanted)
    if not serving:
        return _endpoint_not_available(models, wanted.endpoint)
    tokens = wanted.input_tokens + (wanted.max_tokens or 0)
    fit = fitting(serving, tokens)
    if not fit:
        return _too_long(serving, tokens)
    # Nobody else can stand in for a model that was asked for by name: if none of its providers is well, the client
    # gets what the provider says, not our memory of it.
    up = healthy(fit, health, now) or fit
    expected = _expected(wanted)
    ordered = _ordered(up, wanted.endpoint, strategy, expected, prefer_native)
    return _decision(tables, ordered, None, "model named by the client", expected, health, now)


def _ordered(
    models: Sequence[Model], endpoint: Endpoint, strategy: Strategy, expected: Usage, prefer_native: bool
) -> list[Model]:
    native = [model for model in models if is_native(model, endpoint)] if prefer_native else []
    if not native or len(native) == len(models):
        return list(strategy(models, expected))
    foreign = [model for model in models if not is_native(model, endpoint)]
    return [*strategy(native, expected), *strategy(foreign, expected)]


def _decision(
    tables: Tables,
    chosen: Sequence[Model],
    wanted_tier: int | None,
    reason: str,
    expected: Usage,
    health: Health,
    now: float,
) -> Decision:
    first = chosen[0]
    health.begin(first.provider, first.id, now)
    dearest = tables.catalog.dearest(expected)
    return Decision(
        attempts=tuple([Attempt(model) for model in chosen[:MAX_ATTEMPTS]]),
        tier=first.tier,
        wanted_tier=wanted_tier,
        reason=reason,
        expected=expected,
        expected_cost_nano=None if first.prices is None else cost_nano(first.prices, expected),
        baseline_nano=dearest[1] if dearest else None,
        baseline_model=dearest[0].id if dearest else "",
    )


def _expected(wanted: Wanted) -> Usage:
    limit = wanted.max_tokens
    output = EXPECTED_OUTPUT_TOKENS if limit is None else min(limit, EXPECTED_OUTPUT_TOKENS)
    if wanted.endpoint in (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS):
        output = 0
    return Usage(input_tokens=wanted.input_tokens, output_tokens=output)


def _unknown(asked: str, near: tuple[str, ...]) -> NoRoute:
    shown = asked if len(asked) <= 64 else asked[:64] + "..."
    hint = f"; did you mean {' or '.join(near)}?" if near else "; GET /v1/models lists what there is"
    return NoRoute("model_not_found", 404, f"there is no model {shown!r}{hint}", near=near)


def _nobody(tables: Tables, virtual: str, wanted: Wanted, tokens: int) -> NoRoute:
    """Why no model was left before health was looked at."""
    models = [
        model
        for model in tables.catalog.models
        if (virtual != "aion-local" or model.local) and (virtual != "aion-escalate" or model.tier == 3)
    ]
    if not models:
        if virtual == "aion-local":
            return NoRoute("no_local_model", 404, "aion-local needs a local model and none is configured")
        return NoRoute("no_tier3_model", 404, "aion-escalate needs a model of tier 3 and none is configured")
    serving = [model for model in models if serves(model, wanted.endpoint)]
    return _too_long(serving, tokens) if serving else _endpoint_not_available(models, wanted.endpoint)


def _not_excluded(models: Sequence[Model], wanted: Wanted) -> Sequence[Model]:
    if not wanted.excluded:
        return models
    return [model for model in models if (model.provider, model.id) not in wanted.excluded]


def _must_be_named(virtual: str, endpoint: Endpoint) -> NoRoute:
    return NoRoute(
        "model_required",
        400,
        f"{virtual} chooses among chat models; what the {endpoint} endpoint gives depends on the one model, so name it",
    )


def _endpoint_not_available(models: Sequence[Model], endpoint: Endpoint) -> NoRoute:
    there = ", ".join(f"{model.provider}/{model.id}" for model in models[:5])
    more = f" and {len(models) - 5} more" if len(models) > 5 else ""
    return NoRoute(
        "endpoint_not_available",
        400,
        f"none of the models that were asked for is served on the {endpoint} endpoint by its provider: {there}{more}",
    )


def _too_long(models: Sequence[Model], tokens: int) -> NoRoute:
    largest = max(model.context_window or 0 for model in models)
    return NoRoute(
        "context_length_exceeded",
        400,
        f"the request needs about {tokens} tokens with its max_tokens; the largest context window among the "
        f"models that could serve it is {largest}",
    )


def _unhealthy(models: Sequence[Model], health: Health, now: float) -> NoRoute:
    soonest = min(health.wait(model.provider, model.id, now) for model in models)
    names = ", ".join(f"{model.provider}/{model.id}" for model in models[:5])
    return NoRoute(
        "no_healthy_model",
        503,
        f"every model that could serve this is failing at the moment: {names}",
        retry_after=max(1, ceil(soonest)),
    )
