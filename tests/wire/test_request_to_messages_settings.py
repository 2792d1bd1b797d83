"""The tools, the thinking and the settings of chat requests, as Anthropic's Messages API takes them."""

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

BUDGET = MessagesTarget(thinking="budget", effort=False)
NONE = MessagesTarget(thinking="", effort=False)


# Tools


def test_tools() -> None:
    schema = {"properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
    body = sent(tools=[tool("f", description="Does.", parameters=schema), tool("g"), tool("h", parameters={})])
    assert body["tools"] == [
        {"name": "f", "description": "Does.", "input_schema": {"type": "object", **schema}},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        {"name": "h", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert "tool_choice" not in body


def test_strict_tools_are_closed() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
    got = translated(tools=[tool("f", strict=True, parameters={**schema, "additionalProperties": False})])
    assert orjson.loads(got.body)["tools"] == [
        {
            "name": "f",
            "input_schema": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": '{"minimum":1}'}},
                "additionalProperties": False,
                "required": ["a"],
            },
            "strict": True,
        }
    ]
    assert got.dropped == ()
    for target, parameters in ((MessagesTarget(json_schema=False), schema), (PLAIN, {"type": "object"})):
        got = translated(target, tools=[tool("f", strict=True, parameters=parameters)])
        assert "strict" not in orjson.loads(got.body)["tools"][0]
        assert got.dropped == ("tools[].function.strict",)


def test_names_that_are_refused_are_changed_everywhere() -> None:
    long = "mcp__server__" + "x" * 80
    target = MessagesTarget(longest_tool_name=64)
    got = translated(
        target,
        tools=[tool(long), tool("a.b"), tool("a/b"), tool("fine")],
        tool_choice=tool("a.b"),
        messages=[USER, calls(call("1", long), call("2", "fine")), result("1"), result("2")],
    )
    body = orjson.loads(got.body)
    names = [each["name"] for each in body["tools"]]
    assert len(set(names)) == 4
    assert max(map(len, names)) == 64
    assert names[3] == "fine"
    assert body["tool_choice"] == {"type": "tool", "name": names[1]}
    assert [block["name"] for block in body["messages"][1]["content"]] == [names[0], "fine"]
    assert got.tool_names == {names[0]: long, names[1]: "a.b", names[2]: "a/b"}


@pytest.mark.parametrize(
    ("choice", "sent_as"),
    [
        ("auto", None),
        (None, None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        (tool("g"), {"type": "tool", "name": "g"}),
    ],
)
def test_tool_choice(choice: Any, sent_as: Any) -> None:
    assert sent(tools=[tool("f"), tool("g")], tool_choice=choice).get("tool_choice") == sent_as
    single = sent(tools=[tool("f"), tool("g")], tool_choice=choice, parallel_tool_calls=False).get("tool_choice")
    if choice == "none":
        assert single == sent_as
    else:
        assert single == {**(sent_as or {"type": "auto"}), "disable_parallel_tool_use": True}


def test_allowed_tools() -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("g")]}}
    body = sent(tools=[tool("f"), tool("g")], tool_choice=allowed)
    assert [each["name"] for each in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "name": "x"}]}, "tools[0].function"),
        ({"tools": [tool("")]}, "tools[0].function.name"),
        ({"tools": [tool("f", parameters={"type": "string"})]}, "tools[0].function.parameters"),
        ({"tools": [tool("f", parameters={"anyOf": []})]}, "tools[0].function.parameters"),
        ({"tools": [tool("f"), tool("f", description="other")]}, "tools"),
        ({"tools": [tool("f")], "tool_choice": tool("g")}, "tool_choice"),
        ({"tools": [tool("f")], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [tool("f")], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    ],
)
def test_tools_that_cannot_be(fields: dict[str, Any], place: str) -> None:
    assert refused(**fields)[1] == place


def test_choices_without_tools_ask_for_nothing() -> None:
    body = sent(tools=[], tool_choice="none", parallel_tool_calls=True)
    assert not {"tools", "tool_choice"} & body.keys()
    assert len(sent(tools=[tool("f"), tool("f")])["tools"]) == 1


def test_deprecated_functions() -> None:
    got = translated(functions=[{"name": "f", "parameters": {"type": "object"}}], function_call={"name": "f"})
    body = orjson.loads(got.body)
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "tool", "name": "f", "disable_parallel_tool_use": True}
    assert got.dropped == ("functions",)


# Thinking


@pytest.mark.parametrize(
    ("effort", "output", "thinks", "named"),
    [
        ("low", "low", True, False),
        ("medium", "medium", True, False),
        ("high", "high", True, False),
        ("max", "max", True, False),
        ("xhigh", "high", True, True),
        ("none", "low", False, True),
        ("minimal", "low", False, True),
    ],
)
def test_effort_of_models_that_think_as_they_see_fit(effort: str, output: str, thinks: bool, named: bool) -> None:
    got = translated(reasoning_effort=effort)
    body = orjson.loads(got.body)
    assert body["output_config"] == {"effort": output}
    assert body.get("thinking") == ({"type": "adaptive"} if thinks else None)
    assert got.dropped == (("reasoning_effort",) if named else ())


