"""What OpenAI and Anthropic ask of a request beyond its types, as their error messages and documentation say it.

Anthropic: https://platform.claude.com/docs/en/api/messages/create, …/build-with-claude/extended-thinking,
…/build-with-claude/structured-outputs, …/agents-and-tools/tool-use/implement-tool-use,
…/docs/en/models/migration-guide, https://platform.claude.com/docs/en/api/versioning.
OpenAI: https://platform.openai.com/docs/api-reference/chat/create, …/docs/guides/function-calling,
…/docs/guides/structured-outputs, …/docs/guides/reasoning.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_Body = Mapping[str, Any]
_Found = Iterator[str]

_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_CALL_ID = 40
_LONGEST_USER = 64
# Anthropic's structured outputs refuse these anywhere in a schema.
_UNSUPPORTED = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength")
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?")


def chat_rules(body: _Body) -> list[str]:
    return [*_chat_conversation(body["messages"]), *_chat_tools(body), *_chat_fields(body)]


def messages_rules(body: _Body) -> list[str]:
    turns = _merged(body["messages"])
    return [
        *_turns(turns),
        *_tool_results(turns),
        *_texts(body, turns),
        *_messages_tools(body),
        *_thinking(body, turns),
        *_messages_fields(body),
    ]


def _chat_conversation(messages: Sequence[_Body]) -> _Found:
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        where, role = f"messages[{index}]", message["role"]
        if role == "tool":
            if message["tool_call_id"] not in open_calls:
                yield f"{where}: messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
            else:
                open_calls.remove(message["tool_call_id"])
            if message["content"] == []:
                yield f"{where}.content: [] is too short"
            continue
        if open_calls:
            yield (
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
                f"'tool_call_id'. No answer before {where} to: {open_calls}"
            )
            open_calls = []
        if message.get("content") == [] or (message.get("content") is None and not message.get("tool_calls")):
            yield f"{where}.content: expected a string or a non-empty list of parts"
        if role == "assistant" and "tool_calls" in message:
            if not message["tool_calls"]:
                yield f"{where}.tool_calls: [] is too short"
            for call in message["tool_calls"]:
                open_calls.append(call["id"])
                if not 1 <= len(call["id"]) <= _LONGEST_CALL_ID:
                    yield f"{where}.tool_calls.id: string too long or empty: {call['id']}"
                if not _FUNCTION_NAME.fullmatch(call["function"]["name"]):
                    yield f"{where}.tool_calls.function.name: does not match the pattern: {call['function']['name']}"
                if not _is_object(call["function"]["arguments"]):  # other servers' templates parse them
                    yield f"{where}.tool_calls.function.arguments: not an object: {call['function']['arguments']}"
    if open_calls:
        yield f"The last assistant message has tool_calls without an answer: {open_calls}"
    if not messages:
        yield "messages: [] is too short"


def _chat_tools(body: _Body) -> _Found:
    tools = body.get("tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in body:
                yield f"'{name}' is only allowed when 'tools' are specified."
        return
    if not 1 <= len(tools) <= 128:
        yield f"tools: {len(tools)} of them, expected 1 to 128"
    names = [tool["function"]["name"] for tool in tools]
    for tool in tools:
        function = tool["function"]
        if not _FUNCTION_NAME.fullmatch(function["name"]):
            yield f"tools.function.name: does not match the pattern: {function['name']}"
        if function.get("parameters", {"type": "object"}).get("type") != "object":
            yield f"tools.function.parameters of {function['name']}: schema must be of type 'object'"
        if function.get("strict"):
            yield from _strict_schema(function.get("parameters", {}), f"tools.{function['name']}.parameters")
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and choice["type"] == "function" and choice["function"]["name"] not in names:
        yield f"tool_choice: {choice['function']['name']} is none of the tools"


def _chat_fields(body: _Body) -> _Found:
    if "stream_options" in body and not body.get("stream"):
        yield "stream_options: only allowed when 'stream' is enabled."
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        yield "max_tokens and max_completion_tokens cannot both be set."
    for name in ("max_tokens", "max_completion_tokens"):
        if body.get(name) is not None and body[name] < 1:
            yield f"{name}: below the minimum of 1"
    yield from _between(body, "temperature", 0, 2)
    yield from _between(body, "top_p", 0, 1)
    yield from _between(body, "presence_penalty", -2, 2)
    yield from _between(body, "frequency_penalty", -2, 2)
    stop = body.get("stop")
    if isinstance(stop, list) and not 1 <= len(stop) <= 4:
        yield f"stop: {len(stop)} of them, expected 1 to 4"
    if len(body.get("user", "")) > _LONGEST_USER:
        yield f"user: string too long, at most {_LONGEST_USER}"
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        yield "top_logprobs: logprobs must be true"
    format = body.get("response_format", {})
    if format.get("type") == "json_schema":
        named = format["json_schema"]
        if not _FUNCTION_NAME.fullmatch(named["name"]):
            yield f"response_format.json_schema.name: does not match the pattern: {named['name']}"
        if named.get("strict"):
            yield from _strict_schema(named["schema"], "response_format.json_schema.schema")
    if format.get("type") == "json_object" and "json" not in json.dumps(body["messages"]).lower():
        yield "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    yield from _openai_model(body)


def _openai_model(body: _Body) -> _Found:
    """What OpenAI's own reasoning models refuse; others are not known here."""
    found = _GPT.match(body["model"])
    version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    if (version < (5, 0) or "-chat" in body["model"]) and not re.match(r"o\d", body["model"]):
        if body.get("reasoning_effort") is not None:
            yield "Unrecognized request argument supplied: reasoning_effort"
        return
    if body.get("max_tokens") is not None:
        yield "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    if version >= (5, 6) and body.get("tools") and body.get("reasoning_effort") != "none":
        yield "Function tools with reasoning_effort are not supported for this model in /v1/chat/completions."
    # From 5.1 to 5.5 they do not reason unless they are told to.
    by_itself = not (5, 1) <= version < (5, 6)
    if (body.get("reasoning_effort") or ("medium" if by_itself else "none")) != "none":
        if body.get("temperature", 1) not in (1, None):
            yield "'temperature' does not support this value with this model. Only the default (1) value is supported."
        if body.get("top_p", 1) not in (1, None):
            yield "'top_p' is not supported with this model."
    if re.match(r"o[34]", body["model"]) and body.get("stop") is not None:
        yield "'stop' is not supported with this model."


