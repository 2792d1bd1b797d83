"""What a request says, from either format: its conversation, and about how many tokens it is."""

from __future__ import annotations

from typing import Any

import orjson

from aion_extproc.wire.conversation import Conversation, Role, Turn
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import Request

_SYSTEM_ROLES = ("system", "developer")
_OPENAI_ROLES: dict[str, Role] = {"assistant": "assistant", "tool": "tool", "function": "tool"}
_CHARS_PER_TOKEN = 4
# What a provider counts for an image or a document is not in its bytes; this is in the middle of what they bill.
_TOKENS_PER_ATTACHMENT = 1500
# A body of more values than this is not a conversation but a load; its length is estimate enough.
_MOST_VALUES = 50_000


def conversation(request: Request) -> Conversation:
    """Texts by turn. Unknown roles count as the user's, unknown parts as no text: the provider judges them."""
    read = _anthropic_turn if request.format is Format.ANTHROPIC else _openai_turn
    system: list[str] = []
    if request.format is Format.ANTHROPIC:
        system.extend(_texts(request.body.get("system")))
    turns = []
    for message in request.messages:
        if message["role"] in _SYSTEM_ROLES:
            system.extend(_texts(message.get("content")))
        else:
            turns.append(read(message))
    return Conversation(
        turns=tuple(turns),
        system=tuple(system),
        tools=len(request.body.get("tools") or ()),
        preferences=request.preferences,
    )


def estimate_input_tokens(request: Request) -> int:
    """About how many tokens the provider will count: all text, tool definitions included, at four characters each.

    An estimate for choosing and for reservations; what is billed is the provider's count.
    """
    chars = attachments = seen = tokens = 0
    # An explicit stack: a body may nest as deep as its parser allowed, which is deeper than Python's own.
    stack: list[Any] = [request.body.get(name) for name in _SAID]
    while stack:
        value = stack.pop()
        seen += 1
        if seen > _MOST_VALUES:
            return len(request.raw) // _CHARS_PER_TOKEN
        if isinstance(value, str):
            chars += len(value)
        elif isinstance(value, list):
            if value and isinstance(value[0], int):  # an embeddings request may bring tokens instead of text
                tokens += len(value)
            else:
                stack.extend(value)
        elif isinstance(value, dict):
            kind = value.get("type")  # in a tool's schema it may be a list, or a property of that name
            if isinstance(kind, str) and kind in _ATTACHMENTS:
                attachments += 1
            else:
                stack.extend(value.values())
                chars += 8 * len(value)  # keys, quotes and braces of tool arguments
    if tools := request.body.get("tools"):
        try:
            chars += len(orjson.dumps(tools))  # an agent's tools are most of its request: a walk costs ten times this
        except TypeError:  # a lone surrogate
            return len(request.raw) // _CHARS_PER_TOKEN
    return -(-chars // _CHARS_PER_TOKEN) + tokens + attachments * _TOKENS_PER_ATTACHMENT


def most_tokens(request: Request, estimate: int, assumed_output: int) -> tuple[int, int]:
    """The most tokens of input and of output that the request should be billed for. `estimate`: of its input;
    `assumed_output`: where the client sets no limit.

    Text has a token for four characters, dense text (code, numbers) for three; what is not ASCII up to one for each
    character, which has two bytes at least. Many clients write such a character as \\uXXXX: then it is two or three
    bytes in place of six.
    """
    most_input = estimate + estimate // 3
    escaped = request.raw.count(b"\\u")
    if escaped or not request.raw.isascii():
        most_input = max(most_input, (len(request.raw) - 3 * escaped) // 2)
    if request.endpoint in _NO_ANSWER:
        return most_input, 0
    answers = max(_whole(request.body.get("n")), _whole(request.body.get("best_of")))
    prompts = request.body.get("prompt")
    if isinstance(prompts, list) and not isinstance(next(iter(prompts), 0), int):  # each is answered
        answers *= len(prompts)
    return most_input, answers * (assumed_output if request.max_tokens is None else request.max_tokens)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 1 else 1


_NO_ANSWER = (Endpoint.EMBEDDINGS, Endpoint.COUNT_TOKENS)
# Where the endpoints keep what is read. A member that an endpoint has no use for has nothing of it.
_SAID = (
    "messages", "system", "input", "instructions", "prompt",
    "functions", "response_format", "text", "output_format", "output_config",  # schemas, which are said to the model
)  # fmt: skip
_ATTACHMENTS = frozenset({"image", "image_url", "input_image", "document", "file", "input_file", "input_audio"})


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    return [
        part["text"]
        for part in content
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    ]


def _openai_turn(message: dict[str, Any]) -> Turn:
    role = _OPENAI_ROLES.get(message["role"], "user")
    texts = _texts(message.get("content"))
    if role == "tool":
        return Turn("tool", (), tool_results=1, tool_result_chars=sum(map(len, texts)))
    calls = message.get("tool_calls")
    return Turn(role, tuple(texts), tool_calls=len(calls) if isinstance(calls, list) else 0)


def _anthropic_turn(message: dict[str, Any]) -> Turn:
    content = message["content"]
    role: Role = "assistant" if message["role"] == "assistant" else "user"
    if isinstance(content, str):
        return Turn(role, (content,))
    calls = results = chars = 0
    for part in content:
        kind = part["type"]
        if kind == "tool_use":
            calls += 1
        elif kind == "tool_result":
            results += 1
            chars += sum(map(len, _texts(part.get("content"))))
    return Turn(role, tuple(_texts(content)), calls, results, chars)
