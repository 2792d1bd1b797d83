"""Messages requests as chat completions, case by case. Whole conversations: tests/property."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.target import ChatTarget, Translated

PLAIN = ChatTarget()
OPENROUTER = ChatTarget(reasoning_effort=True, reasoning="reasoning_details", cache_control=True, files=True)
CACHED = {"cache_control": {"type": "ephemeral"}}
HI = [{"role": "user", "content": "hi"}]
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
LINK = {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}
CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
READ = {"name": "Read", "description": "d", "input_schema": {"type": "object", "properties": {}}}


def translated(target: ChatTarget = PLAIN, **members: Any) -> Translated:
    body = {"model": "aion-auto", "max_tokens": 10, "messages": HI, **members}
    return to_chat(parse(json.dumps(body).encode(), Format.ANTHROPIC), "small", target)


def chat(target: ChatTarget = PLAIN, **members: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(translated(target, **members).body)
    return body


def messages(*turns: dict[str, Any], target: ChatTarget = PLAIN, **members: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(target, messages=list(turns), **members)["messages"]
    return found


def dropped(target: ChatTarget = PLAIN, **members: Any) -> tuple[str, ...]:
    return translated(target, **members).dropped


def refused(target: ChatTarget = PLAIN, **members: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as raised:
        translated(target, **members)
    assert raised.value.status == 400
    return raised.value.code, raised.value.param


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(content)}


def text(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **members}


def use(id: str, name: str = "Read", input: Any = None) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": {"a": 1} if input is None else input}


def result(id: str, content: Any = "done", **members: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **members}


def call(id: str, name: str = "Read", arguments: str = '{"a":1}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(id: str, content: Any = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": content}


# ---- the conversation


def test_claude_code() -> None:
    """The shape of its requests, field by field, as recorded from version 2.1.329."""
    ephemeral = {"cache_control": {"type": "ephemeral"}}
    reads = [use("toolu_1", input={"file_path": "/a"}), use("toolu_2", input={"file_path": "/b"})]
    thinking = {"type": "thinking", "thinking": "", "signature": "EqQB"}
    request: dict[str, Any] = {
        "system": [text("x-anthropic-billing-header: cc"), text("You are.", **ephemeral), text("Rules.", **ephemeral)],
        "messages": [
            user(text("<system-reminder>\nas you\n</system-reminder>\n"), text("read a and b")),
            {"role": "system", "content": "# Environment"},
            assistant(thinking, text("I'll read both."), *reads),
            user(result("toolu_1", "1\tone"), result("toolu_2", "no such file", is_error=True, **ephemeral)),
        ],
        "tools": [READ, {**READ, "name": "DeferredToolPlaceholder", "defer_loading": True}],
        "metadata": {"user_id": "u" * 150},
        "max_tokens": 128000,
        "thinking": {"type": "adaptive", "display": "omitted"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": True,
    }
    out = translated(ChatTarget(reasoning_effort=True, reasoning="reasoning_content"), **request)
    body = json.loads(out.body)
    assert body["messages"] == [
        {"role": "system", "content": "x-anthropic-billing-header: cc\n\nYou are.\n\nRules."},
        {"role": "user", "content": "<system-reminder>\nas you\n</system-reminder>\n\n\nread a and b"},
        {"role": "system", "content": "# Environment"},
        {
            "role": "assistant",
            "content": "I'll read both.",
            "tool_calls": [
                call("toolu_1", arguments='{"file_path":"/a"}'),
                call("toolu_2", arguments='{"file_path":"/b"}'),
            ],
        },
        tool("toolu_1", "1\tone"),
        tool("toolu_2", "Error: no such file"),
    ]
    assert (body["max_tokens"], body["reasoning_effort"], body["stream"]) == (128000, "medium", True)
    assert len(body["tools"]) == 2
    assert out.dropped == ("cache_control", "metadata.user_id", "thinking.display", "tools[].defer_loading")


def test_the_simplest() -> None:
    out = translated()
    assert json.loads(out.body) == {"model": "small", "messages": HI, "max_tokens": 10}
    assert (out.dropped, out.tool_names) == ((), {})


def test_system_as_a_string_and_as_blocks_leads() -> None:
    assert messages(*HI, system="be kind")[0] == {"role": "system", "content": "be kind"}
    blocks = [text("one"), text("two", **CACHED)]
    assert messages(*HI, system=blocks) == [{"role": "system", "content": "one\n\ntwo"}, *HI]
    assert dropped(system=blocks) == ("cache_control",)
    kept = messages(*HI, system=blocks, target=OPENROUTER)[0]
    assert kept == {"role": "system", "content": [text("one"), text("two", **CACHED)]}
    assert dropped(OPENROUTER, system=blocks) == ()
    assert messages(*HI, system="") == HI


def test_a_system_message_in_the_middle_stays_there() -> None:
    turns = [*HI, {"role": "system", "content": "now in French"}, {"role": "assistant", "content": "oui"}, *HI]
    assert messages(*turns, system="s") == [{"role": "system", "content": "s"}, *turns]


def test_a_system_message_for_a_turn_that_has_passed_is_gone() -> None:
    note = {"role": "system", "content": "only now", "clear_at": "next_user_message"}
    assert messages(*HI, note) == [*HI, {"role": "system", "content": "only now"}]
    assert messages(*HI, note, assistant(text("yes")), user(text("and?"))) == [
        *HI,
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "and?"},
    ]


def test_texts_are_one_string_and_stay_parts_beside_others() -> None:
    assert messages(user(text("a"), text(""), text("b"))) == [{"role": "user", "content": "a\n\nb"}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    assert messages(user(text("a"), PNG, text("b"))) == [{"role": "user", "content": [text("a"), image, text("b")]}]
    # Claude cuts its text where a citation begins: that is no paragraph.
    turn = assistant(text("The sky is "), text("blue", citations=[{"type": "char_location"}]), text("."))
    assert messages(*HI, turn, *HI)[1]["content"] == "The sky is blue."
    assert dropped(messages=[*HI, turn, *HI]) == ("messages[].citations",)


def test_consecutive_turns_of_one_role_are_one() -> None:
    turns = [*HI, user(text("there")), assistant(text("a")), assistant(text("b"), use("1")), user(result("1"))]
    assert messages(*turns) == [
        {"role": "user", "content": "hi\n\nthere"},
        {"role": "assistant", "content": "a\n\nb", "tool_calls": [call("1")]},
        tool("1"),
    ]


def test_tool_results_come_directly_after_the_calls_and_before_the_users_words() -> None:
    calls = assistant(text("I look"), use("a"), use("b", "Write", {}))
    assert messages(*HI, calls, user(text("stop"), result("b"), result("a"))) == [
        *HI,
        {"role": "assistant", "content": "I look", "tool_calls": [call("a"), call("b", "Write", "{}")]},
        tool("b"),
        tool("a"),
        {"role": "user", "content": "stop"},
    ]
    scattered = [*HI, assistant(use("a")), assistant(use("b")), user(result("a"), text("x")), user(result("b"))]
    assert messages(*scattered)[1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]},
        tool("a"),
        tool("b"),
        {"role": "user", "content": "x"},
    ]


def test_what_a_tool_result_holds() -> None:
    def of(*blocks: Any, target: ChatTarget = PLAIN) -> list[dict[str, Any]]:
        return messages(*HI, assistant(use("a")), user(*blocks), target=target)[2:]

    assert of(result("a", [text("1"), text("2")])) == [tool("a", "1\n\n2")]
    assert of(result("a", "")) == of(result("a", [])) == of(result("a", None)) == [tool("a", "")]
    assert of(result("a", "no such file", is_error=True)) == [tool("a", "Error: no such file")]
    assert of(result("a", "Error: no", is_error=True)) == [tool("a", "Error: no")]
    assert of(result("a", [], is_error=True)) == [tool("a", "Error")]
    assert of(result("a", [{"type": "tool_reference", "tool_name": "X"}])) == [tool("a", "The tool X is available.")]
    found = {"type": "search_result", "title": "T", "source": "s", "content": [text("t")]}
    assert of(result("a", [found])) == [tool("a", "T\ns\n\nt")]
    assert of(result("a", "x", **CACHED), target=OPENROUTER) == [tool("a", [text("x", **CACHED)])]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    note = text("Attached to the result of tool call a:")
    assert of(result("a", [text("seen"), PNG]), text("and?")) == [
        tool("a", "seen"),
        {"role": "user", "content": [note, image, text("and?")]},
    ]
    assert of(result("a", [PNG])) == [
        tool("a", "The result is attached to the next message."),
        {"role": "user", "content": [note, image]},
    ]


def test_calls_and_results_that_do_not_belong_together() -> None:
    assert refused(messages=[user(result("a"))]) == ("unknown_tool_use", "messages[0].content[0].tool_use_id")
    late = [*HI, assistant(use("a")), user(result("a")), assistant(text("x")), user(result("a"))]
    assert refused(messages=late)[0] == "unknown_tool_use"
    # The server judges a call without its result.
    assert messages(*HI, assistant(use("a")))[1]["tool_calls"] == [call("a")]


def test_a_call_id_that_openai_refuses_is_shortened_on_both_sides() -> None:
    long = "toolu_" + "x" * 60
    turns = messages(*HI, assistant(use(long)), user(result(long)))
    short = turns[1]["tool_calls"][0]["id"]
    assert len(short) <= 40
    assert turns[2]["tool_call_id"] == short
    odd = "functions.Read:0"
    assert messages(*HI, assistant(use(odd)), user(result(odd)))[2]["tool_call_id"] == odd


def test_a_turn_that_says_nothing() -> None:
    assert messages(user()) == [{"role": "user", "content": ""}]
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert messages(*HI, assistant(thinking), user(text("so?"))) == [{"role": "user", "content": "hi\n\nso?"}]
    assert refused(messages=[assistant()]) == ("empty_messages", "messages")


def test_a_prefill_is_passed_on_and_named() -> None:
    turns = [*HI, {"role": "assistant", "content": "{"}]
    assert messages(*turns) == turns
    assert dropped(messages=turns) == ("messages[].prefill",)


@pytest.mark.parametrize("role", ["tool", "developer", ""])
def test_a_role_that_there_is_not(role: str) -> None:
    assert refused(messages=[{"role": role, "content": "x"}]) == ("invalid_type", "messages[0].role")


# ---- thinking


NOTE = [{"role": "system", "content": "note"}]
THOUGHTS = [
    {"type": "thinking", "thinking": "first", "signature": "sig"},
    {"type": "redacted_thinking", "data": "xyz"},
    {"type": "thinking", "thinking": "then", "signature": ""},
]


def test_thinking_is_given_back_in_the_targets_member() -> None:
    turns = [*HI, assistant(*THOUGHTS, text("a")), *HI]
    for target in (ChatTarget(reasoning="reasoning_content"), ChatTarget(reasoning="reasoning")):
        out = translated(target, messages=turns)
        said = json.loads(out.body)["messages"][1]
        assert said == {"role": "assistant", "content": "a", target.reasoning: "first\nthen"}
        assert out.dropped == ("messages[].redacted_thinking",)
    out = translated(OPENROUTER, messages=turns)
    assert json.loads(out.body)["messages"][1]["reasoning_details"] == [
        {"type": "reasoning.text", "text": "first", "signature": "sig", "index": 0},
        {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
        {"type": "reasoning.text", "text": "then", "index": 2},
    ]
    assert out.dropped == ()
    assert translated(messages=turns).dropped == ("messages[].redacted_thinking", "messages[].thinking")


@pytest.mark.parametrize(
    ("members", "effort", "names"),
    [
        ({}, None, ()),
        ({"thinking": {"type": "adaptive"}}, None, ()),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None, ("thinking.display",)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium", ()),
        ({"output_config": {"effort": "max"}}, "high", ("output_config.effort",)),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "low", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 31999}}, "high", ()),
        ({"thinking": {"type": "disabled"}}, None, ()),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}}, None, ("output_config.effort",)),
        ({"thinking": {"type": "between_tools"}}, None, ()),
    ],
)
def test_thinking_as_reasoning_effort(members: dict[str, Any], effort: str | None, names: tuple[str, ...]) -> None:
    out = translated(ChatTarget(reasoning_effort=True), **members)
    assert json.loads(out.body).get("reasoning_effort") == effort
    assert out.dropped == names


def test_thinking_where_there_is_no_reasoning_effort() -> None:
    both: dict[str, Any] = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}
    assert dropped(**both) == ("output_config.effort", "thinking")
    assert dropped(thinking={"type": "disabled"}) == ()
    picky = ChatTarget(reasoning_effort=True, tools_need_no_reasoning=True)
    out = translated(picky, tools=[READ], **both)
    assert json.loads(out.body)["reasoning_effort"] == "none"
    assert out.dropped == ("output_config.effort", "thinking")
    assert chat(picky, **both)["reasoning_effort"] == "low"
    assert chat(picky, tools=[READ])["reasoning_effort"] == "none"
    assert chat(picky, thinking={"type": "disabled"})["reasoning_effort"] == "none"


def test_an_effort_in_a_system_message_counts_from_the_next_new_input() -> None:
    """https://platform.claude.com/docs/build-with-claude/effort-per-message"""
    low = {"role": "system", "content": [], "output_config": {"effort": "low"}}
    target, top = ChatTarget(reasoning_effort=True), {"output_config": {"effort": "high"}}

    def effort(*turns: dict[str, Any]) -> Any:
        return chat(target, messages=list(turns), **top)["reasoning_effort"]

    answer = {"role": "assistant", "content": "a"}
    assert effort(*HI, low) == "low"
    assert effort(*HI, answer, low, *HI) == "low"
    assert effort(*HI, assistant(use("1")), low, user(result("1"))) == "high"
    assert effort(*HI, assistant(use("1")), low, user(result("1"), text("x"))) == "low"
    assert effort(*HI, low, answer, *HI) == "low"


