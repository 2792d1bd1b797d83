"""What every client is asked to carry over, and what it must look like on the other side."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from aion_extproc.accounting.row import LedgerRow
from tests.support.gateway import Gateway
from tests.support.says import Call, Says

HELLO: Any = [{"role": "user", "content": "hello"}]
TEXT = "four é😀"
ARGUMENTS = {"city": "Zürich", "days": [1, 2, 3], "note": 'a "quoted" \\ back\nslash 😀'}
# Two calls at once, the second without arguments. The ids are as each API writes its own.
CALLS = {
    "openai": (Call("call_w1", "weather", ARGUMENTS), Call("call_n1", "now")),
    "anthropic": (Call("toolu_w1", "weather", ARGUMENTS), Call("toolu_n1", "now")),
}
RESULTS = ("21 °C", "noon")
PIECE = 11  # bytes: cuts through events, lines and characters
PERSON = {"name": "Zoë", "age": 41, "tags": ["a", "b"]}


class Weather(BaseModel):
    """Forecast of a city."""

    city: str
    days: list[int]
    note: str


class Now(BaseModel):
    """The time."""


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]


def calling(provider: str, **more: Any) -> Says:
    """Both tools at once, after a few words."""
    return Says("I will look.", CALLS[provider], **more)


def a_person(**more: Any) -> Says:
    return Says(json.dumps(PERSON, ensure_ascii=False), **more)


def check_row(gateway: Gateway, request_id: str, model: str, usage: tuple[int, int, int], cost_nano: int) -> LedgerRow:
    """Served with the provider's exact count of (input, output, read from cache)."""
    row = gateway.row(request_id)
    assert (row.outcome, row.status, row.error, row.model) == ("served", 200, "", model), row
    counted = (row.usage.input_tokens, row.usage.output_tokens, row.usage.cache_read_tokens)
    assert (counted, row.estimated, row.cost_nano) == (usage, False, cost_nano), row
    return row
