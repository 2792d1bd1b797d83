"""What is known of the conversation that a request belongs to, and what is remembered of it: the sessions' place in the
exchanges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aion_extproc.accounting.row import LedgerRow
from aion_extproc.catalog.model import Model
from aion_extproc.classify.classification import Classification
from aion_extproc.extproc.callers import Caller
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.session_key import turn_of
from aion_extproc.routing.decision import Warm
from aion_extproc.routing.expected import left_in_cache
from aion_extproc.routing.sessions import Judged, Turn, judge, warm
from aion_extproc.routing.task_tiers import ANY_TIER, TierBounds
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.request import Request

_HOUR = 3600.0


class Recalled(NamedTuple):
    """For a request that is about to be decided."""

    tier: int  # that it wants; 1 where it was not classified
    why: str = ""  # that tier is not its score's own
    warm: Warm | None = None
    turn: Turn | None = None  # None: nothing is to be remembered
    judged: Judged | None = None

    @property
    def mark(self) -> str:
        """For the facts, so that the end of the answer finds its way to the session; "" where there is none."""
        return self.turn.mark if self.turn is not None else ""


def recall(
    policy: Policy,
    headers: Mapping[str, str],
    request: Request,
    caller: Caller,
    classification: Classification | None,
    now: float,
) -> Recalled:
    """What its conversation has to say. `headers`: the client's, names in lower case; `now`: monotonic seconds."""
    turn = turn_of(headers, request, caller)
    if turn is None:
        if classification is None:
            return Recalled(1)
        return Recalled(*_bounds(policy, classification).within(policy.thresholds.tier(classification.score)))
    rules, session = policy.session_rules, policy.sessions.look(turn.session, now)
    kept = warm(session, turn, rules, now)
    # Who only counts tokens has not said anything yet.
    remembered = None if request.endpoint is Endpoint.COUNT_TOKENS else turn
    if classification is None:
        return Recalled(1, warm=kept, turn=remembered)
    score, plain, bounds = classification.score, classification.floored, _bounds(policy, classification)
    judged = judge(session, turn, score, plain, policy.thresholds, rules, now, bounds)
    return Recalled(judged.tier, judged.why, kept, remembered, judged)


def _bounds(policy: Policy, classification: Classification) -> TierBounds:
    return policy.task_tiers.get(classification.task, ANY_TIER)


def remember_decision(policy: Policy, recalled: Recalled, model: Model, tokens: int, now: float) -> None:
    """The request goes to that model, with about so many tokens."""
    if recalled.turn is not None:
        policy.sessions.decided(recalled.turn, recalled.judged, model.provider, model.id, tokens, now)


def remember_answer(policy: Policy, mark: str, cache_ttl: str, row: LedgerRow, now: float) -> None:
    """A request has ended, maybe another worker's. `mark` and `cache_ttl` are those of its facts. Only whole answers
    tell anything."""
    if not mark or row.outcome != "served":
        return
    model = next((m for m in policy.catalog.resolve(row.model).models if m.provider == row.provider), None)
    if model is None:  # no longer configured
        return
    lifetime = policy.session_rules.cache_lifetime
    if lifetime and cache_ttl == "1h":
        lifetime = max(lifetime, _HOUR)
    held = left_in_cache(row.usage, model)
    policy.sessions.answered(mark, row.provider, row.model, model.tier, held, lifetime, now)
