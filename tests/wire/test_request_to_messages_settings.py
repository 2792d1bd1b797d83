"""The answer's form, the settings and the caching of chat requests, as Anthropic's Messages API takes them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aion_extproc.wire.translate.target import MessagesTarget
from tests.wire.test_request_to_messages import (
    PLAIN,
    USER,
    call,
    calls,
    dropped,
    refused,
    result,
    sent,
    text,
    tool,
    translated,
)

# The answer's form


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


def schema_format(schema: Any, **members: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **members}}


def test_a_schema_is_enforced_where_it_can_be() -> None:
    got = translated(response_format=schema_format(SCHEMA))
    closed = {**SCHEMA, "additionalProperties": False}
    assert orjson.loads(got.body)["output_config"] == {"format": {"type": "json_schema", "schema": closed}}
    assert got.dropped == ()
    body = sent(response_format=schema_format(SCHEMA), reasoning_effort="low")
    assert set(body["output_config"]) == {"effort", "format"}


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        (MessagesTarget(json_schema=False), SCHEMA),
        (PLAIN, {"type": "object"}),
        (PLAIN, {"type": "object", "additionalProperties": {"type": "string"}}),
        (PLAIN, {"$ref": "#/$defs/node", "$defs": {"node": NODE}}),
        (PLAIN, {"$ref": "https://example.com/schema"}),
        (PLAIN, {}),
    ],
)
def test_else_the_model_is_asked_for_it(target: MessagesTarget, schema: dict[str, Any]) -> None:
    messages = [{"role": "system", "content": "S"}, USER]
    got = translated(target, messages=messages, response_format=schema_format(schema))
    body = orjson.loads(got.body)
    assert "output_config" not in body
    assert body["system"][0] == text("S")
    assert body["system"][1]["text"].endswith("\n" + orjson.dumps(schema).decode())
    assert got.dropped == ("response_format",)


def test_json_objects_are_asked_for() -> None:
    got = translated(response_format={"type": "json_object"})
    assert "JSON object" in orjson.loads(got.body)["system"][0]["text"]
    assert got.dropped == ("response_format",)
    assert translated(response_format={"type": "text"}) == translated()
    assert refused(response_format={"type": "xml"})[1] == "response_format"


# Limits and settings


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": None}, 8192),
    ],
)
def test_max_tokens(fields: dict[str, Any], value: int) -> None:
    assert sent(**fields)["max_tokens"] == value


def test_no_tokens_are_no_answer() -> None:
    assert refused(max_tokens=0)[1] == "max_tokens"
    assert refused(max_completion_tokens=0, max_tokens=1)[1] == "max_completion_tokens"


@pytest.mark.parametrize(
    ("fields", "kept", "named"),
    [
        ({"temperature": 0.3}, {"temperature": 0.3}, ()),
        ({"temperature": 0}, {"temperature": 0}, ()),
        ({"temperature": 1, "top_p": 1, "top_k": 0}, {}, ()),
        ({"temperature": 1.6}, {}, ("temperature",)),
        ({"top_p": 0.5}, {"top_p": 0.5}, ()),
        ({"temperature": 0.3, "top_p": 0.5}, {"temperature": 0.3}, ("top_p",)),
        ({"temperature": 1, "top_p": 0.5}, {"top_p": 0.5}, ()),
        ({"top_k": 40}, {"top_k": 40}, ()),
        ({"stop": "END"}, {"stop_sequences": ["END"]}, ()),
        ({"stop": ["a", "\n", ""]}, {"stop_sequences": ["a"]}, ("stop",)),
        ({"stop": "\n\n"}, {}, ("stop",)),
        ({"stop": []}, {}, ()),
        ({"user": "u-1"}, {"metadata": {"user_id": "u-1"}}, ()),
        ({"user": "u-1", "safety_identifier": "s-1"}, {"metadata": {"user_id": "s-1"}}, ()),
        ({"service_tier": "auto"}, {}, ()),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}, ()),
        ({"service_tier": "priority"}, {"service_tier": "auto"}, ()),
        ({"service_tier": "flex"}, {}, ("service_tier",)),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}, ()),
        ({"stream_options": {"include_obfuscation": False}}, {}, ()),
        ({"stream_options": {"include_obfuscation": True}}, {}, ("stream_options.include_obfuscation",)),
        ({"aion_preferences": {"tier": 1}}, {}, ()),
        (
            {
                "n": 1, "logprobs": False, "frequency_penalty": 0, "presence_penalty": 0.0, "store": False,
                "metadata": {}, "logit_bias": {}, "seed": None, "modalities": ["text"], "verbosity": "medium",
                "prediction": None, "unknown": None, "top_logprobs": None,
            },
            {},
            (),
        ),
        (
            {
                "logprobs": True, "top_logprobs": 2, "frequency_penalty": 0.5, "presence_penalty": 1, "seed": 0,
                "store": True, "metadata": {"a": "b"}, "logit_bias": {"1": 1}, "verbosity": "low",
                "prediction": {"type": "content"}, "web_search_options": {"search_context_size": "low"},
                "prompt_cache_key": "k", "moderation": {"model": "m"}, "prompt_cache_retention": "24h",
            },
            {},
            (
                *("frequency_penalty", "logit_bias", "logprobs", "metadata", "moderation", "prediction"),
                *("presence_penalty", "prompt_cache_key", "prompt_cache_retention", "seed", "store"),
                *("top_logprobs", "verbosity", "web_search_options"),
            ),
        ),
    ],
)
def test_settings(fields: dict[str, Any], kept: dict[str, Any], named: tuple[str, ...]) -> None:
    got = translated(**fields)
    body = orjson.loads(got.body)
    for name in ("model", "max_tokens", "messages"):
        del body[name]
    assert body == kept
    assert got.dropped == named


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": [1]}, "stop"),
        ({"user": 7}, "user"),
    ],
)
def test_settings_that_cannot_be(fields: dict[str, Any], place: str) -> None:
    assert refused(**fields)[1] == place


def test_models_without_sampling() -> None:
    got = translated(MessagesTarget(sampling=False), temperature=0.3, top_p=0.5, top_k=4)
    assert not {"temperature", "top_p", "top_k"} & orjson.loads(got.body).keys()
    assert got.dropped == ("temperature", "top_k", "top_p")


@pytest.mark.parametrize("user", ["a@example.com", "+49 (170) 1234567", "x" * 257])
def test_users_are_told_apart_without_their_names(user: str) -> None:
    identity = sent(user=user)["metadata"]["user_id"]
    assert len(identity) == 64
    assert identity == sent(user=user)["metadata"]["user_id"]
    assert user not in identity


def test_unknown_fields_are_named_within_bounds() -> None:
    named = dropped(**{f"field_{number}": 1 for number in range(50)})
    assert len(named) == 20
    assert dropped(**{"x\r\ny: é" + "z" * 90: 1}) == (("x__y___" + "z" * 90)[:40],)


# Caching


def test_cache_control() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    fields: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": [{**text("S"), **mark}]},
            {**USER, **mark},
            calls(call("a")),
            {**result("a"), **mark},
        ],
        "tools": [{**tool("f"), **mark}],
    }
    got = translated(**fields)
    body = orjson.loads(got.body)
    marked = [body["tools"][0], body["system"][0], body["messages"][0]["content"][0], body["messages"][2]["content"][0]]
    assert all(block["cache_control"] == mark["cache_control"] for block in marked)
    assert got.dropped == ()
    got = translated(MessagesTarget(cache_control=False), **fields)
    assert b"cache_control" not in got.body
    assert got.dropped == (
        *("messages[].cache_control", "messages[].content[].cache_control", "tools[].cache_control"),
    )


def test_the_last_four_marks_stay() -> None:
    part = {**text("x"), "cache_control": {"type": "ephemeral"}}
    got = translated(messages=[{"role": "user", "content": [part] * 6}])
    assert ["cache_control" in block for block in orjson.loads(got.body)["messages"][0]["content"]] == [
        *[False] * 2,
        *[True] * 4,
    ]
    assert got.dropped == ("messages[].content[].cache_control",)
    got = translated(messages=[{"role": "user", "content": [part] * 4}], cache_control={"type": "ephemeral"})
    assert got.body.count(b"cache_control") == 4


def test_marks_that_are_none() -> None:
    part = {**text("x"), "cache_control": {"type": "forever"}}
    assert dropped(messages=[{"role": "user", "content": [part]}]) == ("messages[].content[].cache_control",)
