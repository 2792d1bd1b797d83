"""The catalogue of a configuration: its models, priced by the config or else by genai-prices."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from aion_extproc.catalog.catalog import Catalog
from aion_extproc.catalog.model import FREE, Mode, Model, Prices
from aion_extproc.catalog.pricing import look_up, rate
from aion_extproc.config.schema import ModelSettings, ProviderSettings, Settings
from aion_extproc.wire.endpoint import Endpoint

# What a model of a mode can be asked on, where its provider has it.
_ENDPOINTS: Mapping[Mode, frozenset[Endpoint]] = {
    "chat": frozenset({Endpoint.CHAT, Endpoint.MESSAGES, Endpoint.COUNT_TOKENS, Endpoint.RESPONSES}),
    "embedding": frozenset({Endpoint.EMBEDDINGS}),
    "completion": frozenset({Endpoint.COMPLETIONS}),
}


def build(settings: Settings, at: datetime | None = None) -> Catalog:
    """The catalogue of the enabled providers, priced as of `at` (aware; default: now)."""
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
    return Catalog(models, warnings, min(changes, default=None))


def _model(
    name: str, provider: ProviderSettings, entry: ModelSettings, at: datetime
) -> tuple[Model, str, datetime | None]:
    kind = provider.known_kind
    prices: Prices | None = None
    window, warning, until = entry.context_window, "", None
    if kind.local:
        prices = FREE
        if window is None and provider.managed:
            window = provider.managed.ctx_size
        if entry.priced:
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
                if prices is None:
                    warning = (
                        f"its price is unknown ({listed.problem}), so its cost will be unknown too; "
                        "set input_price_per_1m and output_price_per_1m"
                    )
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
    )
    return model, warning, until


def _configured(entry: ModelSettings) -> Prices | None:
    if entry.input_price_per_1m is None or entry.output_price_per_1m is None:
        return None
    read, write, hour = (
        entry.cache_read_price_per_1m,
        entry.cache_write_price_per_1m,
        entry.cache_write_1h_price_per_1m,
    )
    return Prices(
        input=rate(entry.input_price_per_1m),
        output=rate(entry.output_price_per_1m),
        cache_read=None if read is None else rate(read),
        cache_write=None if write is None else rate(write),
        cache_write_1h=None if hour is None else rate(hour),
    )
