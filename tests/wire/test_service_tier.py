"""Service tiers: what requests ask for, and what answers say."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aion_extproc.wire.answer import StreamUsage, answer_usage
from aion_extproc.wire.format import Format
from aion_extproc.wire.service_tier import STANDARD, asked_tier, served_tier

OPENAI, ANTHROPIC = Format.OPENAI, Format.ANTHROPIC
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([*sorted(STANDARD), "flex", "fast", "us"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.dictionaries(st.sampled_from(["service_tier", "speed", "inference_geo", "usage"]), ANY)


@pytest.mark.parametrize(
    ("format", "body", "tier"),
    [
        (OPENAI, {}, ""),
        (OPENAI, {"service_tier": None}, ""),
        (OPENAI, {"service_tier": "auto"}, ""),
        (OPENAI, {"service_tier": "default"}, ""),
        (OPENAI, {"service_tier": "on_demand"}, ""),
        (OPENAI, {"service_tier": "flex"}, "flex"),
        (OPENAI, {"service_tier": "Priority"}, "priority"),
        (OPENAI, {"service_tier": "fast"}, "priority"),
        (OPENAI, {"service_tier": "x" * 99}, "x" * 32),
        (OPENAI, {"speed": "fast"}, ""),
        (ANTHROPIC, {"service_tier": "auto"}, ""),
        (ANTHROPIC, {"service_tier": "standard_only"}, ""),
        (ANTHROPIC, {"speed": "standard", "inference_geo": "global"}, ""),
        (ANTHROPIC, {"speed": "default"}, ""),
        (ANTHROPIC, {"speed": "fast"}, "fast"),
        (ANTHROPIC, {"inference_geo": "us"}, "us"),
        (ANTHROPIC, {"speed": "fast", "inference_geo": "us"}, "fast+us"),
    ],
)
def test_asked(format: Format, body: dict[str, Any], tier: str) -> None:
    assert asked_tier(body, format) == tier


@pytest.mark.parametrize(
    ("format", "fields", "asked", "tier"),
    [
        (OPENAI, {}, "flex", None),
        (OPENAI, {"service_tier": None}, "flex", None),
        (OPENAI, {"service_tier": "default"}, "priority", ""),
        (OPENAI, {"service_tier": "flex"}, "", "flex"),
        (ANTHROPIC, {"speed": "fast"}, "fast", None),
        (ANTHROPIC, {"service_tier": "standard"}, "", ""),
        (ANTHROPIC, {"service_tier": "standard"}, "fast+us", "fast+us"),  # of these it says nothing
        (ANTHROPIC, {"service_tier": "standard", "speed": "standard"}, "fast+us", "us"),
        (ANTHROPIC, {"service_tier": "standard", "speed": "fast", "inference_geo": "not_available"}, "fast", "fast"),
        (ANTHROPIC, {"service_tier": "priority", "inference_geo": "us"}, "", "priority+us"),
        (ANTHROPIC, {"service_tier": "batch"}, "", "batch"),
    ],
)
def test_served(format: Format, fields: dict[str, Any], asked: str, tier: str | None) -> None:
    assert served_tier(fields, format, asked) == tier


@given(st.sampled_from(Format), FIELDS)
def test_whatever_it_is_it_is_a_short_text(format: Format, fields: dict[str, Any]) -> None:
    asked = asked_tier(fields, format)
    served = served_tier(fields, format, asked)
    for tier in (asked, served or ""):
        assert len(tier) <= 3 * 32 + 2
        assert tier not in STANDARD - {""}


def test_an_answer_tells_its_tier_with_its_usage() -> None:
    chat = {"service_tier": "flex", "usage": {"prompt_tokens": 5}}
    found = answer_usage(orjson.dumps(chat), OPENAI)
    assert found is not None
    assert found[1] == "flex"
    message = {"usage": {"input_tokens": 5, "service_tier": "standard", "speed": "fast"}, "service_tier": "no"}
    found = answer_usage(orjson.dumps(message), ANTHROPIC)
    assert found is not None
    assert found[1] == "fast"


@pytest.mark.parametrize(
    ("format", "event"),
    [
        (OPENAI, {"choices": [], "service_tier": "flex", "usage": {"prompt_tokens": 5}}),
        (OPENAI, {"type": "response.completed", "response": {"service_tier": "flex", "usage": {"input_tokens": 5}}}),
        (ANTHROPIC, {"type": "message_start", "message": {"usage": {"input_tokens": 5, "service_tier": "flex"}}}),
        (ANTHROPIC, {"type": "message_delta", "usage": {"output_tokens": 5, "service_tier": "flex"}}),
    ],
)
def test_so_does_a_stream(format: Format, event: dict[str, Any]) -> None:
    stream = StreamUsage(format, "priority")
    assert stream.service_tier is None
    stream.feed(b"data: " + orjson.dumps(event) + b"\n\n")
    assert stream.service_tier == "flex"
    stream.feed(b'data: {"type":"message_delta","usage":{"output_tokens":7,"completion_tokens":7}}\n\n')
    assert stream.service_tier == "flex"
