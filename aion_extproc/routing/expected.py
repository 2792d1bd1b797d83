"""What a request is expected to use and to cost at each model.

    expected(m)  = Usage(input = estimate, output = min(max_tokens, 500), cache_read = held(m))
    held(m)      = min(what the conversation's last answer left in m's prompt cache, estimate)   m served the last turn
                 = 0                                                                             any other model

So the model that served the last turn reads what it knows at its cached price, and every other one reads all of it
anew: switching has to pay for that. Once: whether to stay is decided for the next AHEAD requests, in which a model that
read all of it for the first one has it cached too.
"""

from __future__ import annotations

from aion_extproc.accounting.cost import cost_nano, cost_pico
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import Model
from aion_extproc.routing.decision import Attempt, Wanted
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

# Nobody knows how long an answer will be, and clients set max_tokens far above what they need. The
# expectation only has to put models in order, so it is the client's limit or this, whichever is less.
EXPECTED_OUTPUT_TOKENS = 500
# An agent sends a request for each of a turn's steps, and all of them want the turn's tier. Chosen on the benchmark's
# sessions of seeds 0 to 2 (docs/benchmarks.md): with less, staying costs more there than never staying where the
# middle model is three times the small one's price; with more, some of what it saves at Anthropic's prices is lost.
AHEAD = 4
_NO_ANSWER = (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS)


class Expected:
    """The expectation of one request. `cold`: at a model that holds nothing of it."""

    __slots__ = ("_catalog", "_dearest", "_held", "_warm", "cold")

    def __init__(self, wanted: Wanted, catalog: Catalog) -> None:
        tokens, limit = wanted.input_tokens, wanted.max_tokens
        output = EXPECTED_OUTPUT_TOKENS if limit is None else min(limit, EXPECTED_OUTPUT_TOKENS)
        if wanted.endpoint in _NO_ANSWER:
            output = 0
        self.cold = Usage(tokens, output)
        self._warm = warm = wanted.warm
        self._held = self.cold if warm is None else Usage(tokens, output, min(warm.tokens, tokens))
        self._catalog = catalog
        self._dearest = catalog.dearest(self.cold)

    def at(self, model: Model) -> Usage:
        """The usage at that model."""
        warm = self._warm
        return self._held if warm and model.id == warm.model and model.provider == warm.provider else self.cold

    def dearest(self, model: Model) -> tuple[Model, int] | None:
        """The model that would cost most for the usage at that one, with nano-dollars; None: no price is known."""
        usage = self.at(model)
        return self._dearest if usage is self.cold else self._catalog.dearest(usage)

    def pico(self, model: Model) -> int | None:
        """Pico-dollars at that model; None: its price is unknown."""
        return None if model.prices is None else cost_pico(model.prices, self.at(model))

    def pico_ahead(self, model: Model) -> int | None:
        """Pico-dollars of this request and AHEAD − 1 like it at that model; None: its price is unknown."""
        now = self.pico(model)
        if now is None or model.prices is None:
            return None
        return now + (AHEAD - 1) * cost_pico(model.prices, self._held)

    def nano(self, model: Model) -> int | None:
        """Nano-dollars at that model; None: its price is unknown."""
        return None if model.prices is None else cost_nano(model.prices, self.at(model))

    def attempt(self, model: Model) -> Attempt:
        """That model as one to try."""
        cost, dearest = self.nano(model), self.dearest(model)
        return Attempt(model, cost, None if cost is None or dearest is None else max(0, dearest[1] - cost))


def left_in_cache(usage: Usage, model: Model) -> int:
    """How many tokens of an answered request the provider's prompt cache holds. Anthropic's writes only what the client
    marks, and says how much; the others cache the whole input without being asked."""
    marked = Format.ANTHROPIC in model.formats and model.prices is not None and model.prices.cache_write is not None
    if marked or usage.cache_write_tokens:
        return usage.cache_read_tokens + usage.cache_write_tokens
    return usage.input_tokens
