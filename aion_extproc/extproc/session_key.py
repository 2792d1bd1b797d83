"""Which conversation a request belongs to, and which turn of it it is: as hashes, made of bounded parts of its texts.

The key is the first of these that the request has, and always the caller's key and tenant, so that two callers never
share a conversation:

    X-AION-Session             the whole conversation, as the caller says
    X-Claude-Code-Session-Id   a session, of which each sub-agent is a conversation of its own
    prompt_cache_key           a group of conversations that begin alike
    metadata.user_id           a user, or in Claude Code's case a session
    (none)                     the system prompt and the first user message

In the middle three the first user message goes into the key as well: what one sub-agent of a session has sent is not in
the prompt cache of another. And in all but the first the API does, for the same words make other requests in the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from aion_extproc.extproc.callers import Caller
from aion_extproc.routing.sessions import KEY_LENGTH, Turn
from aion_extproc.wire.request import Request

_EDGE = 256  # characters read at either end of a text
_MOST_PIECES = 32  # texts read of one message
_HALF = _MOST_PIECES // 2
_SYSTEM_ROLES = ("system", "developer")
# A block that Claude Code puts before its system prompt; not all its versions keep it the same within a session.
_BILLING = "x-anthropic-billing-header:"
_RETRY_HEADER = "x-stainless-retry-count"  # of OpenAI's and Anthropic's SDKs: how often this request was sent before
_DIGEST_LENGTH = 16


def turn_of(headers: Mapping[str, str], request: Request, caller: Caller) -> Turn | None:
    """The turn; None where there is no conversation to see (embeddings, or one that the provider keeps).

    `headers`: the client's, names in lower case.
    """
    messages = request.messages
    if not messages:
        return None
    last = next((message for message in reversed(messages) if message["role"] == "user"), messages[-1])
    return Turn(
        session=session_key(headers, request, caller),
        digest=_hash([str(len(messages)), *_pieces(last.get("content"))], _DIGEST_LENGTH),
        retry=headers.get(_RETRY_HEADER, "0") not in ("", "0"),
    )


def session_key(headers: Mapping[str, str], request: Request, caller: Caller) -> str:
    """KEY_LENGTH hexadecimal characters."""
    # Neither name nor tenant can hold a NUL: what follows them cannot make one caller look like another.
    whose = [caller.key_name, caller.tenant]
    named = headers.get("x-aion-session")
    if named:
        return _hash([*whose, "aion", named], KEY_LENGTH)
    whose.append(request.format.value)
    messages = request.messages
    first = next((message for message in messages if message["role"] == "user"), messages[0])
    begin = _pieces(first.get("content"))
    session = headers.get("x-claude-code-session-id")
    if session:
        return _hash([*whose, "claude code", session, *begin], KEY_LENGTH)
    cache_key = request.body.get("prompt_cache_key")
    if cache_key and isinstance(cache_key, str):
        return _hash([*whose, "cache", _edges(cache_key), *begin], KEY_LENGTH)
    metadata = request.body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if user and isinstance(user, str):
        return _hash([*whose, "user", _edges(user), *begin], KEY_LENGTH)
    return _hash([*whose, "text", *_system(request), "", *begin], KEY_LENGTH)


def _system(request: Request) -> list[str]:
    """The system prompt, wherever the client put it."""
    found = [piece for piece in _pieces(request.body.get("system")) if not piece.startswith(_BILLING)]
    for message in request.messages:
        if message["role"] not in _SYSTEM_ROLES:
            break
        found += _pieces(message.get("content"))
    return found[:_MOST_PIECES]


def _pieces(content: object) -> list[str]:
    """The edges of the texts in a message's content, in order. Where a client sets its cache marks changes from turn to
    turn, so they do not count."""
    if isinstance(content, str):
        return [_edges(content)]
    pieces: list[str] = []
    stack: list[Any] = [content]
    while stack and len(pieces) < _MOST_PIECES:
        value = stack.pop()
        if isinstance(value, str):
            pieces.append(_edges(value))
        elif isinstance(value, list):
            stack += reversed(value if len(value) <= _MOST_PIECES else [*value[:_HALF], *value[-_HALF:]])
        elif isinstance(value, dict):
            stack += [value[name] for name in reversed(value) if name != "cache_control"]
    return pieces


def _edges(text: str) -> str:
    size = len(text)
    return text if size <= 2 * _EDGE else f"{text[:_EDGE]}{text[-_EDGE:]}{size}"


def _hash(parts: Iterable[str], length: int) -> str:
    # Client's texts may have half a surrogate pair in them.
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=length // 2).hexdigest()
