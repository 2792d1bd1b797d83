"""Requests to the endpoints that are never translated: embeddings, completions, responses.

https://platform.openai.com/docs/api-reference/responses, /embeddings and /completions
"""

from __future__ import annotations

from typing import Any

from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError

# What may stand in place of `input`: the provider keeps the conversation, or the prompt.
_KEPT_BY_PROVIDER = ("previous_response_id", "conversation", "prompt")
_TEXT_PARTS = ("input_text", "output_text", "text")
_CALLS = ("function_call", "custom_tool_call", "local_shell_call", "shell_call", "apply_patch_call")


def check(body: dict[str, Any], endpoint: Endpoint) -> None:
    """That the body has what the endpoint is about. RequestError: it has not."""
    if endpoint is Endpoint.EMBEDDINGS and not isinstance(body.get("input"), str | list):
        raise _wrong("input", "a text, a list of texts or lists of tokens")
    if endpoint is Endpoint.COMPLETIONS and not isinstance(body.get("prompt", ""), str | list):
        raise _wrong("prompt", "a text or a list")
    if endpoint is Endpoint.RESPONSES:
        given = body.get("input")
        if given is None and not any(body.get(name) for name in _KEPT_BY_PROVIDER):
            raise _wrong("input", "a text or a list of items")
        if given is not None and not isinstance(given, str | list):
            raise _wrong("input", "a text or a list of items")


def chat_messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a responses request as chat messages, for reading only: what a classifier looks at is kept, the
    rest is not. A conversation that the provider keeps is not seen."""
    messages: list[dict[str, Any]] = []
    if isinstance(instructions := body.get("instructions"), str):
        messages.append({"role": "system", "content": instructions})
    given = body.get("input")
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    for item in given if isinstance(given, list) else ():
        if isinstance(item, dict) and (message := _message(item)) is not None:
            messages.append(message)
    return messages


def _message(item: dict[str, Any]) -> dict[str, Any] | None:
    kind = item.get("type", "message")
    if kind == "message":
        role, content = item.get("role"), item.get("content")
        return {"role": role if isinstance(role, str) else "user", "content": _content(content)}
    if kind in _CALLS:
        return {"role": "assistant", "content": None, "tool_calls": [{}]}
    if isinstance(kind, str) and kind.endswith("_output"):
        return {"role": "tool", "content": _content(item.get("output"))}
    return None  # reasoning, references to earlier items, calls that the provider ran itself


def _content(content: object) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return [
        {"type": "text", "text": part.get("text")} if part.get("type") in _TEXT_PARTS else {"type": "other"}
        for part in parts
        if isinstance(part, dict)
    ]


def _wrong(field: str, wanted: str) -> RequestError:
    return RequestError("invalid_type", f"{field} must be {wanted}.", param=field)
