"""POST /v1/messages and /v1/messages/count_tokens as Anthropic answers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

import orjson

from aion_extproc.demo.answer import Answer, BadRequest, answer, objects, positive


def respond(body: Mapping[str, Any]) -> dict[str, Any] | Iterator[bytes]:
    """The JSON answer, or the events of the stream when `stream` is true. Raises BadRequest."""
    limit = positive(body, "max_tokens")
    if limit is None:
        raise BadRequest("max_tokens: Field required", "max_tokens")
    reply = answer(body, limit, _forced_tool(body))
    if body.get("stream") is True:
        return _events(reply)
    block: dict[str, Any] = {"type": "text", "text": reply.text}
    if reply.tool is not None:
        block = _tool_block(reply.tool)
    return {**_message(reply, [block], reply.output_tokens), "stop_reason": _stop_reason(reply)}


def count_tokens(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"input_tokens": answer(body, None, None).input_tokens}


def failure(message: str, _param: str | None, status: int) -> dict[str, Any]:
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": f"req_{uuid4().hex}",
    }


def _events(reply: Answer) -> Iterator[bytes]:
    # As the provider does it: the start carries the input tokens and a first output token, the last
    # message_delta the final count.
    yield _event("message_start", message=_message(reply, [], 1))
    if reply.tool is None:
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")
        for piece in reply.pieces:
            yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    else:
        yield _event("content_block_start", index=0, content_block=_tool_block(reply.tool))
        yield _event("ping")
        for part in ("", "{}"):
            yield _event(
                "content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": part}
            )
    yield _event("content_block_stop", index=0)
    yield _event(
        "message_delta",
        delta={"stop_reason": _stop_reason(reply), "stop_sequence": None},
        usage=_usage(reply, reply.output_tokens),
    )
    yield _event("message_stop")


def _event(kind: str, **data: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **data}) + b"\n\n"


def _message(reply: Answer, content: list[dict[str, Any]], output_tokens: int) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**_usage(reply, output_tokens), "service_tier": "standard"},
    }


def _usage(reply: Answer, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def _stop_reason(reply: Answer) -> str:
    if reply.tool is not None:
        return "tool_use"
    return "max_tokens" if reply.cut else "end_turn"


def _tool_block(tool: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": tool, "input": {}}


def _forced_tool(body: Mapping[str, Any]) -> str | None:
    choice = body.get("tool_choice")
    offered = [tool["name"] for tool in objects(body.get("tools")) if isinstance(tool.get("name"), str)]
    if not isinstance(choice, dict) or not offered:
        return None
    if choice.get("type") == "tool":
        return next((name for name in offered if name == choice.get("name")), None)
    return offered[0] if choice.get("type") == "any" else None
