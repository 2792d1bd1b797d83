"""docs/translation.md names every field that the SDKs know, and what it says of them is what the code does."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from anthropic.types import message_create_params as messages_params
from anthropic.types import message_param
from anthropic.types.beta import beta_message_param
from anthropic.types.beta import message_create_params as beta_params
from openai.types.chat import chat_completion_message_param, completion_create_params

from aion_extproc.providers import ALL, KINDS
from aion_extproc.wire.endpoint import Endpoint
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.request import parse
from aion_extproc.wire.translate import answer_to_chat, answer_to_messages, errors
from aion_extproc.wire.translate.request_to_chat import to_chat
from aion_extproc.wire.translate.request_to_messages import to_messages
from aion_extproc.wire.translate.target import ChatTarget, MessagesTarget, Translated

PAGE = (Path(__file__).parents[2] / "docs" / "translation.md").read_text()
FROM_CHAT, FROM_MESSAGES = "A chat request for a provider of messages", "A messages request for a provider of chat"
HELLO = [{"role": "user", "content": "hello"}]


def section(heading: str) -> str:
    """From a heading to the next one of its level or above."""
    level, start = next(
        (len(mark), match.end())
        for match in re.finditer(r"^(#+) (.*)$", PAGE, re.MULTILINE)
        if (mark := match[1]) and match[2] == heading
    )
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(PAGE, start)
    return PAGE[start : end.start() if end else None]


def table(heading: str, which: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    tables = re.findall(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", section(heading), re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in tables[which].splitlines()]


def words(text: str) -> set[str]:
    """What stands in code spans, taken apart into names."""
    return {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", span)}


# What the SDKs know


def is_typed_dict(kind: object) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__required_keys__")


def fields(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def dicts_in(hint: Any) -> Iterator[Any]:
    """The TypedDicts that a type consists of, not those inside them."""
    if is_typed_dict(hint):
        yield hint
    else:
        for argument in typing.get_args(hint):
            yield from dicts_in(argument)


def literals_in(hint: Any) -> Iterator[str]:
    if typing.get_origin(hint) is typing.Literal:
        yield from typing.get_args(hint)
    else:
        for argument in typing.get_args(hint):
            yield from literals_in(argument)


def named_in(kind: Any, skip: frozenset[str] = frozenset(), seen: set[Any] | None = None) -> set[str]:
    """The members of a TypedDict and of those inside it, and their values of `type`; `skip`: members whose inside does
    not matter, as they are kept or left out as a whole."""
    seen = set() if seen is None else seen
    if kind in seen:
        return set()
    seen.add(kind)
    found: set[str] = set()
    for name, hint in fields(kind).items():
        found.add(name)
        if name == "type":
            found |= set(literals_in(hint))
        elif name not in skip:
            for inner in dicts_in(hint):
                found |= named_in(inner, skip, seen)
    return found


CHAT_FIELDS = set(fields(completion_create_params.CompletionCreateParamsStreaming))
MESSAGES_FIELDS = set(fields(messages_params.MessageCreateParamsStreaming)) | set(
    fields(beta_params.MessageCreateParamsStreaming)
)
# Left out as a whole, or schemas.
_WHOLE = frozenset(
    {
        *("web_search_options", "moderation", "prediction", "prompt_cache_options", "prompt_cache_breakpoint", "audio"),
        *("parameters", "schema", "input_schema", "cache_control", "citations", "transformations", "caller"),
    }
)


def test_every_field_of_a_chat_request_is_named() -> None:
    known = named_in(completion_create_params.CompletionCreateParamsStreaming, _WHOLE | {"tools", "tool_choice"})
    assert known >= CHAT_FIELDS
    assert known > {"image_url", "input_audio", "refusal", "tool_call_id", "detail", "file_data"}
    assert not known - words(section(FROM_CHAT)) - {"strict", "schema"}


def test_every_role_of_a_chat_message_is_named() -> None:
    for kind in dicts_in(chat_completion_message_param.ChatCompletionMessageParam):
        (role,) = literals_in(fields(kind)["role"])
        assert role in words(section("Messages")), role


def test_every_field_of_a_messages_request_is_named() -> None:
    assert len(MESSAGES_FIELDS) > 25
    assert not MESSAGES_FIELDS - words(section("Request"))


def test_every_member_of_the_small_objects_of_a_messages_request_is_named() -> None:
    for kind in (messages_params.MessageCreateParamsStreaming, beta_params.MessageCreateParamsStreaming):
        for field in ("output_config", "metadata", "thinking", "tool_choice"):
            for inner in dicts_in(fields(kind)[field]):
                known = set(fields(inner)) | set(literals_in(fields(inner).get("type")))
                assert not known - words(section(FROM_MESSAGES)), field


def turns() -> list[Any]:
    """Messages of every role."""
    return [*dicts_in(message_param.MessageParam), *dicts_in(beta_message_param.BetaMessageParam)]


def blocks() -> list[Any]:
    """Every block that can stand in a message, in a tool's result too."""
    found = [block for turn in turns() for block in dicts_in(fields(turn)["content"])]
    inner = [fields(block)["content"] for block in found if "tool_result" in literals_in(fields(block)["type"])]
    return found + [block for hint in inner for block in dicts_in(hint)]


