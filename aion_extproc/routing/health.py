"""Which models answer at the moment, and how well, from how requests ended there.

**Out**: every model has a circuit breaker, and every provider one of its own (see routing/breaker.py for the states).

- A failure is what another model could have avoided: 5xx, 404, time-out, an answer that broke off. It counts for the
  model. So does 403: providers say it of one model that the key may not use, or of one prompt.
- What belongs to the whole provider counts for the provider: it cannot be reached, or it does not take our key (401) or
  our credit (402). Three in a row across its models and all of them are out; one request then tries it again. Any other
  answer of its own shows that it is there.
- A local server has a health check beside that, which Envoy makes. While it fails the provider is out, and as soon as
  it passes the provider is there again, whatever the back-off.
- 429 is no failure: the model rests for the Retry-After, or for 5 s, doubling up to a minute. A failure that comes with
  a Retry-After (503) counts, and lets the model rest too, for 5 minutes at most.
- A 400 is the client's fault, and a success as far as health goes.

Where nobody else is left, a model that is down for its own failures is asked all the same if it has answered one
request in five lately (`flaky`): with three failures in a row as the limit, a model that fails three times in ten
would otherwise be out most of the time, and all of them together now and then.

**Degraded**: there, and to be used where nothing else is. Either the success rate is below 0.8, or the first byte takes
more than 2 s and more than 3 times what is usual for this very model. Both are exponentially weighted moving averages
over requests (weight 0.1 a request; 0.01 for what is usual), which begin as plain means. Who is degraded may get no
requests to show better: what was bad is forgiven with a half-life of a minute without any. A success that ends a break
lifts the rate to 0.8, so that one success is enough.

Times are seconds of any clock that never goes back; the caller hands them in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from aion_extproc.routing.breaker import LONGEST_BACKOFF, Breaker

LEAST_SUCCESS = 0.8
LEAST_FLAKY = 0.2
LEAST_JUDGED = 5  # requests before a success rate means anything
SLOW_SECONDS = 2.0
SLOW_TIMES = 3.0
WEIGHT = 0.1
USUAL_WEIGHT = 0.01
FORGIVEN_SECONDS = 60.0  # half-life
FORGOTTEN_SECONDS = 600.0

RATE_LIMITED = "provider_429"
_NOT_REACHED = frozenset({"connect_failed", "dns_failed", "no_healthy_upstream"})
PROVIDER_WIDE = _NOT_REACHED | {"provider_401", "provider_402"}
# Ours, and no word about the provider: Envoy's limit on what is open there, a worker that died.
_NO_EVIDENCE = frozenset({"overflow", "worker_lost"})
_HTTP_ANSWER = "provider_"

Status = Literal["healthy", "degraded", "cooling", "down", "half-open"]
Key = tuple[str, str]  # provider, model; "" for the provider itself


@dataclass(frozen=True, slots=True)
class Observation:
    """How one attempt ended."""

    provider: str
    model: str
    ok: bool
    code: str = ""  # the ledger's: "provider_503", "connect_failed", "upstream_timeout" …
    retry_after: float | None = None  # seconds, if the provider said so
    first_byte: float | None = None  # seconds to the first byte of a streamed answer; None: there was none


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a model, or of a provider as a whole. Times of the same clock as `now`."""

    status: Status
    why: str = ""  # ASCII; "" when healthy
    since: float | None = None  # None: healthy
    until: float | None = None  # when a request may go there again; None: now
    success_rate: float | None = None  # None: no request yet
    first_byte: float | None = None  # seconds; None: no stream yet
    requests: int = 0
    failures: int = 0
    rate_limited: int = 0


@dataclass(slots=True)
class _Average:
    value: float = 0.0
    seen: int = 0  # observations

    def add(self, mean: float, count: int, weight: float) -> None:
        """`count` observations whose mean is `mean`, as if one after the other."""
        share = max(1 - (1 - weight) ** count, count / (self.seen + count))
        self.value += (mean - self.value) * share
        self.seen += count