# ---- images, documents and what only Anthropic's servers know


def test_images() -> None:
    assert messages(user(LINK))[0]["content"] == [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    path = "messages[0].content[1].source"
    no_links = ChatTarget(image_urls=False)
    assert refused(no_links, messages=[user(text("a"), LINK)]) == ("unsupported_content", path)
    stored = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    assert refused(messages=[user(text("a"), stored)]) == ("unsupported_content", path)
    assert refused(messages=[*HI, assistant(PNG)]) == ("unsupported_content", "messages[1].content[0]")


def test_documents() -> None:
    place = "messages[0].content[0].source"
    named = {**PDF, "title": "Report", "context": "of 2026"}
    file = {"filename": "Report.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert messages(user(named), target=OPENROUTER)[0]["content"] == [text("of 2026"), {"type": "file", "file": file}]
    assert refused(messages=[user(PDF)]) == ("unsupported_content", place)
    linked = {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}}
    assert refused(OPENROUTER, messages=[user(linked)]) == ("unsupported_content", place)
    plain = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "long"}}
    assert messages(user(plain))[0]["content"] == "T\n\nlong"
    inner = {"type": "document", "source": {"type": "content", "content": [text("a"), PNG]}}
    assert [part["type"] for part in messages(user(inner))[0]["content"]] == ["text", "image_url"]
    found = {"type": "search_result", "title": "T", "source": "https://x.test", "content": [text("a"), text("b")]}
    assert messages(user(found))[0]["content"] == "T\nhttps://x.test\n\na\n\nb"


