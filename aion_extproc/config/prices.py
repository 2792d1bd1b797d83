"""Prices in aion.yaml: USD per million tokens, by kind of token, by length of the request and by service tier."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from aion_extproc.config.values import Price, Section, fault
from aion_extproc.wire.service_tier import STANDARD

# Next to input_price_per_1m and output_price_per_1m; a kind without a price costs as the kind around it.
OPTIONAL = (
    "cache_read_price_per_1m",
    "cache_write_price_per_1m",
    "cache_write_1h_price_per_1m",
    "reasoning_price_per_1m",
)


class Rates(Section):
    """What tokens cost, by kind."""

    input_price_per_1m: Price
    output_price_per_1m: Price
    cache_read_price_per_1m: Price | None = None
    cache_write_price_per_1m: Price | None = None
    cache_write_1h_price_per_1m: Price | None = None
    reasoning_price_per_1m: Price | None = None


class LongContext(Rates):
    """What all tokens of a request cost that has more input than this."""

    above: Annotated[int, Field(ge=1, le=10**9)]


class Tariff(Rates):
    """The prices of a service tier."""

    long_context: LongContext | None = None


def _service_tier(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_-]{1,32}(?:\+[a-z0-9_-]{1,32}){0,2}", value):
        raise fault("must be a service tier as providers write it, such as flex or priority")
    if value in STANDARD:
        raise fault("is the usual tier: its prices are the model's own")
    return value


ServiceTier = Annotated[str, AfterValidator(_service_tier)]
