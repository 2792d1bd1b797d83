"""The tools of chat requests, as Anthropic's Messages API takes them."""

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
    refused,
    result,
    sent,
    tool,
    translated,
)


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


@pytest.mark.parametrize(("choice", "words"), [("required", "one of the tools"), (tool("g"), "the tool g,")])
def test_a_call_that_cannot_be_forced_is_asked_for(choice: Any, words: str) -> None:
    target = MessagesTarget(forced_tools=False)
    got = translated(target, tools=[tool("f"), tool("g")], tool_choice=choice, reasoning_effort="high")
    body = orjson.loads(got.body)
    assert "tool_choice" not in body
    assert words in body["system"][-1]["text"]
    assert body["thinking"] == {"type": "adaptive"}
    assert got.dropped == ("tool_choice",)
    single = sent(target, tools=[tool("g")], tool_choice=choice, parallel_tool_calls=False)
    assert single["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


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
