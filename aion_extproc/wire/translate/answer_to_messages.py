"""A chat completion as a message of Anthropic's, and what the translation of streams shares with it.

https://platform.openai.com/docs/api-reference/chat/object, and the members that other servers add to it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aion_extproc.accounting.usage import Usage
from aion_extproc.wire.answer import chat_usage
from aion_extproc.wire.translate.answer import AnswerError
from aion_extproc.wire.translate.errors import failure_in
from aion_extproc.wire.translate.names import messages_call_id
from aion_extproc.wire.translate.odd_json import dumps, loads, no_constant
from aion_extproc.wire.translate.target import Asked

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "model_length": "max_tokens",  # Mistral
    "tool_calls": "end_turn",  # without a call; with one it is tool_use whatever else is said
    "function_call": "end_turn",
    "content_filter": "refusal",
}
# Reasons that say that the answer is not whole: OpenRouter; DeepSeek.
BROKEN_OFF = {
    "error": ("The provider broke off the answer.", 502),
    "insufficient_system_resource": ("The provider broke off the answer: it is overloaded.", 529),
}
# What Anthropic suggests for input that is not JSON:
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming
NOT_JSON = "INVALID_JSON"


def answer_to_messages(body: bytes, asked: Asked) -> bytes:
    """The answer as `POST /v1/messages` gives it. Raises AnswerError where there is none."""
    answer = read(body)
    if not isinstance(answer, dict):
        raise AnswerError("bad_answer", "The provider's answer is not JSON." if answer is None else _NO_COMPLETION)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if said := answer.get("error") or choice.get("error") or is_error(answer):
        failure = failure_in(said)
        raise AnswerError("error_answer", failure.message or "The provider answered with an error.", failure.own_status)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise AnswerError("bad_answer", _NO_COMPLETION)
    finish = choice.get("finish_reason")
    if isinstance(finish, str) and finish in BROKEN_OFF:
        raise AnswerError("error_answer", *BROKEN_OFF[finish])
    refusal = message.get("refusal")
    content = [*thoughts(message), *_contents(message.get("content")), *_texts(refusal)]
    seed = asked.request_id.encode() or body
    calls = list(_calls(message, hashlib.sha256(seed).digest(), asked))
    reason, sequence = stop(choice, bool(calls), bool(refusal))
    model = answer.get("model")
    counts = chat_usage(usage) if isinstance(usage := reported(answer, choice), dict) else Usage()
    return write(
        {
            "id": made_id("msg_", seed),
            "type": "message",
            "role": "assistant",
            "model": model if isinstance(model, str) and model else asked.model,
            "content": content + calls,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage_object(counts),
        }
    )


def is_error(answer: dict[str, Any]) -> dict[str, Any] | None:
    """An answer that is an error as a whole, without a member of that name: vLLM's, FastAPI's, AWS's."""
    return answer if "choices" not in answer and failure_in(answer).message else None


_NO_COMPLETION = "The provider's answer is no chat completion."


def read(data: bytes) -> Any:
    """Decoded JSON; None for what is none."""
    try:
        return loads(data)
    except ValueError:
        return None


def write(value: object) -> bytes:
    """As JSON. Raises AnswerError for what is nested as deeply as no server means it."""
    try:
        return dumps(value)
    except ValueError:
        raise AnswerError("bad_answer", "The provider's answer is nested too deeply.") from None


