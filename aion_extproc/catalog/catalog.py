"""The models that can be routed to: what each costs, what a client may call them.

`catalog.build` makes it from the settings and the price list, once at start and once a reload. A worker
loads the result with `from_json` and needs neither.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from aion_extproc.accounting.cost import cost_pico, to_nano
from aion_extproc.accounting.usage import Usage
from aion_extproc.catalog.model import Model, Prices, Rate
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format

VIRTUAL_MODELS = ("aion-auto", "aion-local", "aion-escalate")
NEAR_NAMES = 5
_LONGEST_NAME = 256  # a longer one is no misspelling; comparing it would only cost time


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a client's `model` means: one of the first two is set, or neither and the name is unknown."""

    virtual: str | None = None  # one of VIRTUAL_MODELS
    models: tuple[Model, ...] = ()  # the model of that id, at every provider that has it
    near: tuple[str, ...] = ()  # names like it, best first


class Catalog:
    """The models in config order, and look-ups over them. Never changed once made."""

    def __init__(
        self,
        models: Iterable[Model],
        warnings: Iterable[str] = (),
        valid_until: datetime | None = None,
        baseline: str = "",
    ) -> None:
        self.models: tuple[Model, ...] = tuple(models)
        self.warnings: tuple[str, ...] = tuple(warnings)  # for a person; printed by `aion check`
        self.valid_until = valid_until  # from then on the price list says something else: build again
        self._baseline = baseline  # its name among ours; "": the configuration compares with none
        self._names = _names(self.models)
        self._dearest = _Dearest(self.models)

    def resolve(self, asked: str) -> Resolved:
        """Virtual names, ids and "provider/id". An id that has a slash of its own is an id first."""
        return self._names.get(asked) or Resolved(near=self._near(asked))

    def dearest(self, usage: Usage) -> tuple[Model, int] | None:
        """The model that would have cost most for this usage, with nano-dollars; None: no price known."""
        return self._dearest.of(usage)

    def model(self, provider: str, id: str) -> Model | None:
        """The model of that id at that provider."""
        return next((model for model in self.resolve(id).models if model.provider == provider), None)

    @property
    def baseline(self) -> Model | None:
        """The model that the configuration compares with."""
        return self.resolve(self._baseline).models[0] if self._baseline else None

    @property
    def names(self) -> tuple[str, ...]:
        """Everything a client can ask for, virtual names first; ids once each."""
        return (*VIRTUAL_MODELS, *dict.fromkeys(model.id for model in self.models))

    def _near(self, asked: str) -> tuple[str, ...]:
        if len(asked) > _LONGEST_NAME:
            return ()
        lower = {name.lower(): name for name in self.names}
        return tuple(lower[name] for name in difflib.get_close_matches(asked.lower(), lower, n=NEAR_NAMES, cutoff=0.5))

    def to_json(self) -> bytes:
        """Everything but the price list, as UTF-8 JSON."""
        return orjson.dumps(
            {
                "models": [_model_to_plain(model) for model in self.models],
                "warnings": self.warnings,
                "valid_until": self.valid_until and self.valid_until.isoformat(),
                "baseline": self._baseline,
            }
        )

    @classmethod
    def from_json(cls, text: bytes | str) -> Catalog:
        """What `to_json` wrote."""
        plain = orjson.loads(text)
        until = plain["valid_until"]
        return cls(
            (_model_from_plain(entry) for entry in plain["models"]),
            plain["warnings"],
            datetime.fromisoformat(until) if until else None,
            plain["baseline"],
        )


def _names(models: Sequence[Model]) -> Mapping[str, Resolved]:
    ids: dict[str, tuple[Model, ...]] = {}
    for model in models:
        ids[model.id] = (*ids.get(model.id, ()), model)
    names = {name: Resolved(virtual=name) for name in VIRTUAL_MODELS}
    names |= {id: Resolved(models=having) for id, having in ids.items()}
    for model in models:
        names.setdefault(f"{model.provider}/{model.id}", Resolved(models=(model,)))
    return names


class _Dearest:
    """Which model is dearest, by usage.

    Between two thresholds of long-context tariffs every price is flat, and a model that is nowhere dearer
    than another can be left out. Few remain, so that a request costs microseconds.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        priced = [(model, model.prices) for model in models if model.prices is not None]
        self._starts = sorted({start for _, prices in priced for rate in _rates(prices) for start, _ in rate.above})
        self._segments = [_undominated(priced, start + 1) for start in [-1, *self._starts]]

    def of(self, usage: Usage) -> tuple[Model, int] | None:
        # A tariff applies above its start, so a start equal to the input is not passed yet: bisect_left.
        best: tuple[Model, int] | None = None
        for model, prices in self._segments[bisect_left(self._starts, usage.input_tokens)]:
            pico = cost_pico(prices, usage)
            if best is None or pico > best[1]:
                best = (model, pico)
        return best and (best[0], to_nano(best[1]))


def _undominated(priced: Sequence[tuple[Model, Prices]], tokens: int) -> list[tuple[Model, Prices]]:
    flat = [tuple(rate.at(tokens) for rate in _rates(prices)) for _, prices in priced]

    def beaten(index: int) -> bool:
        mine = flat[index]
        return any(
            all(b >= a for a, b in zip(mine, other, strict=True)) and (other != mine or position < index)
            for position, other in enumerate(flat)
            if position != index
        )

    return [entry for index, entry in enumerate(priced) if not beaten(index)]


def _rates(prices: Prices) -> tuple[Rate, ...]:
    """All six rates, those without one of their own filled in."""
    write = prices.cache_write or prices.input
    return (
        prices.input,
        prices.output,
        prices.cache_read or prices.input,
        write,
        prices.cache_write_1h or write,
        prices.reasoning or prices.output,
    )


def _model_to_plain(model: Model) -> dict[str, Any]:
    return {
        "id": model.id,
        "provider": model.provider,
        "tier": model.tier,
        "prices": None if model.prices is None else _prices_to_plain(model.prices),
        "context_window": model.context_window,
        "local": model.local,
        "formats": sorted(model.formats),
        "mode": model.mode,
        "endpoints": sorted(model.endpoints),
        "service_tiers": [[name, _prices_to_plain(prices)] for name, prices in model.service_tiers],
        "parameters_m": model.parameters_m,
        "reasoning_apart": model.reasoning_apart,
    }


def _prices_to_plain(prices: Prices) -> dict[str, Any]:
    rates: dict[str, Rate | None] = {kind: getattr(prices, kind) for kind in Prices.__slots__}
    return {kind: None if rate is None else [rate.base, *rate.above] for kind, rate in rates.items()}


def _prices_from_plain(plain: Mapping[str, Any]) -> Prices:
    rates: dict[str, Any] = {
        kind: None if value is None else Rate(value[0], tuple((start, price) for start, price in value[1:]))
        for kind, value in plain.items()
    }
    return Prices(**rates)


def _model_from_plain(plain: Mapping[str, Any]) -> Model:
    prices, size = plain["prices"], plain["parameters_m"]
    return Model(
        **{
            **plain,
            "prices": None if prices is None else _prices_from_plain(prices),
            "service_tiers": tuple((name, _prices_from_plain(tier)) for name, tier in plain["service_tiers"]),
            "parameters_m": None if size is None else (size[0], size[1]),
            "formats": frozenset(map(Format, plain["formats"])),
            "endpoints": frozenset(map(Endpoint, plain["endpoints"])),
        }
    )
