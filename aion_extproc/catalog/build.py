"""The catalogue of a configuration: its models, priced by the config or else by genai-prices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Mode, Model, Prices, Rate
from aion_extproc.catalog.pricing import look_up, pico
from aion_extproc.config.errors import ConfigError, Problem
from aion_extproc.config.prices import LongContext, Rates
from aion_extproc.config.schema import ModelSettings, ProviderSettings, Settings
from aion_extproc.wire.endpoint import Endpoint

# What a model of a mode can be asked on, where its provider has it.
_ENDPOINTS: Mapping[Mode, frozenset[Endpoint]] = {
    "chat": frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.RESPONSES}),
    "embedding": frozenset({Endpoint.EMBEDDINGS}),
    "completion": frozenset({Endpoint.COMPLETIONS}),
}

# Millions of parameters that work on a token, assumed where nobody says how many a model has: wide, for vendors keep
# quiet, and who put the model into its tier went by what it can do.
_SIZES_OF_TIERS = {1: (2_000, 30_000), 2: (8_000, 120_000), 3: (20_000, 400_000)}


def build(settings: Settings, at: datetime | None = None) -> Catalog:
    """The catalogue of the enabled providers, priced as of `at` (aware; default: now). ConfigError: the baseline has no
    price."""
    at = at or datetime.now(UTC)
    models: list[Model] = []
    warnings: list[str] = []
    changes: list[datetime] = []
    for name, provider in settings.enabled_providers.items():
        for entry in provider.models:
            model, warning, until = _model(name, provider, entry, at)
            models.append(model)
            warnings += [f"{name}/{entry.id}: {warning}"] if warning else []
            changes += [until] if until else []
    catalog = Catalog(models, warnings, min(changes, default=None), settings.routing.baseline or "")
    if catalog.baseline is not None and catalog.baseline.prices is None:
        message = "its price is unknown, so nothing can be compared with it; give it prices, or name another model"
        raise ConfigError("configuration", [Problem(0, "routing.baseline", message)])
    return catalog


def _model(
    name: str, provider: ProviderSettings, entry: ModelSettings, at: datetime
) -> tuple[Model, str, datetime | None]:
    kind = provider.known_kind
    prices: Prices | None = None
    tiers: dict[str, Prices] = {}
    window, warning, until = entry.context_window, "", None
    if kind.local:
        prices = FREE
        if window is None and provider.managed:
            window = provider.managed.ctx_size
        if entry.priced or entry.service_tiers:
            warning = "the configured price is ignored: a local model is always $0"
    elif kind.name == "demo":
        prices = FREE
    else:
        prices = _configured(entry)
        if prices is None or window is None:
            listed = look_up(entry.id, kind.price_provider, provider.base_url, at, entry.mode)
            window = window or listed.context_window
            if prices is None:
                prices, until = listed.prices, listed.until
                tiers |= listed.service_tiers
                if prices is None:
                    warning = (
                        f"its price is unknown ({listed.problem}), so its cost will be unknown too; "
                        "set input_price_per_1m and output_price_per_1m"
                    )
        tiers |= {name: configured(tier, tier.long_context) for name, tier in entry.service_tiers.items()}
    model = Model(
        id=entry.id,
        provider=name,
        tier=entry.tier or 0,
        prices=prices,
        context_window=window,
        local=kind.local,
        formats=kind.formats,
        mode=entry.mode,
        endpoints=kind.endpoints & _ENDPOINTS[entry.mode],
        service_tiers=tuple(tiers.items()),
        reasoning_apart=kind.reasoning_apart,
        parameters_m=None if kind.name == "demo" else _parameters(entry),
    )
    return model, warning, until


def _configured(entry: ModelSettings) -> Prices | None:
    if entry.input_price_per_1m is None or entry.output_price_per_1m is None:
        return None
    return configured(entry, entry.long_context)


def configured(rates: ModelSettings | Rates, long: LongContext | None) -> Prices:
    """Prices as the configuration gives them."""
    usual, beyond = _by_kind(rates), _by_kind(long) if long is not None else {}

    def rate(kind: str) -> Rate | None:
        if usual[kind] is None and beyond.get(kind) is None:
            return None
        above = () if long is None else ((long.above, _pico(beyond, kind)),)
        return Rate(_pico(usual, kind), above)

    return Prices(**{kind: rate(kind) for kind in usual})  # type: ignore[arg-type]


# Without a price of its own, a kind costs as the one around it.
_AROUND = {"cache_read": "input", "cache_write": "input", "cache_write_1h": "cache_write", "reasoning": "output"}


def _by_kind(rates: ModelSettings | Rates) -> Mapping[str, Decimal | None]:
    return {kind: getattr(rates, f"{kind}_price_per_1m") for kind in ("input", "output", *_AROUND)}


def _pico(prices: Mapping[str, Decimal | None], kind: str) -> int:
    price = prices[kind]
    return pico(price) if price is not None else _pico(prices, _AROUND[kind])


def _parameters(entry: ModelSettings) -> tuple[int, int] | None:
    """Active parameters in millions, from the least to the most that there may be."""
    if entry.parameters_b is not None:
        return int(entry.parameters_b * 1000), int(entry.parameters_b * 1000)
    return _SIZES_OF_TIERS.get(entry.tier or 0)
