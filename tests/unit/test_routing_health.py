"""What health promises: who is out and for how long, who is degraded, who comes back."""

from __future__ import annotations

import pytest

from aion_extproc.routing.breaker import (
    CHECK_SECONDS,
    FAILURES_TO_DOWN,
    FIRST_BACKOFF,
    FIRST_PAUSE,
    LONGEST_BACKOFF,
    LONGEST_PAUSE,
    LONGEST_RETRY_AFTER,
    NO_HEALTHY_UPSTREAM,
    TRIAL_TIMEOUT,
)
from aion_extproc.routing.health import PROVIDER_WIDE, Health, Observation
from tests.support.health import broken, fail, succeed

# -- a model that is down


def test_three_failures_in_a_row_and_not_fewer() -> None:
    health = Health()
    for ok in (False, False, True, False, False):
        health.report(Observation("p", "m", ok, "provider_500"), 0.0)
        assert health.healthy("p", "m", 0.0)
    fail(health, 0.0)
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
        fail(health, now)


def test_half_open_lets_one_through_until_its_report_or_its_loss() -> None:
    health = broken()
    health.begin("p", "m", 30.0)
    assert not health.healthy("p", "m", 30.0)
    assert not health.healthy("p", "m", 30.0 + TRIAL_TIMEOUT - 0.1)
    assert health.healthy("p", "m", 30.0 + TRIAL_TIMEOUT)
    succeed(health, 31.0)
    assert health.healthy("p", "m", 31.0)


def test_a_trial_is_announced_once() -> None:
    health, trials = broken(), list[tuple[str, str]]()
    health.on_trial = lambda provider, model: trials.append((provider, model))
    health.begin("p", "m", 1.0)  # the client named it; it is down, and this is no trial
    assert trials == []
    for now in (30.0, 30.1, 31.0):
        health.begin("p", "m", now)
    health.begin("p", "other", 31.0)
    assert trials == [("p", "m")]


def test_a_trial_that_says_nothing_about_the_provider_frees_the_place() -> None:
    for code in ("worker_lost", "overflow"):
        health = broken()
        health.begin("p", "m", 30.0)
        fail(health, 31.0, code=code)
        assert health.healthy("p", "m", 31.0)
        assert health.standing("p", "m", 31.0).failures == FAILURES_TO_DOWN


def test_one_success_is_enough() -> None:
    health = broken()
    succeed(health, 1.0)
    assert health.standing("p", "m", 1.0).status == "healthy"
    fail(health, 2.0, times=FAILURES_TO_DOWN - 1)
    assert health.healthy("p", "m", 2.0)


def test_one_success_is_enough_after_any_number_of_failures() -> None:
    health = Health()
    succeed(health, 0.0, times=50)
    fail(health, 1.0, times=30)  # most of them of those who name it
    succeed(health, 2.0)
    standing = health.standing("p", "m", 2.0)
    assert (standing.status, standing.failures) == ("healthy", 30)
    fail(health, 3.0)
    assert health.degraded("p", "m", 3.0)  # but it is on probation


def test_late_failures_of_requests_from_before_do_not_lengthen_the_wait() -> None:
    health = broken()
    for second in range(20):
        fail(health, float(second))
    assert health.healthy("p", "m", FIRST_BACKOFF)


def test_a_success_from_before_a_failure_heals_nothing() -> None:
    """A peer's successes are told some time after they came."""
    health = Health()
    fail(health, 10.0, times=FAILURES_TO_DOWN)
    health.succeeded("p", "m", 5, 9.9)
    assert not health.healthy("p", "m", 10.0)
    health.succeeded("p", "m", 1, 10.1)
    assert health.healthy("p", "m", 10.1)


# -- 429


def test_retry_after_is_a_pause_and_no_failure() -> None:
    health = Health()
    fail(health, 0.0, code="provider_429", retry_after=7.0, times=5)
    assert not health.healthy("p", "m", 6.9)
    assert health.healthy("p", "other", 6.9)
    assert health.healthy("p", "m", 7.0)
    health.begin("p", "m", 7.0)
    assert health.healthy("p", "m", 7.0)  # not half-open: everybody may go
    fail(health, 8.0, code="provider_429", retry_after=1e9)
    assert health.wait("p", "m", 8.0) == LONGEST_RETRY_AFTER


def test_without_retry_after_the_pause_doubles_with_each_429() -> None:
    health, now = Health(), 0.0
    for wait in (5, 10, 20, 40, 60, 60):
        fail(health, now, code="provider_429", times=3)  # three at once are one
        assert health.wait("p", "m", now) == wait
        now += wait
        assert health.healthy("p", "m", now)
    assert wait == LONGEST_PAUSE
    succeed(health, now)
    fail(health, now + 1, code="provider_429")
    assert health.wait("p", "m", now + 1) == FIRST_PAUSE


def test_a_success_does_not_end_a_pause() -> None:
    """It may have been on its way before the 429."""
    health = Health()
    fail(health, 0.0, code="provider_429", retry_after=20.0)
    succeed(health, 1.0)
    assert not health.healthy("p", "m", 19.9)
    assert health.healthy("p", "m", 20.0)


def test_a_failure_with_retry_after_is_both() -> None:
    health = Health()
    fail(health, 0.0, retry_after=10.0)
    assert not health.healthy("p", "m", 9.9)
    fail(health, 10.0, times=FAILURES_TO_DOWN - 1)
    assert health.wait("p", "m", 10.0) == FIRST_BACKOFF
    fail(health, 11.0, retry_after=1e9)
    assert health.wait("p", "m", 11.0) == LONGEST_BACKOFF


