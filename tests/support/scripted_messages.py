"""Answers in Anthropic's format as Anthropic writes them."""

from __future__ import annotations

import json
import threading
from typing import Any

from tests.support.says import SIGNATURE, Says, identity, in_pieces, sse
from tests.support.upstream import Answer

_PING = sse({"type": "ping"}, "ping")


def answer(says: Says, body: dict[str, Any], number: int) -> Answer:
    head: dict[str, Any] = {**identity(says, "msg_S", number), "type": "message", "role": "assistant"}
    head["model"] = says.model or body["model"]
    if body.get("stream"):
        chunks = in_pieces(_events(says, head), says.cut)
        return Answer(content_type="text/event-stream; charset=utf-8", chunks=chunks, apart=bool(says.cut))
    whole = {**head, "content": _blocks(says), **_stopped(says), "usage": _usage(says)}
    return Answer(chunks=[json.dumps(whole).encode()])


def _usage(says: Says) -> dict[str, Any]:
    return {
        "input_tokens": says.plain,
        "cache_creation_input_tokens": says.written,
        "cache_read_input_tokens": says.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": says.written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": says.output,
        "output_tokens_details": {"thinking_tokens": says.reasoning},
        "service_tier": "standard",
    }


def _stopped(says: Says) -> dict[str, Any]:
    reason = says.stop or ("refusal" if says.refusal else "tool_use" if says.calls else "end_turn")
    stopped: dict[str, Any] = {"stop_reason": reason, "stop_sequence": "END" if reason == "stop_sequence" else None}
    if says.refusal:
        stopped["stop_details"] = {"type": "refusal", "category": None, "explanation": says.refusal}
    return stopped


def _blocks(says: Says) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if says.thinking:
        blocks.append({"type": "thinking", "thinking": says.thinking, "signature": SIGNATURE})
    if says.text:
        blocks.append({"type": "text", "text": says.text, "citations": None})
    return blocks + [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in says.calls]


def _events(says: Says, head: dict[str, Any]) -> list[bytes | threading.Event]:
    started = {**_usage(says), "output_tokens": 2}
    message = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": started}
    events: list[bytes | threading.Event] = [sse({"type": "message_start", "message": message}, "message_start"), _PING]
    blocks = _streamed_blocks(says)
    for index, (block, deltas) in enumerate(blocks):
        start = {"type": "content_block_start", "index": index, "content_block": block}
        events.append(sse(start, "content_block_start"))
        for delta in deltas:
            data = {"type": "content_block_delta", "index": index, "delta": delta}
            events.append(sse(data, "content_block_delta"))
        if block["type"] == "text":
            events.append(_PING)
            events += [says.hold] if says.hold is not None else []
            if says.error is not None:
                kind, text = says.error
                return [*events, sse({"type": "error", "error": {"type": kind, "message": text}}, "error")]
        events.append(sse({"type": "content_block_stop", "index": index}, "content_block_stop"))
    # The counts in the end are cumulative and say all of them again.
    end = {"type": "message_delta", "delta": _stopped(says), "usage": _usage(says)}
    return [*events, sse(end, "message_delta"), sse({"type": "message_stop"}, "message_stop")]


def _streamed_blocks(says: Says) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if says.thinking:
        deltas = [{"type": "thinking_delta", "thinking": part} for part in says.thoughts]
        deltas.append({"type": "signature_delta", "signature": SIGNATURE})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if says.text:
        texts = [{"type": "text_delta", "text": word} for word in says.words]
        blocks.append(({"type": "text", "text": ""}, texts))
    for call in says.calls:
        parts = [{"type": "input_json_delta", "partial_json": part} for part in call.fragments]
        parts = parts if call.arguments else parts[:1]  # no arguments: Anthropic sends one empty fragment
        blocks.append(({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, parts))
    return blocks
