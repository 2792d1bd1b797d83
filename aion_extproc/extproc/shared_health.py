"""Health that all processes of a gateway share: each tells the others what it has seen, and hears what they saw.

Failures, pauses and trials are told at once. Successes, of which there are many, are counted and told four times a
second, and always before a failure of the same process, so that everybody hears them in the order they came in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aion_extproc.extproc.bus import BATCH_SECONDS, Bus
from aion_extproc.routing.health import Health, Observation

KIND = "health"
_ENTRIES_A_PIECE = 20  # of what is told at a time; one of a snapshot is about 700 bytes


@dataclass(slots=True)
class _Tally:
    """Successes of a model that the peers do not know yet."""

    count: int = 0
    first_byte: float = 0.0  # sum, seconds
    measured: int = 0
    at: float = 0.0  # the last one


class SharedHealth:
    """`health` of this process, on the bus. Without a bus there is nobody to tell."""

    def __init__(self, health: Health, bus: Bus | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._health = health
        self._bus = bus
        self._clock = clock
        self._tallies: dict[tuple[str, str], _Tally] = {}
        if bus is not None:
            health.on_trial = self._trial
            bus.subscribe(KIND, self._heard, self._snapshot)

    def observed(self, observation: Observation) -> None:
        """An attempt has ended here."""
        now = self._clock()
        self._health.report(observation, now)
        if self._bus is None:
            return
        provider, model = observation.provider, observation.model
        if not observation.ok:
            self._tell_tallies()
            self._bus.publish(KIND, {"failed": [provider, model, observation.code, observation.retry_after]}, True)
            return
        if not self._tallies:
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._tell_tallies)
        tally = self._tallies.get((provider, model))
        if tally is None:
            tally = self._tallies[provider, model] = _Tally()
        tally.count += 1
        tally.at = now
        if observation.first_byte is not None:
            tally.first_byte += observation.first_byte
            tally.measured += 1

    def checked(self, passed: Mapping[str, bool], at: float) -> None:
        """What servers' health checks said at `at`, by provider; to be told again every few seconds."""
        if passed:
            now = self._clock()
            self._check(passed, now, at)
            if self._bus is not None:
                self._bus.publish(KIND, {"checked": passed, "age": now - at}, True)

    def _check(self, passed: Mapping[str, bool], now: float, at: float) -> None:
        for provider, well in passed.items():
            self._health.checked(str(provider), well is True, now, at)

    def _tell_tallies(self) -> None:
        if not self._tallies or self._bus is None:
            return
        now = self._clock()
        told = [
            (*key, tally.count, tally.first_byte / max(1, tally.measured), tally.measured, now - tally.at)
            for key, tally in self._tallies.items()
        ]
        self._tallies.clear()
        for piece in _pieces(told):
            self._bus.publish(KIND, {"succeeded": piece}, True)

    def _trial(self, provider: str, model: str) -> None:
        assert self._bus is not None
        self._bus.publish(KIND, {"trial": [provider, model]}, True)

    def _snapshot(self) -> Iterator[dict[str, Any]]:
        self._tell_tallies()  # first, or the newcomer counts them twice
        for piece in _pieces(list(self._health.snapshot(self._clock()))):
            yield {"known": piece}

    def _heard(self, news: dict[str, Any]) -> None:
        health, now = self._health, self._clock()
        for provider, model, count, first_byte, measured, age in news.get("succeeded", ()):
            health.succeeded(str(provider), str(model), int(count), now - age, float(first_byte), int(measured))
        if "failed" in news:
            provider, model, code, retry_after = news["failed"]
            seconds = None if retry_after is None else float(retry_after)
            health.report(Observation(str(provider), str(model), False, str(code), seconds), now)
        if "trial" in news:
            provider, model = news["trial"]
            health.tried(str(provider), str(model), now)
        if "checked" in news:
            self._check(news["checked"], now, now - news["age"])
        for entry in news.get("known", ()):
            health.adopt(entry, now)


def _pieces(told: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(told), _ENTRIES_A_PIECE):
        yield told[start : start + _ENTRIES_A_PIECE]
