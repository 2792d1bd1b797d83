"""The circuit breaker, by a play of reports and asks against what its text promises."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aion_extproc.routing.health import (
    FAILURES_TO_DOWN,
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    LONGEST_PAUSE,
    TRIAL_TIMEOUT,
    Health,
)


def broken() -> Health:
    health = Health()
    for _ in range(FAILURES_TO_DOWN):
        health.report("p", "m", False, 0.0)
    return health


def test_three_failures_in_a_row_and_not_fewer() -> None:
    health = Health()
    for outcome in (False, False, True, False, False):
        health.report("p", "m", outcome, 0.0)
        assert health.healthy("p", "m", 0.0)
    health.report("p", "m", False, 0.0)
    assert not health.healthy("p", "m", 0.0)
    assert health.healthy("p", "other", 0.0)
    assert health.healthy("other", "m", 0.0)


def test_the_back_off_doubles_up_to_five_minutes() -> None:
    health, now = broken(), 0.0
    for wait in (30, 60, 120, 240, 300, 300):
        assert health.wait("p", "m", now) == wait
        assert not health.healthy("p", "m", now + wait - 0.1)
        now += wait
        assert health.healthy("p", "m", now)
        health.begin("p", "m", now)
        health.report("p", "m", False, now)


def test_half_open_lets_one_through_until_its_report_or_its_loss() -> None:
    health = broken()
    health.begin("p", "m", 30.0)
    assert not health.healthy("p", "m", 30.0)
    assert not health.healthy("p", "m", 30.0 + TRIAL_TIMEOUT - 0.1)
    assert health.healthy("p", "m", 30.0 + TRIAL_TIMEOUT)
    health.report("p", "m", True, 31.0)
    assert health.healthy("p", "m", 31.0)


def test_one_success_forgets_everything() -> None:
    health = broken()
    health.report("p", "m", True, 1.0)
    for _ in range(FAILURES_TO_DOWN - 1):
        health.report("p", "m", False, 2.0)
    assert health.healthy("p", "m", 2.0)


def test_late_failures_of_requests_from_before_do_not_lengthen_the_wait() -> None:
    health = broken()
    for second in range(20):
        health.report("p", "m", False, float(second))
    assert health.healthy("p", "m", FIRST_BACKOFF)


def test_retry_after_is_a_pause_and_no_failure() -> None:
    health = Health()
    for _ in range(5):
        health.report("p", "m", False, 0.0, retry_after=7.0)
    assert not health.healthy("p", "m", 6.9)
    assert health.healthy("p", "m", 7.0)
    health.begin("p", "m", 7.0)
    assert health.healthy("p", "m", 7.0)  # not half-open: everybody may go
    health.report("p", "m", False, 8.0, retry_after=1e9)
    assert health.wait("p", "m", 8.0) == LONGEST_PAUSE


MODELS = st.sampled_from(["a", "b"])


class Play(RuleBasedStateMachine):
    """Two models, a clock that goes on, reports in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health()
        self.now = 0.0
        self.in_a_row = {"a": 0, "b": 0}
        self.paused_until = {"a": 0.0, "b": 0.0}
        self.last_report = {"a": 0.0, "b": 0.0}

    @rule(seconds=st.sampled_from([0.1, 1.0, 29.0, 31.0, 100.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(model=MODELS)
    def succeed(self, model: str) -> None:
        self.health.report("p", model, True, self.now)
        self.in_a_row[model], self.paused_until[model] = 0, 0.0
        assert self.health.healthy("p", model, self.now)

    @rule(model=MODELS)
    def fail(self, model: str) -> None:
        self.health.report("p", model, False, self.now)
        self.in_a_row[model] += 1
        self.last_report[model] = self.now

    @rule(model=MODELS, seconds=st.floats(0, 200))
    def too_many(self, model: str, seconds: float) -> None:
        self.health.report("p", model, False, self.now, retry_after=seconds)
        self.paused_until[model] = max(self.paused_until[model], self.now + seconds)
        self.last_report[model] = self.now

    @rule(model=MODELS)
    def go(self, model: str) -> None:
        if self.health.healthy("p", model, self.now):
            self.health.begin("p", model, self.now)
            if self.in_a_row[model] >= FAILURES_TO_DOWN:
                assert not self.health.healthy("p", model, self.now), "a second trial at once"

    @invariant()
    def what_the_text_says(self) -> None:
        for model, failures in self.in_a_row.items():
            healthy = self.health.healthy("p", model, self.now)
            if self.now < self.paused_until[model]:
                assert not healthy
            elif failures < FAILURES_TO_DOWN:
                assert healthy
            # Nothing is out for ever: left alone, everything may be tried again.
            assert self.health.healthy("p", model, self.now + LONGEST_PAUSE + LONGEST_BACKOFF + TRIAL_TIMEOUT)
            assert self.health.wait("p", model, self.now) <= max(LONGEST_BACKOFF, 200)


TestPlay = Play.TestCase
TestPlay.settings = settings(deadline=None)