def _strict_schema(schema: Any, where: str) -> _Found:
    """https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"""
    for path, found in _schemas(schema, where):
        if found.get("type") == "object" or "properties" in found:
            if found.get("additionalProperties") is not False:
                yield f"Invalid schema: {path}: 'additionalProperties' is required to be supplied and to be false."
            if set(found.get("required", ())) != set(found.get("properties", {})):
                yield f"Invalid schema: {path}: 'required' must include every key in properties."


def _merged(messages: Sequence[_Body]) -> list[tuple[str, list[_Body]]]:
    """Turns, for Anthropic joins neighbours of the same role; a string is one block of text."""
    turns: list[tuple[str, list[_Body]]] = []
    for message in messages:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if turns and turns[-1][0] == message["role"]:
            turns[-1][1].extend(blocks)
        else:
            turns.append((message["role"], blocks))
    return turns


def _turns(turns: list[tuple[str, list[_Body]]]) -> _Found:
    if not turns:
        yield "messages: at least one message is required"
        return
    if turns[0][0] != "user":
        yield "messages: first message must use the user role"
    if turns[-1][0] == "assistant":
        if any(block["type"] == "tool_use" for block in turns[-1][1]):
            yield "messages: tool_use ids were found without tool_result blocks immediately after"
        elif turns[-1][1] and turns[-1][1][-1].get("text", "") != turns[-1][1][-1].get("text", "").rstrip():
            yield "messages: final assistant content cannot end with trailing whitespace"
    for index, (role, blocks) in enumerate(turns):
        if not blocks:
            yield f"messages.{index} ({role}): all messages must have non-empty content"


