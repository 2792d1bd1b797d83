"""The tools of a Messages request as functions of a chat request, and the choice among them.

Tools of Anthropic's own have no schema that another model could follow: they are left out, and named.
"""

from __future__ import annotations

from typing import Any

from aion_extproc.wire.translate.request_to_chat_parts import Context, object_in, string_in, wrong
from aion_extproc.wire.translate.request_to_chat_turns import Turns

_MEMBERS = frozenset({"name", "type", "description", "input_schema", "strict", "cache_control"})


def tools(source: dict[str, Any], turns: Turns, context: Context) -> dict[str, Any]:
    """tools, tool_choice and parallel_tool_calls, as far as there are any."""
    declared = [(f"tools[{index}]", tool) for index, tool in enumerate(source.get("tools") or ())]
    found: dict[str, dict[str, Any]] = {}  # a later definition takes the place of an earlier one
    for where, tool in [*declared, *turns.added]:
        if not isinstance(tool, dict):
            wrong(where, "an object")
        if (translated := _tool(tool, where, context)) is not None and tool["name"] not in turns.removed:
            found[tool["name"]] = translated
    choice = object_in(source, "tool_choice")
    kind = choice.get("type")
    if choice and kind not in ("auto", "any", "tool", "none"):
        wrong("tool_choice.type", "auto, any, tool or none")
    if not found:
        if declared and kind in ("any", "tool"):
            context.drop("tool_choice")
        return {}
    body: dict[str, Any] = {"tools": list(found.values())}
    if kind == "tool":
        name = choice.get("name")
        if not isinstance(name, str) or name not in found:
            wrong("tool_choice.name", "the name of a tool that the model can be given")
        body["tool_choice"] = {"type": "function", "function": {"name": context.names.sent(name)}}
    elif kind is not None:
        body["tool_choice"] = "required" if kind == "any" else kind
    if choice.get("disable_parallel_tool_use") is True:
        if context.target.parallel_tool_calls:
            body["parallel_tool_calls"] = False
        else:
            context.drop("tool_choice.disable_parallel_tool_use")
    return body


def _tool(tool: dict[str, Any], where: str, context: Context) -> dict[str, Any] | None:
    """None for one without a schema: only Anthropic's models know how to call it, or its servers run it."""
    name, kind, schema = tool.get("name"), tool.get("type"), tool.get("input_schema")
    if not isinstance(schema, dict) and isinstance(kind, str) and kind != "custom":
        context.drop_unknown(f"tools[{name if isinstance(name, str) else kind}]")
        return None
    if not isinstance(name, str) or not name:
        wrong(f"{where}.name", "a non-empty string")
    if not isinstance(schema, dict):
        wrong(f"{where}.input_schema", "an object")
    function: dict[str, Any] = {"name": context.names.sent(name)}
    if tool.get("description") is not None:
        function["description"] = string_in(tool, "description", where)
    function["parameters"] = schema
    if isinstance(strict := tool.get("strict"), bool):
        function["strict"] = strict and is_strict(schema)
        if strict and not function["strict"]:
            context.drop("tools[].strict")
    for member, value in tool.items():
        if member not in _MEMBERS and value not in (None, False, [], {}, ["direct"]):
            context.drop_unknown(member, "tools[].")
    translated = {"type": "function", "function": function}
    context.mark(translated, tool)
    return translated


def is_strict(schema: dict[str, Any]) -> bool:
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