def test_a_429_does_not_help_a_model_that_is_down() -> None:
    health = broken()
    health.begin("p", "m", 30.0)
    fail(health, 30.0, code="provider_429", retry_after=5.0)
    assert health.wait("p", "m", 30.0) == 5.0
    assert health.healthy("p", "m", 35.0)
    health.begin("p", "m", 35.0)
    assert not health.healthy("p", "m", 35.0)  # still one at a time


# -- a whole provider


def test_a_provider_without_an_address_is_out_at_once() -> None:
    """Envoy answers by itself then, and asks no other model."""
    health = Health()
    fail(health, 0.0, "a", NO_HEALTHY_UPSTREAM)
    assert not health.healthy("p", "b", 1.0)
    assert health.healthy("q", "a", 1.0)


@pytest.mark.parametrize("code", sorted(PROVIDER_WIDE - {NO_HEALTHY_UPSTREAM}))
def test_what_belongs_to_the_provider_takes_all_its_models_out(code: str) -> None:
    health = Health()
    for model in ("a", "b"):
        fail(health, 0.0, model, code)
    assert health.healthy("p", "a", 0.0)
    fail(health, 0.0, "c", code)
    for model in ("a", "b", "c", "never asked"):
        assert not health.healthy("p", model, 1.0)
        assert health.standing("p", model, 1.0).status == "down"
    assert health.healthy("q", "a", 1.0)
    assert health.provider_standing("p", 1.0).why == f"3 failures of the provider in a row, the last: {code}"


@pytest.mark.parametrize("code", ["provider_500", "provider_403", "provider_404", "upstream_timeout", "bad_answer"])
def test_what_belongs_to_a_model_leaves_the_others_alone(code: str) -> None:
    health = Health()
    fail(health, 0.0, "a", code, times=10)
    assert not health.healthy("p", "a", 0.0)
    assert health.healthy("p", "b", 0.0)


def test_a_provider_is_tried_by_one_request_not_by_one_for_each_model() -> None:
    health = broken("connect_failed")
    health.begin("p", "a", 30.0)
    assert not health.healthy("p", "a", 30.0)
    assert not health.healthy("p", "b", 30.0)
    fail(health, 31.0, "a", "connect_failed")
    assert health.wait("p", "b", 31.0) == 2 * FIRST_BACKOFF


def test_a_success_of_any_model_heals_the_provider() -> None:
    health = broken("provider_401")
    succeed(health, 1.0, "another")
    assert health.healthy("p", "m", 1.0)
    assert health.standing("p", "m", 1.0).status == "healthy"


def test_a_provider_that_answers_an_error_of_its_own_is_there() -> None:
    for code in ("provider_500", "provider_429"):
        health = broken("connect_failed")
        health.begin("p", "a", 30.0)
        fail(health, 30.0, "a", code, retry_after=1.0)
        assert health.healthy("p", "b", 30.0)
        assert not health.healthy("p", "a", 30.0)


def test_a_provider_that_hangs_in_its_trial_is_not() -> None:
    health = broken("connect_failed")
    health.begin("p", "a", 30.0)
    fail(health, 40.0, "a", "upstream_timeout")
    assert health.wait("p", "b", 40.0) == 2 * FIRST_BACKOFF


def test_a_trial_of_a_model_that_does_not_reach_its_provider_frees_the_place() -> None:
    health = broken()
    health.begin("p", "m", 30.0)
    fail(health, 31.0, code="connect_failed")
    assert health.healthy("p", "m", 31.0)


# -- a server that is looked after


def test_a_server_is_out_while_its_check_fails_and_not_longer() -> None:
    health = broken("connect_failed")
    for second in range(5, 100):
        health.checked("p", False, float(second), float(second))
        assert not health.healthy("p", "another", float(second))
    assert health.standing("p", "another", 99.0).status == "down"
    assert health.provider_standing("p", 99.0).why == "its health check fails"
    assert health.healthy("q", "m", 99.0)
    fail(health, 99.0, times=3)  # of one who asked for it by name
    health.checked("p", True, 100.0, 99.0)
    assert health.healthy("p", "m", 100.0)
    assert health.healthy("p", "another", 100.0)


def test_a_check_that_fails_needs_no_request_to_say_so_and_none_to_come_back() -> None:
    health = Health()
    health.checked("p", False, 0.0, 0.0)
    assert not health.healthy("p", "m", 0.0)
    health.checked("p", True, 1.0, 0.0)
    assert health.standing("p", "m", 1.0).status == "healthy"


def test_a_check_that_nobody_repeats_says_nothing_any_more() -> None:
    health = Health()
    health.checked("p", False, 0.0, 0.0)
    assert not health.healthy("p", "m", CHECK_SECONDS - 0.1)
    assert health.healthy("p", "m", CHECK_SECONDS)


def test_a_check_that_passes_ends_the_back_off_of_a_server_that_was_not_reached() -> None:
    health = Health()
    fail(health, 10.0, code="connect_failed", times=3)
    health.checked("p", True, 10.5, 9.5)  # it may have passed before it failed
    assert not health.healthy("p", "m", 10.5)
    health.checked("p", True, 11.5, 10.5)
    assert health.healthy("p", "m", 11.5)


@pytest.mark.parametrize("code", ["provider_401", "provider_503"])
def test_a_check_that_passes_proves_nothing_of_keys_or_models(code: str) -> None:
    health = broken(code)
    health.checked("p", True, 5.0, 4.0)
    assert not health.healthy("p", "m", 5.0)
