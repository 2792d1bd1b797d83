"""A Messages request as one of chat completions.

https://platform.claude.com/docs/en/api/messages/create, https://platform.openai.com/docs/api-reference/chat/create

What the target cannot be told is named in `Translated.dropped`, unless it asked for nothing. What must not be lost is
refused: images, documents and blocks that the target has no form for, a conversation that Anthropic's servers hold.

- Texts go as one string wherever there is nothing but text: some servers take no list of parts.
- A tool's results follow its call directly, as text; images among them come with the user's words after them.
- Tools of Anthropic's own have no schema that another model could follow: they are left out, and named. What its
  servers' tools were asked and answered earlier stays in the conversation, as text.
- An answer that the client has begun (prefill) is passed on, and named: not every server continues it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NoReturn

import orjson

from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.request import PREFERENCES, Request
from aion_extproc.wire.translate.target import ChatTarget, Translated

_MOST_NAMES = 20
_LONGEST_NAME = 40
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9_.\[\]-]")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LONG_NUMBER = re.compile(rb"[0-9]{20}")
_LONGEST_CALL_ID = 40  # OpenAI refuses longer ones: https://github.com/vercel/ai/issues/5171
_LONGEST_USER = 64  # OpenAI refuses longer ones, OpenRouter those over 128; Claude Code's has 150
# Tokens of a thinking budget up to which it is a low or a medium effort.
_LOW_BUDGET, _MEDIUM_BUDGET = 4096, 16384
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_THINKING = ("adaptive", "enabled", "between_tools", "disabled")
_TRANSLATED = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stop_sequences", "temperature", "top_p", "metadata", "stream"),
        *("output_config", "output_format", "thinking", "tools", "tool_choice", "compaction", "thread", PREFERENCES),
        *("anthropic_version", "anthropic_beta"),  # how to read this request, which has been read
    }
)
_NO_OPS: dict[str, object] = {"service_tier": "auto", "speed": "standard"}
_RESULTS = "results"  # of an assistant message's calls, until the end
_TOOL_MEMBERS = frozenset({"name", "type", "description", "input_schema", "strict", "cache_control"})
# Members of a server tool's result that are not for reading.
_UNREADABLE = frozenset(
    {
        *("type", "tool_use_id", "id", "file_id", "caller", "cache_control", "citations", "signature", "media_type"),
        *("encrypted_content", "encrypted_stdout", "encrypted_index"),
    }
)


def to_chat(request: Request, model: str, target: ChatTarget) -> Translated:
    """`request`, which is in Anthropic's format, for a server of chat completions. Raises RequestError, which names
    the field at fault."""
    translation = _Translation(target)
    body = compact(translation.body(request, request.body, model))
    if b"e+" in body and (exact := _exact(request.raw)) is not None:
        translation = _Translation(target)
        body = compact(translation.body(request, exact, model))
    names = sorted({_UNNAMEABLE.sub("_", name)[:_LONGEST_NAME] for name in translation.dropped})
    changed = {sent: name for name, sent in translation.names.items() if sent != name}
    return Translated(body, tuple(names[:_MOST_NAMES]), changed)


def compact(value: object) -> bytes:
    """As JSON without white space. Raises RequestError for what no parser of the target's would read."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair, an integer of more than 64 bits, more than 254 levels
        pass
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise RequestError("invalid_request", "The request is nested too deeply to be translated.") from None


