"""Prices and context windows from genai-prices, as of a date.

Only the snapshot inside the installed package is read: no network, no update. It is imported when first
asked; a worker gets the finished catalogue as JSON and never comes here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from aion_extproc.catalog.model import FREE, Mode, Prices, Rate
from aion_extproc.wire.service_tier import STANDARD

if TYPE_CHECKING:
    from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, TieredPrices

PICO_PER_TOKEN = 10**6  # a dollar per million tokens is a million pico-dollars a token

# Charges that `Prices` cannot say. Without them the price would be too low, so it counts as unknown.
_UNSUPPORTED = ("requests_kcount", "output_citation_mtok")

# What the list makes a price depend on, and the answer tells as its service tier.
_TIER_KEYS = ("service_tier", "speed", "processing")


@dataclass(frozen=True, slots=True)
class Listed:
    """What the price list says of a model."""

    prices: Prices | None
    context_window: int | None
    problem: str = ""  # why there is no price, for a person
    until: datetime | None = None  # the price is another one from then on
    service_tiers: tuple[tuple[str, Prices], ...] = ()


def pico(usd_per_million: Decimal) -> int:
    """Pico-dollars for one token."""
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
    tiers = tuple((name, _prices(tier)) for name, tier in _tiers(info, at).items())
    return Listed(_prices(price), window, until=_next_change(info, at), service_tiers=tiers)


def _tiers(info: ModelInfo, at: datetime) -> Mapping[str, ModelPrice]:
    """The prices of the service tiers that have prices of their own then."""
    tiers: dict[str, ModelPrice] = {}
    for variant in info.price_variants or ():
        (key, name), *others = variant.when.items()
        active = variant.constraint is None or variant.constraint.active(at)
        if not others and key in _TIER_KEYS and name not in STANDARD and active and variant.prices.__dict__:
            price = info.get_prices(at, dict(variant.when))
            if not any(price.__dict__.get(unsupported) for unsupported in _UNSUPPORTED):
                tiers.setdefault(name, price)
    return tiers


def _prices(price: ModelPrice) -> Prices:
    def convert(value: Decimal | TieredPrices | None) -> Rate | None:
        if value is None:
            return None
        if isinstance(value, Decimal):
            return Rate(pico(value))
        return Rate(pico(value.base), tuple((tier.start, pico(tier.price)) for tier in value.tiers))

    input_rate, output_rate = convert(price.input_mtok), convert(price.output_mtok) or Rate(0)
    assert input_rate is not None
    return Prices(
        input=input_rate,
        output=output_rate,
        cache_read=convert(price.cache_read_mtok),
        # For all lifetimes, or for five minutes where one hour has a rate of its own.
        cache_write=convert(price.cache_write_mtok),
        cache_write_1h=convert(price.cache_write_1h_mtok),
        reasoning=convert(price.output_reasoning_mtok),
    )


def _next_change(info: ModelInfo, at: datetime) -> datetime | None:
    """The next moment at which the list gives another price, if it has one."""
    entries = [*(info.prices if isinstance(info.prices, list) else ()), *(info.price_variants or ())]
    moments = sorted(moment for entry in entries for moment in _moments(entry, at) if moment > at)
    now = info.get_prices(at), _tiers(info, at)
    return next((moment for moment in moments if (info.get_prices(moment), _tiers(info, moment)) != now), None)


def _moments(entry: ConditionalPrice | PriceVariant, at: datetime) -> list[datetime]:
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