def _tool_results(turns: list[tuple[str, list[_Body]]]) -> _Found:
    seen: set[str] = set()
    for index, (role, blocks) in enumerate(turns):
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for call in calls:
            if not _TOOL_USE_ID.fullmatch(call):
                yield f"messages.{index}: tool_use.id should match pattern '^[a-zA-Z0-9_-]+$': {call}"
            if call in seen:
                yield f"messages.{index}: `tool_use` ids must be unique: {call}"
            seen.add(call)
        for block in blocks:
            if block["type"] == "tool_use" and not _TOOL_NAME.fullmatch(block["name"]):
                yield f"messages.{index}: tool_use.name does not match the pattern: {block['name']}"
        before = turns[index - 1][1] if index and turns[index - 1][0] == "assistant" else []
        asked = [block["id"] for block in before if block["type"] == "tool_use"]
        answered = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if answered and role != "user":
            yield f"messages.{index}: `tool_result` blocks can only be in `user` messages"
        if unknown := set(answered) - set(asked):
            yield f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {sorted(unknown)}"
        if missing := set(asked) - set(answered):
            yield f"messages.{index}: `tool_use` ids without `tool_result` blocks immediately after: {sorted(missing)}"
        if len(answered) != len(set(answered)):
            yield f"messages.{index}: each tool_use must have a single result: {answered}"
        kinds = [block["type"] for block in blocks]
        if asked and kinds[: len(answered)] != ["tool_result"] * len(answered):
            yield f"messages.{index}: tool_result blocks must come first in content: {kinds}"


def _texts(body: _Body, turns: Sequence[tuple[str, list[_Body]]]) -> _Found:
    system = body.get("system", ())
    blocks: list[_Body] = [] if isinstance(system, str) else list(system)
    if system == "":
        yield "system: text content blocks must be non-empty"
    for index, (role, said) in enumerate(turns):
        blocks += said
        for block in said:
            inner = block.get("content") if block["type"] == "tool_result" else None
            blocks += inner if isinstance(inner, list) else []
            if block["type"] in ("thinking", "redacted_thinking") and role != "assistant":
                yield f"messages.{index}: {block['type']} blocks can only be in assistant messages"
            if block["type"] == "thinking" and not block["signature"]:
                yield f"messages.{index}: Invalid `signature` in `thinking` block"
    for block in blocks:
        if block["type"] == "text" and not block["text"]:
            yield "text content blocks must be non-empty"
        elif block["type"] == "text" and not block["text"].strip():
            yield "text content blocks must contain non-whitespace text"
    marked = [block for block in [*blocks, *body.get("tools", ())] if block.get("cache_control")]
    if len(marked) > 4:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {len(marked)}."


def _messages_tools(body: _Body) -> _Found:
    tools = body.get("tools", [])
    names = [tool.get("name") for tool in tools]
    if len(names) != len(set(names)):
        yield "tools: Tool names must be unique."
    for tool in tools:
        if "input_schema" not in tool:
            continue  # one of Anthropic's own
        if not _TOOL_NAME.fullmatch(tool["name"]):
            yield f"tools.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$': {tool['name']}"
        schema = tool["input_schema"]
        if schema.get("type") != "object":
            yield f"tools.custom.input_schema.type of {tool['name']}: Input should be 'object'"
        if {"oneOf", "allOf", "anyOf"} & set(schema):
            yield f"tools.custom.input_schema of {tool['name']}: no oneOf, allOf, or anyOf at the top level"
        if tool.get("strict"):
            yield from _closed_schema(schema, f"tools.{tool['name']}.input_schema")
    choice = body.get("tool_choice")
    if choice is not None and not tools:
        yield "tool_choice may only be specified while providing tools."
    if choice is not None and choice["type"] == "tool" and choice["name"] not in names:
        yield f"tool_choice: Tool '{choice['name']}' not found in provided tools"


