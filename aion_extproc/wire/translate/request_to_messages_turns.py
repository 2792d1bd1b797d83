"""The messages of a chat as Anthropic's turns: the user's and the assistant's alternate, each call has its result.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls: the results of a turn's calls stand in
the next user message, in front of all else in it. Chat clients send one message for each, with others in between.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from aion_extproc.wire.translate.names import ToolNames, digest, is_empty
from aion_extproc.wire.translate.request_to_messages_parts import (
    Block,
    Context,
    blocks,
    quoted,
    refuse,
    text_block,
    thinking,
)

_LEGAL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming#handling-invalid-json-in-tool-responses
_INVALID_JSON = "INVALID_JSON"
# What stands in front of a conversation that the assistant begins: Anthropic wants a user's turn first.
_OPENING = "."
_KNOWN = {
    "system": ("role", "content", "cache_control"),
    "user": ("role", "content", "cache_control"),
    "assistant": (
        *("role", "content", "cache_control", "refusal", "tool_calls", "function_call", "audio"),
        *("reasoning_details", "thinking_blocks", "reasoning_content", "reasoning"),
    ),
    "tool": ("role", "content", "cache_control", "tool_call_id"),
    "function": ("role", "content", "cache_control", "name"),
}


@dataclass(slots=True)
class _Call:
    """A call whose result is still to come."""

    key: tuple[str, str]  # ("id", the client's id), or ("function", its name) for the deprecated function_call
    sent: str  # its id as sent on
    where: str


@dataclass(slots=True)
class _Assistant:
    thinking: list[Block] = field(default_factory=list)
    said: list[Block] = field(default_factory=list)
    calls: list[Block] = field(default_factory=list)

    @property
    def content(self) -> list[Block]:
        # Thinking must come first, and after a call nothing but its result.
        return [*self.thinking, *self.said, *self.calls]


@dataclass(slots=True)
class _User:
    results: list[Block] = field(default_factory=list)
    said: list[Block] = field(default_factory=list)
    # What the system said last, as far as nothing came after it: it stays apart if the assistant is next.
    system: list[Block] = field(default_factory=list)

    @property
    def content(self) -> list[Block]:
        return [*self.results, *self.said]


class Turns:
    """A system message inside the conversation stays one where the model takes it: after the user (or the results of
    calls) and before the assistant (https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages).
    Elsewhere its words are the user's, and its role is named.

    Feed it the messages, then `finish`: `system` and `messages` are those of the request to send."""

    def __init__(self, names: ToolNames, context: Context) -> None:
        self.system: list[Block] = []
        self.messages: list[dict[str, Any]] = []
        self.tools_used: dict[str, str] = {}  # as the client knows them → as sent on
        self._names = names
        self._context = context
        self._turn: _Assistant | _User | None = None
        self._open: list[_Call] = []
        self._ids: set[str] = set()  # all ids sent so far: they must be unique
        self._last_role = ""  # of the client's messages

    def add(self, index: int, message: dict[str, Any]) -> None:
        role, where = message["role"], f"messages[{index}]"
        role = "system" if role == "developer" else role
        if role not in _KNOWN:
            refuse("invalid_value", f"{where}.role", "must be system, developer, user, assistant, tool or function.")
        self._context.drop_others(message, _KNOWN[role], "messages[].")
        self._last_role = role
        if role == "assistant":
            self._assistant(message, where, index)
            return
        if role in ("tool", "function"):
            self._result(message, where, role)
            return
        only_text = "a system message" if role == "system" else ""
        said = blocks(message.get("content"), f"{where}.content", self._context, only_text=only_text)
        self._mark_last(said, message)
        if role == "system" and self._turn is None:
            self.system += said
        elif role == "system" and said and isinstance(self._turn, _User) and self._context.target.system_turns:
            self._turn.system += said
        elif said:
            if role == "system":
                self._context.drop("messages[].role")
            self._user().said += said

    def finish(self) -> None:
        if self._turn is None and self.system:  # a conversation must have a turn
            self._context.drop("messages[].role")
            self._user().said, self.system = self.system, []
        if self._turn is None:
            refuse("empty_messages", "messages", "must hold some text, image or file: all of them are empty.")
        self._close()
        if self._open:
            self._refuse_open()
        if self.messages[0]["role"] == "assistant":
            self.messages.insert(0, {"role": "user", "content": text_block(_OPENING)})
        if self.messages[-1]["role"] == "assistant" and self._last_role == "user":
            # Nothing was left of the user's last words; without any the assistant would go on with its own.
            self.messages.append({"role": "user", "content": text_block(_OPENING)})
        last = self.messages[-1]
        if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            # The answer goes on from here, and Anthropic refuses white space at its end.
            last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()

    @property
    def answers_calls_without_thinking(self) -> bool:
        """The last turn brings results to an assistant turn that did not begin with thinking."""
        turns = [message["content"] for message in self.messages[-3:] if message["role"] != "system"]
        if len(turns) < 2 or turns[-1][0]["type"] != "tool_result":
            return False
        return turns[-2][0]["type"] not in ("thinking", "redacted_thinking")

    def _assistant(self, message: dict[str, Any], where: str, index: int) -> None:
        if not is_empty(message.get("audio")):
            refuse("unsupported_content", f"{where}.audio", "is sound, which the chosen model cannot be sent.")
        said = blocks(message.get("content"), f"{where}.content", self._context, only_text="an assistant turn")
        refusal = message.get("refusal")
        if not is_empty(refusal):
            if not isinstance(refusal, str):
                refuse("invalid_type", f"{where}.refusal", "must be a string.")
            said += text_block(refusal)
        self._mark_last(said, message)
        thoughts = thinking(message, self._context)
        calls = self._calls(message, where, index)
        if not said and not calls:
            return  # thinking alone is no turn
        if not isinstance(self._turn, _Assistant):
            self._close()
            if self._open:
                self._refuse_open()
            self._turn = _Assistant()
        self._turn.thinking += thoughts
        self._turn.said += said
        for call, block in calls:
            self._open.append(call)
            self._turn.calls.append(block)

    def _calls(self, message: dict[str, Any], where: str, index: int) -> list[tuple[_Call, Block]]:
        found: list[tuple[_Call, Block]] = []
        said = message.get("tool_calls")
        if not is_empty(said) and not isinstance(said, list):
            refuse("invalid_type", f"{where}.tool_calls", "must be a list.")
        for number, call in enumerate(said or ()):
            path = f"{where}.tool_calls[{number}]"
            if not isinstance(call, dict) or not isinstance(identity := call.get("id"), str):
                refuse("invalid_type", path, "must be an object with an id.")
            custom = call.get("type") == "custom"
            member = "custom" if custom else "function"
            function = call.get(member)
            found.append(self._call(("id", identity), function, f"{path}.{member}", custom))
        function = message.get("function_call")
        if not is_empty(function):
            name = str(function.get("name")) if isinstance(function, dict) else ""
            found.append(self._call(("function", name), function, f"{where}.function_call", False, f"call_{index}"))
        return found

    def _call(
        self, key: tuple[str, str], function: object, where: str, custom: bool, identity: str | None = None
    ) -> tuple[_Call, Block]:
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            refuse("invalid_type", where, "must be an object with a name.")
        if custom:
            text = function.get("input")
            if not isinstance(text, str):
                refuse("invalid_type", f"{where}.input", "must be a string.")
            given: object = {"input": text}
        else:
            given = _arguments(function.get("arguments"), f"{where}.arguments")
        self.tools_used[name] = self._names.sent(name)
        sent = self._unique(key[1] if identity is None else identity)
        block = {"type": "tool_use", "id": sent, "name": self.tools_used[name], "input": given}
        return _Call(key, sent, where), block

    def _unique(self, identity: str) -> str:
        """A legal id that no other call has: some servers give each of their calls the same."""
        if not _LEGAL_ID.fullmatch(identity):
            identity = "toolu_" + digest(identity)[:24]
        sent, number = identity, 1
        while sent in self._ids:
            number += 1
            sent = f"{identity}_{number}"
        self._ids.add(sent)
        return sent

    def _result(self, message: dict[str, Any], where: str, role: str) -> None:
        field = "tool_call_id" if role == "tool" else "name"
        identity = message.get(field)
        if not isinstance(identity, str):
            refuse("invalid_type", f"{where}.{field}", "must be a string.")
        key = ("id" if role == "tool" else "function", identity)
        call = next((call for call in self._open if call.key == key), None)
        if call is None:
            refuse(
                "unmatched_tool_result",
                f"{where}.{field}",
                f"is {quoted(identity)}, but the assistant turn before has no such call without a result.",
            )
        user = self._user()
        self._open.remove(call)
        block: Block = {"type": "tool_result", "tool_use_id": call.sent}
        content = blocks(message.get("content"), f"{where}.content", self._context)
        if content:
            block["content"] = content
        self._context.keep_cache_control(block, message, "messages[].cache_control")
        user.results.append(block)

    def _mark_last(self, said: list[Block], message: dict[str, Any]) -> None:
        if said and "cache_control" not in said[-1]:
            self._context.keep_cache_control(said[-1], message, "messages[].cache_control")

    def _user(self) -> _User:
        if not isinstance(self._turn, _User):
            self._close()
            self._turn = _User()
        elif self._turn.system:  # the user goes on, and a system turn may not stand between the user's
            self._context.drop("messages[].role")
            self._turn.said += self._turn.system
            self._turn.system = []
        return self._turn

    def _close(self) -> None:
        if self._turn is not None:
            role = "user" if isinstance(self._turn, _User) else "assistant"
            self.messages.append({"role": role, "content": self._turn.content})
            if isinstance(self._turn, _User) and self._turn.system:
                self.messages.append({"role": "system", "content": self._turn.system})

    def _refuse_open(self) -> None:
        call = self._open[0]
        what = quoted(call.key[1])
        refuse("missing_tool_result", call.where, f"is the call {what}, but no message brings its result.")


def _arguments(said: object, where: str) -> object:
    """An object for `input`. What is no JSON object is handed on as Anthropic asks for it: the model's own slip, which
    the conversation may go on to speak about."""
    if isinstance(said, dict) or said is None:
        return said or {}
    if not isinstance(said, str):
        refuse("invalid_type", where, "must be a string that holds a JSON object.")
    text = said.strip()
    if text in ("", "{}", "null"):
        return {}
    try:
        written = text.encode()
        if isinstance(orjson.loads(written), dict):
            return orjson.Fragment(written)  # as it is: numbers of any size, keys in any order
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode()
    except orjson.JSONDecodeError:
        pass
    try:
        if isinstance(value := json.loads(text), dict):  # half a surrogate pair in an escape
            return value
    except (ValueError, RecursionError):
        pass
    return {_INVALID_JSON: text}
