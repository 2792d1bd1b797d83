"""A JSON schema within the limits of Anthropic's structured outputs.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations. Anthropic's own SDK
does the same (lib/_parse/_transform.py): what a schema may not say is said in its description, for the model to read.
"""

from __future__ import annotations

from typing import Any

import orjson

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})
_KEPT = ("title", "description", "enum", "const", "default")
_DEFINITIONS = ("$defs", "definitions")
_DEEPEST = 32


class _Unsaid(Exception):
    """The schema's meaning would be another one."""


def closed_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """A copy with every object closed. None where it cannot be said: an object of any keys, a schema that contains
    itself, one by address."""
    try:
        closed = _closed(schema, 0)
    except _Unsaid:
        return None
    return None if _is_recursive(schema) else closed


def _closed(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise _Unsaid
    left = dict(schema)
    closed: dict[str, Any] = {}
    for key in _DEFINITIONS:
        if (named := left.pop(key, None)) is not None:
            closed[key] = {name: _closed(inner, depth + 1) for name, inner in _members(named).items()}
    left.pop("$schema", None)
    if (reference := left.pop("$ref", None)) is not None:
        if not isinstance(reference, str) or not reference.startswith(("#/$defs/", "#/definitions/")):
            raise _Unsaid
        return {**closed, "$ref": reference}
    for key in _KEPT:
        if key in left:
            closed[key] = left.pop(key)
    if any(isinstance(value, dict | list) for value in [*_list(closed.get("enum", [])), closed.get("const")]):
        raise _Unsaid
    variants = next((key for key in ("anyOf", "oneOf", "allOf") if key in left), None)
    if variants is not None:
        several = _list(left.pop(variants))
        if not several:
            raise _Unsaid
        name = "allOf" if variants == "allOf" else "anyOf"
        closed[name] = [_closed(inner, depth + 1) for inner in several]
    kinds = left.pop("type", None)
    if kinds is not None:
        known = kinds if isinstance(kinds, list) else [kinds]
        if not known or not all(isinstance(kind, str) and kind in _TYPES for kind in known):
            raise _Unsaid
        closed["type"] = kinds
        _of_kind(known, left, closed, depth)
    elif variants is None and "enum" not in closed and "const" not in closed:
        raise _Unsaid
    if left:  # limits of numbers, of lengths, patterns
        _describe(left, closed)
    return closed


def _of_kind(kinds: list[str], left: dict[str, Any], closed: dict[str, Any], depth: int) -> None:
    if "object" in kinds:
        # An object that may have other keys than those listed is another object once it is closed.
        others = left.pop("additionalProperties", None)
        properties = _members(left.pop("properties", {}))
        if others not in (None, False) or (others is None and not properties):
            raise _Unsaid
        closed["properties"] = {name: _closed(inner, depth + 1) for name, inner in properties.items()}
        closed["additionalProperties"] = False
        if "required" in left:
            closed["required"] = _list(left.pop("required"))
    if "array" in kinds:
        if "items" not in left:
            raise _Unsaid
        closed["items"] = _closed(left.pop("items"), depth + 1)
        if left.get("minItems") in (0, 1):
            closed["minItems"] = left.pop("minItems")
    if "string" in kinds and isinstance(left.get("format"), str) and left["format"] in _FORMATS:
        closed["format"] = left.pop("format")


def _describe(left: dict[str, Any], closed: dict[str, Any]) -> None:
    try:
        limits = orjson.dumps(left).decode()
    except TypeError:
        raise _Unsaid from None
    description = closed.get("description")
    closed["description"] = f"{description}\n\n{limits}" if isinstance(description, str) and description else limits


def _members(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Unsaid
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _Unsaid
    return value


def _is_recursive(schema: dict[str, Any]) -> bool:
    """Whether following references can come back to where it began."""
    definitions = {
        f"#/{key}/{name}": inner for key in _DEFINITIONS for name, inner in (schema.get(key) or {}).items()
    }
    uses = {name: _references(inner) for name, inner in definitions.items()}
    done: set[str] = set()
    while True:
        # A definition is sound when all that it uses is; what is left over when no more can be added is a circle.
        more = {name for name, used in uses.items() if name not in done and used <= done}
        if not more:
            return not (_references(schema) | uses.keys()) <= done
        done |= more


def _references(value: Any) -> set[str]:
    found: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            reference = item.get("$ref")
            if isinstance(reference, str):
                found.add(reference)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return found
