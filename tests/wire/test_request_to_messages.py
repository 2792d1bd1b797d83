"""Chat requests as requests for Anthropic's Messages API, field by field."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import MessagesTarget, Translated

USER = {"role": "user", "content": "hi"}
PNG = "iVBORw0KGgoAAAANSUhEUg=="
PLAIN = MessagesTarget()
BUDGET = MessagesTarget(thinking="budget", effort=False)
NONE = MessagesTarget(thinking="", effort=False)


def translated(target: MessagesTarget = PLAIN, **fields: Any) -> Translated:
    raw = orjson.dumps({"model": "aion-auto", "messages": [USER], **fields})
    return to_messages(parse(raw, Format.OPENAI), "claude", target)


def sent(target: MessagesTarget = PLAIN, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(translated(target, **fields).body)
    return body


def talk(*messages: dict[str, Any], target: MessagesTarget = PLAIN) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(target, messages=list(messages))["messages"]
    return found


def dropped(target: MessagesTarget = PLAIN, **fields: Any) -> tuple[str, ...]:
    return translated(target, **fields).dropped


def refused(target: MessagesTarget = PLAIN, **fields: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestError) as raised:
        translated(target, **fields)
    assert raised.value.status == 400
    return raised.value.code, raised.value.param


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(identity: str, name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def result(identity: str, content: Any = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


def calls(*made: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made), **members}


def tool(name: str = "f", **members: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **members}}


def test_the_smallest_request() -> None:
    got = translated()
    assert orjson.loads(got.body) == {
        "model": "claude",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [text("hi")]}],
    }
    assert (got.dropped, got.tool_names) == ((), {})


# Messages


def test_leading_system_texts_are_the_system_and_later_ones_stay_where_they_are() -> None:
    messages = [
        {"role": "system", "content": "one"},
        {"role": "developer", "content": [text("two")]},
        USER,
        {"role": "system", "content": "three"},
        {"role": "assistant", "content": "yes"},
        {"role": "developer", "content": "four"},
    ]
    got = translated(messages=messages)
    body = orjson.loads(got.body)
    assert body["system"] == [text("one"), text("two")]
    assert body["messages"] == [
        {"role": "user", "content": [text("hi"), text("three")]},
        {"role": "assistant", "content": [text("yes")]},
        {"role": "user", "content": [text("four")]},
    ]
    assert got.dropped == ("messages[].role",)


def test_system_texts_alone_are_the_users_turn() -> None:
    got = translated(messages=[{"role": "system", "content": "do it"}])
    body = orjson.loads(got.body)
    assert "system" not in body
    assert body["messages"] == [{"role": "user", "content": [text("do it")]}]
    assert got.dropped == ("messages[].role",)


def test_turns_alternate() -> None:
    got = talk(
        {"role": "assistant", "content": "Hello!"},
        USER,
        {"role": "user", "content": "again"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": " "},
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": [text("b"), {"type": "refusal", "refusal": "c"}], "refusal": "d"},
        USER,
    )
    assert [message["role"] for message in got] == ["user", "assistant", "user", "assistant", "user"]
    assert got[2]["content"] == [text("hi"), text("again")]
    assert got[3]["content"] == [text("a"), text("b"), text("c"), text("d")]


def test_a_beginning_of_the_answer_has_no_white_space_at_its_end() -> None:
    assert talk(USER, {"role": "assistant", "content": "  Sure:\n "})[-1]["content"] == [text("  Sure:")]


def test_nothing_to_say() -> None:
    assert refused(messages=[{"role": "user", "content": ""}]) == ("empty_messages", "messages")


def test_members_of_messages_that_have_no_place() -> None:
    message = {**USER, "name": "bob", "weight": 1, "extra": None}
    assert dropped(messages=[message]) == ("messages[].name", "messages[].weight")


def test_unknown_roles() -> None:
    assert refused(messages=[{"role": "critic", "content": "x"}]) == ("invalid_value", "messages[0].role")


# Calls and results


def test_results_of_parallel_calls_are_one_turn_in_front_of_what_else_is_said() -> None:
    got = talk(
        USER,
        calls(call("a", "f", '{"x": 1}'), call("b", "g", ""), content="Looking."),
        result("b", [text("two"), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]),
        {"role": "user", "content": "and?"},
        result("a", ""),
    )
    assert got[1]["content"] == [
        text("Looking."),
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {}},
    ]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert got[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "b", "content": [text("two"), image]},
        {"type": "tool_result", "tool_use_id": "a"},
        text("and?"),
    ]


def test_calls_over_several_assistant_messages() -> None:
    first = {"role": "assistant", "content": "x", "tool_calls": [call("a")]}
    got = talk(USER, first, {"role": "assistant", "content": "y", "tool_calls": [call("b")]}, result("a"), result("b"))
    assert [block["type"] for block in got[1]["content"]] == ["text", "text", "tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in got[2]["content"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ("", {}),
        (" {} ", {}),
        ("null", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ('{"a": "\\u00e9"}', {"a": "é"}),
        ('{"a": ', {"INVALID_JSON": '{"a":'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ('{"a": "\\ud83d"}', {"a": "?"}),
    ],
)
def test_arguments(arguments: Any, given: dict[str, Any]) -> None:
    assert talk(USER, calls(call("a", "f", arguments)), result("a"))[1]["content"][0]["input"] == given


def test_arguments_keep_their_numbers() -> None:
    made = calls(call("a", "f", '{"n": 123456789012345678901234567890, "f": 1.10}'))
    assert b'{"n": 123456789012345678901234567890, "f": 1.10}' in translated(messages=[USER, made, result("a")]).body


def test_ids_that_are_refused_are_changed_for_both() -> None:
    got = talk(USER, calls(call("functions.f:0"), call("")), result("functions.f:0", "1"), result("", "2"))
    made = [block["id"] for block in got[1]["content"]]
    assert made == [block["tool_use_id"] for block in got[2]["content"]]
    assert all(identity.startswith("toolu_") and identity.isascii() for identity in made)
    assert [block["content"] for block in got[2]["content"]] == [[text("1")], [text("2")]]


def test_ids_that_come_twice() -> None:
    turn = [calls(call("a"), call("a")), result("a", "1"), result("a", "2")]
    got = talk(USER, *turn, *turn)
    assert [block["id"] for block in got[1]["content"]] == ["a", "a_2"]
    assert [block["tool_use_id"] for block in got[2]["content"]] == ["a", "a_2"]
    assert [block["id"] for block in got[3]["content"]] == ["a_3", "a_4"]
    assert [block["tool_use_id"] for block in got[4]["content"]] == ["a_3", "a_4"]


def test_results_without_calls_and_calls_without_results() -> None:
    assert refused(messages=[USER, result("a")]) == ("unmatched_tool_result", "messages[1].tool_call_id")
    twice = [USER, calls(call("a")), result("a"), result("a")]
    assert refused(messages=twice) == ("unmatched_tool_result", "messages[3].tool_call_id")
    place = "messages[1].tool_calls[1].function"
    for rest in ([], [USER], [USER, {"role": "assistant", "content": "x"}, result("b")]):
        made = [USER, calls(call("a"), call("b")), result("a"), *rest]
        assert refused(messages=made) == ("missing_tool_result", place)


def test_the_deprecated_function_call() -> None:
    made = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}
    got = talk(USER, made, {"role": "function", "name": "f", "content": "ok"})
    assert got[1]["content"] == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}}]
    assert got[2]["content"] == [{"type": "tool_result", "tool_use_id": "call_1", "content": [text("ok")]}]


def test_a_custom_call_of_the_past() -> None:
    made = calls({"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}})
    assert talk(USER, made, result("a"))[1]["content"][0]["input"] == {"input": "ls"}


def test_tools_that_only_the_history_knows_are_told() -> None:
    body = sent(messages=[USER, calls(call("a", "old")), result("a")])
    assert body["tools"] == [{"name": "old", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}


# Images and files


def image(url: Any, **members: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **members}}]}]


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        (f"data:image/png;base64,{PNG}", "image/png"),
        (f"DATA:image/jpeg;charset=x;BASE64,{PNG}", "image/png"),
        ("data:image/jpg;base64,AAAA", "image/jpeg"),
        ("data:image/png;base64,/9j/4AAQ", "image/jpeg"),
        ("data:;base64,R0lGODlh", "image/gif"),
        ("data:image/webp;base64,UklG\nRgAA", "image/webp"),
    ],
)
def test_images_by_data(url: str, media_type: str) -> None:
    source = talk(*image(url))[0]["content"][0]["source"]
    assert (source["type"], source["media_type"]) == ("base64", media_type)
    assert "\n" not in source["data"]


def test_images_by_address() -> None:
    got = talk(*image("https://example.com/a.png"))[0]["content"]
    assert got == [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]
    plain = [{"role": "user", "content": [{"type": "image_url", "image_url": "https://example.com/a.png"}]}]
    assert talk(*plain)[0]["content"] == got
    place = "messages[0].content[0].image_url.url"
    assert refused(MessagesTarget(image_urls=False), messages=image("https://x/y")) == ("unsupported_content", place)


@pytest.mark.parametrize("url", ["", "gs://a/b", "data:image/png,abc", "data:image/png;base64,", None, 7])
def test_images_that_are_none(url: Any) -> None:
    assert refused(messages=image(url))[1] == "messages[0].content[0].image_url.url"


def test_images_of_other_kinds() -> None:
    assert refused(messages=image("data:image/svg+xml;base64,AAAA"))[0] == "unsupported_content"


def test_detail_is_named() -> None:
    messages = image(f"data:image/png;base64,{PNG}", detail="low")
    assert dropped(messages=messages) == ("messages[].content[].image_url.detail",)
    assert dropped(messages=image(f"data:image/png;base64,{PNG}", detail="auto")) == ()


def file(**members: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "file", "file": members}]}]


def test_files() -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    for data in ("data:application/pdf;base64,JVBERi0=", "JVBERi0="):
        got = talk(*file(file_data=data, filename="a.pdf"))[0]["content"]
        assert got == [{"type": "document", "source": pdf, "title": "a.pdf"}]
    got = talk(*file(file_data="data:text/plain;base64,aMOp"))[0]["content"]
    assert got == [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hé"}}]
    got = talk(*file(file_data="https://example.com/a.pdf"))[0]["content"]
    assert got[0]["source"] == {"type": "url", "url": "https://example.com/a.pdf"}
    assert refused(messages=file(file_id="file-1")) == ("unsupported_content", "messages[0].content[0].file")
    assert refused(messages=file(file_data="data:application/zip;base64,UEsD"))[0] == "unsupported_content"
    assert refused(messages=file(file_data="data:text/plain;base64,//79"))[0] == "invalid_value"


def test_content_that_cannot_be_sent_is_never_lost() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
    place = "messages[0].content[0]"
    assert refused(messages=[{"role": "user", "content": [sound]}]) == ("unsupported_content", place)
    assert refused(messages=[{"role": "user", "content": [{"type": "video_url"}]}]) == ("unsupported_content", place)
    assert refused(messages=[USER, {"role": "assistant", "audio": {"id": "a"}}])[1] == "messages[1].audio"
    parts = image(f"data:image/png;base64,{PNG}")[0]["content"]
    for role in ("assistant", "system"):
        assert refused(messages=[{"role": role, "content": parts}, USER])[1] == place


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
    forced = {"tools": [tool()], "tool_choice": "required"}
    unthought = {"messages": [USER, calls(call("a")), result("a")]}
    for target in (PLAIN, BUDGET):
        for fields in (forced, {"messages": beginning}, *([unthought] if target is BUDGET else [])):
            got = translated(target, reasoning_effort="high", **fields)
            assert "thinking" not in orjson.loads(got.body)
            assert got.dropped == ("reasoning_effort",)
    assert "thinking" in sent(reasoning_effort="high", **unthought)


def test_sampling_is_given_up_for_thinking() -> None:
    fields = {"temperature": 0.2, "top_p": 0.5, "top_k": 5, "reasoning_effort": "high"}
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


def test_a_text_cut_inside_a_character() -> None:
    raw = b'{"model":"m","messages":[{"role":"user","content":"a\\ud83d"}],"tools":[]}'
    got = to_messages(parse(raw, Format.OPENAI), "claude", PLAIN)
    assert orjson.loads(got.body)["messages"][0]["content"] == [text("a?")]
