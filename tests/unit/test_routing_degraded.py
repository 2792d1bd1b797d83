"""What health promises of those that are well: who is degraded, how soon one answers, what is told of it."""

from __future__ import annotations

import pytest

from aion_extproc.routing.health import FORGOTTEN_SECONDS, Health
from tests.support.health import fail, succeed

# -- degraded


def test_one_failure_in_three_degrades_and_one_in_twenty_does_not() -> None:
    for every, expected in ((3, True), (20, False)):
        health = Health()
        for number in range(1, 200):
            fail(health, 0.0) if number % every == 0 else succeed(health, 0.0)
        fail(health, 0.0)
        assert health.healthy("p", "m", 0.0)
        assert health.degraded("p", "m", 0.0) is expected


def test_a_few_requests_prove_nothing() -> None:
    health = Health()
    succeed(health, 0.0)
    fail(health, 0.0, times=2)
    succeed(health, 0.0)
    assert not health.degraded("p", "m", 0.0)
    succeed(health, 0.0)
    assert health.degraded("p", "m", 0.0)  # three of five
    assert health.standing("p", "m", 0.0).why == "success rate 0.60"


def test_pauses_do_not_degrade() -> None:
    health = Health()
    succeed(health, 0.0, times=5)
    fail(health, 0.0, code="provider_429", retry_after=1.0, times=50)
    assert not health.degraded("p", "m", 0.0)
    standing = health.standing("p", "m", 2.0)
    assert (standing.requests, standing.failures, standing.rate_limited, standing.success_rate) == (55, 0, 50, 1.0)


def test_successes_lift_the_rate_again() -> None:
    health = Health()
    succeed(health, 0.0, times=20)
    for _ in range(4):
        fail(health, 0.0)
        fail(health, 0.0)
        succeed(health, 0.0)
    assert health.degraded("p", "m", 0.0)
    succeed(health, 0.0, times=20)
    assert not health.degraded("p", "m", 0.0)


def test_slow_is_more_than_three_times_its_own_usual_and_two_seconds() -> None:
    for usual, slow, expected in ((1.0, 8.0, True), (1.0, 2.5, False), (0.2, 1.9, False), (6.0, 12.0, False)):
        health = Health()
        succeed(health, 0.0, first_byte=usual, times=100)
        succeed(health, 0.0, first_byte=slow, times=8)
        assert health.degraded("p", "m", 0.0) is expected, (usual, slow)
    # What takes that long always has become usual.
    health = Health()
    succeed(health, 0.0, first_byte=1.0, times=100)
    succeed(health, 0.0, first_byte=8.0, times=500)
    assert not health.degraded("p", "m", 0.0)


def test_who_is_degraded_gets_a_way_back_without_any_request() -> None:
    bad_rate, slow = Health(), Health()
    succeed(bad_rate, 0.0, times=4)
    for _ in range(30):
        fail(bad_rate, 0.0, times=2)
        succeed(bad_rate, 0.0)
    succeed(slow, 0.0, first_byte=1.0, times=100)
    succeed(slow, 0.0, first_byte=30.0, times=6)
    for health in (bad_rate, slow):
        assert health.degraded("p", "m", 1.0)
        assert not health.degraded("p", "m", 300.0)
        assert health.standing("p", "m", 300.0).status == "healthy"
        # What it shows then counts from there, in both directions.
    succeed(bad_rate, 300.0)
    assert not bad_rate.degraded("p", "m", 300.0)
    fail(bad_rate, 300.0, times=2)
    assert bad_rate.degraded("p", "m", 300.0)


def test_the_first_byte_to_be_expected() -> None:
    health = Health()
    assert health.first_byte("p", "m", 0.0) is None
    succeed(health, 0.0)
    assert health.first_byte("p", "m", 0.0) is None
    succeed(health, 0.0, first_byte=3.0)
    succeed(health, 0.0, first_byte=5.0)
    assert health.first_byte("p", "m", 0.0) == pytest.approx(4.0)
    assert health.first_byte("p", "m", FORGOTTEN_SECONDS + 1) is None


# -- what is said of it


def test_a_standing_says_why_and_until_when() -> None:
    health = Health()
    assert health.standing("p", "m", 0.0) == health.provider_standing("p", 0.0)
    fail(health, 100.0, times=3)
    down = health.standing("p", "m", 110.0)
    assert (down.status, down.why) == ("down", "3 failures in a row, the last: provider_503")
    assert (down.since, down.until) == (100.0, 130.0)
    assert (down.requests, down.failures, down.success_rate) == (3, 3, 0.0)
    trying = health.standing("p", "m", 131.0)
    assert (trying.status, trying.until) == ("half-open", None)
    fail(health, 131.0, "n", "provider_429", retry_after=9.0)
    cooling = health.standing("p", "n", 132.0)
    assert (cooling.status, cooling.why) == ("cooling", "it asked for a pause")
    assert (cooling.since, cooling.until) == (131.0, 140.0)


def test_of_two_reasons_the_one_that_lasts_longer_is_told() -> None:
    health = Health()
    fail(health, 0.0, code="provider_429", retry_after=32.0)
    fail(health, 0.0, code="connect_failed", times=3)
    standing = health.standing("p", "m", 31.0)  # the provider may be tried, the model not
    assert (standing.status, standing.until) == ("cooling", 32.0)
