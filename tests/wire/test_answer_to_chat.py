"""Anthropic's JSON answers as chat completions."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.answer import answer_usage
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate.answer import AnswerError
from aion_extproc.wire.translate.answer_to_chat import answer_to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import Asked, MessagesTarget
from tests.support.answers import MESSAGE


def message(*content: dict[str, Any], **members: Any) -> bytes:
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn"}
    return orjson.dumps({**body, "content": list(content), **members})


def chat(body: bytes, asked: Asked | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = orjson.loads(answer_to_chat(body, asked or Asked(), created=7))
    ChatCompletion.model_validate(answer)
    return answer


def said(body: bytes, asked: Asked | None = None) -> dict[str, Any]:
    found: dict[str, Any] = chat(body, asked)["choices"][0]["message"]
    return found


TEXT = {"type": "text", "text": "four"}


def test_a_whole_answer() -> None:
    answer = chat(MESSAGE)
    assert answer == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "four", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 1000,
            "completion_tokens": 200,
            "total_tokens": 1200,
            "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 100},
        },
    }
    # What is counted is the same, whichever of the two is read; only the one-hour share has no place in chat.
    assert answer_usage(orjson.dumps(answer), Format.OPENAI) == (Usage(1000, 200, 400, 100), None)


def test_texts_are_joined_and_foreign_blocks_left_out() -> None:
    cited = {"type": "text", "text": " is 4", "citations": [{"type": "page_location"}]}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    assert said(message({"type": "text", "text": "2+2"}, search, cited))["content"] == "2+2 is 4"


def test_tool_calls() -> None:
    calls = [
        {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {"a": [1, 2.5], "é": None}},
        {"type": "tool_use", "id": "toolu_2", "name": "mcp_x", "input": {}},
    ]
    answer = chat(message(*calls, stop_reason="tool_use"), Asked(tool_names={"mcp_x": "mcp.x"}))
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    found = answer["choices"][0]["message"]
    assert found["content"] is None
    function = {"name": "get", "arguments": '{"a":[1,2.5],"é":null}'}
    assert found["tool_calls"] == [
        {"id": "toolu_1", "type": "function", "function": function},
        {"id": "toolu_2", "type": "function", "function": {"name": "mcp.x", "arguments": "{}"}},
    ]


def test_arguments_keep_their_numbers() -> None:
    call = b'{"type":"tool_use","id":"t","name":"f","input":{"n":123456789012345678901234567890,"h":"\\ud83d"}}'
    body = b'{"id":"m","type":"message","content":[' + call + b'],"stop_reason":"tool_use"}'
    arguments = said(body)["tool_calls"][0]["function"]["arguments"]
    assert arguments == '{"n":123456789012345678901234567890,"h":"\\ud83d"}'


def test_thinking_can_be_given_back() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "thinking", "thinking": "well", "signature": "s3"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]
    found = said(message(*blocks, stop_reason="tool_use"))
    assert found["reasoning_content"] == "hm\n\nwell"
    asked = [{"role": "user", "content": "x"}, found, {"role": "tool", "tool_call_id": "toolu_1", "content": "ok"}]
    body = orjson.dumps({"model": "m", "messages": asked})
    again = orjson.loads(to_messages(parse(body, Format.OPENAI), "claude", MessagesTarget()).body)
    assert again["messages"][1]["content"] == blocks


def test_thinking_without_a_signature_is_only_told() -> None:
    found = said(message({"type": "thinking", "thinking": "hm"}, TEXT))
    assert found["reasoning_content"] == "hm"
    assert "reasoning_details" not in found


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        (None, "stop"),
        ("new", "stop"),
        (["tool_use"], "stop"),
    ],
)
def test_why_it_ended(reason: Any, finish: str) -> None:
    assert chat(message(TEXT, stop_reason=reason))["choices"][0]["finish_reason"] == finish


def test_a_refusal() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "I cannot."}
    found = said(message(stop_reason="refusal", stop_details=details))
    assert (found["content"], found["refusal"]) == (None, "I cannot.")


def test_an_empty_answer() -> None:
    assert said(message()) == {"role": "assistant", "content": "", "refusal": None}


def test_what_the_answer_leaves_out() -> None:
    answer = chat(b'{"type":"message","content":[{"type":"text","text":"x"}]}', Asked(model="asked"))
    assert (answer["model"], answer["id"]) == ("asked", "")
    assert "usage" not in answer


def test_thinking_tokens() -> None:
    usage = {"input_tokens": 1, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 5}}
    assert chat(message(TEXT, usage=usage))["usage"]["completion_tokens_details"] == {"reasoning_tokens": 5}


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        (b"", "bad_answer", 502),
        (b"<html><title>502</title>", "bad_answer", 502),
        (b"[1]", "bad_answer", 502),
        (b'{"type":"message"}', "bad_answer", 502),
        (b'{"choices":[]}', "bad_answer", 502),
        (b"[" * 5000, "bad_answer", 502),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "error_answer", 529),
        (b'{"error":{"code":429,"message":"slow down"}}', "error_answer", 429),
        (b'{"error":"model not found"}', "error_answer", 502),
        (b'{"type":"error"}', "error_answer", 502),
    ],
)
def test_an_answer_that_is_none(body: bytes, code: str, status: int) -> None:
    with pytest.raises(AnswerError) as raised:
        answer_to_chat(body, Asked())
    assert (raised.value.code, raised.value.status) == (code, status)
    assert raised.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["text", "tool_use", "thinking"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "text", "thinking", "signature", "data", "name", "id", "input", "usage", "model"]),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3), st.dictionaries(st.sampled_from(["usage", "stop_reason", "id", "model"]), JSON))
def test_any_message_is_an_answer(content: list[Any], members: dict[str, Any]) -> None:
    body = json.dumps({"type": "message", "content": content, **members}).encode()
    answer = orjson.loads(answer_to_chat(body, Asked()))
    assert answer["choices"][0]["finish_reason"] in ("stop", "tool_calls", "length", "content_filter")
