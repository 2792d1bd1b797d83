"""Failed attempts of requests that go on with another model: health hears of each when it has failed, not when its
request ends, for that may be a stream of ten minutes.

How an attempt failed only Envoy's log says, which does not know its model. Which model it was the exchange of the
attempt after it knows (attempt_exchange.py), in some worker, which tells the ledger's process. Either may come first,
and what the worker tells may get lost: then the request's own entry tells, when it ends.

The log's entries of one request come in the order of its attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aion_extproc.accounting.settle import FailedAttempt
from aion_extproc.routing.health import Observation

FAILED = "failed"  # the kind of news by which a worker tells: {"request": its id, "models": Models}
MOST_REQUESTS = 10_000  # that are remembered until they end; then the oldest are forgotten
MOST_NAMED = 10_000  # of which Envoy's log has said nothing yet
NAMED_SECONDS = 30.0  # that such a one is remembered; the log comes within a second

Models = Sequence[tuple[str, str]]  # (provider, model) of the attempts of a request, from the first on


@dataclass(slots=True)
class _Request:
    models: Models  # as far as they are known
    attempts: list[FailedAttempt] = field(default_factory=list)
    told: int = 0  # so many of the attempts


class FailedAttempts:
    """`tell` hears of each attempt once. Times are seconds of any clock that never goes back."""

    def __init__(self, tell: Callable[[Observation], None]) -> None:
        self._tell = tell
        self._requests: dict[str, _Request] = {}  # by id, from the first entry of one on
        self._named: dict[str, tuple[float, Models]] = {}  # those that have no entry yet, and when they were named

    def logged(self, attempt: FailedAttempt) -> None:
        """One more attempt of that request, which may turn out to be its last."""
        request = self._requests.get(attempt.request_id)
        if request is None:
            _, models = self._named.pop(attempt.request_id, (0.0, ()))
            request = self._requests[attempt.request_id] = _Request(models)
            if len(self._requests) > MOST_REQUESTS:
                del self._requests[next(iter(self._requests))]
        request.attempts.append(attempt)
        self._tell_known(request)

    def named(self, request_id: str, models: Models, now: float) -> None:
        """The next attempt has begun, so those with `models` have failed."""
        request = self._requests.get(request_id)
        if request is None:
            _, known = self._named.pop(request_id, (0.0, ()))
            self._named[request_id] = (now, max(known, models, key=len))
            self._forget(now)
        elif len(models) > len(request.models):
            request.models = models
            self._tell_known(request)

    def ended(self, request_id: str, models: Models) -> list[FailedAttempt]:
        """The request is over: its failed attempts before the last, whose models are `models`."""
        self._named.pop(request_id, None)
        request = self._requests.pop(request_id, None)
        if request is None:
            return []
        request.models = models
        self._tell_known(request)
        return request.attempts[: len(models)]

    def _tell_known(self, request: _Request) -> None:
        known = zip(request.attempts, request.models, strict=False)
        for attempt, (provider, model) in list(known)[request.told :]:
            request.told += 1
            if attempt.ours:
                continue
            self._tell(Observation(provider, model, False, attempt.error, attempt.retry_after))

    def _forget(self, now: float) -> None:
        while len(self._named) > MOST_NAMED or next(iter(self._named.values()))[0] < now - NAMED_SECONDS:
            del self._named[next(iter(self._named))]
