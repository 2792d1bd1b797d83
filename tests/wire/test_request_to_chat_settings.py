"""The tools and the settings of Messages requests, as chat completions take them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.translate.target import ChatTarget
from tests.wire.chat_requests import (
    CACHED,
    CLOSED,
    HI,
    OPENROUTER,
    PNG,
    READ,
    assistant,
    call,
    chat,
    dropped,
    messages,
    refused,
    result,
    translated,
    use,
    user,
)

# ---- tools


def test_tools() -> None:
    tool = {
        **READ,
        **CACHED,
        "type": "custom",
        "strict": True,
        "defer_loading": True,
        "input_examples": [{"a": 1}],
        "eager_input_streaming": None,
        "allowed_callers": ["direct"],
    }
    out = translated(tools=[tool])
    function = {"name": "Read", "description": "d", "parameters": READ["input_schema"], "strict": False}
    assert json.loads(out.body)["tools"] == [{"type": "function", "function": function}]
    # Its schema is looser than OpenAI's strict mode takes.
    assert out.dropped == ("cache_control", "tools[].defer_loading", "tools[].input_examples", "tools[].strict")
    kept = chat(OPENROUTER, tools=[{**tool, "input_schema": CLOSED}])["tools"][0]
    assert kept["function"]["strict"] is True
    assert kept["cache_control"] == CACHED["cache_control"]


def test_tools_that_a_chat_server_cannot_run_are_named() -> None:
    tools = [
        READ,
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "computer_toolset_20260801"},
    ]
    out = translated(tools=tools)
    assert [tool["function"]["name"] for tool in json.loads(out.body)["tools"]] == ["Read"]
    assert out.dropped == ("tools[bash]", "tools[computer_toolset_20260801]", "tools[web_search]")
    alone = translated(tools=tools[1:], tool_choice={"type": "any"})
    assert not {"tools", "tool_choice"} & json.loads(alone.body).keys()
    assert "tool_choice" in alone.dropped


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "Read"}, {"type": "function", "function": {"name": "Read"}}),
    ],
)
def test_tool_choice(choice: dict[str, Any], sent: Any) -> None:
    assert chat(tools=[READ], tool_choice=choice)["tool_choice"] == sent
    assert "tool_choice" not in chat(tool_choice=choice)
    one = {**choice, "disable_parallel_tool_use": True}
    assert chat(tools=[READ], tool_choice=one)["parallel_tool_calls"] is False
    name = "tool_choice.disable_parallel_tool_use"
    assert dropped(ChatTarget(parallel_tool_calls=False), tools=[READ], tool_choice=one) == (name,)


def test_a_tool_choice_that_cannot_be_made() -> None:
    for name in ("Write", None, ["Read"]):
        assert refused(tools=[READ], tool_choice={"type": "tool", "name": name})[1] == "tool_choice.name"
    assert refused(tools=[READ], tool_choice={"type": "perhaps"})[1] == "tool_choice.type"


def test_names_that_the_target_does_not_take_are_changed_everywhere() -> None:
    long, dotted = "mcp__server__" + "x" * 100, "a.b"
    tools = [{**READ, "name": name} for name in (long, dotted, "Read")]
    turns = [*HI, assistant(use("1", long), use("2", dotted)), user(result("1"), result("2"))]
    out = translated(tools=tools, messages=turns, tool_choice={"type": "tool", "name": long})
    body = json.loads(out.body)
    sent = [tool["function"]["name"] for tool in body["tools"]]
    assert all(len(name) <= 64 for name in sent)
    assert sent[1].startswith("a_b_")
    assert sent[2] == "Read"
    assert [made["function"]["name"] for made in body["messages"][1]["tool_calls"]] == sent[:2]
    assert body["tool_choice"]["function"]["name"] == sent[0]
    assert out.tool_names == {sent[0]: long, sent[1]: dotted}
    assert translated(tools=tools).tool_names == out.tool_names
    wide = translated(ChatTarget(longest_tool_name=128), tools=tools)
    assert list(wide.tool_names.values()) == [dotted]


def test_tools_that_change_in_the_conversation() -> None:
    def change(kind: str, tool: Any) -> dict[str, Any]:
        return {"role": "system", "content": [{"type": kind, "tool": tool}]}

    by_name = {"type": "tool_reference", "name": "Read"}
    new = {"type": "tool_definition", "definition": {**READ, "name": "New"}}
    out = translated(tools=[READ], messages=[*HI, change("tool_addition", new), change("tool_removal", by_name)])
    body = json.loads(out.body)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["New"]
    assert body["messages"] == HI
    back = [*HI, change("tool_removal", by_name), change("tool_addition", by_name)]
    assert [tool["function"]["name"] for tool in chat(tools=[READ], messages=back)["tools"]] == ["Read"]
    mcp = change("tool_addition", {"type": "mcp_toolset_reference", "name": "x"})
    assert dropped(messages=[*HI, mcp]) == ("messages[].tool_addition",)


# ---- the other fields


def test_parameters() -> None:
    fields: dict[str, Any] = {"temperature": 0.5, "top_p": 1, "stream": True}
    stops = ["a", "b", "c", "d", "e"]
    unsent: dict[str, Any] = {"aion_preferences": {"tier": 2}, "anthropic_version": "x"}
    assert chat(**fields, **unsent, stop_sequences=stops, metadata={"user_id": "u1"}) == {
        **fields,
        "model": "small",
        "messages": HI,
        "max_tokens": 10,
        "user": "u1",
        "stop": stops,
        "stream_options": {"include_usage": True},
    }
    assert dropped(**unsent) == ()
    assert chat(ChatTarget(max_tokens="max_completion_tokens"))["max_completion_tokens"] == 10


def test_parameters_that_the_target_refuses() -> None:
    target = ChatTarget(sampling="never", stream_options=False)
    out = translated(target, temperature=0.5, top_p=1, stream=True)
    assert json.loads(out.body) == {"model": "small", "messages": HI, "max_tokens": 10, "stream": True}
    assert out.dropped == ("temperature",)


def test_a_long_user_id_is_hashed() -> None:
    long = "user_" + "x" * 145
    out = translated(metadata={"user_id": long})
    assert len(json.loads(out.body)["user"]) == 64
    assert out.dropped == ("metadata.user_id",)
    assert json.loads(out.body)["user"] == chat(metadata={"user_id": long})["user"]
    none = translated(ChatTarget(user=False), metadata={"user_id": "u"})
    assert "user" not in json.loads(none.body)
    assert none.dropped == ("metadata.user_id",)


def test_structured_output() -> None:
    format = {"type": "json_schema", "schema": CLOSED}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": CLOSED, "strict": True}}
    assert chat(output_config={"format": format})["response_format"] == wanted
    assert chat(output_format=format)["response_format"] == wanted
    loose = {"type": "json_schema", "schema": {**CLOSED, "required": []}}
    assert chat(output_config={"format": loose})["response_format"]["json_schema"]["strict"] is False
    assert dropped(ChatTarget(json_schema=False), output_config={"format": format}) == ("output_config.format",)


def test_what_the_target_cannot_be_told_is_named() -> None:
    no_ops: dict[str, Any] = {
        "service_tier": "auto",
        "speed": "standard",
        "container": None,
        "mcp_servers": [],
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    }
    assert dropped(**no_ops) == ()
    fields: dict[str, Any] = {
        "service_tier": "standard_only",
        "speed": "fast",
        "container": "c",
        "top_k": 4,
        "inference_geo": "eu",
        "mcp_servers": [{"name": "x"}],
        "cache_control": {"type": "ephemeral"},
        "diagnostics": {"a": None},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "fallbacks": [{"model": "m"}],
        "thread": {"type": "create"},
        "output_config": {"task_budget": {"total": 1}},
        "brand_new": 1,
    }
    names = {"output_config.task_budget", *fields.keys() - {"output_config"}}
    assert dropped(**fields) == tuple(sorted(names))


def test_names_of_unknown_fields_are_bounded_and_ascii() -> None:
    odd: dict[str, Any] = {"é\r\nX-Evil: 1" + "x" * 100: 1, **{f"field{number}": 1 for number in range(50)}}
    names = dropped(**odd)
    assert len(names) == 20
    assert all(name.isascii() and len(name) <= 40 and not set(name) & set("\r\n :") for name in names)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"thread": {"type": "continue", "previous_message_id": "m"}}, "thread"),
        ({"temperature": "hot"}, "temperature"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"metadata": []}, "metadata"),
        ({"output_config": 1}, "output_config"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"thinking": {"type": "hard"}}, "thinking.type"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"system": [PNG]}, "system[0]"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [user({"type": "image"})]}, "messages[0].content[0].source"),
        ({"messages": [*HI, assistant(use("a", input="x"))]}, "messages[1].content[0].input"),
        ({"messages": [*HI, assistant(use(""))]}, "messages[1].content[0].id"),
        ({"messages": [*HI, assistant({"type": "thinking"})]}, "messages[1].content[0].thinking"),
        ({"messages": [*HI, assistant(use("a")), user(result("a", [1]))]}, "messages[2].content[0].content[0]"),
        ({"messages": [*HI, assistant(use("a")), user(result("a", 1))]}, "messages[2].content[0].content"),
    ],
)
def test_what_is_malformed_is_refused_with_its_place(members: dict[str, Any], param: str) -> None:
    target = ChatTarget(reasoning_effort=True, reasoning="reasoning")
    assert refused(target, **members)[1].split(".source.")[0] == param  # type: ignore[union-attr]


def test_json_that_few_parsers_take() -> None:
    half = translated(messages=[{"role": "user", "content": "\ud83d"}])
    assert json.loads(half.body)["messages"][0]["content"] == "\ud83d"
    numbers = messages(*HI, assistant(use("a", input={"n": 2**70})), user(result("a")))
    assert numbers[1]["tool_calls"] == [call("a", arguments=f'{{"n":{2**70}}}')]
    deep: Any = {}
    for _ in range(600):
        deep = {"a": deep}
    schema = {"name": "Deep", "input_schema": deep}
    assert chat(tools=[schema])["tools"][0]["function"]["parameters"] == deep
