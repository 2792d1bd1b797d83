"""A request for a model that the client did not choose, in the client's own format: what this model refuses is taken
out, or said in the words it knows. Where the client named the model, nothing of this happens.

All other bytes stay as they are. What of the conversation is adapted: wire/history.py.
"""

from __future__ import annotations

from typing import Any

import orjson

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.members import member, with_members
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget

_SAMPLING = ("temperature", "top_p", "top_k")
_LIMITS = ("max_tokens", "max_completion_tokens")
_HIGHER = ("xhigh", "max")  # efforts that not all models take, and none that is told not to think
Changes = dict[str, bytes | None]
# Members that a request may come out of here without, changed or with, and whose values tell nothing of its subject.
SETTINGS = (
    *_LIMITS,
    *_SAMPLING,
    "reasoning_effort",
    "stream_options",
    "parallel_tool_calls",
    "thinking",
    "context_management",
)
# As they are named among what was dropped: the other members, which have words of the client's in them.
WORDS = frozenset({"user", "tool_choice", "output_config.effort"})


def adapt_chat(raw: bytes, body: dict[str, Any], target: ChatTarget) -> tuple[bytes, tuple[str, ...]]:
    """The bytes for this target, but for its turns (history.chat_turns), and the names of the fields whose meaning was
    lost. `body` is `raw`, parsed."""
    changes: Changes = {}
    dropped: set[str] = set()
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
    if body.get("user") is not None and not target.user:
        changes["user"] = None
        dropped.add("user")
    if body.get("parallel_tool_calls") is not None and not target.parallel_tool_calls:
        changes["parallel_tool_calls"] = None
        if body["parallel_tool_calls"] is False:
            dropped.add("parallel_tool_calls")
    reasons = effort not in (None, "none")
    if target.sampling == "never" or (target.sampling == "unthinking" and reasons):
        for name in _SAMPLING:
            # 1 is what these models do anyway.
            if body.get(name) is not None:
                changes[name] = None
                if body[name] != 1:
                    dropped.add(name)
    return _changed(raw, changes, added), tuple(sorted(dropped))


def adapt_messages(raw: bytes, body: dict[str, Any], target: MessagesTarget) -> tuple[bytes, tuple[str, ...]]:
    """The same for a Messages body, but for its turns: history.messages_turns. Raises RequestError where the client has
    begun an answer that this model would not go on with: another one may."""
    if not target.prefill and _is_prefilled(body):
        message = "messages must end with a user turn: the model that was chosen goes on with no answer but its own."
        last = len(body["messages"]) - 1
        raise RequestError("unsupported_prefill", message, param=f"messages[{last}]")
    changes: Changes = {}
    dropped: set[str] = set()
    _thinking(body, target, changes, dropped)
    _effort(raw, body, target, changes, dropped)
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in ("any", "tool") and not target.forced_tools:
        single = choice.get("disable_parallel_tool_use")
        # Anything else is no value of it, and may be one that cannot be written down.
        auto = {"type": "auto"} | ({"disable_parallel_tool_use": single} if isinstance(single, bool) else {})
        changes["tool_choice"] = _member("tool_choice", auto)
        dropped.add("tool_choice")
    if not target.sampling:
        for name in _SAMPLING:
            if body.get(name) is not None:
                changes[name] = None
                if body[name] != 1 or name == "top_k":
                    dropped.add(name)
    return _changed(raw, changes, ()), tuple(sorted(dropped))


def _is_prefilled(body: dict[str, Any]) -> bool:
    """Whether the last turn is a text for the model to go on with; one that a server's own tools paused is none."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    if last.get("role") != "assistant":
        return False
    content = last["content"]
    return isinstance(content, str) or not content or content[-1]["type"] == "text"


def _thinking(body: dict[str, Any], target: MessagesTarget, changes: Changes, dropped: set[str]) -> None:
    """`thinking` in the words that the target knows."""
    thinking = body.get("thinking")
    mode = thinking.get("type") if isinstance(thinking, dict) else None
    if mode is None or (mode == "enabled" and target.thinking == "budget"):
        return
    if target.thinking and mode in (target.thinking, target.unthinking):
        return
    if mode in ("disabled", "between_tools") and target.thinking and target.unthinking:
        changes["thinking"] = _member("thinking", {"type": target.unthinking})
    elif mode == "enabled" and target.thinking == "adaptive":
        changes["thinking"] = _member("thinking", {"type": "adaptive"})
        dropped.add("thinking.budget_tokens")
        return
    else:
        changes["thinking"] = None
    if mode == "disabled" and not target.thinking:
        return  # it does not think anyway
    dropped.add("thinking")
    if mode != "disabled" and body.get("context_management") is not None:
        # Its edits of thinking are refused where there is none.
        changes["context_management"] = None
        dropped.add("context_management")


def _effort(raw: bytes, body: dict[str, Any], target: MessagesTarget, changes: Changes, dropped: set[str]) -> None:
    """`output_config.effort` as far as the target takes it."""
    config, thinking = body.get("output_config"), body.get("thinking")
    effort = config.get("effort") if isinstance(config, dict) else None
    if effort is None:
        return
    off = isinstance(thinking, dict) and thinking.get("type") in ("disabled", "between_tools") and target.unthinking
    takes = {"xhigh": target.xhigh and not off, "max": target.max_effort and not off}
    if target.effort and (effort not in _HIGHER or takes[effort]):
        return
    lower = _member("effort", "high") if target.effort else None
    rest = with_members(_written(raw, "output_config"), {"effort": lower})
    changes["output_config"] = b'"output_config":' + rest if lower or len(body["output_config"]) > 1 else None
    dropped.add("output_config.effort")


def _changed(raw: bytes, changes: Changes, added: tuple[bytes, ...]) -> bytes:
    return with_members(raw, changes, added) if changes or added else raw


def _written(raw: bytes, key: str) -> bytes:
    """The value of a member as the client wrote it."""
    found = member(raw, key)
    return raw[found.value : found.end]


def _member(key: str, value: object) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)
