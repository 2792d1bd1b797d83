"""Answers with tool calls as OpenAI and Anthropic stream them: two in parallel, the second without arguments."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.support.upstream import Answer, Received

ARGUMENTS = {"city": "Zürich", "days": [1, 2, 3], "note": 'a "quoted" \\ back\nslash'}
FRAGMENTS = ['{"ci', 'ty":"Zür', 'ich","days":[1,', '2,3],"note":"a \\"quo', 'ted\\" \\\\ back\\n', 'slash"}']
assert json.loads("".join(FRAGMENTS)) == ARGUMENTS


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def chat_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return event(
        {
            "id": "chatcmpl-C1",
            "object": "chat.completion.chunk",
            "created": 1760000000,
            "model": "gpt-5-mini-2025-08-07",
            "service_tier": "default",
            "system_fingerprint": None,
            "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            "usage": None,
            "obfuscation": "aZ3",
        }
    )


def chat_usage(prompt: int = 90, completion: int = 40) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    head = {"id": "chatcmpl-C1", "object": "chat.completion.chunk", "created": 1760000000, "model": "m"}
    return event({**head, "choices": [], "usage": usage, "obfuscation": ""})


def _call(index: int, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **more}]}


def chat_tool_stream() -> list[bytes]:
    weather = {"id": "call_w", "type": "function", "function": {"name": "weather", "arguments": ""}}
    now = {"id": "call_n", "type": "function", "function": {"name": "now", "arguments": ""}}
    return [
        chat_chunk({"role": "assistant", "content": None, **_call(0, **weather), "refusal": None}),
        *(chat_chunk(_call(0, function={"arguments": fragment})) for fragment in FRAGMENTS),
        chat_chunk(_call(1, **now)),
        chat_chunk(_call(1, function={"arguments": "{}"})),
        chat_chunk({}, "tool_calls"),
        chat_usage(),
        b"data: [DONE]\n\n",
    ]


def chat_tool_answer() -> bytes:
    calls = [
        {"id": "call_w", "type": "function", "function": {"name": "weather", "arguments": "".join(FRAGMENTS)}},
        {"id": "call_n", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    head = {"id": "chatcmpl-C1", "object": "chat.completion", "created": 1760000000, "model": "m"}
    usage = {"prompt_tokens": 90, "completion_tokens": 40, "total_tokens": 130}
    return json.dumps({**head, "choices": [choice], "usage": usage}, indent=2).encode()


def _start(usage: dict[str, int]) -> bytes:
    message: dict[str, Any] = {"id": "msg_T1", "type": "message", "role": "assistant", "model": "claude-m"}
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    return event({"type": "message_start", "message": message}, "message_start")


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    return [
        event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start"),
        *(
            event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
            for delta in deltas
        ),
        event({"type": "content_block_stop", "index": index}, "content_block_stop"),
    ]


def _end(stop_reason: str, output_tokens: int) -> list[bytes]:
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    usage = {"output_tokens": output_tokens}
    return [
        event({"type": "message_delta", "delta": delta, "usage": usage}, "message_delta"),
        event({"type": "message_stop"}, "message_stop"),
    ]


def tool_use(index: int, id_: str, name: str, fragments: list[str]) -> list[bytes]:
    block = {"type": "tool_use", "id": id_, "name": name, "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *fragments]]
    return _block(index, block, *deltas)


def messages_stream(*blocks: list[bytes], stop_reason: str = "end_turn", output_tokens: int = 40) -> list[bytes]:
    """Content blocks between a start and an end, a ping after the start as Anthropic sends it."""
    usage = {"input_tokens": 80, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 10, "output_tokens": 2}
    ping = event({"type": "ping"}, "ping")
    return [_start(usage), ping, *(part for block in blocks for part in block), *_end(stop_reason, output_tokens)]


def text(index: int, *parts: str) -> list[bytes]:
    deltas = [{"type": "text_delta", "text": part} for part in parts]
    return _block(index, {"type": "text", "text": ""}, *deltas)


def thinking(index: int, thought: str, signature: str) -> list[bytes]:
    deltas = [{"type": "thinking_delta", "thinking": thought}, {"type": "signature_delta", "signature": signature}]
    return _block(index, {"type": "thinking", "thinking": "", "signature": ""}, *deltas)


def messages_tool_stream() -> list[bytes]:
    return messages_stream(
        thinking(0, "Both at once.", "c2lnbmF0dXJl"),
        text(1, "I will ", "look."),
        tool_use(2, "toolu_w", "weather", FRAGMENTS),
        tool_use(3, "toolu_n", "now", []),
        stop_reason="tool_use",
    )


def messages_tool_answer() -> bytes:
    content = [
        {"type": "thinking", "thinking": "Both at once.", "signature": "c2lnbmF0dXJl"},
        {"type": "tool_use", "id": "toolu_w", "name": "weather", "input": ARGUMENTS},
        {"type": "tool_use", "id": "toolu_n", "name": "now", "input": {}},
    ]
    message = {"id": "msg_T1", "type": "message", "role": "assistant", "model": "claude-m", "content": content}
    usage = {"input_tokens": 80, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 0, "output_tokens": 40}
    return json.dumps({**message, "stop_reason": "tool_use", "stop_sequence": None, "usage": usage}).encode()


def streamed(chunks: list[bytes]) -> Callable[[Received], Answer]:
    return lambda _: Answer(content_type="text/event-stream; charset=utf-8", chunks=chunks)


def in_small_pieces(chunks: list[bytes], size: int = 7) -> list[bytes]:
    """The same bytes, cut anywhere: through events, lines and characters."""
    whole = b"".join(chunks)
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def echo(request: Received) -> Answer:
    """Says the last message back, in the API's and the mode's own shape: to tell many answers apart."""
    body = json.loads(request.body)
    said = body["messages"][-1]["content"]
    parts = [said[at : at + 3] for at in range(0, len(said), 3)]
    if request.path.startswith("/v1/messages"):
        if body.get("stream"):
            return streamed(messages_stream(text(0, *parts)))(request)
        message: dict[str, Any] = {"id": "msg_E", "type": "message", "role": "assistant", "model": "m"}
        message |= {"stop_sequence": None, "content": [{"type": "text", "text": said}], "stop_reason": "end_turn"}
        return Answer(chunks=[json.dumps({**message, "usage": {"input_tokens": 5, "output_tokens": 7}}).encode()])
    if body.get("stream"):
        deltas = [chat_chunk({"content": part}) for part in parts]
        return streamed([*deltas, chat_chunk({}, "stop"), chat_usage(5, 7), b"data: [DONE]\n\n"])(request)
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    whole = {"id": "chatcmpl-E", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return Answer(chunks=[json.dumps({**whole, "usage": usage}).encode()])
