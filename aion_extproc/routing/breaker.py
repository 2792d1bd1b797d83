"""A circuit breaker: whether requests may go to a model, or to any model of a provider.

    up ── 3 failures in a row ──▶ down ── back-off over ──▶ half-open ── success ──▶ up
                                   ▲                            │
                                   └──── failure, back-off ×2 ──┘

Half-open lets one request through at a time. Beside that it rests: a provider that says 429 has not failed, it wants
to be left alone for a while. A success does not end the rest, for it may have begun before. And somebody may look
after it: while its health check fails it is down, and no request need try it.

Times are seconds of any clock that never goes back; the caller hands them in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FAILURES_TO_DOWN = 3
# Envoy knows of no address. It answers that by itself and goes on to no other model, so once is enough.
NO_HEALTHY_UPSTREAM = "no_healthy_upstream"
FIRST_BACKOFF = 30.0
LONGEST_BACKOFF = 300.0
FIRST_PAUSE = 5.0  # after a 429 that does not say how long
LONGEST_PAUSE = 60.0
LONGEST_RETRY_AFTER = 3600.0  # beyond an hour is not believed
CHECK_SECONDS = 10.0  # a failed health check that nobody repeats (who told of it is gone) says nothing any more
TRIAL_TIMEOUT = 60.0  # a trial that is never reported (its worker died) frees the place again

State = Literal["up", "cooling", "down", "half-open"]
_TIMES = ("until", "rests_until", "fails_check_until", "since", "failed_at")


@dataclass(slots=True)
class Breaker:
    """Made at the first failure, thrown away when all is well again."""

    failures: int = 0  # in a row
    backoff: float = 0.0  # 0: up
    until: float = 0.0  # down before this
    pauses: int = 0  # 429s in a row that did not say how long
    rests_until: float = 0.0
    fails_check_until: float = 0.0
    since: float = 0.0  # when it went down or began to rest
    failed_at: float = 0.0  # the last failure or 429
    trial_at: float | None = None  # when the request that tries it again began
    code: str = ""  # of the last failure or 429

    def state(self, now: float) -> State:
        if now < self.until or now < self.fails_check_until:
            return "down"
        if now < self.rests_until:
            return "cooling"
        return "half-open" if self.backoff else "up"

    def admits(self, now: float) -> bool:
        """Whether a request may go there."""
        if now < self.until or now < self.rests_until or now < self.fails_check_until:
            return False
        return not self.backoff or not self._in_trial(now)

    def wait(self, now: float) -> float:
        """Seconds until `admits`; 0 where only a trial is under way."""
        return max(0.0, self.until - now, self.rests_until - now, self.fails_check_until - now)

    def begin_trial(self, now: float) -> bool:
        """A request goes there. Whether it is a half-open one's trial."""
        if not self.backoff or self.wait(now) or self._in_trial(now):
            return False
        self.trial_at = now
        return True

    def fail(self, code: str, now: float) -> None:
        self.failures += 1
        self.code, self.failed_at = code, now
        if self.backoff and now < self.until:
            return  # a request from before the break; it tells nothing new
        if self.backoff or self.failures >= FAILURES_TO_DOWN or code == NO_HEALTHY_UPSTREAM:
            if not self.backoff and self.state(now) != "down":
                self.since = now
            self.backoff = max(FIRST_BACKOFF, min(self.backoff * 2, LONGEST_BACKOFF))
            self.until = now + self.backoff
            self.trial_at = None

    def rest(self, code: str, retry_after: float | None, now: float) -> None:
        """It asked for a pause of `retry_after` seconds; None: it did not say how long."""
        self.code, self.failed_at, self.trial_at = code, now, None
        if now >= self.rests_until and self.state(now) != "down":
            self.since = now
        if retry_after is None:
            if now < self.rests_until:
                return  # a request from before the pause
            self.pauses += 1
            retry_after = min(FIRST_PAUSE * 2 ** min(self.pauses - 1, 10), LONGEST_PAUSE)
        self.rests_until = max(self.rests_until, now + min(max(0.0, retry_after), LONGEST_RETRY_AFTER))

    def fail_check(self, now: float) -> None:
        """Its health check fails, and somebody goes on asking it."""
        if self.state(now) == "up":
            self.since = now
        self.fails_check_until = now + CHECK_SECONDS

    def heal(self, now: float) -> bool:
        """One success. Whether nothing is left to remember."""
        self.failures, self.backoff, self.until, self.trial_at = 0, 0.0, 0.0, None
        return now >= self.rests_until and now >= self.fails_check_until

    def _in_trial(self, now: float) -> bool:
        return self.trial_at is not None and now < self.trial_at + TRIAL_TIMEOUT

    def to_plain(self, now: float) -> dict[str, Any]:
        """For a process with another clock: all times counted from `now`. Trials are nobody else's."""
        plain = {name: getattr(self, name) for name in ("failures", "backoff", "pauses", "code")}
        return plain | {name: getattr(self, name) - now for name in _TIMES}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], now: float) -> Breaker:
        """TypeError, KeyError: that is no breaker."""
        times = {name: now + float(plain[name]) for name in _TIMES}
        return cls(
            failures=int(plain["failures"]),
            backoff=float(plain["backoff"]),
            pauses=int(plain["pauses"]),
            code=str(plain["code"]),
            **times,
        )