@dataclass(slots=True)
class _Record:
    requests: int = 0
    failures: int = 0
    rate_limited: int = 0
    at: float = 0.0  # the last one
    measured_at: float = 0.0  # the last first byte
    success: _Average = field(default_factory=_Average)
    first_byte: _Average = field(default_factory=_Average)
    usual: _Average = field(default_factory=_Average)  # of first_byte

    def forgiven(self, now: float) -> tuple[float, float]:
        """Success rate and first byte, less what the time without requests has made good."""
        left = 0.5 ** (max(0.0, now - self.at) / FORGIVEN_SECONDS)
        usual = self.usual.value
        return 1 - (1 - self.success.value) * left, usual + (self.first_byte.value - usual) * left

    def complaint(self, now: float) -> str:
        """Why it is degraded; "" if it is not."""
        rate, first_byte = self.forgiven(now)
        if self.success.seen >= LEAST_JUDGED and rate < LEAST_SUCCESS:
            return f"success rate {rate:.2f}"
        if first_byte > SLOW_SECONDS and first_byte > SLOW_TIMES * self.usual.value:
            return f"first byte after {first_byte:.1f} s, usually {self.usual.value:.1f} s"
        return ""

    def to_plain(self, now: float) -> dict[str, Any]:
        return asdict(self) | {"at": self.at - now, "measured_at": self.measured_at - now}

    @classmethod
    def from_plain(cls, plain: dict[str, Any], now: float) -> _Record:
        averages = {name: plain[name] for name in ("success", "first_byte", "usual")}
        return cls(
            requests=int(plain["requests"]),
            failures=int(plain["failures"]),
            rate_limited=int(plain["rate_limited"]),
            at=now + float(plain["at"]),
            measured_at=now + float(plain["measured_at"]),
            **{name: _Average(float(one["value"]), int(one["seen"])) for name, one in averages.items()},
        )


