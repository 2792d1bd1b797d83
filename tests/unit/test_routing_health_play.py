"""Health against a plain model of its rules, and successes that are told in sums."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aion_extproc.routing.health import Health
from tests.support.health import fail, succeed

# -- a play against a plain model of the text


@dataclass
class Side:
    """What the text says of a model or a provider."""

    in_a_row: int = 0
    back_off: float = 0.0
    down_until: float = 0.0
    rests_until: float = 0.0
    pauses: int = 0
    trial_until: float = 0.0

    def out(self, now: float) -> bool:
        return now < max(self.down_until, self.rests_until) or (self.back_off > 0 and now < self.trial_until)

    def failed(self, now: float) -> None:
        self.in_a_row += 1
        if now >= self.down_until and (self.back_off or self.in_a_row >= 3):
            self.back_off = min(300.0, 2 * self.back_off) if self.back_off else 30.0
            self.down_until, self.trial_until = now + self.back_off, 0.0

    def healed(self, now: float) -> None:
        self.in_a_row, self.back_off, self.down_until, self.trial_until = 0, 0.0, 0.0, 0.0
        if now >= self.rests_until:
            self.pauses = 0

    def tried(self, now: float) -> None:
        if self.back_off and now >= max(self.down_until, self.rests_until) and now >= self.trial_until:
            self.trial_until = now + 60.0


MODELS = st.sampled_from(["a", "b"])


class Play(RuleBasedStateMachine):
    """Two models of one provider, a clock that goes on, reports in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.health = Health()
        self.now = 1000.0
        self.sides = {"a": Side(), "b": Side(), "": Side()}

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 29.0, 31.0, 61.0, 100.0, 400.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(model=MODELS)
    def succeed(self, model: str) -> None:
        succeed(self.health, self.now, model)
        self.sides[model].healed(self.now)
        self.sides[""].healed(self.now)

    @rule(model=MODELS)
    def fail(self, model: str) -> None:
        fail(self.health, self.now, model, "provider_503")
        self.sides[model].failed(self.now)
        self.sides[""].healed(self.now)

    @rule(model=MODELS)
    def hang(self, model: str) -> None:
        fail(self.health, self.now, model, "upstream_timeout")
        self.sides[model].failed(self.now)
        if self.sides[""].back_off:
            self.sides[""].failed(self.now)

    @rule(model=MODELS)
    def not_reached(self, model: str) -> None:
        fail(self.health, self.now, model, "connect_failed")
        self.sides[model].trial_until = self.sides[""].trial_until = 0.0
        self.sides[""].failed(self.now)

    @rule(model=MODELS, seconds=st.none() | st.floats(0, 200))
    def too_many(self, model: str, seconds: float | None) -> None:
        fail(self.health, self.now, model, "provider_429", seconds)
        side = self.sides[model]
        side.trial_until = 0.0
        if seconds is None and self.now >= side.rests_until:
            side.rests_until = self.now + min(60.0, 5.0 * 2**side.pauses)
            side.pauses += 1
        elif seconds is not None:
            side.rests_until = max(side.rests_until, self.now + seconds)
        self.sides[""].healed(self.now)

    @rule(model=MODELS)
    def go(self, model: str) -> None:
        self.health.begin("p", model, self.now)
        self.sides[model].tried(self.now)
        self.sides[""].tried(self.now)

    @rule()
    def join(self) -> None:
        """Another process takes its place, with what this one knows and a clock of its own."""
        known = list(self.health.snapshot(self.now))
        self.health, self.now = Health(), self.now + 5000.0
        for entry in known:
            self.health.adopt(entry, self.now)
        for side in self.sides.values():
            side.down_until += 5000.0
            side.rests_until += 5000.0
            side.trial_until = 0.0

    @invariant()
    def what_the_text_says(self) -> None:
        for model in ("a", "b"):
            own, all_of_them = self.sides[model], self.sides[""]
            out = own.out(self.now) or all_of_them.out(self.now)
            assert self.health.healthy("p", model, self.now) is not out
            wait = max(0.0, *(max(s.down_until, s.rests_until) - self.now for s in (own, all_of_them)))
            assert self.health.wait("p", model, self.now) == pytest.approx(wait)
            status = self.health.standing("p", model, self.now).status
            if wait:
                assert status in ("down", "cooling")
            elif own.back_off or all_of_them.back_off:
                assert status == "half-open"
            else:
                assert status in ("healthy", "degraded")
            # Nothing is out for ever: left alone, everything may be tried again, and nothing is held against it.
            later = self.now + 3600.0
            assert self.health.healthy("p", model, later)
            assert not self.health.degraded("p", model, later)
        assert self.health.healthy("q", "a", self.now)


TestPlay = Play.TestCase
TestPlay.settings = settings(deadline=None)


# -- what is told in sums


@given(st.lists(st.booleans() | st.floats(0.01, 20.0), max_size=60), st.integers(1, 20))
def test_successes_in_sums_judge_as_each_for_itself_would(reports: list[bool | float], size: int) -> None:
    """True and False: a success, a failure; a number: a success with that first byte."""
    one, summed = Health(), Health()
    waiting: list[bool | float] = []

    def tell() -> None:
        measured = [each for each in waiting if not isinstance(each, bool)]
        mean = sum(measured) / len(measured) if measured else 0.0
        if waiting:
            summed.succeeded("p", "m", len(waiting), 0.0, mean, len(measured))
        waiting.clear()

    for report in reports:
        if report is False:
            tell()
            fail(summed, 0.0)
            fail(one, 0.0)
        else:
            succeed(one, 0.0, first_byte=None if report is True else report)
            waiting.append(report)
            if len(waiting) == size:
                tell()
    tell()
    ours, theirs = one.standing("p", "m", 0.0), summed.standing("p", "m", 0.0)
    assert (ours.requests, ours.failures, ours.status in ("down", "half-open")) == (
        theirs.requests,
        theirs.failures,
        theirs.status in ("down", "half-open"),
    )
    if ours.success_rate is not None and theirs.success_rate is not None:
        assert theirs.success_rate == pytest.approx(ours.success_rate, abs=0.1)
