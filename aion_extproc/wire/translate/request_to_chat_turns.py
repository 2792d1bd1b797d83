"""The turns of a Messages request as chat messages: each call's results directly after it, roles in an order that the
server takes.

- Texts go as one string wherever there is nothing but text: some servers take no list of parts.
- A tool's results follow its call directly, as text; images among them come with the user's words after them.
- An answer that the client has begun (prefill) is passed on, and named: not every server continues it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.history import BRIDGE
from aion_extproc.wire.translate.names import chat_call_id
from aion_extproc.wire.translate.request_to_chat_parts import (
    Context,
    Part,
    compact,
    numbered,
    object_in,
    parts,
    string_in,
    text_part,
    texts,
    thought,
    unsupported,
    wrong,
)

_RESULTS = "results"  # of an assistant message's calls, until the end


class Turns:
    """The messages as far as they are translated, and what is found out on the way."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._messages: list[dict[str, Any]] = []  # contents are lists of parts until the end
        self._calls: dict[str, str] = {}  # of the last assistant turn: id → id as sent on
        self._results: list[dict[str, Any]] = []  # of these calls
        self.added: list[tuple[str, object]] = []  # tools that the conversation defines, with their paths
        self.removed: set[str] = set()
        self.effort: object = None  # of the last turn that says one

    def system(self, content: Any) -> None:
        """What stands before all turns."""
        self._add("system", texts(content, "system", self._context))

    def turns(self, messages: list[dict[str, Any]]) -> None:
        users = [index for index, message in enumerate(messages) if message["role"] == "user"]
        pending: object = None  # an effort that begins with the next new input
        new_input = False  # the turn before brought some
        for index, message in enumerate(messages):
            where, role, content = f"messages[{index}]", message["role"], message.get("content", "")
            if role == "user":
                new_input = isinstance(content, str) or any(part["type"] != "tool_result" for part in content)
                if new_input and pending is not None:
                    self.effort, pending = pending, None
                self._user_turn(content, f"{where}.content")
            elif role == "assistant":
                new_input = False
                self._assistant_turn(content, f"{where}.content")
            elif role == "system":
                # https://platform.claude.com/docs/build-with-claude/effort-per-message
                effort = object_in(message, "output_config", where).get("effort")
                if effort is not None and new_input:
                    self.effort = effort
                elif effort is not None:
                    pending = effort
                over = message.get("clear_at") == "next_user_message" and bool(users) and users[-1] > index
                self._system_turn(content or "", f"{where}.content", over)
            else:
                wrong(f"{where}.role", "user, assistant or system")

    def finished(self) -> list[dict[str, Any]]:
        """The messages as they are sent."""
        if not self._messages:
            raise RequestError("empty_messages", "messages say nothing that the model could read.", param="messages")
        last = self._messages[-1]
        begins = last["role"] == "assistant" and "tool_calls" not in last
        if begins:
            # Passed on as it is: some servers continue it, most begin a turn of their own.
            self._context.drop("messages[].prefill")
        messages = [_finished(message) for message in _with_results(self._messages)]
        if self._context.target.order == "mistral":
            messages = list(self._in_mistrals_order(messages))
            if begins:
                messages[-1]["prefix"] = True  # without it the request is refused
        return messages

    def _in_mistrals_order(self, messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """By its own validator: https://github.com/mistralai/mistral-common, protocol/instruct/validator.py."""
        before = ""
        for message in messages:
            if message["role"] == "system" and before in ("assistant", "tool"):
                message["role"] = "user"
                self._context.drop("messages[].role")
            if message["role"] == "user" and before == "tool":
                yield {"role": "assistant", "content": BRIDGE}
            before = message["role"]
            yield message

    def _system_turn(self, content: Any, where: str, over: bool) -> None:
        """`over`: its text was meant for a turn that has passed; a change of tools stays."""
        said = content
        if isinstance(content, list):
            said = []
            for index, block in enumerate(content):
                if block["type"] in ("tool_addition", "tool_removal"):
                    self._tool_change(block, f"{where}[{index}]")
                else:
                    said.append(block)
        if not over and (found := texts(said, where, self._context)):
            self._add("system", found)

    def _tool_change(self, block: dict[str, Any], where: str) -> None:
        """The last word on a tool counts for the whole request: chat servers know one list of tools."""
        tool = object_in(block, "tool", where)
        kind, name = tool.get("type"), tool.get("name")
        definition = tool.get("definition")
        if kind == "tool_definition" and isinstance(definition, dict):
            self.added.append((f"{where}.tool.definition", definition))
            name = definition.get("name")
        elif kind != "tool_reference":
            self._context.drop(f"messages[].{block['type']}")
            return
        if isinstance(name, str):
            (self.removed.add if block["type"] == "tool_removal" else self.removed.discard)(name)

    def _user_turn(self, content: Any, where: str) -> None:
        attached: list[Part] = []  # to tool results
        own: list[Part] = []
        answers = False
        for index, block in numbered(content):
            if block["type"] == "tool_result":
                answers = True
                self._tool_result(block, f"{where}[{index}]", attached)
            else:
                own.extend(parts(block, f"{where}[{index}]", self._context))
        if attached or own or not answers:
            self._add("user", attached + own)

    def _tool_result(self, block: dict[str, Any], where: str, attached: list[Part]) -> None:
        """A tool message. It holds text; what else a result has goes into the user message after it."""
        call = block.get("tool_use_id")
        if not isinstance(call, str) or call not in self._calls:
            raise RequestError(
                "unknown_tool_use",
                f"{where}.tool_use_id names no tool_use of the assistant turn before it.",
                param=f"{where}.tool_use_id",
            )
        content = block.get("content")
        if content is not None and not isinstance(content, str | list):
            wrong(f"{where}.content", "a string or a list of blocks")
        said: list[Part] = []
        others: list[Part] = []
        for index, item in numbered(content or ""):
            for part in parts(item, f"{where}.content[{index}]", self._context):
                (said if part["type"] == "text" else others).append(part)
        if others:
            attached.append({"type": "text", "text": f"Attached to the result of tool call {self._calls[call]}:"})
            attached.extend(others)
            said = said or text_part("The result is attached to the next message.")
        # Chat has no place for is_error; models know failures by this word.
        if block.get("is_error") is True and not (said and said[0]["text"].lstrip()[:5].lower() == "error"):
            first = said[0] if said else {"type": "text"}
            said[:1] = [{**first, "text": f"Error: {first['text']}" if said else "Error"}]
        if said:
            self._context.mark(said[-1], block)
        self._results.append({"role": "tool", "tool_call_id": self._calls[call], "content": said})

    def _assistant_turn(self, content: Any, where: str) -> None:
        whole: list[Part] = []
        calls: list[tuple[str, dict[str, Any]]] = []  # with the client's ids
        thoughts: list[Part] = []
        for is_text, blocks in groupby(numbered(content), lambda item: item[1]["type"] == "text"):
            said = (self._said(block, f"{where}[{index}]", calls, thoughts) for index, block in blocks)
            found = [part for one in said for part in one]
            if is_text and found and all(len(part) == 2 for part in found):
                # Claude cuts a text in two only where a citation begins or ends.
                found = text_part("".join(part["text"] for part in found))
            whole.extend(found)
        if not (whole or calls or thoughts):
            return  # only thinking that cannot be given back: some servers refuse an empty turn
        message = self._add("assistant", whole)
        for one in thoughts:
            message.setdefault(self._context.target.reasoning, []).append(one)
        if "tool_calls" not in message:
            self._calls = {}
        if calls:
            message.setdefault("tool_calls", []).extend(call for _, call in calls)
            self._calls.update((id, call["id"]) for id, call in calls)
            self._results = message.setdefault(_RESULTS, [])

    def _said(
        self, block: dict[str, Any], where: str, calls: list[tuple[str, dict[str, Any]]], thoughts: list[Part]
    ) -> list[Part]:
        """What of an assistant's block is its content; calls and thoughts go where they belong."""
        kind = block["type"]
        if kind == "tool_use":
            calls.append(self._call(block, where))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.extend(thought(block, where, self._context))
        elif kind in ("image", "document", "search_result"):
            unsupported(where, f"A block of type {kind} in an assistant turn")
        elif kind != "fallback":  # which only marks where another model of Anthropic's took over
            return parts(block, where, self._context)
        return []

    def _call(self, block: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
        id, name, input = string_in(block, "id", where), string_in(block, "name", where), block.get("input")
        for member, value in (("id", id), ("name", name)):
            if not value:
                wrong(f"{where}.{member}", "a non-empty string")
        if not isinstance(input, dict):
            wrong(f"{where}.input", "an object")
        self._context.mark({}, block)
        function = {"name": self._context.names.sent(name), "arguments": compact(input).decode()}
        sent = chat_call_id(id, nine=self._context.target.call_ids == "nine")
        return id, {"id": sent, "type": "function", "function": function}

    def _add(self, role: str, found: list[Part]) -> dict[str, Any]:
        """Consecutive turns of one role are one, as for Anthropic: many chat templates insist on it."""
        last = self._messages[-1] if self._messages else {}
        if last.get("role") == role and not last.get(_RESULTS):
            last["content"].extend(found)
            return last
        self._messages.append({"role": role, "content": list(found)})
        return self._messages[-1]


def _finished(message: dict[str, Any]) -> dict[str, Any]:
    """With its texts as one string wherever they are only texts: DeepSeek and others take no list."""
    content = message["content"]
    if all(part["type"] == "text" and len(part) == 2 for part in content):
        message["content"] = "\n\n".join(part["text"] for part in content)
    if not content and "tool_calls" in message:
        message["content"] = None
    for member in ("reasoning_content", "reasoning"):
        if member in message:
            message[member] = "\n".join(one["text"] for one in message[member])
    if "reasoning_details" in message:
        message["reasoning_details"] = [
            {**one, "index": index} for index, one in enumerate(message["reasoning_details"])
        ]
    return message


def _with_results(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """With the results of an assistant turn's calls directly after it."""
    for message in messages:
        results = message.pop(_RESULTS, ())
        yield message
        yield from results
