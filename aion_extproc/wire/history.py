"""A conversation that other servers have had a part in, for one that refuses what they left in it. Same format, so it
is edited in the client's bytes: what is not at fault keeps them.

Sessions cross where a model is chosen anew for each request: a client of one API is served by a provider of the other,
through our translation, and then by one of its own API, which reads what our translation gave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from aion_extproc.wire.members import Edit, edited, elements, member, members, removal
from aion_extproc.wire.translate.names import chat_call_id, is_empty
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

# Of a chat message, by role: what a server takes that refuses all else.
_PLAIN = frozenset({"role", "content", "tool_calls", "tool_call_id", "prefix"})
# What the assistant says between a tool's result and the user's words, for a server that wants it to say something.
BRIDGE = "OK."
_BRIDGING = b'{"role":"assistant","content":' + orjson.dumps(BRIDGE) + b"},"
_TOOL_CHANGES = frozenset({"tool_addition", "tool_removal"})
Fitted = tuple[bytes, tuple[str, ...]]  # the bytes, and the names of what was lost


def messages_turns(raw: bytes, body: dict[str, Any], target: MessagesTarget, *, chosen: bool) -> Fitted:
    """A Messages body whose turns the target takes. `body` is `raw`, parsed. `chosen`: the model was, by us.

    - Thinking blocks that have no signature go: our own translation of a chat provider's answer makes them, whose
      thinking nobody has signed, and no Claude takes them. So they go even where the client named the model.
    - Where the model was chosen, system turns become the user's if it knows none inside a conversation.

    A turn that holds nothing else goes too."""
    gone: set[int] = set()
    named: set[str] = set()
    cuts: dict[int, list[int]] = {}  # message → its blocks that go
    as_user: list[int] = []
    if target.checks_thinking and b"thinking" in raw:
        for index, blocks in _unsigned(body):
            cuts[index] = blocks
            named.add("messages[].thinking")
    if chosen and not target.system_turns:
        for index, blocks, is_over in _system_turns(body):
            message = body["messages"][index]
            cuts[index] = blocks
            as_user.append(index)
            kinds = {message["content"][at]["type"] for at in blocks}
            named |= {f"messages[].{kind}" for kind in kinds & _TOOL_CHANGES}
            if not is_empty(message.get("output_config")):
                named.add("messages[].output_config")
            if is_over:
                gone.add(index)
            elif len(blocks) < len(message.get("content") or ()):
                named.add("messages[].role")
    if not cuts:
        return raw, ()
    gone |= {index for index, blocks in cuts.items() if len(blocks) == len(body["messages"][index].get("content", ()))}
    turns = _turns(raw)
    edits = removal(turns, gone)
    for index in as_user:
        if index not in gone:
            role = member(raw, "role", turns[index][0])
            edits.append((role.value, role.end, b'"user"'))
            edits += _without(raw, turns[index][0], ("output_config", "clear_at"))
    for index, blocks in cuts.items():
        if blocks and index not in gone:
            edits += removal(list(elements(raw, member(raw, "content", turns[index][0]).value)), blocks)
    return edited(raw, edits), tuple(sorted(named))


def _unsigned(body: dict[str, Any]) -> Iterator[tuple[int, list[int]]]:
    """Messages that hold thinking without a signature, each with the places of these blocks."""
    for index, message in enumerate(body["messages"]):
        content = message.get("content")
        if message["role"] == "assistant" and isinstance(content, list):
            blocks = [at for at, one in enumerate(content) if one["type"] == "thinking" and not one.get("signature")]
            if blocks:
                yield index, blocks


def _system_turns(body: dict[str, Any]) -> Iterator[tuple[int, list[int], bool]]:
    """System messages, each with the places of blocks that are no text, and whether its text was meant for a turn that
    has passed."""
    roles = [message["role"] for message in body["messages"]]
    users = [index for index, role in enumerate(roles) if role == "user"]
    for index, role in enumerate(roles):
        if role == "system":
            message = body["messages"][index]
            content = message.get("content")
            parts = content if isinstance(content, list) else ()
            blocks = [at for at, one in enumerate(parts) if one["type"] != "text"]
            is_over = message.get("clear_at") == "next_user_message" and bool(users) and users[-1] > index
            yield index, blocks, is_over


def chat_turns(raw: bytes, body: dict[str, Any], target: ChatTarget) -> Fitted:
    """A chat body with ids of tool calls, members of messages and an order of roles that the server takes."""
    if target.call_ids == "any" and target.order == "any":
        return raw, ()
    named: set[str] = set()
    edits: list[Edit] = []
    before = ""
    for message, (start, _) in zip(body["messages"], _turns(raw), strict=True):
        role = message["role"]
        if target.order == "mistral":
            role = "system" if role == "developer" else role
            if role == "system" and before in ("assistant", "tool"):
                role = "user"
                named.add("messages[].role")
            if role == "user" and before == "tool":
                edits.append((start, start, _BRIDGING))
            if role != message["role"]:
                place = member(raw, "role", start)
                edits.append((place.value, place.end, orjson.dumps(role)))
            others = [key for key in message if key not in _PLAIN]
            named |= {f"messages[].{key}" for key in others if key in _NAMED and not is_empty(message[key])}
            edits += _without(raw, start, others)
            before = role
        if target.call_ids == "nine":
            edits += _call_ids(raw, message, start)
    if before == "assistant" and not message.get("tool_calls") and not message.get("prefix"):
        edits.append((start + 1, start + 1, b'"prefix":true,'))  # without it the request is refused
        named.add("messages[].prefill")
    return edited(raw, edits), tuple(sorted(named))


# The members that are told; others are the client's own words.
_NAMED = frozenset({"name", "refusal", "audio", "reasoning_content", "reasoning", "reasoning_details", "function_call"})


def _call_ids(raw: bytes, message: dict[str, Any], start: int) -> list[Edit]:
    edits: list[Edit] = []
    holders = [(message, start, "tool_call_id")]
    if isinstance(calls := message.get("tool_calls"), list):
        places = elements(raw, member(raw, "tool_calls", start).value)
        holders += [(call, at, "id") for call, (at, _) in zip(calls, places, strict=True) if isinstance(call, dict)]
    for holder, at, key in holders:
        id = holder.get(key)
        if isinstance(id, str) and (sent := chat_call_id(id, nine=True)) != id:
            place = member(raw, key, at)
            edits.append((place.value, place.end, orjson.dumps(sent)))
    return edits


def _turns(raw: bytes) -> list[tuple[int, int]]:
    """Where each message stands."""
    return list(elements(raw, member(raw, "messages").value))


def _without(raw: bytes, start: int, keys: list[str] | tuple[str, ...]) -> list[Edit]:
    """What takes the members of these keys out of the object at `start`."""
    if not keys:
        return []
    found = list(members(raw, start))
    gone = [index for index, one in enumerate(found) if one.key in keys]
    return removal([(one.start, one.end) for one in found], gone)
