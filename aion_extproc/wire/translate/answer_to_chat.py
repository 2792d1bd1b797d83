"""A message of Anthropic's as a chat completion of OpenAI's.

https://platform.claude.com/docs/en/api/messages, https://platform.openai.com/docs/api-reference/chat/object

Thinking comes out twice: `reasoning_content` is its text, for people; `reasoning_details` (OpenRouter's form) has the
signatures too, for the client to give back with the turn: request_to_messages makes thinking blocks of it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.answer import messages_usage
from aion_extproc.wire.translate.answer import AnswerError
from aion_extproc.wire.translate.errors import failure_in
from aion_extproc.wire.translate.odd_json import dumps, exact_loads
from aion_extproc.wire.translate.target import Asked

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",  # only a server's own tools pause a turn, and none are asked for
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
REASONING_FORMAT = "anthropic-claude-v1"  # as OpenRouter calls it: whose signatures these are


def answer_to_chat(body: bytes, asked: Asked, *, created: int = 0) -> bytes:
    """`created` is the answer's time in Unix seconds. Raises AnswerError only."""
    message = _message(body)
    blocks = [block for block in message["content"] if isinstance(block, dict)]
    text = "".join(block["text"] for block in blocks if block.get("type") == "text" and _is_text(block.get("text")))
    calls = [_call(block, asked.tool_names) for block in blocks if block.get("type") == "tool_use"]
    details = reasoning_details(blocks)
    reason = finish_reason(message.get("stop_reason"), bool(calls))
    refusal = refusal_text(message)
    said: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else "")}
    said["refusal"] = refusal
    if thoughts := [detail["text"] for detail in details if detail.get("text")]:
        said["reasoning_content"] = "\n\n".join(thoughts)
    # Without a signature the text is all there is, and that is told already.
    if signed := [detail for detail in details if "signature" in detail or "data" in detail]:
        said["reasoning_details"] = signed
    if calls:
        said["tool_calls"] = calls
    identity, model = message.get("id"), message.get("model")
    answer = {
        "id": identity if _is_text(identity) else "",
        "object": "chat.completion",
        "created": created,
        "model": model if _is_text(model) and model else asked.model,
        "choices": [{"index": 0, "message": said, "logprobs": None, "finish_reason": reason}],
    }
    if isinstance(counts := message.get("usage"), dict):
        answer["usage"] = usage_object(usage_of(counts))
    return dumps(answer)


def finish_reason(stop_reason: object, calls: bool) -> str:
    """An unknown or missing reason is a natural end, or that of a turn that calls tools."""
    known = FINISH_REASONS.get(stop_reason) if isinstance(stop_reason, str) else None
    return known or ("tool_calls" if calls else "stop")


def refusal_text(stopped: Mapping[str, Any]) -> str | None:
    """Why the model's output was stopped, out of a message or of message_delta's `delta`; None: not refused, or not
    explained."""
    details = stopped.get("stop_details")
    if stopped.get("stop_reason") != "refusal" or not isinstance(details, dict):
        return None
    explanation = details.get("explanation")
    return explanation if isinstance(explanation, str) and explanation else None


def reasoning_details(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each thinking block, in order."""
    details: list[dict[str, Any]] = []
    for block in blocks:
        kind = block.get("type")
        if kind == "thinking" and _is_text(block.get("thinking")):
            details.append(thinking_detail(block["thinking"], block.get("signature"), len(details)))
        elif kind == "redacted_thinking" and _is_text(block.get("data")):
            details.append(redacted_detail(block["data"], len(details)))
    return details


def thinking_detail(text: str, signature: object, index: int) -> dict[str, Any]:
    detail = {"type": "reasoning.text", "text": text, "format": REASONING_FORMAT, "index": index}
    return {**detail, "signature": signature} if isinstance(signature, str) and signature else detail


def redacted_detail(data: str, index: int) -> dict[str, Any]:
    return {"type": "reasoning.encrypted", "data": data, "format": REASONING_FORMAT, "index": index}


def usage_of(counts: dict[str, Any]) -> Usage:
    """With the share of thinking, which is told apart from the other counts."""
    usage = messages_usage(counts)
    details = counts.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    if not isinstance(thinking, int) or isinstance(thinking, bool):
        return usage
    return replace(usage, reasoning_tokens=min(max(thinking, 0), usage.output_tokens))


def usage_object(usage: Usage) -> dict[str, Any]:
    """In OpenAI's convention: cached tokens are part of the prompt's, thinking is part of the completion's."""
    counts: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
    }
    if usage.cache_write_tokens:
        counts["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return counts


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = exact_loads(body)
    except ValueError:
        raise AnswerError("bad_answer", "The provider's answer is not JSON.") from None
    if isinstance(message, dict) and (message.get("type") == "error" or message.get("error")):
        failure = failure_in(message)
        text = failure.message or "The provider answered with an error that says nothing."
        raise AnswerError("error_answer", text, failure.own_status)
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        raise AnswerError("bad_answer", "The provider's answer is not a message: it has no list of content.")
    return message


def _call(block: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    name, identity = block.get("name"), block.get("id")
    name = name if isinstance(name, str) else ""
    arguments = block.get("input")
    try:
        written = dumps(arguments if isinstance(arguments, dict) else {}).decode()
    except ValueError:
        raise AnswerError("bad_answer", "The provider's tool call is nested too deeply to be passed on.") from None
    return {
        "id": identity if isinstance(identity, str) else "",
        "type": "function",
        "function": {"name": names.get(name, name), "arguments": written},
    }


def _is_text(value: object) -> bool:
    return isinstance(value, str)