class Health:
    """The memory of one process."""

    def __init__(self) -> None:
        self.on_trial: Callable[[str, str], None] | None = None  # told of each trial that begins here
        self._breakers: dict[Key, Breaker] = {}  # of what has failed lately, so mostly none
        self._degraded: dict[Key, float] = {}  # since when
        self._records: dict[Key, _Record] = {}

    def healthy(self, provider: str, model: str, now: float) -> bool:
        """Whether a request may go there. Asking changes nothing."""
        breakers = self._breakers
        if not breakers:
            return True
        breaker = breakers.get((provider, model))
        if breaker is not None and not breaker.admits(now):
            return False
        breaker = breakers.get((provider, ""))
        return breaker is None or breaker.admits(now)

    def degraded(self, provider: str, model: str, now: float) -> bool:
        """Whether others that can do the same should be asked first."""
        return (provider, model) in self._degraded and bool(self._records[provider, model].complaint(now))

    def flaky(self, provider: str, model: str, now: float) -> bool:
        """Whether it is out for its failures, and yet has answered now and then: better than nobody, where nobody is
        well. Not one that asked for a pause, nor one whose provider is out."""
        record, breaker = self._records.get((provider, model)), self._breakers.get((provider, model))
        if record is None or breaker is None or breaker.admits(now) or now < breaker.rests_until:
            return False
        of_provider = self._breakers.get((provider, ""))
        return record.success.value >= LEAST_FLAKY and (of_provider is None or of_provider.admits(now))

    def first_byte(self, provider: str, model: str, now: float) -> float | None:
        """Seconds that a stream's first byte is to be expected in. None: nobody has measured it, or not for ten
        minutes, and whoever was too slow then may show again."""
        record = self._records.get((provider, model))
        if record is None or not record.first_byte.seen or now > record.measured_at + FORGOTTEN_SECONDS:
            return None
        return record.forgiven(now)[1]

    def wait(self, provider: str, model: str, now: float) -> float:
        """Seconds until a request may go there; 0 when it may now, or when only a trial is under way."""
        return max((breaker.wait(now) for breaker in self._broken(provider, model)), default=0.0)

    def begin(self, provider: str, model: str, now: float) -> None:
        """A request goes there now. If it is a half-open one's trial, nobody follows until its report."""
        if self._breakers and self.tried(provider, model, now) and self.on_trial is not None:
            self.on_trial(provider, model)

    def tried(self, provider: str, model: str, now: float) -> bool:
        """As `begin`, and nobody is told. Whether it is a trial."""
        return any([breaker.begin_trial(now) for breaker in self._broken(provider, model)])

    def report(self, observation: Observation, now: float) -> None:
        """How a request ended. `now` is when, and may lie a little behind an earlier report's."""
        first = observation.first_byte
        if observation.ok:
            measured = 0 if first is None else 1
            self.succeeded(observation.provider, observation.model, 1, now, first or 0.0, measured)
        elif observation.code in _NO_EVIDENCE:
            for breaker in self._broken(observation.provider, observation.model):
                breaker.trial_at = None
        else:
            self._failed(observation, now)

    def succeeded(
        self, provider: str, model: str, count: int, now: float, first_byte: float = 0.0, measured: int = 0
    ) -> None:
        """`count` requests went well, the last at `now`; `first_byte` is the mean of those `measured`, in seconds."""
        key = (provider, model)
        record = self._record(key, now)
        if self._breakers:
            self._heal(key, now)
            self._heal((provider, ""), now)
        record.requests += count
        record.success.add(1.0, count, WEIGHT)
        if measured:
            record.first_byte.add(first_byte, measured, WEIGHT)
            record.usual.add(first_byte, measured, USUAL_WEIGHT)
            record.measured_at = now
        if measured or self._degraded or record.success.value < LEAST_SUCCESS:
            self._judge(key, record, now)

    def checked(self, provider: str, passed: bool, now: float, at: float) -> None:
        """What the health check of a server said at `at`; to be told again every few seconds while it fails."""
        if not passed:
            self._breaker((provider, "")).fail_check(now)
            return
        breaker = self._breakers.get((provider, ""))
        if breaker is None:
            return
        if now < breaker.fails_check_until:  # it has just come, so what its models did before is past
            breaker.fails_check_until = 0.0
            for key in [key for key in self._breakers if key[0] == provider]:
                self._heal(key, now)
        elif breaker.code in _NOT_REACHED:
            self._heal((provider, ""), at)

    def _failed(self, observation: Observation, now: float) -> None:
        provider, code, retry_after = observation.provider, observation.code, observation.retry_after
        key = (provider, observation.model)
        record = self._record(key, now)
        record.requests += 1
        if code == RATE_LIMITED:
            record.rate_limited += 1
        else:
            record.failures += 1
            record.success.add(0.0, 1, WEIGHT)
        if code in PROVIDER_WIDE:
            for breaker in self._broken(*key):
                breaker.trial_at = None
            self._breaker((provider, "")).fail(code, now)
        else:
            self._answered(provider, code, now)
            breaker = self._breaker(key)
            if code == RATE_LIMITED:
                breaker.rest(code, retry_after, now)
            else:
                breaker.fail(code, now)
                if retry_after is not None:
                    breaker.rest(code, min(retry_after, LONGEST_BACKOFF), now)
        self._judge(key, record, now)

    def _answered(self, provider: str, code: str, now: float) -> None:
        """What another failure means for a provider that was not there. One that hangs or breaks off still is not."""
        breaker = self._breakers.get((provider, ""))
        if breaker is None:
            return
        if code.startswith(_HTTP_ANSWER):
            self._heal((provider, ""), now)
        elif breaker.backoff:
            breaker.fail(code, now)

    def _heal(self, key: Key, now: float) -> None:
        breaker = self._breakers.get(key)
        if breaker is None or now < breaker.failed_at:
            return  # a success from before the failure
        was_down = bool(breaker.backoff)
        if breaker.heal(now):
            del self._breakers[key]
        if was_down:
            for other, record in self._records.items():
                if other == key or (not key[1] and other[0] == key[0]):
                    record.success.value = max(record.success.value, LEAST_SUCCESS)
                    self._judge(other, record, now)

    def _record(self, key: Key, now: float) -> _Record:
        """The record, about to be added to: what is forgiven by now is forgotten, and counts from here."""
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record()
        elif key in self._degraded and not record.complaint(now):
            record.success.value, record.first_byte.value = record.forgiven(now)
            del self._degraded[key]
        record.at = max(record.at, now)
        return record

    def _judge(self, key: Key, record: _Record, now: float) -> None:
        if record.complaint(now):
            self._degraded.setdefault(key, now)
        else:
            self._degraded.pop(key, None)

    def _breaker(self, key: Key) -> Breaker:
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker()
        return breaker

    def _broken(self, provider: str, model: str) -> Iterator[Breaker]:
        for key in ((provider, model), (provider, "")):
            breaker = self._breakers.get(key)
            if breaker is not None:
                yield breaker

    def standing(self, provider: str, model: str, now: float) -> Standing:
        """What is known of a model."""
        record = self._records.get((provider, model)) or _Record()
        known = Standing(
            status="healthy",
            success_rate=record.success.value if record.success.seen else None,
            first_byte=record.first_byte.value if record.first_byte.seen else None,
            requests=record.requests,
            failures=record.failures,
            rate_limited=record.rate_limited,
        )
        outs = [out for out in (self._out((provider, ""), now), self._out((provider, model), now)) if out is not None]
        if outs:
            out = max(outs, key=lambda one: one.until or now)
            return replace(known, status=out.status, why=out.why, since=out.since, until=out.until)
        since = self._degraded.get((provider, model))
        complaint = record.complaint(now) if since is not None else ""
        return replace(known, status="degraded", why=complaint, since=since) if complaint else known

    def provider_standing(self, provider: str, now: float) -> Standing:
        """What is known of a provider apart from its models. Nothing is counted here."""
        return self._out((provider, ""), now) or Standing("healthy")

    def _out(self, key: Key, now: float) -> Standing | None:
        breaker = self._breakers.get(key)
        if breaker is None:
            return None
        state = breaker.state(now)
        if state == "up":
            return None
        if now < breaker.fails_check_until:
            why = "its health check fails"
        elif state == "cooling":
            why = "it asked for a pause"
        else:
            whose = "" if key[1] else "of the provider "
            why = f"{breaker.failures} failures {whose}in a row, the last: {breaker.code}"
        wait = breaker.wait(now)
        return Standing(state, why, breaker.since, now + wait if wait else None)

    def snapshot(self, now: float) -> Iterator[dict[str, Any]]:
        """All that is known, as plain entries for `adopt`; times are counted from `now`."""
        for key in self._records.keys() | self._breakers.keys():
            record, breaker = self._records.get(key), self._breakers.get(key)
            yield {
                "provider": key[0],
                "model": key[1],
                "record": None if record is None else record.to_plain(now),
                "breaker": None if breaker is None else breaker.to_plain(now),
            }

    def adopt(self, entry: dict[str, Any], now: float) -> None:
        """Take over what another process knows of a model or provider, unless as much is known here.

        KeyError, TypeError, ValueError: that is no entry; then nothing is changed.
        """
        key = (str(entry["provider"]), str(entry["model"]))
        breaker = None if entry["breaker"] is None else Breaker.from_plain(entry["breaker"], now)
        if key[1]:
            record = _Record.from_plain(entry["record"], now)
            mine = self._records.get(key)
            if mine is not None and mine.requests >= record.requests:
                return
            self._records[key] = record
            self._judge(key, record, now)
        elif breaker is not None and key in self._breakers and self._breakers[key].failures >= breaker.failures:
            return
        if breaker is None:
            self._breakers.pop(key, None)
        else:
            self._breakers[key] = breaker