def thoughts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Thinking blocks: from `reasoning_details` where it has text, else from the member that has it as a string.

    https://openrouter.ai/docs/use-cases/reasoning-tokens; DeepSeek, vLLM and llama.cpp: `reasoning_content`.
    """
    blocks = []
    details = message.get("reasoning_details")
    for text, signature, data in map(detail, details if isinstance(details, list) else ()):
        if data:
            blocks.append({"type": "redacted_thinking", "data": data})
        elif text or signature:
            blocks.append({"type": "thinking", "thinking": text, "signature": signature})
    if not any(block.get("thinking") for block in blocks):
        plain = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(plain, str) and plain:
            # A signature that came without its text signs this one.
            signatures = [block.pop("signature") for block in blocks if block["type"] == "thinking"]
            blocks = [block for block in blocks if block["type"] != "thinking"]
            signature = signatures[0] if signatures else ""
            blocks.insert(0, {"type": "thinking", "thinking": plain, "signature": signature})
    return blocks


def detail(entry: object) -> tuple[str, str, str]:
    """One of OpenRouter's reasoning details: its text, the text's signature, encrypted data."""
    if not isinstance(entry, dict):
        return "", "", ""
    text, signature, data = entry.get("text") or entry.get("summary"), entry.get("signature"), entry.get("data")
    return (
        text if isinstance(text, str) else "",
        signature if isinstance(signature, str) else "",
        data if isinstance(data, str) else "",
    )


def pieces(content: object) -> list[tuple[str, str]]:
    """Content as ("text" or "thinking", what it says). Mistral's reasoning models send a list of parts."""
    if isinstance(content, str):
        return [("text", content)] if content else []
    found = []
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        kind = "thinking" if part.get("type") == "thinking" else "text"
        said = part.get(kind)
        inner = said if isinstance(said, list) else [{"text": said}]
        texts = [one.get("text") for one in inner if isinstance(one, dict)]
        if text := "".join(text for text in texts if isinstance(text, str)):
            found.append((kind, text))
    return found


def arguments_text(arguments: object) -> str:
    """A call's arguments as the string they should be; some servers send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else write(arguments).decode()


def made_id(prefix: str, seed: bytes) -> str:
    """An id of our own: the same for the same request."""
    return prefix + hashlib.sha256(seed).hexdigest()[:24]


def call_id(id: object, number: int, seed: bytes, used: set[str]) -> str:
    """The id of a call, as Anthropic takes it and unlike those used so far in this answer, whose digest `seed` is. One
    that is missing or comes twice is made up."""
    legal = messages_call_id(id, seed) if isinstance(id, str) and id else ""
    if not legal or legal in used:
        legal = made_id("call_", b"%b%d" % (seed, number))
    used.add(legal)
    return legal


def reported(answer: dict[str, Any], choice: dict[str, Any]) -> Any:
    """The usage object, wherever a server puts it: Groq's streams have it in x_groq, Moonshot's in the choice."""
    groq = answer.get("x_groq")
    return answer.get("usage") or choice.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)


def usage_object(usage: Usage) -> dict[str, Any]:
    """In Anthropic's convention: input_tokens leaves the cached ones out."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts: dict[str, Any] = {
        "input_tokens": max(usage.input_tokens - cached, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def stop(choice: dict[str, Any], called: bool, refused: bool) -> tuple[str, str | None]:
    """stop_reason and stop_sequence of a choice that has ended."""
    finish = choice.get("finish_reason")
    reason = _STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn"
    if refused and reason == "end_turn":
        return "refusal", None
    if called and reason == "end_turn":  # many servers say "stop" after a call
        return "tool_use", None
    matched = choice.get("stop_reason")  # vLLM: the stop sequence that was met
    if reason == "end_turn" and isinstance(matched, str) and matched:
        return "stop_sequence", matched
    return reason, None


def _texts(text: object) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if isinstance(text, str) and text else []


def _contents(content: object) -> list[dict[str, Any]]:
    signed = {"thinking": {"signature": ""}, "text": {}}
    return [{"type": kind, kind: text, **signed[kind]} for kind, text in pieces(content)]


def _calls(message: dict[str, Any], seed: bytes, asked: Asked) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    entries = calls if isinstance(calls, list) else []
    if not entries and isinstance(message.get("function_call"), dict):
        entries = [{"function": message["function_call"]}]
    blocks: list[dict[str, Any]] = []
    used: set[str] = set()
    for entry in entries:
        function = entry.get("function") if isinstance(entry, dict) else None
        if not isinstance(function, dict):
            continue
        name = function.get("name")
        id = call_id(entry.get("id"), len(blocks), seed, used)
        name = name if isinstance(name, str) else ""
        input = _input(arguments_text(function.get("arguments")))
        blocks.append({"type": "tool_use", "id": id, "name": asked.tool_names.get(name, name), "input": input})
    return blocks


def _input(arguments: str) -> dict[str, Any]:
    if not arguments.strip():
        return {}
    try:
        # Not orjson, which makes floats of integers over 64 bits.
        value = json.loads(arguments, parse_constant=no_constant)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {NOT_JSON: arguments}
