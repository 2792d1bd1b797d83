"""A model that can be routed to, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

Mode = Literal["chat", "embedding", "completion"]

PICO_PER_NANO = 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """Price of one token in integer pico-dollars (USD per million tokens × 10⁶).

    `above` holds (more than this many input tokens, pico-dollars), ascending: the last one passed prices
    *every* token of its kind, as long-context tariffs do.
    """

    base: int
    above: tuple[tuple[int, int], ...] = ()

    def at(self, input_tokens: int) -> int:
        price = self.base
        for start, higher in self.above:
            if input_tokens > start:
                price = higher
        return price

    def most(self, input_tokens: int) -> int:
        """The highest that it can be with at most so many input tokens."""
        if not self.above:
            return self.base
        return max((self.base, *(price for start, price in self.above if start < input_tokens)))


@dataclass(frozen=True, slots=True)
class Prices:
    """Rates by kind of token. A kind without a rate of its own is None: cached tokens cost as plain input, reasoning as
    other output."""

    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    reasoning: Rate | None = None


FREE = Prices(input=Rate(0), output=Rate(0))


@dataclass(frozen=True, slots=True)
class Model:
    """A model at one provider."""

    id: str  # as the provider names it
    provider: str  # the provider's name in the config
    tier: int  # 1..3; 0: none, it is only reached by name
    prices: Prices | None  # None: unknown, which is never the same as free
    context_window: int | None  # tokens; None: unknown
    local: bool  # runs on the user's own machine: always $0, and preferred
    formats: frozenset[Format]  # what its provider speaks natively
    mode: Mode = "chat"
    endpoints: frozenset[Endpoint] = frozenset()  # of its provider's, those that this model can be asked on
    service_tiers: tuple[tuple[str, Prices], ...] = ()  # what it costs at those that have prices of their own
    parameters_m: tuple[int, int] | None = None  # active ones in millions, at least and at most; None: unknown
    reasoning_apart: bool = False  # in chat completions its provider counts reasoning beside the other output

    def prices_at(self, service_tier: str) -> Prices | None:
        """What it costs at a tier, "" for the usual one; None: unknown."""
        if not service_tier or self.local or self.prices == FREE:
            return self.prices
        return dict(self.service_tiers).get(service_tier)