def test_every_block_of_a_message_and_all_its_members_are_named() -> None:
    known = {name for turn in turns() for name in fields(turn)}
    known |= {role for turn in turns() for role in literals_in(fields(turn)["role"])}
    for block in blocks():
        known |= set(fields(block)) | set(literals_in(fields(block)["type"]))
        for source in dicts_in(fields(block).get("source")):
            known |= set(fields(source)) | set(literals_in(fields(source)["type"]))
    assert known > {"text", "thinking", "server_tool_use", "mcp_tool_use", "is_error", "compaction", "base64"}
    assert not known - words(section(FROM_MESSAGES))


def test_every_tool_of_anthropic_s_is_named() -> None:
    for kind in (messages_params.MessageCreateParamsStreaming, beta_params.MessageCreateParamsStreaming):
        tools = list(dicts_in(fields(kind)["tools"]))
        assert len(tools) > 10
        for tool in tools:
            for name in literals_in(fields(tool).get("type")):  # without its date
                assert re.sub(r"_\d{8}$", "", name) in words(section("Definitions")), name
            if "input_schema" in fields(tool):
                assert not set(fields(tool)) - words(section("Definitions"))


# What becomes of the fields

CHAT_VALUES: dict[str, object] = {
    "model": "gpt-x",
    "messages": [{"role": "system", "content": "Be brief."}, *HELLO],
    "max_completion_tokens": 7,
    "max_tokens": 7,
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "stop": "x",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "none",
    "parallel_tool_calls": True,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}},
    },
    "reasoning_effort": "high",
    "safety_identifier": "u",
    "user": "u",
    "service_tier": "default",
    "cache_control": {"type": "ephemeral"},
    "aion_preferences": {"tier": 1},
    "n": 2,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "mp3"},
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "logit_bias": {"1": 5},
    "logprobs": True,
    "top_logprobs": 2,
    "seed": 7,
    "metadata": {"a": "b"},
    "store": True,
    "prediction": {"type": "content", "content": "x"},
    "moderation": {"model": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_options": {"mode": "explicit"},
    "prompt_cache_retention": "24h",
    "verbosity": "low",
    "web_search_options": {"search_context_size": "low"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
}
MESSAGES_VALUES: dict[str, object] = {
    "model": "claude-x",
    "messages": HELLO,
    "system": "Be brief.",
    "max_tokens": 7,
    "stream": True,
    "stop_sequences": ["x"],
    "temperature": 0.5,
    "top_p": 0.5,
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "auto"},
    "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    "output_format": {"type": "json_schema", "schema": {"type": "object"}},
    "anthropic_version": "bedrock-2023-05-31",
    "anthropic_beta": ["x"],
    "aion_preferences": {"tier": 1},
    "compaction": {"type": "summarize"},
    "thread": {"type": "continue", "previous_message_id": "m"},
    "top_k": 5,
    "cache_control": {"type": "ephemeral"},
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "service_tier": "standard_only",
    "speed": "fast",
    "container": "c",
    "mcp_servers": [{"type": "url", "name": "x", "url": "https://x"}],
    "diagnostics": {"previous_message_id": "m"},
    "inference_geo": "us",
    "fallbacks": [{"model": "x"}],
    "fallback_credit_token": {"token": "x"},
    "billing_policy": {"type": "billing_policy", "bill_to": "x"},
    "user_profile_id": "p",
    "workspace_id": "w",
    "betas": ["x"],
}


def said(heading: str) -> dict[str, str]:
    """By field: what the table says becomes of it."""
    rows = table(heading)
    return {name: fate for cell, fate in rows for name in re.findall(r"`(\w+)`", cell)}


def check_fate(fate: str, field: str, translate: Any) -> None:
    """"→ …": carried over, "named …", "400 …"."""
    if fate.startswith("400"):
        with pytest.raises(RequestError, match=field):
            translate()
        return
    got = translate()
    if fate.startswith("named"):
        assert field in got.dropped
        assert f'"{field}"'.encode() not in got.body
    else:
        assert fate.startswith("→"), fate
        assert not [name for name in got.dropped if name.partition(".")[0] == field and field != "functions"]