def test_effort_without_output_config() -> None:
    got = translated(MessagesTarget(effort=False), reasoning_effort="high")
    body = orjson.loads(got.body)
    assert body["thinking"] == {"type": "adaptive"}
    assert "output_config" not in body
    assert got.dropped == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("effort", "max_tokens", "budget"),
    [
        ("low", 10_000, 2000),
        ("medium", 10_000, 5000),
        ("high", 10_000, 8000),
        ("max", 10_000, 8976),
        ("high", 100_000, 32_000),
        ("low", 2048, 1024),
        ("low", 2047, None),
        ("none", 10_000, None),
        ("minimal", 10_000, None),
    ],
)
def test_budgets(effort: str, max_tokens: int, budget: int | None) -> None:
    got = translated(BUDGET, reasoning_effort=effort, max_tokens=max_tokens)
    body = orjson.loads(got.body)
    assert body["max_tokens"] == max_tokens
    assert body.get("thinking") == (None if budget is None else {"type": "enabled", "budget_tokens": budget})
    assert got.dropped == (("reasoning_effort",) if max_tokens == 2047 else ())


def test_models_that_do_not_think() -> None:
    assert dropped(NONE, reasoning_effort="high") == ("reasoning_effort",)
    assert dropped(NONE, reasoning_effort="none") == ()
    assert refused(reasoning_effort="very")[1] == "reasoning_effort"


def test_thinking_is_given_up_where_it_would_be_refused() -> None:
    beginning = [USER, {"role": "assistant", "content": "So"}]
    forced: dict[str, Any] = {"tools": [tool()], "tool_choice": "required"}
    unthought: dict[str, Any] = {"messages": [USER, calls(call("a")), result("a")]}
    for target in (PLAIN, BUDGET):
        for fields in (forced, {"messages": beginning}, *([unthought] if target is BUDGET else [])):
            got = translated(target, reasoning_effort="high", **fields)
            assert "thinking" not in orjson.loads(got.body)
            assert got.dropped == ("reasoning_effort",)
    assert "thinking" in sent(reasoning_effort="high", **unthought)


def test_sampling_is_given_up_for_thinking() -> None:
    fields: dict[str, Any] = {"temperature": 0.2, "top_p": 0.5, "top_k": 5, "reasoning_effort": "high"}
    got = translated(**fields)
    assert not {"temperature", "top_p", "top_k"} & orjson.loads(got.body).keys()
    assert got.dropped == ("temperature", "top_k", "top_p")
    assert sent(top_p=0.97, reasoning_effort="high")["top_p"] == 0.97


SIGNED = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0}


@pytest.mark.parametrize(
    ("members", "blocks", "named"),
    [
        ({"reasoning_details": [SIGNED], "reasoning_content": "hm"}, [("thinking", "hm")], ()),
        (
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e"}, SIGNED]},
            [("redacted_thinking", "e"), ("thinking", "hm")],
            (),
        ),
        (
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "h", "index": 0},
                    {"type": "reasoning.text", "text": "m", "index": 0},
                    {"type": "reasoning.text", "signature": "s", "index": 0},
                ]
            },
            [("thinking", "hm")],
            (),
        ),
        ({"reasoning_details": [{**SIGNED, "signature": None}]}, [], ("messages[].reasoning_details",)),
        ({"reasoning_details": [{**SIGNED, "format": "google-gemini-v1"}]}, [], ("messages[].reasoning_details",)),
        ({"reasoning_details": "x"}, [], ("messages[].reasoning_details",)),
        (
            {
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "e"},
                ]
            },
            [("thinking", "hm"), ("redacted_thinking", "e")],
            (),
        ),
        ({"thinking_blocks": [{"type": "thinking", "thinking": "hm"}]}, [], ("messages[].thinking_blocks",)),
        ({"reasoning_content": "hm", "reasoning": ""}, [], ("messages[].reasoning_content",)),
        ({"reasoning": "hm"}, [], ("messages[].reasoning",)),
    ],
)
def test_earlier_thinking(members: dict[str, Any], blocks: list[tuple[str, str]], named: tuple[str, ...]) -> None:
    messages = [USER, calls(call("a"), content="x", **members), result("a")]
    got = translated(messages=messages)
    found = orjson.loads(got.body)["messages"][1]["content"]
    assert [(block["type"], block.get("thinking") or block.get("data")) for block in found[:-2]] == blocks
    assert [block["type"] for block in found[-2:]] == ["text", "tool_use"]
    assert got.dropped == named


def test_thinking_is_not_given_to_a_model_that_does_not_think() -> None:
    messages = [USER, calls(call("a"), reasoning_details=[SIGNED]), result("a")]
    assert dropped(NONE, messages=messages) == ("messages[].reasoning_details",)


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
