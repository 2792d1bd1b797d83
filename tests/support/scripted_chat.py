"""Answers in OpenAI's format as OpenAI, vLLM and DeepSeek write them."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.support.says import Says, identity, in_pieces, sse
from tests.support.upstream import Answer

_DONE = b"data: [DONE]\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"  # as OpenRouter and DeepSeek send while they wait


def answer(says: Says, body: dict[str, Any], number: int) -> Answer:
    head = {**identity(says, "chatcmpl-S", number), "created": 1760000000, "model": says.model or body["model"]}
    head |= {"service_tier": "default", "system_fingerprint": None}
    if body.get("stream"):
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        events = _events(says, head, wants_usage)
        return Answer(content_type="text/event-stream", chunks=in_pieces(events, says.cut), apart=bool(says.cut))
    return Answer(chunks=[json.dumps(_whole(says, head), indent=1).encode()])


def usage(says: Says) -> dict[str, Any]:
    prompt = says.plain + says.cached + says.written
    return {
        "prompt_tokens": prompt,
        "completion_tokens": says.output,
        "total_tokens": prompt + says.output,
        "prompt_tokens_details": {"cached_tokens": says.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": says.reasoning, "audio_tokens": 0},
    }


def _finish(says: Says) -> str:
    return says.stop or ("tool_calls" if says.calls else "stop")


def _whole(says: Says, head: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": says.text or None, "refusal": says.refusal or None}
    message["annotations"] = []
    if says.thinking:
        message["reasoning_content"] = says.thinking
    if says.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.written}}
            for call in says.calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(says)}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": usage(says)}


def _events(says: Says, head: dict[str, Any], wants_usage: bool) -> list[bytes | threading.Event]:
    head = {**head, "object": "chat.completion.chunk"}
    asked: dict[str, Any] = {"usage": None} if wants_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse({**head, "choices": [choice], **asked, "obfuscation": "aZ3"})

    events: list[bytes | threading.Event] = [_KEEP_ALIVE, chunk({"role": "assistant", "content": "", "refusal": None})]
    events += [chunk({"reasoning_content": part}) for part in says.thoughts]
    events += [chunk({"content": word}) for word in says.words]
    if says.hold is not None:
        events.append(says.hold)
    if says.error is not None:
        kind, message = says.error
        return [*events, sse({"error": {"message": message, "type": kind, "param": None, "code": None}})]
    events += [chunk({"refusal": part}) for part in says.refusal.split(" ") if part]
    for index, call in enumerate(says.calls):
        named = {"index": index, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        events.append(chunk({"tool_calls": [named]}))
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}) for part in call.fragments
        ]
    events.append(chunk({}, _finish(says)))
    if wants_usage:
        events.append(sse({**head, "choices": [], "usage": usage(says), "obfuscation": ""}))
    return [*events, _DONE]
