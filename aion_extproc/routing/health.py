"""Which models answer at the moment: a circuit breaker for each model at each provider.

    up ── 3 failures in a row ──▶ down ── back-off over ──▶ half-open ── success ──▶ up
                                   ▲                            │
                                   └──── failure, back-off ×2 ──┘

Half-open lets one request through at a time. The back-off starts at 30 s and doubles up to 5 minutes. A 429
with a Retry-After is no failure but a pause: the model rests until then and is up again.

A failure is what another model could have avoided (connection lost, time-out, 5xx, 429 without
Retry-After); a 400 is the client's and must not be reported. Times are seconds of any clock that never goes
back; the caller hands them in. What is up takes no memory.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILURES_TO_DOWN = 3
FIRST_BACKOFF = 30.0
LONGEST_BACKOFF = 300.0
LONGEST_PAUSE = 3600.0  # a Retry-After beyond an hour is not believed
TRIAL_TIMEOUT = 60.0  # a trial that is never reported (its worker died) frees the place again


@dataclass(slots=True)
class _Trouble:
    failures: int = 0  # in a row
    backoff: float = 0.0  # 0: still up
    until: float = 0.0  # down or resting before this
    trial_at: float | None = None  # when the request that tries it again began


class Health:
    """The breakers of one worker."""

    def __init__(self) -> None:
        self._troubles: dict[tuple[str, str], _Trouble] = {}

    def healthy(self, provider: str, model: str, now: float) -> bool:
        """Whether a request may go there. Asking changes nothing."""
        if not self._troubles:
            return True
        trouble = self._troubles.get((provider, model))
        if trouble is None:
            return True
        if now < trouble.until:
            return False
        return not trouble.backoff or trouble.trial_at is None or now >= trouble.trial_at + TRIAL_TIMEOUT

    def begin(self, provider: str, model: str, now: float) -> None:
        """A request goes there now. If it is a half-open model's trial, nobody follows until its report."""
        if self._troubles:
            trouble = self._troubles.get((provider, model))
            if trouble is not None and trouble.backoff and now >= trouble.until:
                trouble.trial_at = now

    def report(self, provider: str, model: str, ok: bool, now: float, retry_after: float | None = None) -> None:
        """How a request ended there. `retry_after`: seconds the provider asked us to wait (429)."""
        key = (provider, model)
        if ok:
            self._troubles.pop(key, None)
            return
        trouble = self._troubles.setdefault(key, _Trouble())
        if retry_after is not None:
            trouble.until = max(trouble.until, now + min(max(0.0, retry_after), LONGEST_PAUSE))
            trouble.trial_at = None
            return
        trouble.failures += 1
        if trouble.backoff and now < trouble.until:
            return  # a request from before the break; it tells nothing new
        if trouble.backoff or trouble.failures >= FAILURES_TO_DOWN:
            trouble.backoff = min(trouble.backoff * 2, LONGEST_BACKOFF) if trouble.backoff else FIRST_BACKOFF
            trouble.until = max(trouble.until, now + trouble.backoff)
            trouble.trial_at = None

    def wait(self, provider: str, model: str, now: float) -> float:
        """Seconds until a request may go there; 0 when it may now, or when only a trial is under way."""
        trouble = self._troubles.get((provider, model))
        return max(0.0, trouble.until - now) if trouble else 0.0