@pytest.mark.parametrize("field", sorted(said("Top level")))
def test_what_becomes_of_a_field_of_a_chat_request(field: str) -> None:
    body = {"model": "gpt-x", "messages": HELLO, field: CHAT_VALUES[field]}

    def translate() -> Translated:
        return to_messages(parse(orjson.dumps(body), Format.OPENAI), "m", MessagesTarget())

    check_fate(said("Top level")[field], field, translate)


@pytest.mark.parametrize("field", sorted(said("Request")))
def test_what_becomes_of_a_field_of_a_messages_request(field: str) -> None:
    body = {"model": "claude-x", "max_tokens": 5, "messages": HELLO, field: MESSAGES_VALUES[field]}

    def translate() -> Translated:
        return to_chat(parse(orjson.dumps(body), Format.ANTHROPIC), "m", ChatTarget(reasoning_effort=True))

    check_fate(said("Request")[field], field, translate)


def test_the_values_are_those_of_the_tables() -> None:
    assert said("Top level").keys() == CHAT_VALUES.keys() >= CHAT_FIELDS
    assert said("Request").keys() == MESSAGES_VALUES.keys() >= MESSAGES_FIELDS


def test_who_is_translated_for_whom() -> None:
    def kinds(has: Endpoint, lacks: Endpoint | None) -> set[str]:
        return {kind.name for kind in ALL if has in kind.endpoints and lacks not in kind.endpoints}

    chat, messages, never = (set(re.findall(r"`([^`]+)`", row[1])) for row in table("When"))
    assert chat == kinds(Endpoint.MESSAGES, Endpoint.CHAT)
    assert messages == kinds(Endpoint.CHAT, Endpoint.MESSAGES)
    assert never == kinds(Endpoint.CHAT, None) & kinds(Endpoint.MESSAGES, None)


# Answers and errors


def test_the_reasons_why_an_answer_ended() -> None:
    to_chat_side: dict[str, str] = {}
    to_messages_side: dict[str, str] = {}
    for stop, finish, other, reason in table("Why it ended"):
        to_chat_side |= {name: finish.strip("`") for name in re.findall(r"`(\w+)`", stop)}
        to_messages_side |= {name: reason for name in re.findall(r"`(\w+)`", other)}
    assert to_chat_side == answer_to_chat.FINISH_REASONS
    for reason in ("stop", "length", "model_length", "content_filter"):
        got, _ = answer_to_messages.stop({"finish_reason": reason}, False, False)
        assert f"`{got}`" == to_messages_side.get(reason) or reason == "stop"
    assert {name for name, reason in to_messages_side.items() if reason == "an error"} == set(
        answer_to_messages.BROKEN_OFF
    )


def test_the_types_of_errors() -> None:
    rows = table("Errors", 1)
    assert {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in rows} == errors._TO_OPENAI
    others: dict[str, str] = {}
    by_status: dict[int, str] = {}
    for named, kind, _, statuses, other_kind in table("Errors", 2):
        others |= {name: kind.strip("`") for name in re.findall(r"`(\w+)`", named)}
        by_status |= {int(status): other_kind.strip("`") for status in re.findall(r"\b\d{3}\b", statuses)}
    assert others == errors._TO_ANTHROPIC
    assert by_status == errors._ANTHROPIC_TYPES


# What providers take


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"`{value}`" if value else "none"


@pytest.mark.parametrize(
    ("heading", "target"), [("Chat providers", ChatTarget), ("Messages providers", MessagesTarget)]
)
def test_the_properties_and_their_defaults(heading: str, target: Any) -> None:
    listed = [(row[0].strip("`"), row[1]) for row in table(heading)]
    assert listed == [(field.name, shown(field.default)) for field in dataclasses.fields(target)]


def differences(target: Any) -> str:
    """In the words of the page."""
    fields = [field for field in dataclasses.fields(target) if getattr(target, field.name) != field.default]
    return ", ".join(f"`{field.name}` {shown(getattr(target, field.name))}" for field in fields) or "nothing"


@pytest.mark.parametrize("heading", ["Chat providers", "Messages providers"])
def test_what_a_provider_differs_by(heading: str) -> None:
    chat = heading == "Chat providers"
    rows = table(heading, 1)
    wanted = []
    for names, models, _ in rows:
        for name in re.findall(r"`([^`]+)`", names):
            for model in re.findall(r"`([^`]+)`", models) or ["other"]:
                kind = KINDS[name]
                wanted.append([names, models, differences((kind.chat if chat else kind.messages)(model))])
    unique = [row for index, row in enumerate(wanted) if row not in wanted[:index]]
    assert rows == unique, "\n".join("| " + " | ".join(row) + " |" for row in unique)
    endpoint = Endpoint.CHAT if chat else Endpoint.MESSAGES
    serving = {kind.name for kind in ALL if endpoint in kind.endpoints}
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row[0])} == serving
