"""Tools, the choice among them, and JSON schemas, as Anthropic's Messages API takes them.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools,
https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aion_extproc.wire.translate.names import ToolNames, is_empty
from aion_extproc.wire.translate.request_to_messages_parts import Context, quoted, refuse
from aion_extproc.wire.translate.request_to_messages_schema import closed_schema

_MOST_STRICT = 20  # tools; Anthropic refuses more
_COMBINED = ("anyOf", "oneOf", "allOf")  # refused at the top of an input_schema, by OpenAI too


def tools(body: Mapping[str, Any], names: ToolNames, context: Context) -> list[dict[str, Any]]:
    """`tools`, and the deprecated `functions`."""
    found: list[dict[str, Any]] = []
    for index, tool in enumerate(body.get("tools") or ()):
        where = f"tools[{index}]"
        if not isinstance(tool, dict):
            refuse("invalid_type", where, "must be an object.")
        if tool.get("type", "function") != "function":
            refuse("unsupported_tool", f"{where}.type", "must be function: the chosen model has no other tools.")
        function = _function(tool.get("function"), f"{where}.function", names, context)
        context.drop_others(tool, ("type", "function", "cache_control"), "tools[].")
        context.keep_cache_control(function, tool, "tools[].cache_control")
        found.append(function)
    functions = body.get("functions")
    if not is_empty(functions):
        if not isinstance(functions, list):
            refuse("invalid_type", "functions", "must be a list.")
        context.drop("functions")  # they are offered, but a call of theirs comes back in tool_calls
        found += [_function(said, f"functions[{index}]", names, context) for index, said in enumerate(functions)]
    return _once(found, context)


def _function(said: object, where: str, names: ToolNames, context: Context) -> dict[str, Any]:
    if not isinstance(said, dict):
        refuse("invalid_type", where, "must be an object.")
    name, description, parameters = said.get("name"), said.get("description"), said.get("parameters")
    if not isinstance(name, str) or not name:
        refuse("invalid_type", f"{where}.name", "must be a non-empty string.")
    if not is_empty(description) and not isinstance(description, str):
        refuse("invalid_type", f"{where}.description", "must be a string.")
    tool: dict[str, Any] = {"name": names.sent(name)}
    if description:
        tool["description"] = description
    tool["input_schema"] = _parameters(parameters, f"{where}.parameters")
    if said.get("strict") is True:
        strict = closed_schema(tool["input_schema"]) if context.target.json_schema else None
        if strict is None:
            context.drop("tools[].function.strict")
        else:
            tool["input_schema"], tool["strict"] = strict, True
    context.keep_cache_control(tool, said, "tools[].function.cache_control")
    context.drop_others(
        said, ("name", "description", "parameters", "strict", "cache_control"), "tools[].function."
    )
    return tool


def _parameters(said: object, where: str) -> dict[str, Any]:
    if is_empty(said):
        return {"type": "object", "properties": {}}
    if not isinstance(said, dict) or said.get("type", "object") != "object":
        refuse("invalid_value", where, "must be the JSON schema of an object.")
    if any(key in said for key in _COMBINED):
        refuse("invalid_value", where, "must not have anyOf, oneOf or allOf at its top.")
    if not isinstance(said.get("properties", {}), dict):
        refuse("invalid_type", f"{where}.properties", "must be an object.")
    required = said.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        refuse("invalid_type", f"{where}.required", "must be a list of strings.")
    return {"type": "object", **said}


def _once(found: list[dict[str, Any]], context: Context) -> list[dict[str, Any]]:
    """Names must be unique; a tool that comes twice in the same words is one tool."""
    by_name: dict[str, dict[str, Any]] = {}
    for tool in found:
        known = by_name.setdefault(tool["name"], tool)
        if known is not tool and known != tool:
            refuse("invalid_value", "tools", f"must not have two different tools of the name {quoted(tool['name'])}.")
    strict = [tool for tool in by_name.values() if "strict" in tool]
    for tool in strict[_MOST_STRICT:]:
        del tool["strict"]
        context.drop("tools[].function.strict")
    return list(by_name.values())


def stubs(used: Mapping[str, str]) -> list[dict[str, Any]]:
    """Definitions for tools that only the history knows: Anthropic refuses calls and results without any tools."""
    return [{"name": sent, "input_schema": {"type": "object", "properties": {}}} for sent in used.values()]


def tool_choice(
    body: Mapping[str, Any], offered: list[dict[str, Any]], names: ToolNames
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Anthropic's tool_choice, None where its default will do; and which of the tools are offered."""
    field = "tool_choice" if not is_empty(body.get("tool_choice")) else "function_call"
    said = body.get(field)
    choice: dict[str, Any] = {"type": "auto"}
    if isinstance(said, dict):
        choice, offered = _chosen(said, field, offered, names)
    elif said == "required" and field == "tool_choice":
        choice = {"type": "any"}
    elif said == "none":
        choice = {"type": "none"}
    elif not is_empty(said) and said != "auto":
        refuse("invalid_value", field, "must be auto, none or required, or name a tool.")
    if not offered:
        if choice["type"] == "any":
            refuse("invalid_value", field, "asks for a call, but there are no tools.")
        return None, offered
    parallel = body.get("parallel_tool_calls")
    if not is_empty(parallel) and not isinstance(parallel, bool):
        refuse("invalid_type", "parallel_tool_calls", "must be true or false.")
    # A client of `functions` knows of one call only.
    single = parallel is False or (is_empty(body.get("tools")) and not is_empty(body.get("functions")))
    if single and choice["type"] != "none":
        choice["disable_parallel_tool_use"] = True
    return None if choice == {"type": "auto"} else choice, offered


def _chosen(
    said: dict[str, Any], field: str, offered: list[dict[str, Any]], names: ToolNames
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    allowed = said.get("allowed_tools")
    if field == "tool_choice" and said.get("type") == "allowed_tools" and isinstance(allowed, dict):
        listed = allowed.get("tools")
        if not isinstance(listed, list) or not listed:
            refuse("invalid_type", "tool_choice.allowed_tools.tools", "must be a list of tools.")
        wanted = {
            _offered(tool, f"tool_choice.allowed_tools.tools[{index}]", offered, names)
            for index, tool in enumerate(listed)
        }
        if allowed.get("mode") not in ("auto", "required"):
            refuse("invalid_value", "tool_choice.allowed_tools.mode", "must be auto or required.")
        choice = {"type": "any" if allowed["mode"] == "required" else "auto"}
        return choice, [tool for tool in offered if tool["name"] in wanted]
    wanted_name = _offered(said if field == "tool_choice" else {"function": said}, field, offered, names)
    return {"type": "tool", "name": wanted_name}, offered


def _offered(said: object, where: str, offered: list[dict[str, Any]], names: ToolNames) -> str:
    """The sent name of a tool that must be among the offered."""
    function = said.get("function") if isinstance(said, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        refuse("invalid_value", where, "must name a function.")
    sent = names.sent(name)
    if all(tool["name"] != sent for tool in offered):
        refuse("invalid_value", where, f"names {quoted(name)}, which is not among the tools.")
    return sent