def _thinking(body: _Body, turns: Sequence[tuple[str, list[_Body]]]) -> _Found:
    thinking = body.get("thinking", {})
    mode = thinking.get("type")
    version = _claude(body["model"])
    if mode not in ("enabled", "adaptive"):
        return
    if mode == "adaptive" and (0, 0) < version < (4, 6):
        yield "adaptive thinking is not supported on this model"
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if body.get("temperature", 1) != 1:
        yield "`temperature` may only be set to 1 when thinking is enabled."
    if body.get("top_k") is not None:
        yield "`top_k` must be unset when thinking is enabled."
    if body.get("top_p", 1) < 0.95:
        yield "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
    if mode == "adaptive":
        return
    if version >= (4, 7):
        yield '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive".'
    if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
        yield f"thinking.budget_tokens: {thinking['budget_tokens']} is not from 1024 to below max_tokens"
    if turns[-1][0] == "assistant":
        yield "Thinking cannot be combined with a prefilled assistant message."
    # A turn that goes on after tool results must begin with the thinking it began with.
    if turns[-1][0] == "user" and any(block["type"] == "tool_result" for block in turns[-1][1]) and len(turns) > 1:
        first = turns[-2][1][0]["type"] if turns[-2][1] else ""
        if first not in ("thinking", "redacted_thinking"):
            yield f"messages: Expected `thinking` or `redacted_thinking`, but found `{first}`."


def _messages_fields(body: _Body) -> _Found:
    version = _claude(body["model"])
    if body["max_tokens"] < 1:
        yield "max_tokens: Input should be greater than or equal to 1"
    for name in ("temperature", "top_p", "top_k"):
        if name in body and (isinstance(body[name], bool) or not isinstance(body[name], int | float)):
            yield f"{name}: Input should be a valid number"
            return
        if name in body and version >= (4, 7):
            yield f"`{name}` is deprecated for this model."
    yield from _between(body, "temperature", 0, 1)
    yield from _between(body, "top_p", 0, 1)
    if "temperature" in body and "top_p" in body and version >= (4, 1):
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    for stop in body.get("stop_sequences", ()):
        if not stop.strip():
            yield "stop_sequences: each stop sequence must contain non-whitespace"
    if len(body.get("metadata", {}).get("user_id") or "") > 256:
        yield "metadata.user_id: String should have at most 256 characters"
    if format := body.get("output_config", {}).get("format"):
        yield from _closed_schema(format["schema"], "output_config.format.schema")
    if body["messages"][-1:] and body["messages"][-1]["role"] == "assistant" and version >= (4, 6):
        yield "This model does not support assistant message prefill. The conversation must end with a user message."


def _closed_schema(schema: Any, where: str) -> _Found:
    """https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations"""
    for path, found in _schemas(schema, where):
        if found.get("type") == "object" and found.get("additionalProperties") is not False:
            yield f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false"
        for name in _UNSUPPORTED:
            if name in found:
                yield f"{path}: property '{name}' is not supported"


def _schemas(schema: Any, where: str) -> Iterator[tuple[str, _Body]]:
    """A JSON schema and all in it. What is under `properties` and `$defs` are names, not keywords."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _schemas(item, f"{where}[{index}]")
    if not isinstance(schema, dict):
        return
    yield where, schema
    for key, value in schema.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, dict):
            for name, inner in value.items():
                yield from _schemas(inner, f"{where}.{name}")
        elif key in ("items", "anyOf", "oneOf", "allOf", "prefixItems", "not", "additionalProperties"):
            yield from _schemas(value, f"{where}.{key}")


def _between(body: _Body, name: str, low: float, high: float) -> _Found:
    if body.get(name) is not None and not low <= body[name] <= high:
        yield f"{name}: {body[name]} is not from {low} to {high}"


def _claude(model: str) -> tuple[int, int]:
    """The version of a Claude model; (0, 0) for another, about which nothing is known."""
    found = _CLAUDE.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
