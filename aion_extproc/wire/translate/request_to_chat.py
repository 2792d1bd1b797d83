"""A Messages request as one of chat completions.

https://platform.claude.com/docs/en/api/messages/create, https://platform.openai.com/docs/api-reference/chat/create

What the target cannot be told is named in `Translated.dropped`, unless it asked for nothing. What must not be lost is
refused: images, documents and blocks that the target has no form for, a conversation that Anthropic's servers hold.
How the conversation is carried over: request_to_chat_turns and _parts; the tools: request_to_chat_tools. Whatever is
refused, here or there, must not be plain for screening.py.
"""

from __future__ import annotations

import re
from typing import Any

from aion_extproc.wire.request import PREFERENCES, Request
from aion_extproc.wire.translate.names import digest
from aion_extproc.wire.translate.odd_json import exact_loads
from aion_extproc.wire.translate.request_to_chat_parts import Context, compact, object_in, unsupported, wrong
from aion_extproc.wire.translate.request_to_chat_tools import is_strict, tools
from aion_extproc.wire.translate.request_to_chat_turns import Turns
from aion_extproc.wire.translate.target import ChatTarget, Translated

_LONG_NUMBER = re.compile(rb"[0-9]{20}")
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


def to_chat(request: Request, model: str, target: ChatTarget) -> Translated:
    """`request`, which is in Anthropic's format, for a server of chat completions. Raises RequestError, which names
    the field at fault."""
    context = Context(target)
    body = compact(_body(request, request.body, model, context))
    if b"e+" in body and (exact := _exact(request.raw)) is not None:
        context = Context(target)
        body = compact(_body(request, exact, model, context))
    return Translated(body, context.dropped, context.names.changed)


def _exact(raw: bytes) -> dict[str, Any] | None:
    """The body with its integers as they were sent: orjson makes floats of those over 64 bits. None: it has none."""
    if _LONG_NUMBER.search(raw) is None:
        return None
    try:
        body: dict[str, Any] = exact_loads(raw)
    except ValueError:
        return None
    return body


def _body(request: Request, source: dict[str, Any], model: str, context: Context) -> dict[str, Any]:
    target = context.target
    _refuse_what_asks_for_more(source, context)
    body: dict[str, Any] = {"model": model}
    output = object_in(source, "output_config")
    turns = Turns(context)
    turns.effort = output.get("effort")
    if system := source.get("system"):
        turns.system(system)
    turns.turns(source["messages"])
    body["messages"] = turns.finished()
    if request.max_tokens is not None:
        body[target.max_tokens] = request.max_tokens
    if stops := source.get("stop_sequences"):
        if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
            wrong("stop_sequences", "a list of strings")
        # All of them: OpenAI refuses more than four, most others do not, and one left out changes the answer.
        body["stop"] = stops
    _user(source, body, context)
    _format(source, output, body, context)
    body |= tools(source, turns, context)
    _reasoning(source, turns.effort, body, context)
    _sampling(source, body, context)
    if request.stream:
        body["stream"] = True
        if target.stream_options:
            body["stream_options"] = {"include_usage": True}
    _name_the_rest(source, context)
    return body


def _refuse_what_asks_for_more(source: dict[str, Any], context: Context) -> None:
    """A conversation that its server holds, and one that is to be summarized: not what a chat server does."""
    thread = object_in(source, "thread")
    if source.get("compaction") is not None:
        unsupported("compaction", "A compaction request")
    if thread.get("type") == "continue":
        unsupported("thread", "A conversation that Anthropic holds")
    if thread:
        context.drop("thread")


def _sampling(source: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    reasons = body.get("reasoning_effort") not in (None, "none")
    takes = context.target.sampling == "always" or (context.target.sampling == "unthinking" and not reasons)
    for name in ("temperature", "top_p"):
        if (value := source.get(name)) is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            wrong(name, "a number")
        if takes:
            body[name] = value
        elif value != 1:  # which is what such a model does anyway
            context.drop(name)


def _user(source: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    for name, value in object_in(source, "metadata").items():
        if name != "user_id" or not context.target.user or not isinstance(value, str):
            if value is not None:
                context.drop_unknown(name, "metadata.")
        elif len(value) <= _LONGEST_USER:
            body["user"] = value
        else:  # as opaque as before, and still one for each user
            body["user"] = digest(value)
            context.drop("metadata.user_id")


def _format(source: dict[str, Any], output: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    format = object_in(output, "format", "output_config") or object_in(source, "output_format")
    if output.get("task_budget") is not None:
        context.drop("output_config.task_budget")
    if not format:
        return
    if not context.target.json_schema:
        context.drop("output_config.format")
        return
    if format.get("type") != "json_schema" or not isinstance(schema := format.get("schema"), dict):
        wrong("output_config.format", "a json_schema with a schema")
    named = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    body["response_format"] = {"type": "json_schema", "json_schema": named}


def _reasoning(source: dict[str, Any], effort: object, body: dict[str, Any], context: Context) -> None:
    target, thinking = context.target, object_in(source, "thinking")
    mode = thinking.get("type")
    if thinking and mode not in _THINKING:
        wrong("thinking.type", "adaptive, enabled, between_tools or disabled")
    if effort is not None and (not isinstance(effort, str) or effort not in _EFFORTS):
        wrong("output_config.effort", "low, medium, high, xhigh or max")
    on = mode is not None and mode != "disabled"
    if target.tools_need_no_reasoning and ("tools" in body or mode == "disabled"):
        body["reasoning_effort"] = "none"
    elif target.reasoning_effort and mode != "disabled":
        level = _EFFORTS[effort] if isinstance(effort, str) else _of_budget(thinking)
        if level:
            body["reasoning_effort"] = level
        if on and thinking.get("display") is not None:
            context.drop("thinking.display")
        if effort in (None, level):
            return
        on = False
    if on:
        context.drop("thinking")
    if effort is not None:
        context.drop("output_config.effort")


def _of_budget(thinking: dict[str, Any]) -> str:
    """Roughly what servers make of an effort; "" where the model decides."""
    if thinking.get("type") != "enabled":
        return ""
    budget = thinking.get("budget_tokens")
    if isinstance(budget, bool) or not isinstance(budget, int):
        wrong("thinking.budget_tokens", "an integer")
    return "low" if budget <= _LOW_BUDGET else "medium" if budget <= _MEDIUM_BUDGET else "high"


def _name_the_rest(source: dict[str, Any], context: Context) -> None:
    for name, value in source.items():
        if name in _TRANSLATED or value in (None, False, [], {}) or value == _NO_OPS.get(name):
            continue
        if name == "context_management" and _keeps_all(value):
            continue
        context.drop_unknown(name)


def _keeps_all(management: object) -> bool:
    """Whether context_management only says what chat servers do anyway, as Claude Code's does."""
    edits = management.get("edits") if isinstance(management, dict) else None
    if not isinstance(edits, list):
        return False
    kept = {"type": "clear_thinking_20251015", "keep": "all"}
    return all(edit == kept for edit in edits)
