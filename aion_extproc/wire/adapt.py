"""A request for a model that the client did not choose, in the client's own format: fields that this model refuses are
taken out, or said in the words it knows. Where the client named the model, nothing of this happens.

All other bytes stay as they are.
"""

from __future__ import annotations

from typing import Any

import orjson

from aion_extproc.wire.members import members, with_members
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

_SAMPLING = ("temperature", "top_p", "top_k")
_LIMITS = ("max_tokens", "max_completion_tokens")
Changes = dict[str, bytes | None]


def adapt_chat(raw: bytes, body: dict[str, Any], target: ChatTarget) -> tuple[bytes, tuple[str, ...]]:
    """The bytes for this target, and the names of the fields whose meaning was lost. `body` is `raw`, parsed."""
    changes: Changes = {}
    dropped = set()
    other = next(name for name in _LIMITS if name != target.max_tokens)
    if body.get(other) is not None:
        given = body.get(target.max_tokens) is not None
        changes[other] = None if given else orjson.dumps(target.max_tokens) + b":" + _written(raw, other)
    added: tuple[bytes, ...] = ()
    effort = body.get("reasoning_effort")
    if target.tools_need_no_reasoning and body.get("tools"):
        if effort != "none":
            no_reasoning = _member("reasoning_effort", "none")
            if "reasoning_effort" in body:
                changes["reasoning_effort"] = no_reasoning
            else:
                added = (no_reasoning,)
            if effort is not None:
                dropped.add("reasoning_effort")
    elif effort is not None and not target.reasoning_effort:
        changes["reasoning_effort"] = None
        if effort != "none":
            dropped.add("reasoning_effort")
    if body.get("stream_options") is not None and not target.stream_options:
        changes["stream_options"] = None  # what it asks for comes all the same
    if not target.sampling:
        for name in _SAMPLING:
            # 1 is what these models do anyway.
            if body.get(name) is not None:
                changes[name] = None
                if body[name] != 1:
                    dropped.add(name)
    return _changed(raw, changes, added), tuple(sorted(dropped))


def adapt_messages(raw: bytes, body: dict[str, Any], target: MessagesTarget) -> tuple[bytes, tuple[str, ...]]:
    """The same for a Messages body."""
    changes: Changes = {}
    dropped = set()
    thinking, config = body.get("thinking"), body.get("output_config")
    mode = thinking.get("type") if isinstance(thinking, dict) else None
    if mode == "enabled" and target.thinking == "adaptive":
        changes["thinking"] = _member("thinking", {"type": "adaptive"})
        dropped.add("thinking.budget_tokens")
    elif mode not in (None, "disabled") and target.thinking != ("budget" if mode == "enabled" else "adaptive"):
        changes["thinking"] = None
        dropped.add("thinking")
        if body.get("context_management") is not None:  # its edits of thinking are refused where there is none
            changes["context_management"] = None
            dropped.add("context_management")
    elif mode == "disabled" and not target.thinking:
        changes["thinking"] = None
    if isinstance(config, dict) and config.get("effort") is not None and not target.effort:
        rest = with_members(_written(raw, "output_config"), {"effort": None})
        changes["output_config"] = b'"output_config":' + rest if len(config) > 1 else None
        dropped.add("output_config.effort")
    if not target.sampling:
        for name in _SAMPLING:
            if body.get(name) is not None:
                changes[name] = None
                if body[name] != 1 or name == "top_k":
                    dropped.add(name)
    return _changed(raw, changes, ()), tuple(sorted(dropped))


def _changed(raw: bytes, changes: Changes, added: tuple[bytes, ...]) -> bytes:
    return with_members(raw, changes, added) if changes or added else raw


def _written(raw: bytes, key: str) -> bytes:
    """The value of a member as the client wrote it; of a key that comes twice the last one counts."""
    return [raw[member.value : member.end] for member in members(raw) if member.key == key][-1]


def _member(key: str, value: object) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)
