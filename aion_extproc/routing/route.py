"""From a question to a decision.

A model that *cannot* serve a request (its endpoint, its window) is treated as if it were not configured. A tier
with nobody in it hands its requests to the next one above, and where nothing is above, to the highest there
is: a laptop with one model serves everything. A model that cannot *now* (it is down) moves requests up
only, and only with `fallback_enabled`; never down, for a weak answer is worse than a clear 503.

Who is tried, in order: what a pinned chain says; else the model whose provider holds the conversation in its prompt
cache, where staying pays, then the tier's models as the strategy has them, degraded ones last, then the tiers above.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from aion_extproc.catalog.model import Model
from aion_extproc.routing.candidates import TIERS, Tables, degraded_last, fitting, flaky, healthy, is_native, serves
from aion_extproc.routing.chains import PinnedChain, PinnedStep, pinned
from aion_extproc.routing.decision import MAX_ATTEMPTS, Decision, NoRoute, Wanted
from aion_extproc.routing.expected import Expected
from aion_extproc.routing.health import Health
from aion_extproc.routing.strategies import Strategy
from aion_extproc.wire.endpoint import Endpoint

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
    models of a tier that speak the client's own format come before those that need a translation; without
    `fallback_enabled` there is one attempt.

    The caller begins the chosen model's trial in `health` when the request goes there, and reports how it ended.
    """
    resolved = tables.catalog.resolve(wanted.asked)
    if not resolved.models and resolved.virtual is None:
        return _unknown(wanted.asked, resolved.near)
    if not tables.catalog.models:
        return NoRoute("no_models", 503, "no model is configured: add one under providers in aion.yaml")
    search = _Search(tables, wanted, health, now, strategy, prefer_native, MAX_ATTEMPTS if fallback_enabled else 1)
    tier = {"aion-auto": wanted.tier, "aion-escalate": 3}.get(wanted.asked)
    without = ""
    if tables.chains and wanted.endpoint not in _ONE_MODEL_ONLY:
        chain = pinned(tables.chains, wanted.asked, tier)
        if chain is not None:
            decision = search.chain(chain, tier)
            if decision is not None:
                return decision
            without = f", no step of chain {chain.number} will do"
    if resolved.models:
        return search.concrete(resolved.models, without)
    assert resolved.virtual is not None
    if wanted.endpoint in _ONE_MODEL_ONLY:
        return _must_be_named(resolved.virtual, wanted.endpoint)
    return search.virtual(resolved.virtual, tier, without, fallback_enabled)


