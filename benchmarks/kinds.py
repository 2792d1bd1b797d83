"""What the benchmarks send, and what must come back, byte for byte: a lost body comes with status 200."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import orjson

from benchmarks.load import Answer
from benchmarks.upstream import chat_answer, chat_events, message_answer, message_events

_NUMBER = b"@number@"
_MODEL = b'"model":"aion-auto"'
_ASK_USAGE = b',"stream_options":{"include_usage":true}}'

# About 300 characters each, of different difficulty.
_PROMPTS = (
    "Our nightly job that copies orders into the warehouse has become slow since we added a second region. It runs a "
    "query for each order and then writes one row at a time. Can you look at the outline below and tell me which step "
    "to change first, and what I should measure before and after so that I know that it helped?",
    "Write a short, friendly e-mail to a customer whose parcel was delivered to the wrong address twice. Apologise "
    "without making excuses, say that a new parcel leaves today by courier, that it costs them nothing, and ask them "
    "to reply if tomorrow afternoon does not suit them. Keep it below one hundred and twenty words, please.",
    "Translate the following paragraph into French and keep the tone formal: The committee met on Tuesday and agreed "
    "to postpone the vote until the revised budget has been published. Members who cannot attend the next meeting in "
    "person may send a written statement, which the secretary will read out before the discussion begins.",
    "I have a Python function that walks a directory tree, hashes every file and groups equal ones. On a disk with a "
    "million small files it takes forty minutes and the process grows to three gigabytes. Explain why that happens, "
    "propose a design that keeps memory bounded, and implement it step by step with a small test for each step.",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of request. `body(n)` is the n-th; no two are equal, so that an answer to another one is noticed."""

    name: str
    path: str
    provider: str
    body: Callable[[int], bytes]
    answer: Callable[[bytes], bytes]  # to the body as the upstream gets it
    adds_usage: bool = False  # the gateway asks for the usage chunk and takes it out again
    headers: str = ""

    def check(self, sent: bytes, answer: Answer) -> str | None:
        """What is wrong with the answer, or None."""
        if answer.status != 200:
            return f"status {answer.status}: {answer.body[:120]!r}"
        forwarded = sent
        model = answer.headers.get("x-aion-model")  # only the product has one, and changes the body
        if model is not None:
            forwarded = sent.replace(_MODEL, b'"model":"%b"' % model.encode(), 1)
            if self.adds_usage:
                forwarded = forwarded[:-1] + _ASK_USAGE
        expected = self.answer(forwarded)
        if answer.body != expected:
            return f"{len(answer.body)} bytes of answer in place of {len(expected)}: {answer.body[-80:]!r}"
        return None


def _chat(n: int, options: bytes = b"") -> bytes:
    prompt = orjson.dumps(f"{_PROMPTS[n % len(_PROMPTS)]} ({n})")
    return b'{%b%b,"messages":[{"role":"user","content":%b}],"max_tokens":400}' % (_MODEL, options, prompt)


def _chat_json(n: int) -> bytes:
    return _chat(n)


def _stream_usage(n: int) -> bytes:
    return _chat(n, b',"stream":true,"stream_options":{"include_usage":true}')


def _stream_plain(n: int) -> bytes:
    return _chat(n, b',"stream":true')


def _message(n: int) -> bytes:
    return _chat(n)  # the same members in either format


def _agent(n: int) -> bytes:
    return _agent_template().replace(_NUMBER, b"%d" % n)


def _stream_answer(body: bytes) -> bytes:
    # What was added must be gone: the answer is the one without the usage chunk, unless the client asked.
    asked = b'"include_usage":true' in body and not body.endswith(_ASK_USAGE)
    return b"".join(chat_events(body, with_usage=asked))


def _message_stream(body: bytes) -> bytes:
    return b"".join(message_events(body))


@cache
def _agent_template() -> bytes:
    """About 40 KB, shaped as Claude Code's: system blocks, many tools with schemas, a reminder, tool results."""
    rule = "When the user asks for a change, read the file first, make the smallest edit that works and run the tests. "
    reminder = "<system-reminder>\nThe following files were opened in the editor; they may not matter.\n"
    cached = {"type": "ephemeral"}
    system = [
        {"type": "text", "text": "You are a coding agent that works in the user's terminal.", "cache_control": cached},
        {"type": "text", "text": rule * 105, "cache_control": cached},
    ]
    text = {"type": "string", "description": "An absolute path, never one relative to where the shell happens to be."}
    tools = [
        {
            "name": f"tool_{i}",
            "description": f"Tool {i} of the editor. {rule * 5}",
            "input_schema": {
                "type": "object",
                "properties": {f"argument_{j}": text for j in range(4)},
                "required": ["argument_0"],
                "additionalProperties": False,
            },
        }
        for i in range(16)
    ]
    call = {"type": "tool_use", "id": "toolu_1", "name": "tool_1", "input": {"argument_0": "/src/orders.py"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "    return total  # line of a file\n" * 200}
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": reminder + "- /src/a.py\n" * 60 + "</system-reminder>"},
                {"type": "text", "text": _PROMPTS[0]},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "I will look at the file first."}, call]},
        {"role": "user", "content": [result]},
        {"role": "assistant", "content": [{"type": "text", "text": "Shall I write one statement for a whole batch?"}]},
        {"role": "user", "content": [{"type": "text", "text": f"Yes, and add a test ({_NUMBER.decode()})."}]},
    ]
    body = {
        "model": "aion-auto",
        "max_tokens": 32000,
        "stream": True,
        "system": system,
        "messages": messages,
        "tools": tools,
        "metadata": {"user_id": "user_0123456789abcdef_account__session_0123"},
    }
    return orjson.dumps(body)


_PACE = "x-bench-pace: 0.001\r\n"
_CHAT, _MESSAGES = "/v1/chat/completions", "/v1/messages"
KINDS = {
    kind.name: kind
    for kind in (
        Kind("chat", _CHAT, "openai", _chat_json, chat_answer),
        Kind("stream_usage", _CHAT, "openai", _stream_usage, _stream_answer),
        Kind("stream", _CHAT, "openai", _stream_plain, _stream_answer, adds_usage=True),
        Kind("message", _MESSAGES, "anthropic", _message, message_answer),
        Kind("agent", _MESSAGES, "anthropic", _agent, _message_stream),
        # Chunks one by one, 1 ms apart: at full speed they coalesce, which would hide a message for each of them.
        Kind("stream_slow", _CHAT, "openai", _stream_usage, _stream_answer, headers=_PACE),
        Kind("stream_slow_strip", _CHAT, "openai", _stream_plain, _stream_answer, adds_usage=True, headers=_PACE),
    )
}
