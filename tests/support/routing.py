"""Models to choose from, and how to ask for one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Model, Prices, Rate
from aion_extproc.routing.candidates import Tables
from aion_extproc.routing.chains import PinnedChain
from aion_extproc.routing.decision import Decision, NoRoute, Wanted, Warm
from aion_extproc.routing.health import Health, Observation
from aion_extproc.routing.route import route
from aion_extproc.routing.strategies import STRATEGIES
from aion_extproc.wire.endpoint import Endpoint

CHAT, MESSAGES = Endpoint.CHAT, Endpoint.MESSAGES
BOTH = frozenset([CHAT, MESSAGES])


def model(
    id: str,
    tier: int,
    price: int | None = 1,
    *,
    provider: str = "p",
    local: bool = False,
    window: int | None = None,
    endpoints: Iterable[Endpoint] = BOTH,
) -> Model:
    prices = FREE if local else None if price is None else Prices(Rate(price), Rate(price))
    found = frozenset(endpoints)
    return Model(id, provider, tier, prices, window, local, frozenset(), endpoints=found)


def ask(
    models: Iterable[Model],
    asked: str = "aion-auto",
    tier: int = 1,
    *,
    endpoint: Endpoint = CHAT,
    tokens: int = 100,
    max_tokens: int | None = None,
    down: Iterable[str] = (),
    strategy: str = "cheapest",
    fallback: bool = True,
    prefer_native: bool = True,
    excluded: Iterable[str] = (),
    slow: Mapping[str, float] = {},
    only_first: Iterable[str] = (),
    chains: Sequence[PinnedChain] = (),
    why: str = "",
    warm: Warm | None = None,
) -> Decision | NoRoute:
    """`slow`: model → seconds to its first byte, where that is usually 0.1."""
    models = list(models)
    health = Health()
    for name in down:
        fail(health, next(m.provider for m in models if m.id == name), name)
    for name, seconds in slow.items():
        provider = next(m.provider for m in models if m.id == name)
        health.succeeded(provider, name, 1000, 0.0, 0.1, 1000)
        health.succeeded(provider, name, 10, 9.9, seconds, 10)
    without = frozenset((m.provider, m.id) for m in models if m.id in excluded)
    wanted = Wanted(asked, endpoint, tier, tokens, max_tokens, without, why, warm)
    tables = Tables(Catalog(models), frozenset(only_first), chains)
    return route(tables, wanted, health, 10.0, STRATEGIES[strategy], fallback, prefer_native)


def fail(health: Health, provider: str, name: str) -> None:
    for _ in range(3):
        health.report(Observation(provider, name, False, "provider_503"), 0.0)


def tried(answer: Decision | NoRoute) -> list[str]:
    assert isinstance(answer, Decision), answer
    return [attempt.model.id for attempt in answer.attempts]


def reason(answer: Decision | NoRoute) -> str:
    assert isinstance(answer, Decision), answer
    return answer.reason


def chosen(answer: Decision | NoRoute) -> str:
    assert isinstance(answer, Decision), answer
    return answer.model.id


def refused(answer: Decision | NoRoute) -> tuple[int, str]:
    assert isinstance(answer, NoRoute), answer
    return answer.status, answer.code


THREE = [model("small", 1, 1), model("middle", 2, 5), model("large", 3, 20)]


def cached(
    id: str, tier: int, price: int, read: int, *, provider: str = "p", endpoints: Iterable[Endpoint] = BOTH
) -> Model:
    prices = Prices(Rate(price), Rate(price), cache_read=Rate(read))
    return Model(id, provider, tier, prices, None, False, frozenset(), endpoints=frozenset(endpoints))


PAIR = [cached("cheap", 1, 10, 1), cached("dear", 1, 20, 2)]
