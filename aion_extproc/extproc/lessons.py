"""What the end of a request teaches: how its model is, and what its conversation has in which prompt cache."""

from __future__ import annotations

from aion_extproc.accounting.facts import Facts
from aion_extproc.accounting.row import LedgerRow
from aion_extproc.extproc.ended import WORKER_LOST
from aion_extproc.extproc.policy import Policy
from aion_extproc.extproc.recall import remember_answer
from aion_extproc.extproc.sending import RETRIABLE
from aion_extproc.routing.health import Observation


def learn(policy: Policy, row: LedgerRow, facts: Facts, now: float) -> None:
    """For the conversation's next turn. `now`: monotonic seconds."""
    if facts.model and not facts.error:
        remember_answer(policy, facts.session, facts.cache_ttl, row, now)


def observation(row: LedgerRow, facts: Facts, retry_after: float | None) -> Observation | None:
    """How a request's last attempt ended, for health, which has heard of those before it (failed_attempts.py). None
    where it tells nothing: a client that left, a request that was refused."""
    if not facts.model or facts.error or row.error == WORKER_LOST:  # that was our own
        return None
    broke = row.outcome == "cut" and row.error not in ("client_gone", "idle_timeout")
    if broke or (row.outcome == "failed" and (row.status >= 500 or row.status in RETRIABLE)):
        return Observation(row.provider, row.model, False, row.error, retry_after)
    if row.outcome not in ("served", "failed"):
        return None
    # A 400 too: the model is there, and the client was wrong. JSON takes as long as the answer is; what came before a
    # later attempt was not its fault.
    measured = row.outcome == "served" and row.stream and row.attempts == 1 and row.ttft_ms is not None
    first = row.ttft_ms / 1000 if measured and row.ttft_ms is not None else None
    return Observation(row.provider, row.model, True, first_byte=first)
