"""What a request says, from either format."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aion_extproc.wire.conversation import Conversation, Preferences, Turn
from aion_extproc.wire.errors import RequestError
from aion_extproc.wire.format import Format
from aion_extproc.wire.reading import conversation, estimate_input_tokens
from aion_extproc.wire.request import Request, parse
from tests.property.documents import requests

ATTACHMENT = 1500


def request(format: Format, messages: list[Any], **fields: Any) -> Request:
    return parse(json.dumps({"model": "m", "messages": messages, **fields}).encode(), format)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def test_a_chat_conversation() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        user("hello"),
        {"role": "developer", "content": [text("be kind"), text("be quick")]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}]},
        {"role": "tool", "tool_call_id": "1", "content": "12345"},
        {"role": "tool", "tool_call_id": "2", "content": [text("123"), text("4567")]},
        {"role": "function", "name": "f", "content": "12"},
        user([text("look"), {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, text("here")]),
        {"role": "critic", "content": "who knows"},
        {"role": "system", "content": "late"},
    ]
    found = conversation(request(Format.OPENAI, messages, tools=[{}, {}], aion_preferences={"tier": 2}))
    assert found == Conversation(
        turns=(
            Turn("user", ("hello",)),
            Turn("assistant", (), tool_calls=2),
            Turn("tool", (), tool_results=1, tool_result_chars=5),
            Turn("tool", (), tool_results=1, tool_result_chars=7),
            Turn("tool", (), tool_results=1, tool_result_chars=2),
            Turn("user", ("look", "here")),
            Turn("user", ("who knows",)),
        ),
        system=("be brief", "be kind", "be quick", "late"),
        tools=2,
        preferences=Preferences(tier=2),
    )


def test_a_message_conversation() -> None:
    messages = [
        user([text("a"), {"type": "image", "source": {"type": "base64", "data": "AAAA"}}, text("b")]),
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                text("calling"),
                {"type": "tool_use", "id": "1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "2", "name": "f", "input": {"text": "x"}},
            ],
        },
        user(
            [
                {"type": "tool_result", "tool_use_id": "1", "content": "12345"},
                {"type": "tool_result", "tool_use_id": "2", "content": [text("123"), {"type": "image"}]},
                {"type": "tool_result", "tool_use_id": "3"},
                text("go on"),
            ]
        ),
        {"role": "system", "content": "in the middle"},
    ]
    for system, texts in (("s", ("s",)), ([text("s", cache_control={"type": "ephemeral"}), text("t")], ("s", "t"))):
        found = conversation(request(Format.ANTHROPIC, messages, system=system, tools=[{"name": "f"}]))
        assert found == Conversation(
            turns=(
                Turn("user", ("a", "b")),
                Turn("assistant", ("calling",), tool_calls=2),
                Turn("user", ("go on",), tool_results=3, tool_result_chars=8),
            ),
            system=(*texts, "in the middle"),
            tools=1,
        )


def test_a_system_field_is_no_part_of_a_chat_request() -> None:
    assert conversation(request(Format.OPENAI, [user("x")], system="s")).system == ()


@pytest.mark.parametrize("format", Format)
def test_the_estimate_counts_all_text_at_four_characters_a_token(format: Format) -> None:
    def tokens(messages: list[Any], **fields: Any) -> int:
        return estimate_input_tokens(request(format, messages, **fields))

    short, long = tokens([user("x" * 400)]), tokens([user("x" * 4400)])
    assert 100 <= short <= 110
    assert long - short == 1000
    assert tokens([user([text("x" * 4400)])]) - tokens([user([text("x" * 400)])]) == 1000
    assert tokens([user("x")], system="x" * 4000) - tokens([user("x")]) == 1000
    schema = {"type": "object", "properties": {"a": {"type": "string", "description": "x" * 4000}}}
    assert 1000 <= tokens([user("x")], tools=[{"name": "f", "input_schema": schema}]) - tokens([user("x")]) <= 1050


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}},
        {"type": "image", "source": {"type": "base64", "data": "A" * 1_000_000}},
        {"type": "document", "source": {"data": "A" * 1_000_000}},
    ],
)
def test_an_attachment_counts_as_one_however_many_bytes_it_has(part: dict[str, Any]) -> None:
    for content in ([text("x"), part], [{"type": "tool_result", "content": [part]}]):
        found = estimate_input_tokens(request(Format.ANTHROPIC, [user(content)]))
        assert ATTACHMENT < found < ATTACHMENT + 50


def test_a_schema_may_have_lists_of_types_and_properties_called_type() -> None:
    """{"type": ["string", "null"]} is ordinary JSON schema."""
    for schema in ({"type": ["string", "null"]}, {"properties": {"type": {"type": "string"}}}, {"type": None}):
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        assert estimate_input_tokens(request(Format.OPENAI, [user("x")], tools=[tool])) > 0


def test_many_small_values_are_estimated_too() -> None:
    found = estimate_input_tokens(request(Format.OPENAI, [user([text("word")] * 100_000)]))
    assert 100_000 <= found <= 2_000_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "text", "content", "source", "x"]), inner, max_size=4),
    max_leaves=10,
)
KINDS = st.sampled_from(
    ["text", "image", "image_url", "tool_result", "tool_use", "thinking", "document", "input_audio", "", "?"]
)


@st.composite
def odd_messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Roles, parts and fields that belong together and others."""
    field = st.sampled_from(["text", "content", "tool_calls", "source", "input", "name"])
    part = st.tuples(KINDS, st.dictionaries(field, JSON, max_size=3)).map(lambda pair: {**pair[1], "type": pair[0]})
    content = st.text(max_size=5) | st.lists(part, max_size=3) | JSON
    role = st.sampled_from(["user", "assistant", "system", "developer", "tool", "function", "critic", ""])
    message = st.fixed_dictionaries(
        {"role": role, "content": content}, optional={"tool_calls": JSON, "name": JSON, "type": JSON}
    )
    return draw(st.lists(message, min_size=1, max_size=4))


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(odd_messages(), st.sampled_from(Format), st.lists(JSON, max_size=2), JSON)
def test_whatever_is_accepted_can_be_read(messages: list[Any], format: Format, tools: list[Any], system: Any) -> None:
    try:
        found = request(format, messages, tools=tools, system=system)
    except RequestError:
        return
    said = conversation(found)
    assert all(isinstance(words, str) for turn in said.turns for words in turn.texts)
    assert all(isinstance(words, str) for words in said.system)
    in_system = sum(message["role"] in ("system", "developer") for message in messages)
    assert len(said.turns) == len(messages) - in_system
    assert estimate_input_tokens(found) >= 0


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(requests(), st.sampled_from(Format))
def test_the_documents_of_the_property_tests_can_be_read(raw: bytes, format: Format) -> None:
    found = parse(raw, format)
    assert [turn.role for turn in conversation(found).turns] == ["user", "user"]
    assert estimate_input_tokens(found) > 0
