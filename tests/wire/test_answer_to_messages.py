"""JSON answers of chat completions as messages."""

from __future__ import annotations

import json
import re
from typing import Any

import anthropic
import httpx2
import orjson
import pytest

from aion_extproc.wire.translate.answer import AnswerError
from aion_extproc.wire.translate.answer_to_messages import answer_to_messages
from aion_extproc.wire.translate.target import Asked
from tests.support.answers import CHAT


def answer(message: Any = None, finish: Any = "stop", choice: Any = None, **members: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "four"} if message is None else message
    choices = [{"index": 0, "message": message, "finish_reason": finish, **(choice or {})}]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **members}
    out: dict[str, Any] = json.loads(answer_to_messages(json.dumps(body).encode(), Asked(model="asked")))
    return out


def content(**message: Any) -> Any:
    return answer({"role": "assistant", "content": None, **message})["content"]


def call(arguments: Any, id: Any = "call_1", name: str = "Read") -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def used(*calls: dict[str, Any], **message: Any) -> Any:
    return content(tool_calls=list(calls), **message)


def test_an_answer_that_the_sdk_reads() -> None:
    body = answer_to_messages(CHAT, Asked())
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json=json.loads(body)))
    client = anthropic.Anthropic(api_key="x", base_url="http://x.test", http_client=httpx2.Client(transport=transport))
    message = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "2+2"}])
    assert message.content[0].to_dict() == {"type": "text", "text": "four é😀"}
    assert (message.model, message.role, message.type) == ("m", "assistant", "message")
    assert re.fullmatch("msg_[0-9a-f]{24}", message.id)
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    # Anthropic counts what was read from the cache apart.
    assert message.usage.input_tokens == 600
    assert message.usage.cache_read_input_tokens == 400
    assert message.usage.cache_creation_input_tokens == 0
    assert message.usage.output_tokens == 200
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 50


def test_content_of_all_kinds() -> None:
    assert content() == content(content="") == content(content=[]) == []
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]
    assert content(content=parts) == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "a"},
    ]
    assert content(content="\ud83d") == [{"type": "text", "text": "\ud83d"}]


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
def test_reasoning_comes_first(member: str) -> None:
    assert content(**{member: "hm", "content": "a"}) == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "a"},
    ]


def test_reasoning_details_have_signatures_and_what_is_not_to_be_read() -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "xyz"},
        {"type": "reasoning.summary", "summary": "so"},
        7,
    ]
    assert content(reasoning="hm so", reasoning_details=details) == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "so", "signature": ""},
    ]
    assert content(reasoning="hm", reasoning_details=[{"signature": "sig"}, details[1]]) == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
    ]


def test_calls() -> None:
    text = {"type": "text", "text": "I look"}
    use = {"type": "tool_use", "id": "call_1", "name": "Read", "input": {"a": 1}}
    assert used(call('{"a":1}'), content="I look") == [text, use]
    assert used(call({"a": 1})) == [use]  # the object itself
    assert content(function_call={"name": "Read", "arguments": '{"a":1}'})[0]["input"] == {"a": 1}
    assert used(call(""))[0]["input"] == used(call(" "))[0]["input"] == used(call(None))[0]["input"] == {}
    assert used(call(f'{{"n":{2**70}}}'))[0]["input"] == {"n": 2**70}
    assert used(call("[1]"))[0]["input"] == {"INVALID_JSON": "[1]"}
    assert used(call('{"a":NaN}'))[0]["input"] == {"INVALID_JSON": '{"a":NaN}'}
    assert used(call('{"a":'))[0]["input"] == {"INVALID_JSON": '{"a":'}
    assert used({"id": "x"}, 7, call("{}"))[0]["id"] == "call_1"  # type: ignore[arg-type]


def test_ids_that_are_missing_or_come_twice_are_made_and_stay_the_same() -> None:
    ids = [block["id"] for block in used(call("{}", ""), call("{}", None), call("{}", "a"), call("{}", "a"))]
    assert len(set(ids)) == 4
    assert ids[2] == "a"
    assert ids == [block["id"] for block in used(call("{}", ""), call("{}", None), call("{}", "a"), call("{}", "a"))]
    assert all(id.replace("_", "").isalnum() for id in ids)
    assert answer(id="")["id"].startswith("msg_")
    assert answer(model=None)["model"] == "asked"


