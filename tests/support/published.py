"""What the real APIs would refuse: request bodies held against the schemas that OpenAI and Anthropic publish.

The types are those of the official SDKs, made as strict as the servers are: both refuse members they do not know
("Unrecognized request argument supplied", "Extra inputs are not permitted"). What the servers ask for and the types do
not say is in `published_rules`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from anthropic.types.beta.message_create_params import MessageCreateParams as BetaMessageCreateParams
from anthropic.types.message_create_params import MessageCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from tests.support.published_rules import chat_rules, messages_rules

# The SDK types list them because the SDK sends them as headers.
_HEADERS = ("betas", "user_profile_id", "workspace_id")
# Gone from the types with version 2 of the SDK, whose anthropic-version is 2026-10-21. Older versions of the API take
# them for older models: `published_rules` knows which.
_SAMPLING = ("temperature", "top_p", "top_k")
_MOST_PROBLEMS = 5
_NO_PARAM = "(a type of answers)"
_TAGS = ("type", "role", "stream")  # tell the members of a union apart


def chat_problems(raw: bytes) -> list[str]:
    """Why OpenAI would answer a chat completion request with 400; empty: it would not."""
    return _problems(raw, _chat_types, chat_rules)


def messages_problems(raw: bytes, *, version: str = "2023-06-01", beta: bool = False) -> list[str]:
    """The same for a message request of Anthropic's; `version` is the header's."""

    def types(body: dict[str, Any]) -> list[str]:
        legacy = {} if version >= "2026-10-21" else dict.fromkeys(_SAMPLING)
        return _type_problems(_messages_validator(beta), {k: v for k, v in body.items() if k not in legacy})

    return _problems(raw, types, messages_rules)


def _chat_types(body: dict[str, Any]) -> list[str]:
    return _type_problems(_chat_validator(), body)


def _problems(
    raw: bytes, types: Callable[[dict[str, Any]], list[str]], rules: Callable[[dict[str, Any]], list[str]]
) -> list[str]:
    try:
        body = json.loads(raw)
        raw.decode("utf-8")
    except ValueError as error:
        return [f"the body is not JSON: {error}"]
    if not isinstance(body, dict):
        return ["the body is no object"]
    return types(body) or rules(body)  # the rules read a body whose shape is right


def _type_problems(validator: SchemaValidator, body: Mapping[str, Any]) -> list[str]:
    try:
        # From JSON, in strict mode: no string becomes a number, and no generator puts the check off.
        validator.validate_json(json.dumps(body), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        # A union reports what each of its members misses: those that say of themselves that they are another do not
        # count.
        others = {one["loc"][:-1] for one in found if one["loc"][-1] in _TAGS and one["type"] != "extra_forbidden"}
        meant = [one for one in found if not any(one["loc"][: len(other)] == other for other in others)] or found
        meant = [one for one in meant if _NO_PARAM not in one["msg"]] or meant
        return list(dict.fromkeys(f"{_path(one['loc'])}: {one['msg']}" for one in meant))[:_MOST_PROBLEMS]
    return []


def _path(loc: Sequence[int | str]) -> str:
    """Without the names of the types on the way."""
    return ".".join(str(part) for part in loc if isinstance(part, int) or re.fullmatch(r"[a-z_]+", part))


@cache
def _chat_validator() -> SchemaValidator:
    return _strict(TypeAdapter(CompletionCreateParams))


@cache
def _messages_validator(beta: bool) -> SchemaValidator:
    return _strict(TypeAdapter(BetaMessageCreateParams if beta else MessageCreateParams))


def _strict(adapter: TypeAdapter[Any]) -> SchemaValidator:
    return SchemaValidator(_made_strict(adapter.core_schema))


def _made_strict(schema: Any) -> Any:
    """A pydantic core schema as the servers read it."""
    if isinstance(schema, list):
        return [_made_strict(item) for item in schema]
    if isinstance(schema, tuple):
        return tuple(_made_strict(item) for item in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "generator":  # Iterable[…], whose items pydantic would only look at when somebody asks for them
        return {"type": "list", "items_schema": _made_strict(schema["items_schema"])}
    if kind == "model":  # what the SDK's answers are made of: accepted by the SDK, unknown to the server
        return {"type": "literal", "expected": [_NO_PARAM], **_only(schema, "ref")}
    strict = {name: _made_strict(value) for name, value in schema.items() if name != "serialization"}
    if kind == "typed-dict":
        if schema.get("extra_behavior") != "allow" and _title(schema) != "InputSchemaTyped":
            strict["extra_behavior"] = "forbid"
        strict["fields"] = {name: field for name, field in strict["fields"].items() if name not in _HEADERS}
    return strict


def _only(schema: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: schema[name] for name in names if name in schema}


def _title(schema: Mapping[str, Any]) -> str:
    return str(schema.get("config", {}).get("title", ""))
