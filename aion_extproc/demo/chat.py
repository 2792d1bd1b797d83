"""POST /v1/chat/completions as OpenAI answers it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import orjson

from aion_extproc.demo.answer import Answer, answer, objects, positive

FINGERPRINT = "fp_aion_demo"


def respond(body: Mapping[str, Any]) -> dict[str, Any] | Iterator[bytes]:
    """The JSON answer, or the events of the stream when `stream` is true. Raises BadRequest."""
    limit = positive(body, "max_completion_tokens") or positive(body, "max_tokens")
    reply = answer(body, limit, _forced_tool(body))
    if body.get("stream") is True:
        options = body.get("stream_options")
        return _events(reply, isinstance(options, dict) and options.get("include_usage") is True)
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
    if reply.tool is not None:
        message |= {"content": None, "tool_calls": [_call(reply.tool)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}
    return {**_head(reply, "chat.completion"), "choices": [choice], "usage": _usage(reply)}


def failure(message: str, param: str | None, status: int) -> dict[str, Any]:
    code = {404: "not_found", 405: "method_not_allowed"}.get(status)
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def _events(reply: Answer, include_usage: bool) -> Iterator[bytes]:
    head = _head(reply, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if include_usage else {}
        return _event({**head, "choices": [choice], **usage})

    if reply.tool is None:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in reply.pieces:
            yield chunk({"content": piece})
    else:
        call = _call(reply.tool)
        arguments = call["function"].pop("arguments")
        call["function"]["arguments"] = ""
        yield chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]})
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]})
    yield chunk({}, _finish(reply))
    if include_usage:
        yield _event({**head, "choices": [], "usage": _usage(reply)})
    yield b"data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


def _head(reply: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def _usage(reply: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _finish(reply: Answer) -> str:
    if reply.tool is not None:
        return "tool_calls"
    return "length" if reply.cut else "stop"


def _call(tool: str) -> dict[str, Any]:
    return {"id": f"call_{uuid4().hex}", "type": "function", "function": {"name": tool, "arguments": "{}"}}


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    offered = [name for name in map(_function_name, objects(body.get("tools"))) if name]
    if isinstance(choice, dict):
        wanted = _function_name(choice)
        return wanted if wanted in offered else None
    return offered[0] if choice == "required" and offered else None


def _function_name(tool: Mapping[str, Any]) -> str | None:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