def test_names_are_the_clients() -> None:
    message = {"content": None, "tool_calls": [call("{}", name="short_1")]}
    body = orjson.dumps({"choices": [{"message": message}]})
    out = json.loads(answer_to_messages(body, Asked(tool_names={"short_1": "mcp__a.long"})))
    assert out["content"][0]["name"] == "mcp__a.long"


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", "end_turn"),
        ("length", "max_tokens"),
        ("model_length", "max_tokens"),
        ("content_filter", "refusal"),
        ("tool_calls", "end_turn"),
        ("something_new", "end_turn"),
        (None, "end_turn"),
        ([1], "end_turn"),
    ],
)
def test_stop_reasons(finish: Any, reason: str) -> None:
    assert answer(finish=finish)["stop_reason"] == reason
    with_call = answer({"content": None, "tool_calls": [call("{}")]}, finish)
    assert with_call["stop_reason"] == ("tool_use" if reason == "end_turn" else reason)


def test_refusals_and_stop_sequences() -> None:
    refused = answer({"content": None, "refusal": "I will not."})
    assert refused["content"] == [{"type": "text", "text": "I will not."}]
    assert refused["stop_reason"] == "refusal"
    met = answer(choice={"stop_reason": "END"})  # vLLM
    assert (met["stop_reason"], met["stop_sequence"]) == ("stop_sequence", "END")
    assert answer(choice={"stop_reason": 128009})["stop_reason"] == "end_turn"


def test_usage_wherever_it_stands() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 2}
    for members in ({"usage": counts}, {"x_groq": {"usage": counts}}, {"choice": {"usage": counts}}):
        assert answer(**members)["usage"]["input_tokens"] == 10
    written = {**counts, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3}}
    assert answer(usage=written)["usage"] == {
        "input_tokens": 3,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
    }
    assert answer(usage=None)["usage"]["output_tokens"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>oops</html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[{}]}',
        b'{"choices":[{"message":"x"}]}',
        b'{"choices":{}}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(AnswerError) as raised:
        answer_to_messages(body, Asked())
    assert (raised.value.code, raised.value.status) == ("bad_answer", 502)


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        ({"error": {"message": "overloaded", "code": 503}}, "overloaded", 503),
        ({"error": "no"}, "no", 502),
        ({"object": "error", "message": "too long", "code": 400}, "too long", 400),
        ({"choices": [{"error": {"message": "died"}, "message": {"content": "fo"}}]}, "died", 502),
        ({"choices": [{"finish_reason": "error", "message": {"content": "fo"}}]}, "broke off", 502),
        ({"choices": [{"finish_reason": "insufficient_system_resource", "message": {}}]}, "overloaded", 529),
    ],
)
def test_an_error_under_a_200(body: Any, message: str, status: int) -> None:
    with pytest.raises(AnswerError) as raised:
        answer_to_messages(orjson.dumps(body), Asked())
    assert (raised.value.code, raised.value.status) == ("error_answer", status)
    assert message in raised.value.message


def test_arguments_nested_deeper_than_anything_can_write() -> None:
    deep = '{"a":' * 1000 + "1" + "}" * 1000
    assert used(call(deep))[0]["input"] == {"INVALID_JSON": deep}
    body = b'{"choices":[{"message":{"tool_calls":[{"function":{"name":"x","arguments":%b}}]}}]}' % deep.encode()
    with pytest.raises(AnswerError) as raised:
        answer_to_messages(body, Asked())
    assert raised.value.code == "bad_answer"


def test_ids_that_anthropic_refuses_are_changed() -> None:
    ids = ["functions.Read:0", "functions:Read.0", "call_1-A", "日", "functions.Read:0"]
    blocks = used(*(call("{}", id) for id in ids))
    given = [block["id"] for block in blocks]
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", id) for id in given)
    assert len(set(given)) == len(ids)
    assert given[0].startswith("functions_Read_0_")
    assert given[2] == "call_1-A"
    assert given == [block["id"] for block in used(*(call("{}", id) for id in ids))]
    # Another answer's are others: servers begin to count anew in each.
    assert given[0] != used(call("{}", ids[0]))[0]["id"]