def test_what_anthropics_servers_did_can_be_read() -> None:
    asked = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "envoy"}}
    page = {"type": "web_search_result", "title": "Envoy", "url": "https://envoy.test", "encrypted_content": "zzz"}
    answered = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [page]}
    said = messages(*HI, assistant(asked, answered, text("a proxy")), *HI)[1]["content"]
    assert said == (
        '[Called web_search with {"query":"envoy"}]\n\n[web_search_tool_result]\nEnvoy\nhttps://envoy.test\n\na proxy'
    )
    fetched = {"type": "web_fetch_tool_result", "tool_use_id": "s", "content": {"type": "web_fetch_result", **PDF}}
    assert dropped(messages=[*HI, assistant(fetched), *HI]) == ("messages[].web_fetch_tool_result",)
    summary = {"type": "compaction", "content": "so far", "encrypted_content": "zz"}
    assert messages(assistant(summary), *HI)[0]["content"] == "so far"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "container_upload", "file_id": "f"},
        {"type": "hologram"},
        {"type": "compaction", "content": None, "encrypted_content": "zz"},
    ],
)
def test_what_cannot_be_said_is_refused(block: dict[str, Any]) -> None:
    assert refused(messages=[user(text("a"), block)]) == ("unsupported_content", "messages[0].content[1]")


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


def test_a_large_history_is_translated_in_linear_time() -> None:
    """By what is said, not by a clock: a quadratic walk over these would not end in this test's lifetime."""
    many = range(60_000)
    in_turn = [turn for n in many for turn in (assistant(use(f"c{n}")), user(result(f"c{n}")))]
    calls_first = [*(assistant(THOUGHTS[0], use(f"c{n}")) for n in many), *(user(result(f"c{n}")) for n in many)]
    calls = assistant(*(use(f"c{n}") for n in many))
    between = [calls, *(turn for n in many for turn in (*NOTE, user(result(f"c{n}"))))]
    pieces = [assistant(*(text("x" * 300) for _ in many)), *HI]
    target = ChatTarget(reasoning="reasoning_content")
    assert [len(messages(*turns, target=target)) for turns in (in_turn, calls_first, between, pieces)] == [
        *(120_000, 60_001, 60_002, 2),
    ]
