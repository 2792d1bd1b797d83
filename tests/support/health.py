"""What happens to the models of the provider "p", told to a Health."""

from __future__ import annotations

from aion_extproc.routing.breaker import FAILURES_TO_DOWN
from aion_extproc.routing.health import Health, Observation


def fail(
    health: Health,
    now: float,
    model: str = "m",
    code: str = "provider_503",
    retry_after: float | None = None,
    times: int = 1,
) -> None:
    for _ in range(times):
        health.report(Observation("p", model, False, code, retry_after), now)


def succeed(health: Health, now: float, model: str = "m", first_byte: float | None = None, times: int = 1) -> None:
    for _ in range(times):
        health.report(Observation("p", model, True, first_byte=first_byte), now)


def broken(code: str = "provider_503") -> Health:
    health = Health()
    fail(health, 0.0, code=code, times=FAILURES_TO_DOWN)
    return health
