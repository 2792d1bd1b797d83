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


def translated(target: MessagesTarget = PLAIN, /, **fields: Any) -> Translated:
    raw = orjson.dumps({"model": "aion-auto", "messages": [USER], **fields})
    return to_messages(parse(raw, Format.OPENAI), "claude", target)


def sent(target: MessagesTarget = PLAIN, /, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(translated(target, **fields).body)
    return body


def talk(*messages: dict[str, Any], target: MessagesTarget = PLAIN) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(target, messages=list(messages))["messages"]
    return found


def dropped(target: MessagesTarget = PLAIN, /, **fields: Any) -> tuple[str, ...]:
    return translated(target, **fields).dropped


def refused(target: MessagesTarget = PLAIN, /, **fields: Any) -> tuple[str, str | None]:
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


def test_a_text_cut_inside_a_character() -> None:
    raw = b'{"model":"m","messages":[{"role":"user","content":"a\\ud83d"}],"tools":[]}'
    got = to_messages(parse(raw, Format.OPENAI), "claude", PLAIN)
    assert orjson.loads(got.body)["messages"][0]["content"] == [text("a?")]


def test_system_messages_stay_where_the_model_takes_them() -> None:
    target = MessagesTarget(system_turns=True)
    note, answer = {"role": "system", "content": "now in French"}, {"role": "assistant", "content": "oui"}
    turn = {"role": "system", "content": [text("now in French")]}
    assert [message["role"] for message in talk(USER, note, answer, USER, target=target)] == [
        *("user", "system", "assistant", "user"),
    ]
    assert talk(USER, note, target=target)[1] == turn
    assert talk(USER, note, note, answer, USER, target=target)[1]["content"] == [text("now in French")] * 2
    assert talk(calls(call("a")), result("a"), note, target=target)[-1] == turn
    assert dropped(target, messages=[USER, note, answer, USER]) == ()
    for elsewhere in ([USER, note, USER], [USER, answer, note, USER], [USER, answer, note]):
        found = talk(*elsewhere, target=target)
        assert all(message["role"] != "system" for message in found)
        assert "now in French" in str(found)
        assert dropped(target, messages=elsewhere) == ("messages[].role",)


def test_a_beginning_that_the_model_would_not_go_on_with_is_refused() -> None:
    messages = [USER, {"role": "assistant", "content": "So"}]
    assert refused(MessagesTarget(prefill=False), messages=messages) == ("unsupported_prefill", "messages[1]")
    assert talk(*messages)[-1]["role"] == "assistant"
