"""Prices and context windows from genai-prices, as of a date.

Only the snapshot inside the installed package is read: no network, no update. It is imported when first
asked; a worker gets the finished catalogue as JSON and never comes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from aion_extproc.catalog.model import FREE, Mode, Prices, Rate

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, TieredPrices

PICO_PER_TOKEN = 10**6  # a dollar per million tokens is a million pico-dollars a token

# Charges that `Prices` cannot say. Without them the price would be too low, so it counts as unknown.
_UNSUPPORTED = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")


@dataclass(frozen=True, slots=True)
class Listed:
    """What the price list says of a model."""

    prices: Prices | None
    context_window: int | None
    problem: str = ""  # why there is no price, for a person
    until: datetime | None = None  # the price is another one from then on


def rate(usd_per_million: Decimal) -> Rate:
    """A flat rate."""
    return Rate(_pico(usd_per_million))


def _pico(usd_per_million: Decimal) -> int:
    return int((usd_per_million * PICO_PER_TOKEN).to_integral_value())


def look_up(
    model_id: str, price_provider: str | None, api_url: str | None, at: datetime, mode: Mode = "chat"
) -> Listed:
    """The list's entry for a model at a provider.

    `api_url`, given where the user set a base_url, is tried before the provider's id: an OpenAI-compatible
    vendor has prices of its own. `at` must be aware.
    """
    from genai_prices.data import providers

    provider = next((p for p in providers if api_url and re.match(p.api_pattern, api_url)), None) or next(
        (p for p in providers if p.id == price_provider), None
    )
    if provider is None:
        return Listed(None, None, "genai-prices does not know this provider")
    info = provider.find_model(model_id, all_providers=providers)
    if info is None:
        return Listed(None, None, f"genai-prices {provider.id} has no model of this name")
    window = info.context_window
    price = info.get_prices(at)
    # Embeddings put no tokens out, so they have no price for it.
    if price.input_mtok is None or (price.output_mtok is None and mode != "embedding"):
        if provider.id == "openrouter" and model_id.endswith(":free"):
            return Listed(FREE, window)  # OpenRouter's own suffix for models without a charge
        return Listed(None, window, f"genai-prices {provider.id} lists it without a price for tokens")
    unsupported = [key for key in _UNSUPPORTED if price.__dict__.get(key)]
    if unsupported:
        return Listed(None, window, f"it also charges by {', '.join(unsupported)}, which is not supported")
    return Listed(_prices(price), window, until=_next_change(info, at))


def _prices(price: ModelPrice) -> Prices:
    def convert(value: Decimal | TieredPrices | None) -> Rate | None:
        if value is None:
            return None
        if isinstance(value, Decimal):
            return rate(value)
        return Rate(_pico(value.base), tuple((tier.start, _pico(tier.price)) for tier in value.tiers))

    input_rate, output_rate = convert(price.input_mtok), convert(price.output_mtok) or Rate(0)
    assert input_rate is not None
    return Prices(
        input=input_rate,
        output=output_rate,
        cache_read=convert(price.cache_read_mtok),
        # For all lifetimes, or for five minutes where one hour has a rate of its own.
        cache_write=convert(price.cache_write_mtok),
        cache_write_1h=convert(price.cache_write_1h_mtok),
    )


def _next_change(info: ModelInfo, at: datetime) -> datetime | None:
    """The next moment at which the list gives another price, if it has one."""
    if not isinstance(info.prices, list):
        return None
    moments = sorted(moment for entry in info.prices for moment in _moments(entry, at) if moment > at)
    now = info.get_prices(at)
    return next((moment for moment in moments if info.get_prices(moment) != now), None)


def _moments(entry: ConditionalPrice, at: datetime) -> list[datetime]:
    from genai_prices.types import StartDateConstraint, TimeOfDateConstraint

    match entry.constraint:
        case StartDateConstraint(start_date=day):
            return [datetime.combine(day, time(tzinfo=UTC))]
        case TimeOfDateConstraint(start_time=start, end_time=end):
            today = at.astimezone(UTC).date()
            return [
                datetime.combine(today + timedelta(days=days), moment.replace(tzinfo=moment.tzinfo or UTC))
                for days in (0, 1)
                for moment in (start, end)
            ]
    return []
