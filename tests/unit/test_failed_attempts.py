"""What Envoy logs of failed attempts and what workers know of them, put together in any order they may come in."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.accounting.settle import FailedAttempt
from aion_extproc.extproc.failed_attempts import MOST_NAMED, MOST_REQUESTS, NAMED_SECONDS, FailedAttempts, Models
from aion_extproc.routing.health import Observation

CHAIN = [("p1", "m1"), ("p2", "m2"), ("p1", "m3"), ("p2", "m4")]


def attempt(number: int, request_id: str = "r") -> FailedAttempt:
    return FailedAttempt(request_id, number, 500 + number, f"provider_{500 + number}", 1.5, float(number))


def observed(number: int) -> Observation:
    """What health should hear of it."""
    provider, model = CHAIN[number - 1]
    return Observation(provider, model, False, f"provider_{500 + number}", float(number))


class Play:
    """One FailedAttempts, and what it has told."""

    def __init__(self) -> None:
        self.told: list[Observation] = []
        self.failed = FailedAttempts(self.told.append)

    def named(self, request_id: str, models: Models, now: float = 0.0) -> None:
        self.failed.named(request_id, models, now)

    def holds(self) -> int:
        return len(self.failed._requests) + len(self.failed._named)


@st.composite
def courses(draw: st.DrawFn) -> tuple[int, list[int | None], list[int]]:
    """Of how many attempts; entries (None) and names (how many models) as they come until the request ends; names that
    come after its end. Of the names some come twice, late or not at all."""
    attempts = draw(st.integers(1, len(CHAIN)))
    failed = attempts if draw(st.booleans()) else attempts - 1  # the last may be the one that served
    names = draw(st.lists(st.integers(1, attempts - 1), max_size=8)) if attempts > 1 else []
    before = draw(st.permutations([*[None] * failed, *names[: draw(st.integers(0, len(names)))]]))
    return attempts, before, names


@given(courses())
def test_each_attempt_is_told_once_and_as_soon_as_it_is_known(course: tuple[int, list[int | None], list[int]]) -> None:
    attempts, before, after = course
    play = Play()
    logged = known = 0
    for event in before:
        if event is None:
            logged += 1
            play.failed.logged(attempt(logged))
        else:
            known = max(known, event)
            play.named("r", CHAIN[:event])
        assert play.told == [observed(number) for number in range(1, min(logged, known) + 1)]
    earlier = min(logged, attempts - 1)
    assert play.failed.ended("r", CHAIN[: attempts - 1]) == [attempt(number) for number in range(1, earlier + 1)]
    everything = [observed(number) for number in range(1, earlier + 1)]
    assert play.told == everything
    for event in after:
        play.named("r", CHAIN[:event])
    play.named("another", CHAIN[:1], NAMED_SECONDS + 1)
    assert play.failed.ended("another", CHAIN[:1]) == []
    assert play.told == everything
    assert play.holds() == 0


@given(st.permutations(range(6)), st.data())
def test_requests_do_not_get_in_each_others_way(order: Sequence[int], data: st.DataObject) -> None:
    """Three requests, each with an entry and a name, mixed."""
    play = Play()
    for event in order:
        request_id = f"r{event // 2}"
        if event % 2:
            play.failed.logged(attempt(event, request_id))
        else:
            play.named(request_id, [("p", request_id)])
    assert sorted((one.model, one.code) for one in play.told) == [
        ("r0", "provider_501"),
        ("r1", "provider_503"),
        ("r2", "provider_505"),
    ]


def test_the_only_attempt_is_not_told_here() -> None:
    """Nobody came after it: the request's own row tells."""
    play = Play()
    play.failed.logged(attempt(1))
    assert play.failed.ended("r", ()) == []
    assert play.told == []
    assert play.holds() == 0


def test_names_whose_entry_does_not_come_are_forgotten() -> None:
    play = Play()
    play.named("a", CHAIN[:1], 0.0)
    play.named("b", CHAIN[:1], 10.0)
    play.named("a", CHAIN[:2], 20.0)  # its second attempt failed too, and still no entry
    play.named("c", CHAIN[:1], 10.0 + NAMED_SECONDS + 0.1)
    for request_id in "ab":
        play.failed.logged(attempt(1, request_id))
    assert play.told == [observed(1)]  # of a


def test_memory_is_bounded() -> None:
    play = Play()
    for number in range(MOST_NAMED + 10):
        play.named(f"n{number}", CHAIN[:1])
    assert play.holds() == MOST_NAMED
    for number in range(MOST_REQUESTS + 10):
        play.failed.logged(attempt(1, f"r{number}"))
    assert play.holds() == MOST_NAMED + MOST_REQUESTS
    assert play.failed.ended("r9", CHAIN[:1]) == []
    assert play.failed.ended("r10", CHAIN[:1]) == [attempt(1, "r10")]
    play.failed.logged(attempt(1, "n9"))
    assert len(play.told) == 1  # r10, at its end
    play.failed.logged(attempt(1, "n10"))
    assert len(play.told) == 2


def test_a_request_that_is_forgotten_is_not_told_again() -> None:
    play = Play()
    play.failed.logged(attempt(1))
    play.named("r", CHAIN[:1])
    for number in range(MOST_REQUESTS):
        play.failed.logged(attempt(1, f"r{number}"))
    assert play.failed.ended("r", CHAIN[:1]) == []
    assert play.told == [observed(1)]