class _Search:
    """One request's search for models."""

    __slots__ = (
        "attempts", "expected", "health", "now", "prefer_native", "strategy", "tables", "tokens", "wanted",
    )  # fmt: skip

    def __init__(
        self,
        tables: Tables,
        wanted: Wanted,
        health: Health,
        now: float,
        strategy: Strategy,
        prefer_native: bool,
        attempts: int,
    ) -> None:
        self.tables = tables
        self.wanted = wanted
        self.health = health
        self.now = now
        self.strategy = strategy
        self.prefer_native = prefer_native
        self.attempts = attempts  # at most
        self.tokens = wanted.input_tokens + (wanted.max_tokens or 0)
        self.expected = Expected(wanted, tables.catalog)

    def chain(self, chain: PinnedChain, tier: int | None) -> Decision | None:
        """By the steps of a pinned chain that will do; None: none of them."""
        chosen: list[Model] = []
        limits: list[float | None] = []
        for step in chain.steps:
            if len(chosen) == self.attempts:
                break
            able = [m for m in step.models if serves(m, self.wanted.endpoint) and m not in chosen]
            up = healthy(self._fitting(able), self.health, self.now)
            within = [m for m in up if self._within(step, m)]
            left = self._standing_by(within) if chosen else within
            if left:
                chosen.append(self._ordered(left)[0])
                limits.append(step.max_first_byte)
        if not chosen:
            return None
        known = [limit for limit in limits if limit is not None]
        timeout = max(known) if len(known) == len(limits) else None
        return self._decision(chosen, tier, f"{self._asked_for(tier)}, chain {chain.number}", timeout)

    def concrete(self, models: Sequence[Model], without: str) -> Decision | NoRoute:
        """A model the client named: at whichever of its providers is best."""
        wanted = self.wanted
        serving = _not_excluded([model for model in models if serves(model, wanted.endpoint)], wanted)
        if not serving:
            return _endpoint_not_available(models, wanted.endpoint)
        fit = self._fitting(serving)
        if not fit:
            return _too_long(serving, self.tokens)
        # Nobody else can stand in for a model that was asked for by name: if none of its providers is well, the client
        # gets what the provider says, not our memory of it.
        chosen, kept = self._kept_first(self._ordered(healthy(fit, self.health, self.now) or fit), [fit])
        return self._decision(chosen, None, f"{self._asked_for(None)}{without}{kept}")

    def virtual(self, asked: str, tier: int | None, without: str, go_up: bool) -> Decision | NoRoute:
        """One of the gateway's own names; `tier`: the one it wants."""
        local = asked == "aion-local"
        serving = (self.tables.local if local else self.tables.any)[self.wanted.endpoint]
        fit = [self._fitting(models) for models in serving]
        if asked == "aion-auto":
            order, reason = _tiers(fit, self.wanted.tier, go_up)
            if self.wanted.why:
                reason += f", {self.wanted.why}"
        else:
            order, reason = [place for place in TIERS if fit[place] and (local or place == 3)], self._asked_for(tier)
        if not order:
            return _nobody(self.tables, asked, self.wanted, self.tokens)
        reason += without
        chosen: list[Model] = []
        for place in order:
            up = healthy(fit[place], self.health, self.now)
            if up and not chosen and place != order[0]:
                reason += f", none healthy, so tier {place}"
            chosen += self._ordered(up)
            if chosen and len(self._standing_by(chosen[1:])) >= self.attempts - 1:
                break
        if len(chosen) < self.attempts:
            # What fails often but not always is better than an error of ours, and answers for itself that way.
            ill = [model for place in order for model in flaky(fit[place], self.health, self.now)]
            if ill and not chosen:
                reason += ", none healthy, so one that fails often"
            chosen += ill
        if not chosen:
            return _unhealthy([model for place in order for model in fit[place]], self.health, self.now)
        chosen, kept = self._kept_first(chosen, fit[order[0] :])
        return self._decision(chosen, tier, reason + kept)

    def _kept_first(self, chosen: list[Model], fit: Sequence[Sequence[Model]]) -> tuple[list[Model], str]:
        """With the model that has the conversation in its prompt cache in front, if it is among the `fit`, well, and
        staying pays: in the tier of the first choice it may cost as much, above it must cost less. And what to say."""
        warm, first = self.wanted.warm, chosen[0]
        if warm is None or (first.id == warm.model and first.provider == warm.provider):
            return chosen, ""
        kept = next((m for models in fit for m in models if m.id == warm.model and m.provider == warm.provider), None)
        if kept is None or not healthy([kept], self.health, self.now):
            return chosen, ""
        if self.health.degraded(kept.provider, kept.id, self.now):
            return chosen, ""
        ours, theirs = self.expected.pico_ahead(kept), self.expected.pico_ahead(first)
        same_tier = kept.tier == first.tier
        stays = same_tier if ours is None or theirs is None or ours == theirs else ours < theirs
        if not stays:
            return chosen, ""
        where = "" if same_tier else f"tier {kept.tier} "
        return [kept, *(model for model in chosen if model is not kept)], f", {where}kept for its prompt cache"

    def _asked_for(self, tier: int | None) -> str:
        asked = self.wanted.asked
        if asked == "aion-auto":
            return f"tier {tier}" + (f", {self.wanted.why}" if self.wanted.why else "")
        return {"aion-escalate": "tier 3 asked for", "aion-local": "local asked for"}.get(
            asked, "model named by the client"
        )

    def _fitting(self, models: Sequence[Model]) -> Sequence[Model]:
        return _within_means(fitting(_not_excluded(models, self.wanted), self.tokens), self.wanted)

    def _standing_by(self, models: Sequence[Model]) -> Sequence[Model]:
        """Those that can be tried after another one."""
        only_first = self.tables.only_first
        return [model for model in models if model.provider not in only_first] if only_first else models

    def _within(self, step: PinnedStep, model: Model) -> bool:
        """Whether the step's limits allow the model. A price that is unknown is within none."""
        if step.max_cost_nano is not None:
            cost = self.expected.nano(model)
            if cost is None or cost > step.max_cost_nano:
                return False
        if step.max_first_byte is None:
            return True
        measured = self.health.first_byte(model.provider, model.id, self.now)
        return measured is None or measured <= step.max_first_byte

    def _ordered(self, models: Sequence[Model]) -> list[Model]:
        if len(models) < 2:
            return list(models)
        endpoint, cold = self.wanted.endpoint, self.expected.cold
        native = [model for model in models if is_native(model, endpoint)] if self.prefer_native else []
        if not native or len(native) == len(models):
            ordered = self.strategy(models, cold)
        else:
            foreign = [model for model in models if not is_native(model, endpoint)]
            ordered = [*self.strategy(native, cold), *self.strategy(foreign, cold)]
        return list(degraded_last(ordered, self.health, self.now))

    def _decision(
        self, chosen: Sequence[Model], tier: int | None, reason: str, first_byte_timeout: float | None = None
    ) -> Decision:
        """`tier`: the one that was wanted."""
        first = chosen[0]
        tried = [first, *self._standing_by(chosen[1:])][: self.attempts]
        dearest = self.expected.dearest(first)
        return Decision(
            attempts=tuple([self.expected.attempt(model) for model in tried]),
            tier=first.tier,
            wanted_tier=tier,
            reason=reason,
            expected=self.expected.at(first),
            baseline_nano=dearest[1] if dearest else None,
            baseline_model=dearest[0].id if dearest else "",
            first_byte_timeout=first_byte_timeout,
        )


def _tiers(fit: Sequence[Sequence[Model]], wanted: int, go_up: bool) -> tuple[list[int], str]:
    """The tiers to look in, in order, and why the first of them; empty when no model fits."""
    filled = [tier for tier in TIERS if fit[tier]]
    above = [tier for tier in filled if tier >= wanted]
    if not above:
        return filled[-1:], f"tier {wanted} and above have no model for it, so tier {max(filled, default=0)}"
    reason = f"tier {wanted}" if above[0] == wanted else f"tier {wanted} has no model for it, so tier {above[0]}"
    return above if go_up else above[:1], reason


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


def _within_means(models: Sequence[Model], wanted: Wanted) -> Sequence[Model]:
    if wanted.most is None or wanted.most_nano is None:
        return models
    priced = [(model, wanted.most.nano(model)) for model in models]
    return [model for model, nano in priced if nano is not None and nano <= wanted.most_nano]


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