class _Conversation:
    """The messages as far as they are translated, and what is found out on the way."""

    def __init__(self, target: ChatTarget) -> None:
        self.target = target
        self.dropped: set[str] = set()
        self.names: dict[str, str] = {}  # tools: as the client calls them → as sent on
        self.messages: list[dict[str, Any]] = []  # contents are lists of parts until the end
        self._calls: dict[str, str] = {}  # of the last assistant turn: id → id as sent on
        self._results: list[dict[str, Any]] = []  # of these calls
        self.added: list[tuple[str, object]] = []  # tools that the conversation defines, with their paths
        self.removed: set[str] = set()
        self.effort: object = None

    def turns(self, messages: list[dict[str, Any]]) -> None:
        users = [index for index, message in enumerate(messages) if message["role"] == "user"]
        pending: object = None  # an effort that begins with the next new input
        new_input = False  # the turn before brought some
        for index, message in enumerate(messages):
            where, role, content = f"messages[{index}]", message["role"], message["content"]
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
                effort = _object(message, "output_config", where).get("effort")
                if effort is not None and new_input:
                    self.effort = effort
                elif effort is not None:
                    pending = effort
                over = message.get("clear_at") == "next_user_message" and bool(users) and users[-1] > index
                self._system_turn(content, f"{where}.content", over)
            else:
                _wrong(f"{where}.role", "user, assistant or system")
        last = self.messages[-1] if self.messages else {}
        if last.get("role") == "assistant" and "tool_calls" not in last:
            # Passed on as it is: some servers continue it, most begin a turn of their own.
            self.dropped.add("messages[].prefill")

    def _system_turn(self, content: Any, where: str, over: bool) -> None:
        """`over`: its text was meant for a turn that has passed; a change of tools stays."""
        texts = content
        if isinstance(content, list):
            texts = []
            for index, block in enumerate(content):
                if block["type"] in ("tool_addition", "tool_removal"):
                    self._tool_change(block, f"{where}[{index}]")
                else:
                    texts.append(block)
        if not over and (parts := self.texts(texts, where)):
            self.add("system", parts)

    def _tool_change(self, block: dict[str, Any], where: str) -> None:
        """The last word on a tool counts for the whole request: chat servers know one list of tools."""
        tool = _object(block, "tool", where)
        kind, name = tool.get("type"), tool.get("name")
        definition = tool.get("definition")
        if kind == "tool_definition" and isinstance(definition, dict):
            self.added.append((f"{where}.tool.definition", definition))
            name = definition.get("name")
        elif kind != "tool_reference":
            self.dropped.add(f"messages[].{block['type']}")
            return
        if isinstance(name, str):
            (self.removed.add if block["type"] == "tool_removal" else self.removed.discard)(name)

    def _user_turn(self, content: Any, where: str) -> None:
        attached: list[dict[str, Any]] = []  # to tool results
        own: list[dict[str, Any]] = []
        answers = False
        for index, block in _blocks(content):
            if block["type"] == "tool_result":
                answers = True
                self._tool_result(block, f"{where}[{index}]", attached)
            else:
                own.extend(self._parts(block, f"{where}[{index}]"))
        if attached or own or not answers:
            self.add("user", attached + own)

    def _tool_result(self, block: dict[str, Any], where: str, attached: list[dict[str, Any]]) -> None:
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
            _wrong(f"{where}.content", "a string or a list of blocks")
        texts: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for index, item in _blocks(content or ""):
            for part in self._parts(item, f"{where}.content[{index}]"):
                (texts if part["type"] == "text" else others).append(part)
        if others:
            attached.append({"type": "text", "text": f"Attached to the result of tool call {self._calls[call]}:"})
            attached.extend(others)
            texts = texts or [{"type": "text", "text": "The result is attached to the next message."}]
        # Chat has no place for is_error; models know failures by this word.
        if block.get("is_error") is True and not (texts and texts[0]["text"].lstrip()[:5].lower() == "error"):
            first = texts[0] if texts else {"type": "text"}
            texts[:1] = [{**first, "text": f"Error: {first['text']}" if texts else "Error"}]
        if texts:
            self.mark(texts[-1], block)
        self._results.append({"role": "tool", "tool_call_id": self._calls[call], "content": texts})

    def _assistant_turn(self, content: Any, where: str) -> None:
        parts: list[dict[str, Any]] = []
        calls: list[tuple[str, dict[str, Any]]] = []  # with the client's ids
        thoughts: list[dict[str, Any]] = []
        for is_text, blocks in groupby(_blocks(content), lambda item: item[1]["type"] == "text"):
            said = (self._said(block, f"{where}[{index}]", calls, thoughts) for index, block in blocks)
            found = [part for one in said for part in one]
            if is_text and found and all(len(part) == 2 for part in found):
                # Claude cuts a text in two only where a citation begins or ends.
                found = _text("".join(part["text"] for part in found))
            parts.extend(found)
        if not (parts or calls or thoughts):
            return  # only thinking that cannot be given back: some servers refuse an empty turn
        message = self.add("assistant", parts)
        for thought in thoughts:
            message.setdefault(self.target.reasoning, []).append(thought)
        if "tool_calls" not in message:
            self._calls = {}
        if calls:
            message.setdefault("tool_calls", []).extend(call for _, call in calls)
            self._calls.update((id, call["id"]) for id, call in calls)
            self._results = message.setdefault(_RESULTS, [])

    def _said(
        self,
        block: dict[str, Any],
        where: str,
        calls: list[tuple[str, dict[str, Any]]],
        thoughts: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """What of an assistant's block is its content; calls and thoughts go where they belong."""
        kind = block["type"]
        if kind == "tool_use":
            calls.append(self._call(block, where))
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.extend(self._thought(block, where))
        elif kind in ("image", "document", "search_result"):
            _unsupported(where, f"A block of type {kind} in an assistant turn")
        elif kind != "fallback":  # which only marks where another model of Anthropic's took over
            return self._parts(block, where)
        return []

    def _call(self, block: dict[str, Any], where: str) -> tuple[str, dict[str, Any]]:
        id, name, input = block.get("id"), block.get("name"), block.get("input")
        if not isinstance(id, str) or not id:
            _wrong(f"{where}.id", "a non-empty string")
        if not isinstance(name, str) or not name:
            _wrong(f"{where}.name", "a non-empty string")
        if not isinstance(input, dict):
            _wrong(f"{where}.input", "an object")
        # Nothing else in the conversation or the answer names it, so a shorter one is as good.
        sent = id if len(id) <= _LONGEST_CALL_ID else "call_" + _digest(id)[:32]
        self.mark({}, block)
        function = {"name": self.tool_name(name), "arguments": compact(input).decode()}
        return id, {"id": sent, "type": "function", "function": function}

    def _thought(self, block: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
        """In OpenRouter's form: https://openrouter.ai/docs/use-cases/reasoning-tokens."""
        kind = block["type"]
        member = "thinking" if kind == "thinking" else "data"
        text, signature = block.get(member), block.get("signature")
        if not isinstance(text, str):
            _wrong(f"{where}.{member}", "a string")
        if not self.target.reasoning or (kind != "thinking" and self.target.reasoning != "reasoning_details"):
            self.dropped.add(f"messages[].{kind}")
        elif kind != "thinking":
            yield {"type": "reasoning.encrypted", "data": text}
        elif isinstance(signature, str) and signature and self.target.reasoning == "reasoning_details":
            yield {"type": "reasoning.text", "text": text, "signature": signature}
        elif text:
            yield {"type": "reasoning.text", "text": text}

    def texts(self, content: Any, where: str) -> list[dict[str, Any]]:
        for index, block in _blocks(content):
            if not isinstance(block, dict) or block.get("type") != "text":
                _wrong(f"{where}[{index}]", "a text block")
        return [part for index, block in _blocks(content) for part in self._parts(block, f"{where}[{index}]")]

    def _parts(self, block: object, where: str) -> list[dict[str, Any]]:
        """A block as parts of a chat message; none for an empty text."""
        if not isinstance(block, dict) or not isinstance(kind := block.get("type"), str):
            _wrong(where, "an object with a type")
        cites = block.get("citations")
        if cites and not (isinstance(cites, dict) and not cites.get("enabled")):
            self.dropped.add("messages[].citations")
        if kind == "text":
            parts = _text(_string(block, "text", where))
        elif kind == "image":
            parts = [self._image(block, where)]
        elif kind == "document":
            parts = self._document(block, where)
        elif kind == "search_result":
            head = f"{_string(block, 'title', where)}\n{_string(block, 'source', where)}"
            parts = _text(head) + self.texts(_list(block, "content", where), f"{where}.content")
        elif kind == "tool_reference":
            parts = _text(f"The tool {_string(block, 'tool_name', where)} is available.")
        elif kind == "compaction" and not (block.get("encrypted_content") and not block.get("content")):
            parts = _text(_string(block, "content", where)) if block.get("content") is not None else []
        else:
            parts = self._server_side(block, kind, where)
        if parts:
            self.mark(parts[-1], block)
        return parts

    def _server_side(self, block: dict[str, Any], kind: str, where: str) -> list[dict[str, Any]]:
        """What a tool that Anthropic runs was asked and has answered, as text: what the model can read of it."""
        if kind in ("server_tool_use", "mcp_tool_use"):
            said = compact(block.get("input")).decode()
            return _text(f"[Called {_string(block, 'name', where)} with {said}]")
        if kind == "browser_state":
            return _text(compact({key: block.get(key) for key in ("tabs", "state_changes")}).decode())
        if not kind.endswith("_tool_result") and kind != "mcp_tool_listing":
            _unsupported(where, "A block of this type")
        texts, whole = _readable(block)
        if not whole:
            self.dropped.add(f"messages[].{kind}")
        return _text("\n".join([f"[{kind}]", *texts]))

    def _image(self, block: dict[str, Any], where: str) -> dict[str, Any]:
        source = _object(block, "source", where)
        if block.get("transformations"):
            self.dropped.add("messages[].transformations")
        kind, where = source.get("type"), f"{where}.source"
        if kind == "base64":
            url = f"data:{_string(source, 'media_type', where)};base64,{_string(source, 'data', where)}"
        elif kind == "url" and self.target.image_urls:
            url = _string(source, "url", where)
        else:
            _unsupported(where, "An image by URL" if kind == "url" else "An image that is not base64 or a URL")
        return {"type": "image_url", "image_url": {"url": url}}

    def _document(self, block: dict[str, Any], where: str) -> list[dict[str, Any]]:
        source = _object(block, "source", where)
        title = block.get("title") if isinstance(block.get("title"), str) else ""
        context = block.get("context") if isinstance(block.get("context"), str) else ""
        kind, where = source.get("type"), f"{where}.source"
        if kind == "base64" and self.target.files:
            data = f"data:{_string(source, 'media_type', where)};base64,{_string(source, 'data', where)}"
            name = title or "document"
            name = name if name.lower().endswith(".pdf") else f"{name}.pdf"
            return [*_text(context or ""), {"type": "file", "file": {"filename": name, "file_data": data}}]
        head = "\n".join(filter(None, (title, context)))
        if kind == "text":
            return _text("\n\n".join(filter(None, (head, _string(source, "data", where)))))
        content = source.get("content")
        if kind != "content" or not isinstance(content, str | list):
            _unsupported(where, "A document by reference" if self.target.files else "A document that is not text")
        parts = _text(head)
        for index, item in _blocks(content):
            if not isinstance(item, dict) or item.get("type") not in ("text", "image"):
                _wrong(f"{where}.content[{index}]", "a text or an image")
            parts.extend(self._parts(item, f"{where}.content[{index}]"))
        return parts

    def mark(self, part: dict[str, Any], block: dict[str, Any]) -> None:
        control = block.get("cache_control")
        if control and isinstance(control, dict) and self.target.cache_control and part:
            part["cache_control"] = control
        elif control:
            self.dropped.add("cache_control")

    def add(self, role: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Consecutive turns of one role are one, as for Anthropic: many chat templates insist on it."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") == role and not last.get(_RESULTS):
            last["content"].extend(parts)
            return last
        self.messages.append({"role": role, "content": list(parts)})
        return self.messages[-1]

    def tool_name(self, name: str) -> str:
        """The same for the same name in every request, so that a provider's prompt cache holds."""
        if (sent := self.names.get(name)) is None:
            sent, most = name, self.target.longest_tool_name
            if len(name) > most or not _TOOL_NAME.fullmatch(name):
                sent = (re.sub(r"[^A-Za-z0-9_-]", "_", name)[: max(most - 9, 0)] + "_" + _digest(name)[:8])[-most:]
            self.names[name] = sent
        return sent


class _Translation(_Conversation):
    """The whole request around it."""

    def body(self, request: Request, source: dict[str, Any], model: str) -> dict[str, Any]:
        target = self.target
        self._refuse_what_asks_for_more(source)
        body: dict[str, Any] = {"model": model}
        output = _object(source, "output_config")
        self.effort = output.get("effort")
        if system := source.get("system"):
            self.add("system", self.texts(system, "system"))
        self.turns(source["messages"])
        if not self.messages:
            raise RequestError("empty_messages", "messages say nothing that the model could read.", param="messages")
        body["messages"] = [_finished(message) for message in _in_order(self.messages)]
        if request.max_tokens is not None:
            body[target.max_tokens] = request.max_tokens
        for name in ("temperature", "top_p"):
            if (value := source.get(name)) is not None:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    _wrong(name, "a number")
                body[name] = value
        if stops := source.get("stop_sequences"):
            if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
                _wrong("stop_sequences", "a list of strings")
            # All of them: OpenAI refuses more than four, most others do not, and one left out changes the answer.
            body["stop"] = stops
        self._user(source, body)
        self._format(source, output, body)
        self._tools(source, body)
        self._reasoning(source, body)
        if request.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        self._name_the_rest(source)
        return body

    def _refuse_what_asks_for_more(self, source: dict[str, Any]) -> None:
        """A conversation that its server holds, and one that is to be summarized: not what a chat server does."""
        thread = _object(source, "thread")
        if source.get("compaction") is not None:
            _unsupported("compaction", "A compaction request")
        if thread.get("type") == "continue":
            _unsupported("thread", "A conversation that Anthropic holds")
        if thread:
            self.dropped.add("thread")

    def _name_the_rest(self, source: dict[str, Any]) -> None:
        for name, value in source.items():
            if name in _TRANSLATED or value in (None, False, [], {}) or value == _NO_OPS.get(name):
                continue
            if name == "context_management" and _keeps_all(value):
                continue
            self.dropped.add(name)

    def _tools(self, source: dict[str, Any], body: dict[str, Any]) -> None:
        declared = [(f"tools[{index}]", tool) for index, tool in enumerate(source.get("tools") or ())]
        tools: dict[str, dict[str, Any]] = {}  # a later definition takes the place of an earlier one
        for where, tool in [*declared, *self.added]:
            if not isinstance(tool, dict):
                _wrong(where, "an object")
            if (translated := self._tool(tool, where)) is not None and tool["name"] not in self.removed:
                tools[tool["name"]] = translated
        choice = _object(source, "tool_choice")
        kind = choice.get("type")
        if choice and kind not in ("auto", "any", "tool", "none"):
            _wrong("tool_choice.type", "auto, any, tool or none")
        if not tools:
            if declared and kind in ("any", "tool"):
                self.dropped.add("tool_choice")
            return
        body["tools"] = list(tools.values())
        if kind == "tool":
            name = choice.get("name")
            if not isinstance(name, str) or name not in tools:
                _wrong("tool_choice.name", "the name of a tool that the model can be given")
            body["tool_choice"] = {"type": "function", "function": {"name": self.tool_name(name)}}
        elif kind is not None:
            body["tool_choice"] = "required" if kind == "any" else kind
        if choice.get("disable_parallel_tool_use") is True:
            if self.target.parallel_tool_calls:
                body["parallel_tool_calls"] = False
            else:
                self.dropped.add("tool_choice.disable_parallel_tool_use")

    def _tool(self, tool: dict[str, Any], where: str) -> dict[str, Any] | None:
        """None for one without a schema: only Anthropic's models know how to call it, or its servers run it."""
        name, kind, schema = tool.get("name"), tool.get("type"), tool.get("input_schema")
        if not isinstance(schema, dict) and isinstance(kind, str) and kind != "custom":
            self.dropped.add(f"tools[{name if isinstance(name, str) else kind}]")
            return None
        if not isinstance(name, str) or not name:
            _wrong(f"{where}.name", "a non-empty string")
        if not isinstance(schema, dict):
            _wrong(f"{where}.input_schema", "an object")
        function: dict[str, Any] = {"name": self.tool_name(name)}
        if tool.get("description") is not None:
            function["description"] = _string(tool, "description", where)
        function["parameters"] = schema
        if isinstance(strict := tool.get("strict"), bool):
            function["strict"] = strict and _is_strict(schema)
            if strict and not function["strict"]:
                self.dropped.add("tools[].strict")
        for member, value in tool.items():
            if member not in _TOOL_MEMBERS and value not in (None, False, [], {}, ["direct"]):
                self.dropped.add(f"tools[].{member}")
        translated = {"type": "function", "function": function}
        self.mark(translated, tool)
        return translated

    def _user(self, source: dict[str, Any], body: dict[str, Any]) -> None:
        for name, value in _object(source, "metadata").items():
            if name != "user_id" or not self.target.user or not isinstance(value, str):
                if value is not None:
                    self.dropped.add(f"metadata.{name}")
            elif len(value) <= _LONGEST_USER:
                body["user"] = value
            else:  # as opaque as before, and still one for each user
                body["user"] = _digest(value)
                self.dropped.add("metadata.user_id")

    def _format(self, source: dict[str, Any], output: dict[str, Any], body: dict[str, Any]) -> None:
        format = _object(output, "format", "output_config") or _object(source, "output_format")
        if output.get("task_budget") is not None:
            self.dropped.add("output_config.task_budget")
        if not format:
            return
        if not self.target.json_schema:
            self.dropped.add("output_config.format")
            return
        if format.get("type") != "json_schema" or not isinstance(schema := format.get("schema"), dict):
            _wrong("output_config.format", "a json_schema with a schema")
        named = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": named}

    def _reasoning(self, source: dict[str, Any], body: dict[str, Any]) -> None:
        thinking, effort = _object(source, "thinking"), self.effort
        mode = thinking.get("type")
        if thinking and mode not in _THINKING:
            _wrong("thinking.type", "adaptive, enabled, between_tools or disabled")
        if effort is not None and (not isinstance(effort, str) or effort not in _EFFORTS):
            _wrong("output_config.effort", "low, medium, high, xhigh or max")
        on = mode is not None and mode != "disabled"
        if self.target.tools_need_no_reasoning and ("tools" in body or mode == "disabled"):
            body["reasoning_effort"] = "none"
        elif self.target.reasoning_effort and mode != "disabled":
            level = _EFFORTS[effort] if isinstance(effort, str) else _of_budget(thinking)
            if level:
                body["reasoning_effort"] = level
            if on and thinking.get("display") is not None:
                self.dropped.add("thinking.display")
            if effort in (None, level):
                return
            on = False
        if on:
            self.dropped.add("thinking")
        if effort is not None:
            self.dropped.add("output_config.effort")


def _exact(raw: bytes) -> dict[str, Any] | None:
    """The body with its integers as they were sent: orjson makes floats of those over 64 bits. None: it has none."""
    if _LONG_NUMBER.search(raw) is None:
        return None
    try:
        body: dict[str, Any] = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body


def _of_budget(thinking: dict[str, Any]) -> str:
    """Roughly what servers make of an effort; "" where the model decides."""
    if thinking.get("type") != "enabled":
        return ""
    budget = thinking.get("budget_tokens")
    if isinstance(budget, bool) or not isinstance(budget, int):
        _wrong("thinking.budget_tokens", "an integer")
    return "low" if budget <= _LOW_BUDGET else "medium" if budget <= _MEDIUM_BUDGET else "high"


def _keeps_all(management: object) -> bool:
    """Whether context_management only says what chat servers do anyway, as Claude Code's does."""
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return False
    kept = {"type": "clear_thinking_20251015", "keep": "all"}
    return all(edit == kept for edit in edits)


def _is_strict(schema: dict[str, Any]) -> bool:
    """Whether OpenAI takes it with strict: every object closed and every property required. Anthropic asks for less.

    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    stack: list[object] = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack.extend(node)
        elif isinstance(node, dict):
            properties, required = node.get("properties"), node.get("required")
            if node.get("type") == "object" or isinstance(properties, dict):
                listed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
                names = properties if isinstance(properties, dict) else {}
                if node.get("additionalProperties") is not False or not names.keys() <= listed:
                    return False
            stack.extend(node.values())
    return True


def _readable(block: dict[str, Any]) -> tuple[list[str], bool]:
    """The texts in a block of any shape, in order, and whether they are all that is in it."""
    texts: list[str] = []
    whole = True
    stack: list[object] = [block]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            texts.append(node)
        elif isinstance(node, list):
            stack.extend(reversed(node))
        elif isinstance(node, dict) and node.get("type") == "base64":
            whole = False
        elif isinstance(node, dict):
            stack.extend(node[key] for key in reversed(node) if key not in _UNREADABLE)
    return texts, whole


def _finished(message: dict[str, Any]) -> dict[str, Any]:
    """With its texts as one string wherever they are only texts: DeepSeek and others take no list."""
    parts = message["content"]
    if all(part["type"] == "text" and len(part) == 2 for part in parts):
        message["content"] = "\n\n".join(part["text"] for part in parts)
    if not parts and "tool_calls" in message:
        message["content"] = None
    for member in ("reasoning_content", "reasoning"):
        if member in message:
            message[member] = "\n".join(thought["text"] for thought in message[member])
    if "reasoning_details" in message:
        message["reasoning_details"] = [
            {**thought, "index": index} for index, thought in enumerate(message["reasoning_details"])
        ]
    return message


def _in_order(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """With the results of an assistant turn's calls directly after it."""
    for message in messages:
        results = message.pop(_RESULTS, ())
        yield message
        yield from results


def _blocks(content: Any) -> Iterator[tuple[int, Any]]:
    return enumerate([{"type": "text", "text": content}] if isinstance(content, str) else content)


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _object(holder: dict[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """A member that must be an object; {} for none."""
    value = holder.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        _wrong(f"{where}.{name}" if where else name, "an object")
    return value


def _list(holder: dict[str, Any], name: str, where: str) -> list[Any]:
    value = holder.get(name)
    if not isinstance(value, list):
        _wrong(f"{where}.{name}", "a list")
    return value


def _string(holder: dict[str, Any], name: str, where: str) -> str:
    value = holder.get(name)
    if not isinstance(value, str):
        _wrong(f"{where}.{name}", "a string")
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _wrong(where: str, wanted: str) -> NoReturn:
    raise RequestError("invalid_type", f"{where} must be {wanted}.", param=where)


def _unsupported(where: str, what: str) -> NoReturn:
    message = f"{where}: {what} cannot be passed on to the model that was chosen."
    raise RequestError("unsupported_content", message, param=where)
