"""From budgets and limits to a hold, and from its denial to what the client is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.allowances import (
    Budget,
    Limits,
    accounts,
    denial,
    hold_of,
    moment,
    rate_headers,
    starts,
)
from aion_extproc.accounting.holds import MINUTE_US, Verdict, need_us, remaining

NOON = 1_795_348_800.0  # 2026-11-22T12:00:00Z
DAY = Budget("key", "dev", "day", 5_000_000_000, downgrade=False)
MONTH = Budget("tenant", "acme", "month", 50_000_000_000, downgrade=True)
LIMITS = Limits("key", "dev", 60, 1000, 2)


def test_a_hold_names_the_accounts_of_the_day_and_the_month() -> None:
    hold = hold_of("id", [DAY, MONTH], [LIMITS], 7, 120, moment(NOON))
    assert [(one.account, one.limit_nano, one.amount_nano) for one in hold.budgets] == [
        ("key:dev:20261122", 5_000_000_000, 7),
        ("tenant:acme:202611", 50_000_000_000, 7),
    ]
    assert [(one.bucket, one.limit, one.amount) for one in hold.buckets] == [
        ("key:dev:r", 60, 1),
        ("key:dev:t", 1000, 120),
    ]
    assert [(one.slot, one.limit) for one in hold.slots] == [("key:dev", 2)]


def test_a_request_is_charged_to_all_that_it_names() -> None:
    assert list(accounts("dev", "acme", "", moment(NOON))) == [
        "key:dev:20261122",
        "key:dev:202611",
        "tenant:acme:20261122",
        "tenant:acme:202611",
    ]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))
def test_the_end_of_the_day_and_of_the_month(at: datetime) -> None:
    at = at.replace(tzinfo=UTC)
    when = moment(at.timestamp())
    day, month = starts(at.timestamp())
    assert day <= at < day + timedelta(days=1)
    assert (day + timedelta(days=1) - at).total_seconds() <= when.left_of_day <= 86400
    # A second before the month's end it is still the month; at its end it is another one.
    end = at + timedelta(seconds=when.left_of_month)
    assert moment(end.timestamp()).month != when.month
    assert moment((end - timedelta(seconds=2)).timestamp()).month in (when.month, moment(at.timestamp()).month)
    assert month.day == 1
    assert month.strftime("%Y%m") == when.month


@pytest.mark.parametrize(
    ("day", "month", "seconds", "left", "downgrade"),
    [
        (5_000_000_000, 0, 43200, 0, False),  # midnight
        (0, 49_999_999_999, 43200 + 8 * 86400, 1, True),  # the last of November
        (5_000_000_000, 50_000_000_000, 43200 + 8 * 86400, 0, False),  # both, and one of them refuses
    ],
)
def test_a_budget_tells_when_it_begins_anew(day: int, month: int, seconds: int, left: int, downgrade: bool) -> None:
    when = moment(NOON)
    hold = hold_of("id", [DAY, MONTH], [], 7, 0, when)
    found = denial(hold, Verdict(False, (day, month)), [DAY, MONTH], when)
    assert (found.kind, found.retry_after, found.left_nano, found.downgrade) == ("budget", seconds, left, downgrade)
    assert str(seconds) in found.message


def test_what_keeps_a_request_longest_is_told() -> None:
    when = moment(NOON)
    hold = hold_of("id", [], [LIMITS], 0, 500, when)
    tokens = need_us(900, 1000)
    found = denial(hold, Verdict(False, (), (0, tokens), (2,)), [], when)
    assert (found.kind, found.scope) == ("tokens", "key")
    assert found.retry_after == pytest.approx(24)
    assert found.message == "The key dev may use 1000 tokens per minute, and does."
    found = denial(hold, Verdict(False, (), (0, 0), (2,)), [], when)
    assert (found.kind, found.retry_after) == ("concurrent", 1)


def test_no_budget_is_in_the_way_of_what_is_free() -> None:
    """Only the limit is told, though nothing is left of the budget either."""
    when = moment(NOON)
    hold = hold_of("id", [DAY], [LIMITS], 0, 0, when)
    found = denial(hold, Verdict(False, (9_000_000_000,), (MINUTE_US, 0), (0,)), [DAY], when)
    assert found.kind == "requests"


def test_a_limit_is_told_before_a_budget_that_may_be_met_with_less() -> None:
    """The month's end would be no true time: in 24 seconds a cheaper model may do."""
    when = moment(NOON)
    hold = hold_of("id", [MONTH], [LIMITS], 7, 500, when)
    found = denial(hold, Verdict(False, (50_000_000_000,), (0, need_us(900, 1000)), (0,)), [MONTH], when)
    assert (found.kind, found.downgrade) == ("tokens", False)
    assert found.retry_after == pytest.approx(24)
    rejecting = hold_of("id", [DAY], [LIMITS], 7, 500, when)
    found = denial(rejecting, Verdict(False, (5_000_000_000,), (0, need_us(900, 1000)), (0,)), [DAY], when)
    assert (found.kind, found.retry_after) == ("budget", 43200)


def test_the_headers_tell_the_limit_that_has_least_left() -> None:
    hold = hold_of("id", [], [LIMITS, Limits("tenant", "acme", 600, None, None)], 0, 100, moment(NOON))
    told = rate_headers(hold, Verdict(True, (), (0, 0, need_us(595, 600)), (0,)))
    assert told == {
        "ratelimit-limit-requests": "600",
        "ratelimit-remaining-requests": "4",
        "ratelimit-reset-requests": "59.6s",
        "ratelimit-limit-tokens": "1000",
        "ratelimit-remaining-tokens": "900",
        "ratelimit-reset-tokens": "6s",
    }
    assert rate_headers(hold_of("id", [DAY], [], 1, 1, moment(NOON)), Verdict(True, (0,))) == {}


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_what_remains_can_be_had(limit: int, used: int) -> None:
    backlog = min(need_us(used, limit), MINUTE_US)
    left = remaining(limit, backlog)
    assert backlog + need_us(left, limit) <= MINUTE_US
    assert backlog + need_us(left + 1, limit) > MINUTE_US
